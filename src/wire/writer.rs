//! Writes the messages that pgwire cannot: those of bytes in any encoding, and those it has not.

use bytes::{BufMut, BytesMut};

/// Writes one message: the tag, the length that `body` turns out to have, the body.
pub(super) fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    counted(out, body);
}

/// Writes what begins with its own length, the four bytes of the length included.
///
/// A length that does not fit is written as the largest one, which every reader refuses; callers
/// bound their texts far below it.
pub(super) fn counted(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *slot = length.to_be_bytes();
    }
}

/// Writes a string and its NUL. A NUL inside would begin the next field, so the text ends there.
pub(super) fn string(out: &mut BytesMut, text: &[u8]) {
    let length = memchr::memchr(0, text).unwrap_or(text.len());
    out.put_slice(text.get(..length).unwrap_or(text));
    out.put_u8(0);
}
