//! What of a server's answer the client has, and what is held back because the unit may run elsewhere.

use bytes::Bytes;

use super::output::RetryCause;

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
}

/// Messages that the client does not have yet.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    pub(super) messages: Vec<Bytes>,
    bytes: usize,
}

impl HeldBack {
    /// Whether there is room for this one too.
    pub(super) fn takes(&self, message: &Bytes) -> bool {
        self.messages.len() < HELD_BACK_MAX && self.bytes + message.len() <= HELD_BACK_BYTES_MAX
    }

    pub(super) fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push(message);
    }
}

/// How many messages may be held back; a unit that answers more has to be believed.
const HELD_BACK_MAX: usize = 256;
/// How many bytes: room for the descriptions of wide rows.
const HELD_BACK_BYTES_MAX: usize = 64 << 10;
