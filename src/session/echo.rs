//! A session's own notifications, when it listens by the shared listener: they come before the end of
//! the statement that sent them, and under the number that the client knows for its own, as
//! PostgreSQL has it.
//!
//! The listener is asked twice to say everything that was notified so far: before the statement,
//! so that what others sent on the same connection is told apart, and after it. That is done for
//! statements that notify themselves; what a trigger or a function sends comes a little later, and
//! from somebody else.
//!
//! Source: PostgreSQL 17, postgres.c, `PostgresMain`: notifications are sent before ReadyForQuery.

use bytes::{Bytes, BytesMut};

use super::listening::{Parked, Subscribing};
use super::machine::{Held, State};
use super::output::When;
use super::running::Running;
use super::unit::{Traits, Unit};
use super::{Output, Session, World};
use crate::wire::backend::{self, Notification};

/// How far a unit has got with this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Echo {
    #[default]
    NotAsked,
    Asked,
}

/// The numbers of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnNumbers {
    /// What the client was given for the process of its session.
    pub client: u32,
    /// The process of the connection that it is lent.
    pub server: Option<u32>,
}

impl Session {
    /// Has a unit that notifies wait until all that others notified before it was heard.
    pub(super) fn wait_before(
        &self,
        mut unit: Box<Unit>,
        held: Held,
        out: &mut Vec<Output>,
    ) -> Result<(Box<Unit>, Held), State> {
        let notifies = unit.traits.has(Traits::NOTIFIES) && unit.echo == Echo::NotAsked;
        if self.channels.is_empty() || !notifies {
            return Ok((unit, held));
        }
        unit.echo = Echo::Asked;
        out.push(Output::Echo(When::Before));
        Err(waiting(Parked::Granted(unit, held)))
    }

    /// Whether what a unit notified has to be heard before its end.
    pub(super) fn waits_after(&mut self, running: &Running, is_over: bool) -> bool {
        if running.unit.traits.has(Traits::NOTIFIES) {
            self.channels.note_notified();
        }
        is_over && self.channels.take_notified()
    }

    /// Has the end of a unit wait until what it notified was heard.
    pub(super) fn wait_after(held: Held, ready: Bytes, out: &mut Vec<Output>) -> State {
        out.push(Output::Echo(When::After));
        waiting(Parked::Ended(held, ready))
    }
}

fn waiting(parked: Parked) -> State {
    State::Subscribing(Box::new(Subscribing {
        parked,
        channels: Vec::new(),
    }))
}

/// A notification as it is given to the client: one from the connection that the session has is its
/// own.
pub(super) fn as_given(world: &World<'_>, frame: Bytes) -> Bytes {
    let body = frame.get(HEADER..).unwrap_or_default();
    match Notification::parse(body) {
        Ok(heard) if Some(heard.pid) == world.own.server => {
            let mut own = BytesMut::with_capacity(frame.len());
            backend::notification(&mut own, world.own.client, heard.channel, heard.payload);
            own.freeze()
        }
        Ok(_) | Err(_) => frame,
    }
}

/// The bytes in front of a message's body.
pub(super) const HEADER: usize = 5;
