//! A connection to a server before anything is said: plain, or encrypted, as the mode has it.

use std::io;
use std::time::Duration;

use bytes::BytesMut;

use super::ConnectError;
use crate::cluster::Address;
use crate::net::{self, Stream, TlsConnector, TlsMode, TlsStart};
use crate::wire::frontend;

/// Connects, and encrypts. The limit covers connecting only; the caller has one over all.
pub(super) async fn open(
    address: &Address,
    tls: &TlsConnector,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    let mut stream = net::connect(address, limit).await?;
    stream.tune(Some(KEEPALIVE), Some(USER_TIMEOUT))?;
    // As libpq: nobody is between us and a Unix socket.
    if tls.mode() == TlsMode::Disable || address.directory().is_some() {
        return Ok(stream);
    }
    if tls.start() == TlsStart::Direct {
        return secure(stream, tls, &address.host).await;
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match answer(&mut stream).await? {
        b'S' => secure(stream, tls, &address.host).await,
        b'N' if tls.mode() == TlsMode::Prefer => Ok(stream),
        b'N' => Err(ConnectError::TlsNotOffered),
        // An error in plain text, which anybody on the way could have put there.
        _ => Err(ConnectError::Protocol(
            "unexpected answer to a request for TLS",
        )),
    }
}

/// One byte and no more: what came behind it would have come unencrypted.
async fn answer(stream: &mut Stream) -> Result<u8, ConnectError> {
    let mut answer = BytesMut::new();
    stream.read(&mut answer, 1).await?;
    answer.first().copied().ok_or(ConnectError::Reset)
}

async fn secure(stream: Stream, tls: &TlsConnector, host: &str) -> Result<Stream, ConnectError> {
    let Stream::Plain(socket) = stream else {
        return Ok(stream);
    };
    let secured = tls.connect(socket, host).await;
    secured.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            ConnectError::TlsFailed(error.to_string())
        }
        _ => error.into(),
    })
}

/// A server that vanished without a word is noticed on an idle connection after twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What we sent and was not acknowledged for this long breaks the connection: the monitor has
/// long decided by then, and the session should not wait for the kernel's quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
