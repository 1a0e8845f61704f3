//! What a server refuses, and what it skips then: everything up to the next Sync.
//!
//! What was noted when it was sent is taken back. Where nothing of a replica's answer has gone to the
//! client, the unit is tried elsewhere when the server is ready again.

use bytes::{Bytes, BytesMut};

use super::again::retry_cause;
use super::answer::{Answer, give, give_error};
use super::left::is_not_understood;
use super::machine::{State, refuse_and_close, release};
use super::output::RetryCause;
use super::prepared::ServerSide;
use super::running::{Copy, Open, Running, Stage};
use super::stale;
use super::timers::Patience;
use super::unit::{Expected, Traits};
use super::{Condition, Output, Refusal, Session, World, reply};
use crate::wire::ErrorView;
use crate::wire::backend::TransactionStatus;
use crate::wire::frame::Frame;
use crate::wire::frontend;

impl Session {
    /// The server refuses something.
    pub(super) fn failed(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        frame: Frame,
        out: &mut Vec<Output>,
    ) -> State {
        let view = ErrorView::new(frame.body());
        if view
            .severity()
            .is_some_and(|severity| severity.ends_session())
        {
            return self.lost_while_running(world, *running, out);
        }
        if running.patience == Patience::Ended {
            return refuse_and_close(&Refusal::TransactionTimeout, Some(running.held), out);
        }
        running.copy = Copy::None;
        if running.unit.traits.has(Traits::QUERY) && is_not_understood(view) {
            running.unit.traits.set(Traits::NOT_UNDERSTOOD);
        }
        let stale = stale::cause(&running, view);
        if let Some(statement) = &stale {
            world.texts.interner.forget(statement);
        }
        let retry = match running.answer {
            Answer::HeldBack(_) if stale.is_some() => {
                stale::can_repair(&running, view).then_some(RetryCause::StaleStatement)
            }
            Answer::HeldBack(_) if running.can_move => retry_cause(view),
            Answer::HeldBack(_)
            | Answer::Nothing
            | Answer::Begun
            | Answer::Abandoned(_)
            | Answer::RolledBack(_) => None,
        };
        let ours = self.skip_to_ready(&mut running, retry.is_some(), out);
        match retry {
            Some(cause) => running.answer = Answer::Abandoned(cause),
            None => give_error(&mut running, frame.bytes, ours, out),
        }
        State::Running(running)
    }

