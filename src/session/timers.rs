//! How long it may all take: a silence of the client, a unit that runs, a transaction.

use std::time::{Duration, Instant};

use super::machine::{State, refuse_and_close};
use super::running::{Copy, Open, Running};
use super::{Output, Refusal, Session, World};

/// What is left of the patience with a unit that has a limit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It has not run for too long.
    Full,
    /// Its server was told to cancel it.
    Cancelled,
    /// The same, and the session ends with it.
    Ended,
}

impl Session {
    pub(super) fn handle_timer(
        &mut self,
        world: &World<'_>,
        state: State,
        out: &mut Vec<Output>,
    ) -> State {
        match state {
            State::Waiting(waiting) => self.look_again(world, waiting, out),
            State::Running(running) => self.look_at_running(world, running, out),
            State::Resting(held) | State::Gathering(_, held) | State::Draining(held)
                if self.has_transaction_lasted_too_long(world) =>
            {
                refuse_and_close(&Refusal::TransactionTimeout, held, out)
            }
            // A deadline of something that is over does not mean the client.
            State::Resting(held) if self.idle_until.is_none_or(|until| world.now < until) => {
                State::Resting(held)
            }
            State::Resting(held) => {
                let refusal = match self.transaction.is_none() {
                    true => Refusal::IdleTooLong,
                    false => Refusal::IdleInTransaction,
                };
                refuse_and_close(&refusal, held, out)
            }
            other @ (State::Gathering(..)
            | State::Subscribing(_)
            | State::Draining(_)
            | State::Closed) => other,
        }
    }

    /// From now on the client is silent, and may be for so long.
    pub(super) fn expect_client(&mut self, world: &World<'_>, out: &mut Vec<Output>) {
        let limit = match self.transaction.is_none() {
            true => world.rules.idle_timeout,
            false => world.rules.idle_in_transaction_timeout,
        };
        let until = sooner(after(world, limit), self.transaction_until);
        if until.is_some() {
            self.idle_until = until;
            out.push(Output::Arm(until));
        }
    }

    /// Whether it is time to end the transaction.
    pub(super) fn has_transaction_lasted_too_long(&self, world: &World<'_>) -> bool {
        self.transaction_until
            .is_some_and(|until| world.now >= until)
    }

    /// When what begins to run now has run for too long.
    pub(super) fn deadline(&mut self, world: &World<'_>) -> Option<Instant> {
        if self.transaction.is_none() {
            self.transaction_until = after(world, world.rules.transaction_timeout);
        }
        sooner(
            after(world, world.rules.query_timeout),
            self.transaction_until,
        )
    }

    /// A unit is cancelled when its time is up. A server that does not even obey that hangs.
    pub(super) fn look_at_running(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        out: &mut Vec<Output>,
    ) -> State {
        if running.until.is_none_or(|until| world.now < until) {
            running.arm(world, out);
            return State::Running(running);
        }
        match running.patience {
            Patience::Full
                if self.has_transaction_lasted_too_long(world) && running.waits_for_client() =>
            {
                refuse_and_close(&Refusal::TransactionTimeout, Some(running.held), out)
            }
            Patience::Full => {
                running.patience = match self.has_transaction_lasted_too_long(world) {
                    true => Patience::Ended,
                    false => Patience::Cancelled,
                };
                running.until = Some(world.now + CANCEL_GRACE);
                out.push(Output::CancelServer);
                running.arm(world, out);
                State::Running(running)
            }
            Patience::Cancelled | Patience::Ended => {
                // Elsewhere it would run for too long as well.
                running.unit.attempts = u8::MAX;
                self.lost_while_running(world, *running, out)
            }
        }
    }
}

impl Running {
    /// Whether all that was sent is answered, and the client has not said that this was all.
    fn waits_for_client(&self) -> bool {
        self.expected.is_empty() && self.open == Open::UntilSync && self.copy == Copy::None
    }
}

/// The end of a limit that begins now; zero is none.
pub(super) fn after(world: &World<'_>, limit: Duration) -> Option<Instant> {
    (!limit.is_zero()).then(|| world.now + limit)
}

/// The sooner of two deadlines.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// How long a server may take to obey a cancel. Rolling back takes no time; what cannot be
/// interrupted, such as a wait for a disk, may.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
