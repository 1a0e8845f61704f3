//! What a unit has set, for the session to take along, and what it has dropped.

use super::Session;
use super::running::Running;
use super::settings::{Done, Doubt, changes_of};
use super::unit::{Plan, Traits, Unit};
use crate::statement::{Facts, Statement};
use crate::wire::backend;
use crate::wire::frame::Frame;

impl Session {
    /// A command that drops prepared statements, or all state, is done: no error undoes it.
    pub(super) fn note_command(&mut self, running: &mut Running, frame: &Frame) {
        if !running.unit.traits.has(Traits::DEALLOCATES_ALL) {
            return;
        }
        match backend::command_tag(frame.body()) {
            Some(b"DISCARD ALL") => {
                running.unit.traits.set(Traits::DISCARDED_ALL);
                running.held.side.clear();
                self.wanted.clear();
            }
            Some(b"DEALLOCATE ALL") => {}
            _ => return,
        }
        running.held.side.clear_statements();
        self.names.clear();
    }

    /// Follows what a unit has set, when it is done and the transaction is the one behind it.
    ///
    /// # Errors
    ///
    /// When that is not known any more.
    pub(super) fn follow(&mut self, unit: &Unit) -> Result<(), Doubt> {
        let in_transaction = !self.transaction.is_none();
        let known = match &unit.plan {
            Plan::One(facts) if !unit.failed => self.follow_one(facts, unit.done, in_transaction),
            Plan::Unclear => self.wanted.shape_unseen(in_transaction),
            Plan::Unseen if unit.done >= Done::Set => Err(Doubt),
            Plan::Plain if unit.done >= Done::Shaped => self.wanted.shape_unseen(in_transaction),
            Plan::Empty | Plan::Plain | Plan::One(_) | Plan::Unseen => Ok(()),
        };
        if unit.failed && !in_transaction {
            self.wanted.roll_back();
        }
        known
    }

    /// The one statement of a unit was run, or only bound, and then it may still be run.
    fn follow_one(&mut self, facts: &Facts, done: Done, in_transaction: bool) -> Result<(), Doubt> {
        let verb = facts.statements.first().and_then(Statement::transaction);
        match (changes_of(facts), verb, done) {
            (Some(changes), _, Done::Set) => self.wanted.change(&changes, in_transaction),
            (Some(_), ..) => Err(Doubt),
            (None, Some(verb), Done::Shaped | Done::Rollback) => {
                self.wanted.shape(verb, done, in_transaction)
            }
            (None, ..) => Ok(()),
        }
    }

    /// What a command of a unit was, by its tag.
    pub(super) fn note_done(unit: &mut Unit, frame: &Frame) {
        let done = Done::of_tag(backend::command_tag(frame.body()));
        unit.done = unit.done.max(done);
    }
}