    /// Drops what the server skips after an error. Returns the error of ours that was to be shown
    /// instead.
    fn skip_to_ready(
        &mut self,
        running: &mut Running,
        will_retry: bool,
        out: &mut Vec<Output>,
    ) -> Option<Bytes> {
        running.unit.failed = true;
        let ours = match running.expected.front() {
            Some(Expected::Failure(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let refused = matches!(running.expected.front(), Some(Expected::Begin));
        if refused && !will_retry {
            running.stage = Stage::Refused;
        }
        let is_begin = |expected: &Expected| matches!(expected, Expected::Begin);
        let only_begins = running.expected.iter().skip_while(|e| is_begin(e)).count() == 1;
        let skipped = self.take_back_to_ready(running, will_retry);
        if skipped > 0 && matches!(running.expected.front(), Some(Expected::Query)) {
            // The server skips the Query too, and waits for a Sync.
            running.expected.pop_front();
            if will_retry || (refused && only_begins) {
                out.push(Output::ToServer(reply::message(frontend::sync)));
                running.expected.push_front(Expected::Ready);
            } else {
                running.open = Open::UntilSync;
                running.unit.steps.clear();
                running.unit.traits.unset(Traits::COMPLETE);
            }
        }
        ours
    }

    /// Takes back what the server will not answer before its ReadyForQuery, the last first: a
    /// statement may have made room and come again.
    fn take_back_to_ready(&mut self, running: &mut Running, will_retry: bool) -> usize {
        let is_end = |expected: &Expected| matches!(expected, Expected::Ready | Expected::Query);
        let end = running.expected.iter().position(is_end);
        let end = end.unwrap_or(running.expected.len());
        for expected in running.expected.drain(..end).rev() {
            match will_retry {
                // The next server is asked to prepare it, and the client keeps its name.
                true => forget_on_server(&mut running.held.side, &expected),
                false => self.forget_skipped(&mut running.held.side, &expected),
            }
        }
        end
    }

    /// Takes back what was noted when a message was sent that the server has skipped or refused.
    pub(super) fn forget_skipped(&mut self, side: &mut ServerSide, expected: &Expected) {
        if let Expected::Parse(_, name) | Expected::Known(name) = expected {
            self.names.remove(name);
        }
        forget_on_server(side, expected);
    }

    /// The server is done with a Query, or with everything up to a Sync.
    pub(super) fn ready(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        frame: &Frame,
        out: &mut Vec<Output>,
    ) -> State {
        let Ok(status) = TransactionStatus::parse(frame.body()) else {
            return self.lost_while_running(world, *running, out);
        };
        let will_retry = matches!(running.answer, Answer::Abandoned(_) | Answer::RolledBack(_));
        self.take_back_to_ready(&mut running, will_retry);
        running.expected.pop_front();
        running.copy = Copy::None;
        match (&running.answer, status) {
            (Answer::Abandoned(cause) | Answer::RolledBack(cause), TransactionStatus::Idle) => {
                let cause = *cause;
                return self.try_again(world, *running, cause, out);
            }
            (Answer::Abandoned(cause), TransactionStatus::Open | TransactionStatus::Failed) => {
                running.answer = Answer::RolledBack(*cause);
                let rollback = |to: &mut BytesMut| frontend::query(to, b"ROLLBACK");
                out.push(Output::ToServer(reply::message(rollback)));
                running.expected.push_back(Expected::Query);
                return State::Running(running);
            }
            (Answer::RolledBack(_), TransactionStatus::Open | TransactionStatus::Failed) => {
                return self.lost_while_running(world, *running, out);
            }
            (Answer::HeldBack(_) | Answer::Nothing | Answer::Begun, _) => {}
        }
        if running.stage == Stage::Refused {
            return self.end_refused(world, *running, out);
        }
        let waits = self.waits_after(&running, status == TransactionStatus::Idle);
        let ready = frame.bytes.clone();
        if !waits {
            give(&mut running, ready.clone(), out);
        }
        self.finish(world, *running, status, waits.then_some(ready), out)
    }

    /// The server did not begin the client's transaction, and has told why. What the client sends
    /// now must not run outside of it.
    fn end_refused(
        &mut self,
        world: &World<'_>,
        mut running: Running,
        out: &mut Vec<Output>,
    ) -> State {
        self.fail_begun();
        give(&mut running, reply::ready_message(&self.transaction), out);
        let held = match self.pins.is_empty() {
            true => {
                release(running.held, Condition::Clean, out);
                None
            }
            false => Some(running.held),
        };
        self.rest(world, held, out)
    }
}

/// Takes back what was noted of the connection when a message was sent that the server has
/// skipped or refused.
fn forget_on_server(side: &mut ServerSide, expected: &Expected) {
    match expected {
        // A statement without a name is another one than that of the same text that has one.
        Expected::Parse(_, name) if name.is_empty() => side.unnamed = None,
        Expected::UnnamedAgain => side.unnamed = None,
        Expected::Parse(statement, _) | Expected::PrepareAgain(statement) => {
            side.remove(statement.id);
        }
        Expected::CloseOurs(id) => side.insert(*id),
        Expected::Known(_)
        | Expected::Probe
        | Expected::Tuned
        | Expected::CloseStale
        | Expected::ParseRaw
        | Expected::Bind
        | Expected::DescribeStatement
        | Expected::DescribePortal
        | Expected::Execute
        | Expected::Close
        | Expected::Ours(_)
        | Expected::Failure(_)
        | Expected::Begin
        | Expected::Query
        | Expected::Ready => {}
    }
}
