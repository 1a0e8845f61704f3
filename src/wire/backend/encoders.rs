//! Messages to a client, written behind what is already in the buffer.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{
    EmptyQueryResponse, ErrorResponse, NoticeResponse, ReadyForQuery,
    TransactionStatus as PgWireStatus,
};
use pgwire::messages::startup::Authentication;

use super::TransactionStatus;
use super::tag;
use crate::wire::{CancelKey, ErrorFields, writer};

/// Writes a message through pgwire. It refuses only what is longer than the protocol allows; the
/// messages that come here are short by their kind, so nothing is ever left out.
pub(super) fn put(out: &mut BytesMut, message: &impl Message) {
    let start = out.len();
    if let Err(error) = message.encode(out) {
        debug_assert!(false, "a message of ours is too long: {error}");
        out.truncate(start);
    }
}

/// Writes ReadyForQuery.
pub fn ready(out: &mut BytesMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => PgWireStatus::Idle,
        TransactionStatus::Open => PgWireStatus::Transaction,
        TransactionStatus::Failed => PgWireStatus::Error,
    };
    put(out, &ReadyForQuery::new(status));
}

/// Writes ErrorResponse.
pub fn error(out: &mut BytesMut, fields: &ErrorFields) {
    put(out, &ErrorResponse::new(fields.to_pairs()));
}

/// Writes NoticeResponse.
pub fn notice(out: &mut BytesMut, fields: &ErrorFields) {
    put(out, &NoticeResponse::new(fields.to_pairs()));
}

/// Writes ParameterStatus. Not through pgwire: a value is bytes in any encoding.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    writer::message(out, tag::PARAMETER_STATUS, |out| {
        writer::string(out, name);
        writer::string(out, value);
    });
}

/// Writes BackendKeyData. The secret has four bytes for a client of protocol 3.0, and may have
/// more (we use 32) from 3.2 on.
pub fn backend_key(out: &mut BytesMut, key: &CancelKey) {
    writer::message(out, tag::BACKEND_KEY, |out| {
        out.put_u32(key.pid);
        out.put_slice(&key.secret);
    });
}

/// Writes AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    put(out, &Authentication::Ok);
}

/// Writes AuthenticationCleartextPassword.
pub fn authentication_cleartext(out: &mut BytesMut) {
    put(out, &Authentication::CleartextPassword);
}

/// Writes AuthenticationMD5Password.
pub fn authentication_md5(out: &mut BytesMut, salt: [u8; 4]) {
    put(out, &Authentication::MD5Password(salt.to_vec()));
}

/// Writes AuthenticationSASL with the mechanisms that we offer.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    let names = mechanisms.iter().map(|&name| name.to_owned()).collect();
    put(out, &Authentication::SASL(names));
}

/// Writes AuthenticationSASLContinue. `data` is [`crate::wire::scram`]'s server-first message.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    // Not through pgwire: the message repeats the client's nonce, which may be long.
    sasl(out, 11, data);
}

/// Writes AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) {
    put(
        out,
        &Authentication::SASLFinal(Bytes::copy_from_slice(data)),
    );
}

fn sasl(out: &mut BytesMut, kind: u32, data: &[u8]) {
    writer::message(out, tag::AUTHENTICATION, |out| {
        out.put_u32(kind);
        out.put_slice(data);
    });
}

/// Writes ParseComplete.
pub fn parse_complete(out: &mut BytesMut) {
    put(out, &ParseComplete::new());
}

/// Writes BindComplete.
pub fn bind_complete(out: &mut BytesMut) {
    put(out, &BindComplete::new());
}

/// Writes CloseComplete.
pub fn close_complete(out: &mut BytesMut) {
    put(out, &CloseComplete::new());
}

/// Writes NoData.
pub fn no_data(out: &mut BytesMut) {
    put(out, &NoData::new());
}

/// Writes EmptyQueryResponse.
pub fn empty_query(out: &mut BytesMut) {
    put(out, &EmptyQueryResponse::new());
}

/// Writes CommandComplete.
pub fn command_complete(out: &mut BytesMut, command: &str) {
    writer::message(out, tag::COMMAND_COMPLETE, |out| {
        writer::string(out, command.as_bytes());
    });
}

/// Writes ParameterDescription. At most 65535 parameters, as a Parse can name.
pub fn parameter_description(out: &mut BytesMut, types: &[u32]) {
    let types = types.get(..usize::from(u16::MAX)).unwrap_or(types);
    put(out, &ParameterDescription::new(types.to_vec()));
}

/// Writes NotificationResponse. Not through pgwire: a payload is bytes in any encoding.
pub fn notification(out: &mut BytesMut, pid: u32, channel: &[u8], payload: &[u8]) {
    writer::message(out, tag::NOTIFICATION, |out| {
        out.put_u32(pid);
        writer::string(out, channel);
        writer::string(out, payload);
    });
}
