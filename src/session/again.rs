//! A unit that its server did not finish: it runs again elsewhere, where that is safe, and where it
//! is not, the client is told what became of it.

use std::mem;

use super::answer::Answer;
use super::machine::State;
use super::machine::release;
use super::output::RetryCause;
use super::prepared::ServerSide;
use super::running::{Open, Running, Stage};
use super::settings::Done;
use super::stale;
use super::unit::{Traits, Unit};
use super::{Condition, Note, Output, Refusal, Session, Transaction, World};
use crate::policy::{Intent, Why};
use crate::wire::{ErrorView, SqlState};

impl Session {
    /// Runs the unit again: where it was, with its statement prepared anew, or on the primary, after a
    /// replica would not do.
    pub(super) fn try_again(
        &mut self,
        world: &World<'_>,
        running: Running,
        cause: RetryCause,
        out: &mut Vec<Output>,
    ) -> State {
        let Running { mut unit, held, .. } = running;
        unit.failed = false;
        unit.done = Done::Nothing;
        out.push(Output::Note(Note::Retried { cause }));
        if cause == RetryCause::StaleStatement {
            stale::renew(&mut unit);
            return self.run(world, unit, held, out);
        }
        if cause == RetryCause::ReadOnlyServer {
            out.push(Output::Note(Note::Misrouted {
                server: held.server,
            }));
            if let Some(text) = &unit.text {
                world.texts.facts.learn_write(text, self.reading);
            }
            if let Some(statement) = &unit.statement {
                world.texts.facts.learn_write(&statement.text, self.reading);
            }
            unit.traits.set(Traits::MAY_WRITE);
            unit.demand_primary(Why::RefusedByReplica);
        } else {
            unit.demand_primary(Why::NoReplica);
        }
        release(held, Condition::Clean, out);
        self.route(world, unit, out)
    }

    /// The connection broke while the unit ran.
    pub(super) fn lost_while_running(
        &mut self,
        world: &World<'_>,
        running: Running,
        out: &mut Vec<Output>,
    ) -> State {
        // Nothing of the unit was sent.
        let is_untold = running.is_tuning();
        let Running {
            unit,
            held,
            expected,
            answer,
            open,
            stage,
            ..
        } = running;
        let in_transaction = matches!(stage, Stage::Begins | Stage::Inside);
        if stage == Stage::Refused {
            self.fail_begun();
        }
        let server = held.server;
        let may_write = unit.traits.has(Traits::MAY_WRITE);
        let read_only = held.route.intent == Intent::Read || !may_write || is_untold;
        out.push(Output::Note(Note::ServerLost { server }));
        release(held, Condition::Discard, out);
        if world.rules.has_limit_of_running() {
            out.push(Output::Arm(None));
        }
        if let Some(pin) = self.pin() {
            let in_doubt = match in_transaction {
                true => matches!(self.transaction_lost(&unit), Refusal::OutcomeUnknown),
                false => !read_only,
            };
            let refusal = match in_doubt {
                true => Refusal::PinnedOutcomeUnknown { pin },
                false => Refusal::PinnedLost { pin },
            };
            return self.refuse_unit(world, &refusal, true, None, out);
        }
        let untouched = !matches!(answer, Answer::Begun) && open == Open::Complete;
        // A transaction of which nothing has run begins again with its first unit.
        if stage != Stage::Inside && read_only && untouched && unit.attempts < ATTEMPTS_MAX {
            out.push(Output::Note(Note::Retried {
                cause: RetryCause::ConnectionLost,
            }));
            return self.route(world, unit, out);
        }
        if untouched || is_untold {
            self.forget_new(&unit);
        }
        for expected in &expected {
            self.forget_skipped(&mut ServerSide::default(), expected);
        }
        let refusal = match in_transaction {
            true => self.transaction_lost(&unit),
            false if read_only => Refusal::ReadLost,
            false => Refusal::OutcomeUnknown,
        };
        if matches!(refusal, Refusal::OutcomeUnknown) {
            // It may have been done, and the client may find out: its reads must see it.
            self.wrote(world.now, world.snapshot.epoch);
        }
        let complete = open != Open::UntilSync;
        self.refuse_unit(world, &refusal, complete, None, out)
    }

    /// The connection broke in a transaction. It is gone, unless this unit may have committed it.
    fn transaction_lost(&mut self, unit: &Unit) -> Refusal {
        let wrote = mem::take(&mut self.transaction_wrote) || unit.traits.has(Traits::MAY_WRITE);
        let commits = unit.traits.has(Traits::COMMITS);
        self.wanted.roll_back();
        self.channels.roll_back();
        self.transaction = match commits {
            true => Transaction::None,
            false => Transaction::Lost { told: true },
        };
        match commits && wrote {
            true => Refusal::OutcomeUnknown,
            false => Refusal::TransactionLost,
        }
    }
}

/// Why an error of a replica is worth a try on the primary.
pub(super) fn retry_cause(view: ErrorView<'_>) -> Option<RetryCause> {
    let state = view.sqlstate()?;
    match state {
        b"25006" => Some(RetryCause::ReadOnlyServer),
        b"40001" => Some(RetryCause::RecoveryConflict),
        // The relation, column, function or schema may be newer than what is replayed; an unlogged
        // relation and what a standby cannot do are answered with the last three.
        b"42P01" | b"42703" | b"42883" | b"42704" | b"3F000" | b"0A000" | b"55000" | b"XX000" => {
            Some(RetryCause::MissingOnReplica)
        }
        _ if view.is(SqlState::ADMIN_SHUTDOWN) => Some(RetryCause::ConnectionLost),
        _ => None,
    }
}

/// How many servers a unit that only reads is tried on when connections break.
pub(super) const ATTEMPTS_MAX: u8 = 3;
