//! Logging in to a server: connect, start up, authenticate, read on until it is ready.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use super::auth::{self, Authentication, Next};
use super::connection::CancelKey;
use super::frame::Frames;
use super::{ConnectError, Login, ServerError};
use crate::cluster::Address;
use crate::net::{self, Stream};

/// What a login brought.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) input: BytesMut,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) cancel_key: CancelKey,
}

/// Connects and logs in, all of it within `limit`.
pub(super) async fn log_in(
    address: &Address,
    login: &Login,
    limit: Duration,
) -> Result<LoggedIn, ConnectError> {
    // One limit over everything: a server that accepts and is silent costs no more than one that
    // does not accept.
    match timeout(limit, start(address, login, limit)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ConnectError::TimedOut),
    }
}

async fn start(
    address: &Address,
    login: &Login,
    limit: Duration,
) -> Result<LoggedIn, ConnectError> {
    let mut stream = net::connect(address, limit).await?;
    stream.tune(Some(KEEPALIVE), Some(USER_TIMEOUT))?;
    send(&mut stream, start_up(login)?).await?;
    let mut frames = Frames::new();
    authenticate(&mut stream, &mut frames, login).await?;
    read_until_ready(stream, frames).await
}

fn start_up(login: &Login) -> Result<Next, ConnectError> {
    let own = [
        ("user", login.user.as_str()),
        ("database", login.database.as_str()),
    ];
    let given = login
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        // An empty name would end the list, and what follows it would be lost; of a name that
        // comes twice the server takes the last.
        .filter(|(name, _)| !matches!(*name, "" | "user" | "database"));
    auth::encode(|out| frontend::startup_message(own.into_iter().chain(given), out))
}

async fn send(stream: &mut Stream, next: Next) -> Result<(), ConnectError> {
    match next {
        Next::Reply(bytes) => Ok(stream.write_all(&bytes).await?),
        Next::Wait | Next::Done => Ok(()),
    }
}

async fn authenticate(
    stream: &mut Stream,
    frames: &mut Frames,
    login: &Login,
) -> Result<(), ConnectError> {
    let mut authentication = Authentication::new(login);
    loop {
        match frames.next(stream).await? {
            (AUTHENTICATION, body) => match authentication.handle(&body)? {
                Next::Done => return Ok(()),
                next => send(stream, next).await?,
            },
            (tag, body) => unexpected(tag, body)?,
        }
    }
}

async fn read_until_ready(
    mut stream: Stream,
    mut frames: Frames,
) -> Result<LoggedIn, ConnectError> {
    let mut parameters = BTreeMap::new();
    let mut cancel_key = CancelKey::default();
    loop {
        match frames.next(&mut stream).await? {
            (PARAMETER_STATUS, body) => {
                let (name, value) = parameter(&body)?;
                parameters.insert(name, value);
            }
            (BACKEND_KEY_DATA, body) => cancel_key = key(&body)?,
            (READY_FOR_QUERY, body) => {
                if &body[..] != b"I" || !frames.input.is_empty() {
                    return Err(ConnectError::Protocol("not idle after the login"));
                }
                return Ok(LoggedIn {
                    stream,
                    input: BytesMut::new(),
                    parameters,
                    cancel_key,
                });
            }
            (tag, body) => unexpected(tag, body)?,
        }
    }
}

/// Handles what may come at any time: notices pass, errors end the login, and the rest must not be.
fn unexpected(tag: u8, body: Bytes) -> Result<(), ConnectError> {
    match tag {
        NOTICE_RESPONSE | NEGOTIATE_PROTOCOL_VERSION => Ok(()),
        ERROR_RESPONSE => Err(ConnectError::Server(Box::new(ServerError::parse(body)))),
        _ => Err(ConnectError::Protocol("unexpected message during login")),
    }
}

/// The two strings of a `ParameterStatus`. In a database of another encoding they are not UTF-8;
/// the names are always ASCII.
fn parameter(body: &[u8]) -> Result<(String, String), ConnectError> {
    let mut parts = body.split(|byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(value), Some([]), None) => Ok((
            String::from_utf8_lossy(name).into_owned(),
            String::from_utf8_lossy(value).into_owned(),
        )),
        _ => Err(ConnectError::Protocol("malformed ParameterStatus")),
    }
}

fn key(body: &[u8]) -> Result<CancelKey, ConnectError> {
    let malformed = ConnectError::Protocol("malformed BackendKeyData");
    let Some((process_id, secret)) = body.split_first_chunk::<4>() else {
        return Err(malformed);
    };
    // Protocol 3.0, which we speak to servers, has keys of four bytes.
    match <[u8; 4]>::try_from(secret) {
        Ok(secret) => Ok(CancelKey {
            process_id: i32::from_be_bytes(*process_id),
            secret: i32::from_be_bytes(secret),
        }),
        Err(_other_length) => Err(malformed),
    }
}

const AUTHENTICATION: u8 = b'R';
const PARAMETER_STATUS: u8 = b'S';
const BACKEND_KEY_DATA: u8 = b'K';
const READY_FOR_QUERY: u8 = b'Z';
const ERROR_RESPONSE: u8 = b'E';
const NOTICE_RESPONSE: u8 = b'N';
const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';

/// A server that vanished without a word is noticed on an idle connection after twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What we sent and was not acknowledged for this long breaks the connection: the monitor has
/// long decided by then, and the session should not wait for the kernel's quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
