//! Logging in to a server: connect, start up, authenticate, read on until it is ready.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::auth::{Authentication, Next};
use super::frame::Frames;
use super::open::open;
use super::{ConnectError, Login, ServerError};
use crate::cluster::Address;
use crate::net::{Stream, TlsConnector};
use crate::wire::backend::{BackendKey, ParameterStatus, tag};
use crate::wire::{CancelKey, Frame, TransactionStatus, frontend};

/// What a login brought.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) cancel_key: Option<CancelKey>,
}

/// Connects and logs in, all of it within `limit`.
pub(super) async fn log_in(
    address: &Address,
    tls: &TlsConnector,
    login: &Login,
    limit: Duration,
) -> Result<LoggedIn, ConnectError> {
    // One limit over everything: a server that accepts and is silent costs no more than one that
    // does not accept.
    match timeout(limit, start(address, tls, login, limit)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ConnectError::TimedOut),
    }
}

async fn start(
    address: &Address,
    tls: &TlsConnector,
    login: &Login,
    limit: Duration,
) -> Result<LoggedIn, ConnectError> {
    let mut stream = open(address, tls, limit).await?;
    stream.write_all(&start_up(login)?).await?;
    let mut frames = Frames::new();
    authenticate(&mut stream, &mut frames, login).await?;
    read_until_ready(stream, frames).await
}

fn start_up(login: &Login) -> Result<BytesMut, ConnectError> {
    let own = [("user", &login.user), ("database", &login.database)];
    let given = login
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        // An empty name would end the list, and what follows it would be lost; of a name that
        // comes twice the server takes the last.
        .filter(|(name, _)| !matches!(*name, "" | "user" | "database"));
    let all = || own.into_iter().chain(given.clone());
    if all().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err(ConnectError::InvalidLogin);
    }
    let mut out = BytesMut::new();
    let bytes = all().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    frontend::startup(&mut out, MINOR, bytes);
    Ok(out)
}

async fn authenticate(
    stream: &mut Stream,
    frames: &mut Frames,
    login: &Login,
) -> Result<(), ConnectError> {
    let mut authentication = Authentication::new(login);
    loop {
        let frame = frames.next(stream).await?;
        if frame.tag != tag::AUTHENTICATION {
            unexpected(&frame)?;
            continue;
        }
        match authentication.handle(frame.body())? {
            Next::Done => return Ok(()),
            Next::Reply(bytes) => stream.write_all(&bytes).await?,
            Next::Wait => {}
        }
    }
}

async fn read_until_ready(
    mut stream: Stream,
    mut frames: Frames,
) -> Result<LoggedIn, ConnectError> {
    let mut parameters = BTreeMap::new();
    let mut cancel_key = None;
    loop {
        let frame = frames.next(&mut stream).await?;
        match frame.tag {
            tag::PARAMETER_STATUS => {
                let (name, value) = parameter(frame.body())?;
                parameters.insert(name, value);
            }
            tag::BACKEND_KEY => cancel_key = Some(key(frame.body())?),
            tag::READY => {
                let status = TransactionStatus::parse(frame.body());
                if status != Ok(TransactionStatus::Idle) || !frames.input.is_empty() {
                    return Err(ConnectError::Protocol("not idle after the login"));
                }
                return Ok(LoggedIn {
                    stream,
                    parameters,
                    cancel_key,
                });
            }
            _ => unexpected(&frame)?,
        }
    }
}

/// Handles what may come at any time: notices pass, errors end the login, and the rest must not be.
fn unexpected(frame: &Frame) -> Result<(), ConnectError> {
    match frame.tag {
        tag::NOTICE | tag::NEGOTIATE_PROTOCOL_VERSION => Ok(()),
        tag::ERROR => {
            let error = ServerError::parse(Bytes::copy_from_slice(frame.body()));
            Err(ConnectError::Server(Box::new(error)))
        }
        _ => Err(ConnectError::Protocol("unexpected message during login")),
    }
}

/// The two strings of a `ParameterStatus`. In a database of another encoding they are not UTF-8;
/// the names are always ASCII.
fn parameter(body: &[u8]) -> Result<(String, String), ConnectError> {
    let status = ParameterStatus::parse(body)
        .map_err(|_malformed| ConnectError::Protocol("malformed ParameterStatus"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(status.name), text(status.value)))
}

fn key(body: &[u8]) -> Result<CancelKey, ConnectError> {
    match BackendKey::parse(body) {
        Ok(key) => Ok(key.to_key()),
        Err(_malformed) => Err(ConnectError::Protocol("malformed BackendKeyData")),
    }
}

/// We speak 3.0 to servers: nothing of 3.2 is needed there, and every server takes it.
const MINOR: u16 = 0;
