//! The server connection that a session is lent, and why there is none.

use std::io;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};

use super::drive::{QUEUE_HIGH, READ_MIN};
use crate::cluster::ServerId;
use crate::session::{Denial, Input, Refusal, ServerSide};
use crate::upstream::{GetError, Lease};
use crate::wire::{Limits, Splitter};

/// A server connection that the session has.
pub(super) struct Lent {
    pub(super) lease: Lease<Option<Box<ServerSide>>>,
    pub(super) cut: Splitter,
    /// How much the next read may bring: a server that fills its reads gets larger ones.
    pub(super) room: usize,
}

impl Lent {
    pub(super) fn new(lease: Lease<Option<Box<ServerSide>>>) -> Self {
        Self {
            lease,
            cut: Splitter::server(Limits::default()),
            room: READ_MIN,
        }
    }

    /// The process at the other end.
    pub(super) fn pid(&self) -> Option<u32> {
        self.lease.cancel_key.as_ref().map(|key| key.pid)
    }

    /// The next of the messages that are here. What makes no sense stays, for whoever looks next.
    pub(super) fn next_whole(&mut self) -> Option<Input> {
        self.cut
            .next(&mut self.lease.input)
            .ok()
            .flatten()
            .map(Input::Server)
    }

    /// Reads from the server unless the client has enough to take, and says whether the server
    /// takes what waits for it. An error means that the connection is gone.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        for_client: usize,
        to_write: bool,
    ) -> Poll<io::Result<()>> {
        let mut ready = to_write && self.lease.stream.poll_writable(context)?.is_ready();
        if for_client < QUEUE_HIGH {
            let lease = &mut *self.lease;
            match lease.stream.poll_read(context, &mut lease.input, self.room) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(read)) => {
                    self.room = if read == self.room {
                        READ_MAX
                    } else {
                        READ_MIN
                    };
                    ready = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        match ready {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

/// Why there is no connection, in the session's words.
pub(super) fn denial(server: ServerId, error: &GetError) -> Denial {
    match error {
        GetError::Connect(connect) => match connect.server_error() {
            Some(refused) if !connect.retry() => {
                Denial::Server(error_message(&as_error(&refused.body)))
            }
            _ if connect.retry() => Denial::Unreachable(server),
            _ => Denial::Refused(Refusal::CannotConnect(connect.to_string())),
        },
        GetError::Fenced { .. } => Denial::Unreachable(server),
        GetError::WaitTimedOut(full) | GetError::QueueFull(full) => {
            Denial::Refused(Refusal::PoolFull {
                pool: format!("{}/{} on server {}", full.user, full.database, full.server),
                waiting: full.waiting,
            })
        }
        GetError::TooManyPools { .. } | GetError::UnknownServer(_) => {
            Denial::Refused(Refusal::CannotConnect(error.to_string()))
        }
    }
}

/// The body of an error message, framed.
pub(super) fn error_message(body: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(body.len() + 5);
    message.put_u8(b'E');
    message.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX - 4) + 4);
    message.put_slice(body);
    message.freeze()
}

/// The same error as one that does not end the session: a server that refuses one login of ours
/// is no reason to hang up on the client.
fn as_error(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len());
    for field in body
        .split(|byte| *byte == 0)
        .filter(|field| !field.is_empty())
    {
        match field.split_first() {
            Some((b'S' | b'V', b"FATAL" | b"PANIC")) => {
                out.extend(field.first());
                out.put_slice(b"ERROR");
            }
            _ => out.put_slice(field),
        }
        out.put_u8(0);
    }
    out.put_u8(0);
    out.freeze()
}

/// What is read at a time of a large result.
const READ_MAX: usize = 64 << 10;
