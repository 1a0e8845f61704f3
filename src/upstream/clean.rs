//! Making a server connection forget the session that had it.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::{ConnectError, Lease, ServerError};
use crate::wire::backend::{self, ParameterStatus, tag};
use crate::wire::{Cut, Frame, Limits, Splitter, TransactionStatus, frontend};

impl<S: Default + Send + 'static> Lease<S> {
    /// Has the server drop what a session left on the connection, and waits for its word that it
    /// did. The connection must be idle, outside a transaction, with nothing on its way.
    ///
    /// What `DISCARD ALL` does not drop is the caller's to know: loaded libraries, the seed of
    /// `random`, connections of dblink.
    ///
    /// # Errors
    ///
    /// When the server refuses, says something else, or takes longer than `limit`: the connection
    /// must not be used again.
    pub async fn clean(&mut self, limit: Duration) -> Result<(), ConnectError> {
        match timeout(limit, self.discard_all()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(ConnectError::TimedOut),
        }
    }

    async fn discard_all(&mut self) -> Result<(), ConnectError> {
        let mut out = BytesMut::new();
        frontend::query(&mut out, CLEAN.as_bytes());
        self.stream.write_all(&out).await?;
        let mut splitter = Splitter::server(Limits {
            hold: FRAME_BYTES_MAX,
            ..Limits::default()
        });
        let mut is_done = false;
        loop {
            let Some(frame) = self.next_frame(&mut splitter).await? else {
                continue;
            };
            match frame.tag {
                tag::COMMAND_COMPLETE => {
                    is_done = backend::command_tag(frame.body()) == Some(DONE);
                }
                tag::PARAMETER_STATUS => self.note_parameter(&frame)?,
                tag::NOTICE | tag::NOTIFICATION => {}
                tag::READY => {
                    let status = TransactionStatus::parse(frame.body());
                    return match is_done && status == Ok(TransactionStatus::Idle) {
                        true => Ok(()),
                        false => Err(ConnectError::Protocol("not clean after DISCARD ALL")),
                    };
                }
                tag::ERROR => {
                    let error = ServerError::parse(frame.bytes.slice_ref(frame.body()));
                    return Err(ConnectError::Server(Box::new(error)));
                }
                _ => return Err(ConnectError::Protocol("unexpected answer to DISCARD ALL")),
            }
        }
    }

    /// The next whole frame; `None` when more had to be read for it.
    async fn next_frame(&mut self, splitter: &mut Splitter) -> Result<Option<Frame>, ConnectError> {
        let connection = &mut **self;
        match splitter.next(&mut connection.input) {
            Ok(Some(Cut::Message(frame))) => return Ok(Some(frame)),
            Ok(Some(Cut::Run(_) | Cut::Head(_) | Cut::Rest { .. })) | Err(_) => {
                return Err(ConnectError::Protocol("unexpected answer to DISCARD ALL"));
            }
            Ok(None) => {}
        }
        match connection
            .stream
            .read(&mut connection.input, READ_BYTES)
            .await?
        {
            0 => Err(ConnectError::Reset),
            _ => Ok(None),
        }
    }

    fn note_parameter(&mut self, frame: &Frame) -> Result<(), ConnectError> {
        let status = ParameterStatus::parse(frame.body())
            .map_err(|_malformed| ConnectError::Protocol("malformed ParameterStatus"))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.set_parameter(&text(status.name), &text(status.value));
        Ok(())
    }
}

const CLEAN: &str = include_str!("../../sql/clean.sql");
/// How the server says that it was done.
const DONE: &[u8] = b"DISCARD ALL";
const READ_BYTES: usize = 4096;
/// The answer is a few short messages; a notification has up to 8000 bytes.
const FRAME_BYTES_MAX: usize = 32 << 10;
