//! Asking a server to cancel what one of its connections does.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::ConnectError;
use super::open::open;
use crate::cluster::Address;
use crate::net::{self, Stream, TlsConnector};
use crate::wire::{CancelKey, frontend};

/// Sends a cancel request and waits until the server closed the connection that carried it.
///
/// The signal is sent before that close. So the caller keeps the cancelled connection to itself
/// until this returns: given back earlier, the signal could hit its next user. When this fails,
/// it is unknown whether the signal is still to come, and the connection should be closed.
///
/// # Errors
///
/// When the server could not be reached, or did not close within `limit`.
pub(super) async fn cancel(
    address: &Address,
    tls: &TlsConnector,
    key: &CancelKey,
    limit: Duration,
) -> Result<(), ConnectError> {
    match timeout(limit, request(address, tls, key, limit)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ConnectError::TimedOut),
    }
}

async fn request(
    address: &Address,
    tls: &TlsConnector,
    key: &CancelKey,
    limit: Duration,
) -> Result<(), ConnectError> {
    let stream = open(address, tls, limit).await?;
    send(stream, key).await
}

/// Sends a cancel request to something that is no server of ours, in plain text, and waits until it
/// closed the connection.
///
/// # Errors
///
/// When it could not be reached, or did not close within `limit`.
pub async fn cancel_at(
    address: &Address,
    key: &CancelKey,
    limit: Duration,
) -> Result<(), ConnectError> {
    let sent = async { send(net::connect(address, limit).await?, key).await };
    timeout(limit, sent)
        .await
        .unwrap_or(Err(ConnectError::TimedOut))
}

/// The same by a connection that is there.
///
/// # Errors
///
/// When the other end did not close within `limit`.
pub async fn cancel_by(
    stream: Stream,
    key: &CancelKey,
    limit: Duration,
) -> Result<(), ConnectError> {
    timeout(limit, send(stream, key))
        .await
        .unwrap_or(Err(ConnectError::TimedOut))
}

async fn send(mut stream: Stream, key: &CancelKey) -> Result<(), ConnectError> {
    let mut out = BytesMut::new();
    frontend::cancel_request(&mut out, key);
    stream.write_all(&out).await?;
    let mut input = BytesMut::new();
    // The server sends nothing before it closes; what a middleman sends is of no interest.
    loop {
        input.clear();
        match stream.read(&mut input, DISCARDED_BYTES).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Closed with our request unread, perhaps: as far as it will ever get.
            Err(error) => return Err(error.into()),
        }
    }
}

const DISCARDED_BYTES: usize = 64;
