//! Reads the frames of a login, bounded in length and in number.
//!
//! After the login the driver of the session reads the stream itself.

use bytes::BytesMut;

use super::ConnectError;
use crate::net::Stream;
use crate::wire::{Cut, Frame, Limits, Splitter};

/// The frames of one login.
#[derive(Debug)]
pub(super) struct Frames {
    /// What was read and not taken yet.
    pub(super) input: BytesMut,
    splitter: Splitter,
    read_bytes: usize,
}

impl Frames {
    /// Nothing read yet.
    pub(super) fn new() -> Self {
        Self {
            input: BytesMut::with_capacity(READ_BYTES),
            splitter: Splitter::server(Limits {
                hold: FRAME_BYTES_MAX,
                ..Limits::default()
            }),
            read_bytes: 0,
        }
    }

    /// The next frame.
    pub(super) async fn next(&mut self, stream: &mut Stream) -> Result<Frame, ConnectError> {
        loop {
            match self.splitter.next(&mut self.input) {
                Ok(Some(Cut::Message(frame))) => return Ok(frame),
                Ok(Some(Cut::Run(_))) => {
                    return Err(ConnectError::Protocol("unexpected message during login"));
                }
                Ok(Some(Cut::Head(_) | Cut::Rest { .. })) => {
                    return Err(ConnectError::Protocol("too long a message during login"));
                }
                Err(_not_a_frame) => return Err(ConnectError::Protocol("malformed message")),
                Ok(None) => {}
            }
            if self.read_bytes > LOGIN_BYTES_MAX {
                return Err(ConnectError::Protocol("login does not end"));
            }
            match stream.read(&mut self.input, READ_BYTES).await? {
                0 => return Err(ConnectError::Reset),
                read => self.read_bytes = self.read_bytes.saturating_add(read),
            }
        }
    }
}

const READ_BYTES: usize = 4096;
/// libpq takes 30000 for an error and 2000 for an authentication request; the longest settings that
/// servers report are far below.
const FRAME_BYTES_MAX: usize = 32 << 10;
/// A login brings some twenty settings, less than two kilobytes.
const LOGIN_BYTES_MAX: usize = 256 << 10;
