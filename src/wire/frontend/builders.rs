//! Messages to a server, written behind what is already in the buffer.

use bytes::{BufMut, BytesMut};

use super::tag;
use super::views::{BindHead, ParseHead, What};
use crate::wire::reader::ViewError;
use crate::wire::startup::{CANCEL_REQUEST, MAJOR, SSL_REQUEST};
use crate::wire::{CancelKey, Head, frame, writer};

/// Writes a Query.
pub fn query(out: &mut BytesMut, text: &[u8]) {
    writer::message(out, tag::QUERY, |out| writer::string(out, text));
}

/// Writes a Parse. `types` is the count and the OIDs, as in [`super::Parse::parameter_types`].
pub fn parse(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u8]) {
    writer::message(out, tag::PARSE, |out| {
        writer::string(out, name);
        writer::string(out, text);
        out.put_slice(types);
    });
}

/// Writes a Bind with other names. `rest` is everything behind them, as in [`super::Bind::rest`].
pub fn bind_for(out: &mut BytesMut, statement: &[u8], portal: &[u8], rest: &[u8]) {
    writer::message(out, tag::BIND, |out| {
        writer::string(out, portal);
        writer::string(out, statement);
        out.put_slice(rest);
    });
}

/// Writes the head of a Bind with other names. The length says that the unseen rest of the frame
/// follows, which is to be sent on as it comes.
///
/// # Errors
/// [`ViewError`] when the names do not end in the head, or the message would become too long.
pub fn bind_head_for(
    out: &mut BytesMut,
    head: &Head,
    statement: &[u8],
    portal: &[u8],
) -> Result<(), ViewError> {
    let rest = BindHead::parse(head.prefix())?.rest;
    renamed(out, head, &[portal, statement], rest)
}

/// Writes the head of a Parse with another name; as [`bind_head_for`].
///
/// # Errors
/// [`ViewError`] when the name does not end in the head, or the message would become too long.
pub fn parse_head_for(out: &mut BytesMut, head: &Head, name: &[u8]) -> Result<(), ViewError> {
    let rest = ParseHead::parse(head.prefix())?.rest;
    renamed(out, head, &[name], rest)
}

fn renamed(out: &mut BytesMut, head: &Head, names: &[&[u8]], rest: &[u8]) -> Result<(), ViewError> {
    let mut fields = BytesMut::new();
    for name in names {
        writer::string(&mut fields, name);
    }
    let removed = head.prefix().len().saturating_sub(rest.len());
    let length = usize::try_from(head.length)
        .ok()
        .and_then(|length| length.checked_sub(removed))
        .and_then(|length| length.checked_add(fields.len()))
        .and_then(|length| u32::try_from(length).ok())
        .filter(|&length| length <= frame::LARGE_LENGTH)
        .ok_or(ViewError::TooLong)?;
    out.put_u8(head.tag);
    out.put_u32(length);
    out.put_slice(&fields);
    out.put_slice(rest);
    Ok(())
}

/// Writes a Describe.
pub fn describe(out: &mut BytesMut, what: What, name: &[u8]) {
    target(out, tag::DESCRIBE, what, name);
}

/// Writes a Close.
pub fn close(out: &mut BytesMut, what: What, name: &[u8]) {
    target(out, tag::CLOSE, what, name);
}

fn target(out: &mut BytesMut, tag: u8, what: What, name: &[u8]) {
    writer::message(out, tag, |out| {
        out.put_u8(what.to_byte());
        writer::string(out, name);
    });
}

/// Writes an Execute.
pub fn execute(out: &mut BytesMut, portal: &[u8], max_rows: i32) {
    writer::message(out, tag::EXECUTE, |out| {
        writer::string(out, portal);
        out.put_i32(max_rows);
    });
}

/// Writes a Sync.
pub fn sync(out: &mut BytesMut) {
    writer::message(out, tag::SYNC, |_empty| ());
}

/// Writes a Flush.
pub fn flush(out: &mut BytesMut) {
    writer::message(out, tag::FLUSH, |_empty| ());
}

/// Writes a Terminate.
pub fn terminate(out: &mut BytesMut) {
    writer::message(out, tag::TERMINATE, |_empty| ());
}

/// Writes a CopyFail.
pub fn copy_fail(out: &mut BytesMut, text: &[u8]) {
    writer::message(out, tag::COPY_FAIL, |out| writer::string(out, text));
}

/// Writes a PasswordMessage: a password in clear, or the md5 hash of one.
pub fn password(out: &mut BytesMut, text: &[u8]) {
    writer::message(out, tag::PASSWORD, |out| writer::string(out, text));
}

/// Writes the first answer of a SASL exchange.
pub fn sasl_initial_response(out: &mut BytesMut, mechanism: &[u8], data: &[u8]) {
    writer::message(out, tag::PASSWORD, |out| {
        writer::string(out, mechanism);
        out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
        out.put_slice(data);
    });
}

/// Writes a later answer of a SASL exchange.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    writer::message(out, tag::PASSWORD, |out| out.put_slice(data));
}

/// Writes a start-up message of protocol 3.
pub fn startup<'a>(
    out: &mut BytesMut,
    minor: u16,
    parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) {
    writer::counted(out, |out| {
        out.put_u16(MAJOR);
        out.put_u16(minor);
        for (name, value) in parameters {
            writer::string(out, name);
            writer::string(out, value);
        }
        out.put_u8(0);
    });
}

/// Writes a request for TLS.
pub fn ssl_request(out: &mut BytesMut) {
    writer::counted(out, |out| out.put_u32(SSL_REQUEST));
}

/// Writes a cancel request.
pub fn cancel_request(out: &mut BytesMut, key: &CancelKey) {
    writer::counted(out, |out| {
        out.put_u32(CANCEL_REQUEST);
        out.put_u32(key.pid);
        out.put_slice(&key.secret);
    });
}
