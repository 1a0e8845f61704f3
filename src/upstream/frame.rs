//! Cuts the frames of a login out of what a server sends, bounded and checked.
//!
//! After the login the driver of the session reads the stream itself.

use bytes::{Buf, Bytes, BytesMut};

use super::ConnectError;
use crate::net::Stream;

/// The frames of one login.
#[derive(Debug)]
pub(super) struct Frames {
    /// What was read and not taken yet.
    pub(super) input: BytesMut,
    read_bytes: usize,
}

impl Frames {
    /// Nothing read yet.
    pub(super) fn new() -> Self {
        Self {
            input: BytesMut::with_capacity(READ_BYTES),
            read_bytes: 0,
        }
    }

    /// The next frame: its tag and its body.
    pub(super) async fn next(&mut self, stream: &mut Stream) -> Result<(u8, Bytes), ConnectError> {
        loop {
            if let Some(frame) = cut(&mut self.input)? {
                return Ok(frame);
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

/// Takes one whole frame off the front; `None` when more bytes are needed.
fn cut(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, ConnectError> {
    let Some((tag, a, b, c, d)) = header(input) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let body = length
        .checked_sub(LENGTH_BYTES)
        .and_then(|body| usize::try_from(body).ok())
        .filter(|body| *body <= FRAME_BYTES_MAX)
        .ok_or(ConnectError::Protocol("impossible length of a message"))?;
    if input.len() < HEADER_BYTES.saturating_add(body) {
        return Ok(None);
    }
    input.advance(HEADER_BYTES);
    Ok(Some((tag, input.split_to(body).freeze())))
}

fn header(input: &BytesMut) -> Option<(u8, u8, u8, u8, u8)> {
    match input.get(..HEADER_BYTES)? {
        [tag, a, b, c, d] => Some((*tag, *a, *b, *c, *d)),
        _ => None,
    }
}

const HEADER_BYTES: usize = 5;
const LENGTH_BYTES: u32 = 4;
const READ_BYTES: usize = 4096;
/// libpq takes 30000 for an error and 2000 for an authentication request; the longest settings that
/// servers report are far below.
const FRAME_BYTES_MAX: usize = 32 << 10;
/// A login brings some twenty settings, less than two kilobytes.
const LOGIN_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_when_its_last_byte_is_there_and_not_before() {
        let whole = b"R\0\0\0\x08\0\0\0\0Z";
        for length in 0..9 {
            let mut input = BytesMut::from(&whole[..length]);
            assert_eq!(cut(&mut input), Ok(None), "after {length} bytes");
            assert_eq!(input.len(), length);
        }
        let mut input = BytesMut::from(&whole[..]);
        let body = Bytes::from_static(&[0; 4]);
        assert_eq!(cut(&mut input), Ok(Some((b'R', body))));
        assert_eq!(&input[..], b"Z");
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_at_once() {
        for length in [0_u32, 3, 32 << 11, u32::MAX] {
            let mut input = BytesMut::from(&b"S"[..]);
            input.extend_from_slice(&length.to_be_bytes());
            assert!(cut(&mut input).is_err(), "{length} was taken");
        }
    }
}
