//! Messages that we make ourselves, as outputs.

use bytes::{Bytes, BytesMut};

use super::{Output, Refusal, Transaction};
use crate::wire::backend;
use crate::wire::fields::{ErrorFields, Severity};
use crate::wire::sqlstate::SqlState;

/// Writes one message into bytes of its own.
pub(super) fn message(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::new();
    write(&mut bytes);
    bytes.freeze()
}

/// Sends `ReadyForQuery` with what the client believes of its transaction.
pub(super) fn ready(out: &mut Vec<Output>, transaction: &Transaction) {
    out.push(Output::ToClient(ready_message(transaction)));
}

/// `ReadyForQuery` with what the client believes of its transaction.
pub(super) fn ready_message(transaction: &Transaction) -> Bytes {
    message(|to| backend::ready(to, transaction.status()))
}

/// Sends an error of ours.
pub(super) fn refusal(out: &mut Vec<Output>, refusal: &Refusal) {
    out.push(Output::ToClient(encode_refusal(refusal)));
}

/// An error of ours as a message.
pub(super) fn encode_refusal(refusal: &Refusal) -> Bytes {
    message(|to| backend::error(to, &refusal.fields()))
}

/// A NOTICE of ours as a message.
pub(super) fn notice(text: String) -> Bytes {
    let fields = ErrorFields::new(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, text);
    message(|to| backend::notice(to, &fields))
}
