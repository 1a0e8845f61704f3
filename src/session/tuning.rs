//! A connection that holds other settings than its next session wants is told those first.
//!
//! The unit waits for the answer. A server runs a Query whatever became of the one before it: sent
//! right behind, a write could run with settings that its session does not have.

use bytes::BytesMut;

use super::again::ATTEMPTS_MAX;
use super::counted::note_failed;
use super::machine::{Held, State, release};
use super::output::RetryCause;
use super::running::{Running, send_first};
use super::unit::{Expected, Traits};
use super::{Condition, Note, Output, Session, World, reply};
use crate::wire::ErrorView;
use crate::wire::backend::TransactionStatus;
use crate::wire::frame::Frame;
use crate::wire::frontend;

impl Running {
    /// Whether the connection is told its settings, and nothing of the unit was sent.
    pub(super) fn is_tuning(&self) -> bool {
        matches!(self.expected.front(), Some(Expected::Tuned))
    }
}

impl Session {
    /// What a connection has to be told before it gets a unit of this session. One that the session
    /// has already holds what the session wants.
    pub(super) fn untold(&self, held: &Held) -> Option<String> {
        let in_transaction = !self.transaction.is_none() && !self.transaction.is_begun();
        let is_new = !in_transaction && self.pins.is_empty();
        let differs = is_new && !self.wanted.are_on(held.side.settings.as_ref());
        differs.then(|| self.wanted.told_to(held.side.settings.as_ref()))
    }

    /// Tells it.
    pub(super) fn tune(running: &mut Running, text: &str, out: &mut Vec<Output>) {
        let query = |to: &mut BytesMut| frontend::query(to, text.as_bytes());
        out.push(Output::ToServer(reply::message(query)));
        // A simple Query drops the unnamed statement.
        running.held.side.unnamed = None;
        running.expected.push_back(Expected::Tuned);
    }

    /// What the server says to it is not for the client, unless it refuses.
    pub(super) fn tuned(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        frame: Frame,
        out: &mut Vec<Output>,
    ) -> State {
        match frame.tag {
            b'E' if ends_session(&frame) => self.lost_while_running(world, *running, out),
            b'E' => self.refuse_untuned(world, *running, frame, out),
            b'Z' if TransactionStatus::parse(frame.body()) == Ok(TransactionStatus::Idle) => {
                running.expected.pop_front();
                running.held.side.settings = self.wanted.now().cloned();
                send_first(world, &self.transaction, &mut running, out);
                State::Running(running)
            }
            b'Z' => self.lost_while_running(world, *running, out),
            _ => State::Running(running),
        }
    }

    /// A connection whose settings are not those of the session is of no use. The client gets the
    /// server's error where it is about what the client itself has set.
    fn refuse_untuned(
        &mut self,
        world: &World<'_>,
        running: Running,
        frame: Frame,
        out: &mut Vec<Output>,
    ) -> State {
        let Running { unit, held, .. } = running;
        let was_used = held.side.settings.is_some();
        release(held, Condition::Discard, out);
        if was_used && unit.attempts < ATTEMPTS_MAX {
            // It may be what was set there before, such as a limit of time.
            out.push(Output::Note(Note::Retried {
                cause: RetryCause::ConnectionLost,
            }));
            return self.route(world, unit, out);
        }
        if world.rules.has_limit_of_running() {
            out.push(Output::Arm(None));
        }
        self.forget_new(&unit);
        self.fail_begun();
        note_failed(&frame.bytes, out);
        out.push(Output::ToClient(frame.bytes));
        match unit.traits.has(Traits::COMPLETE) {
            true => {
                reply::ready(out, &self.transaction);
                self.rest(world, None, out)
            }
            false => State::Draining(None),
        }
    }
}

fn ends_session(error: &Frame) -> bool {
    let severity = ErrorView::new(error.body()).severity();
    severity.is_some_and(|severity| severity.ends_session())
}
