//! What the client has of a server's answer, and what is held until it may have it.

use std::mem;

use bytes::Bytes;

use super::counted::{note_failed, note_refused_as};
use super::output::RetryCause;
use super::running::Running;
use super::unit::Expected;
use super::{Output, reply};
use crate::wire::backend;

/// What of the server's answer the client has.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing; what came is held, because the unit may be tried elsewhere.
    HeldBack(HeldBack),
    /// Nothing came.
    Nothing,
    /// Some of it.
    Begun,
    /// Nothing, and it gets nothing of this one: the unit is tried again when the server is done.
    Abandoned(RetryCause),
    /// The same, and the server was told to leave the transaction that the unit began.
    RolledBack(RetryCause),
}

/// Messages that the client does not have yet.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    messages: Vec<Bytes>,
    bytes: usize,
}

impl HeldBack {
    /// Whether there is room for this one too.
    fn takes(&self, message: &Bytes) -> bool {
        self.messages.len() < HELD_BACK_MAX && self.bytes + message.len() <= HELD_BACK_BYTES_MAX
    }

    fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push(message);
    }
}

/// Gives the client something that can be taken back no more.
pub(super) fn give(running: &mut Running, bytes: Bytes, out: &mut Vec<Output>) {
    match mem::replace(&mut running.answer, Answer::Begun) {
        Answer::HeldBack(held) => out.extend(held.messages.into_iter().map(Output::ToClient)),
        Answer::Nothing | Answer::Begun => {}
        abandoned @ (Answer::Abandoned(_) | Answer::RolledBack(_)) => {
            running.answer = abandoned;
            return;
        }
    }
    out.push(Output::ToClient(bytes));
}

/// Gives the client an error of the server, or ours that takes its place.
pub(super) fn give_error(
    running: &mut Running,
    theirs: Bytes,
    ours: Option<Bytes>,
    out: &mut Vec<Output>,
) {
    if !matches!(running.answer, Answer::Abandoned(_)) {
        match &ours {
            Some(message) => note_refused_as(message, out),
            None => note_failed(&theirs, out),
        }
    }
    give(running, ours.unwrap_or(theirs), out);
}

/// Gives the client something, or holds it as long as the unit can be tried elsewhere.
pub(super) fn hold_or_give(running: &mut Running, bytes: Bytes, out: &mut Vec<Output>) {
    match &mut running.answer {
        Answer::HeldBack(held) if held.takes(&bytes) => held.push(bytes),
        Answer::HeldBack(_)
        | Answer::Nothing
        | Answer::Begun
        | Answer::Abandoned(_)
        | Answer::RolledBack(_) => {
            give(running, bytes, out);
        }
    }
}

/// Gives the client what is ours and has its turn now.
pub(super) fn give_ours(running: &mut Running, out: &mut Vec<Output>) {
    loop {
        let bytes = match running.expected.front() {
            Some(Expected::Ours(bytes)) => bytes.clone(),
            Some(Expected::Known(_)) => reply::message(backend::parse_complete),
            _ => return,
        };
        running.expected.pop_front();
        hold_or_give(running, bytes, out);
    }
}

/// How many messages may be held back; a unit that answers more has to be believed.
const HELD_BACK_MAX: usize = 256;
/// How many bytes: room for the descriptions of wide rows.
const HELD_BACK_BYTES_MAX: usize = 64 << 10;
