//! LISTEN and UNLISTEN without a connection of the session's own: a listener that is shared
//! subscribes for it, and what is notified comes from there.
//!
//! A session that is pinned anyway listens on the connection that it has. A channel is heard in
//! one way only.

use super::channels::{Channel, NAME_BYTES_MAX, Wish};
use super::echo::HEADER;
use super::local::LISTENING_CHANNELS;
use super::machine::{Held, State, refuse_and_close};
use super::pins::Pin;
use super::running::Running;
use super::settings::Done;
use super::unit::{Plan, Step, Traits, Unit};
use super::{Missed, Output, Refusal, Session, Transaction, World, reply};
use crate::statement::{Effect, Facts, Kind, Statement};
use crate::wire::backend::{self, Notification};
use crate::wire::fields::{ErrorFields, Severity};
use crate::wire::frame::Frame;
use crate::wire::sqlstate::SqlState;
use bytes::{Bytes, BytesMut};

/// A unit that waits until the shared listener has subscribed to what it wants to listen to.
#[derive(Debug)]
pub(super) struct Subscribing {
    pub(super) parked: Parked,
    pub(super) channels: Vec<Channel>,
}

/// Where the unit goes on.
#[derive(Debug)]
pub(super) enum Parked {
    /// It has no server yet, or that of its transaction.
    Gathered(Box<Unit>, Option<Held>),
    /// It has its connection, and is about to be sent.
    Granted(Box<Unit>, Held),
    /// It runs, and more of it came.
    Running(Box<Running>),
    /// It is over, and its end was not given to the client yet.
    Ended(Held, Bytes),
}

impl Parked {
    /// What can still be refused.
    fn unit(&mut self) -> Option<&mut Unit> {
        match self {
            Self::Gathered(unit, _) | Self::Granted(unit, _) => Some(unit),
            Self::Running(running) => Some(&mut running.unit),
            Self::Ended(..) => None,
        }
    }
}

impl Subscribing {
    /// The connection that the unit has.
    pub(super) fn into_held(self) -> Option<Held> {
        match self.parked {
            Parked::Gathered(_, held) => held,
            Parked::Granted(_, held) | Parked::Ended(held, _) => Some(held),
            Parked::Running(running) => Some(running.held),
        }
    }

    /// Whether its client may be told what was heard.
    const fn is_over(&self) -> bool {
        matches!(self.parked, Parked::Ended(..))
    }
}

impl Session {
    /// Whether a text does nothing but LISTEN and UNLISTEN, and the shared listener does it.
    pub(super) fn listens_here(&self, world: &World<'_>, facts: &Facts) -> bool {
        let mut statements = facts.statements.iter();
        let is_plain = |statement: &Statement| {
            matches!(statement.kind, Kind::Listen | Kind::Unlisten) && statement.unparsed.is_none()
        };
        let is_meant = statements.len() > 0 && statements.all(is_plain) && facts.unparsed.is_none();
        is_meant && self.may_listen_here(world) && self.names_are_plain(facts)
    }

    fn may_listen_here(&self, world: &World<'_>) -> bool {
        let can_run = match self.transaction {
            Transaction::None | Transaction::Begun(_) | Transaction::Open { failed: false } => true,
            // The server, or we, have the right error for it.
            Transaction::Open { failed: true } | Transaction::Lost { .. } => false,
        };
        let is_plain = self.pins.has(Pin::Listen) || self.pending.has(Pin::Listen);
        let is_free = || self.pins.is_empty() || !self.channels.is_empty();
        world.console.is_none() && can_run && !is_plain && is_free()
    }

    /// Whether the names mean the same to the listener, which has the encoding of this session.
    /// An empty name is an error that the server has the words for.
    fn names_are_plain(&self, facts: &Facts) -> bool {
        let is_unicode = self.client_encoding() == UNICODE;
        facts
            .session_effects()
            .all(|effect| match Wish::of(effect) {
                Some(Wish::Listen(name) | Wish::Unlisten(name)) => {
                    !name.is_empty() && (is_unicode || name.is_ascii())
                }
                Some(Wish::UnlistenAll) => true,
                None => false,
            })
    }

    /// Whether a statement asks for the channels of a session that listens elsewhere.
    pub(super) fn shows_channels(&self, text: &[u8], statement: &Statement) -> bool {
        let is_meant = matches!(&*statement.functions, [one] if &*one.name == LISTENING_CHANNELS);
        let is_known = is_meant && !self.channels.is_empty() && !self.pins.has(Pin::Listen);
        is_known && !self.transaction.is_failed() && !self.transaction.is_lost() && {
            let text = String::from_utf8_lossy(text).to_ascii_lowercase();
            let words: Vec<_> = text
                .trim_end_matches([';', ' ', '\n'])
                .split_ascii_whitespace()
                .collect();
            matches!(
                &*words,
                ["select", "pg_listening_channels()"]
                    | ["select", "*", "from", "pg_listening_channels()"]
            )
        }
    }

    /// The answer to such a text as a Query, or as an Execute, in its unit.
    pub(super) fn push_listen(unit: &mut Unit, facts: &Facts) {
        let mut answer = BytesMut::new();
        for effect in facts.session_effects() {
            let Some(wish) = Wish::of(effect) else {
                continue;
            };
            if let Effect::Listen { channel }
            | Effect::Unlisten {
                channel: Some(channel),
            } = effect
                && channel.len() > NAME_BYTES_MAX
            {
                backend::notice(&mut answer, &truncated(channel));
            }
            backend::command_complete(&mut answer, wish.tag());
            unit.wishes.push(wish);
        }
        unit.push(Step::Local(answer.freeze()));
    }

    /// A text goes to the server that may end the listening of a session that listens elsewhere.
    pub(super) fn note_unlisten(&self, unit: &mut Unit, facts: &Facts) {
        if self.channels.is_empty() {
            return;
        }
        let unlisten = |wish: &Wish| matches!(wish, Wish::Unlisten(_) | Wish::UnlistenAll);
        let wishes = Wish::all_of(facts).into_iter().filter(unlisten);
        unit.wishes.extend(wishes);
    }

    /// What a unit has to wait for before it is answered. More than a session may have is refused
    /// in the unit itself.
    pub(super) fn missing_channels(&self, world: &World<'_>, unit: &mut Unit) -> Vec<Channel> {
        if unit.wishes.is_empty() {
            return Vec::new();
        }
        let missing = self.channels.missing(&unit.wishes);
        let count = self.channels.weight() + missing.len().max(unit.wishes.len());
        if count > world.rules.channels_max && !missing.is_empty() {
            give_up(
                unit,
                Refusal::LimitReached {
                    what: "channels",
                    setting: "limits.channels",
                },
            );
            return Vec::new();
        }
        missing
    }

    /// Has the unit wait for the listener.
    pub(super) fn subscribe(
        parked: Parked,
        channels: Vec<Channel>,
        out: &mut Vec<Output>,
    ) -> State {
        out.push(Output::Listen(channels.clone()));
        State::Subscribing(Box::new(Subscribing { parked, channels }))
    }

    /// The listener has subscribed, or will not.
    pub(super) fn subscribed(
        &mut self,
        world: &World<'_>,
        subscribing: Subscribing,
        result: Result<(), Refusal>,
        out: &mut Vec<Output>,
    ) -> State {
        if let Err(refusal) = &result
            && refusal.ends_session()
        {
            return refuse_and_close(refusal, subscribing.into_held(), out);
        }
        let Subscribing {
            mut parked,
            channels,
        } = subscribing;
        // What came too late is given back with the rest.
        self.channels.subscribed(channels);
        if let Err(refusal) = result
            && let Some(unit) = parked.unit()
        {
            give_up(unit, refusal);
        }
        match parked {
            Parked::Gathered(unit, held) => self.dispatch(world, unit, held, out),
            Parked::Granted(unit, held) => self.run(world, unit, held, out),
            Parked::Running(running) => self.send_more(world, running, out),
            Parked::Ended(held, ready) => {
                out.push(Output::ToClient(ready));
                self.rest(world, Some(held), out)
            }
        }
    }

    /// Follows what a unit has done to the channels, when it is over and the transaction is the
    /// one behind it.
    pub(super) fn follow_channels(&mut self, unit: &mut Unit) {
        if unit.wishes.is_empty() && self.channels.is_empty() {
            return;
        }
        let in_transaction = !self.transaction.is_none();
        let wishes = std::mem::take(&mut unit.wishes);
        if unit.traits.has(Traits::DISCARDED_ALL) {
            self.channels.clear();
        }
        match &unit.plan {
            Plan::One(facts) if !unit.failed && unit.done >= Done::Shaped => {
                let verb = facts.statements.first().and_then(Statement::transaction);
                if let Some(verb) = verb {
                    self.channels.shape(verb, unit.done, in_transaction);
                }
            }
            Plan::Unclear => self.channels.shape_unseen(),
            Plan::Unseen | Plan::Plain if unit.done >= Done::Shaped => self.channels.shape_unseen(),
            Plan::Empty | Plan::Plain | Plan::One(_) | Plan::Unseen => {}
        }
        let ends_somewhere = unit.traits.has(Traits::COMMITS | Traits::ROLLS_BACK);
        match (wishes.is_empty(), unit.failed) {
            (true, _) => {}
            (false, _) if ends_somewhere => self.channels.done_in_doubt(wishes),
            (false, true) => {}
            (false, false) => self.channels.done(wishes, in_transaction),
        }
        if unit.failed && !in_transaction {
            self.channels.roll_back();
        }
    }

    /// Gives back what nobody here needs any more.
    pub(super) fn settle_channels(&mut self, out: &mut Vec<Output>) {
        if self.channels.is_empty() {
            return;
        }
        let surplus = self.channels.take_surplus();
        if !surplus.is_empty() {
            out.push(Output::Unlisten(surplus));
        }
    }

    /// Whether a notification may be given to the client now. As in PostgreSQL, that is when
    /// nothing runs and no transaction is open.
    pub fn takes_notifications(&self) -> bool {
        let is_between = match &self.state {
            State::Resting(_) => true,
            State::Subscribing(waits) => waits.is_over(),
            State::Gathering(..)
            | State::Waiting(_)
            | State::Running(_)
            | State::Draining(_)
            | State::Closed => false,
        };
        is_between && self.transaction.is_none()
    }

    /// The shared listener has heard something.
    pub(super) fn hear(&self, frame: Bytes, out: &mut Vec<Output>) {
        if self.has_channel_of(&frame) {
            out.push(Output::ToClient(frame));
        }
    }

    /// The shared listener has missed something, or may have.
    pub(super) fn missed(&self, missed: Missed, out: &mut Vec<Output>) {
        if !self.channels.is_empty() {
            let fields = missed.fields();
            out.push(Output::ToClient(reply::message(|to| {
                backend::notice(to, &fields);
            })));
        }
    }

    /// Whether a notification of the session's own connection comes from the listener as well.
    pub(super) fn is_heard_twice(&self, frame: &Frame) -> bool {
        frame.tag == b'A' && !self.channels.is_empty() && self.has_channel_of(&frame.bytes)
    }

    fn has_channel_of(&self, frame: &[u8]) -> bool {
        let body = frame.get(HEADER..).unwrap_or_default();
        Notification::parse(body).is_ok_and(|heard| self.channels.has(heard.channel))
    }
}

impl Missed {
    fn fields(self) -> ErrorFields {
        let (message, detail) = match self {
            Self::Connection => (
                "notifications may have been missed",
                "The connection on which pgherd listens was lost. It is there again, and nothing \
                 that is notified from now on is missed."
                    .to_owned(),
            ),
            Self::Overflow { count } => (
                "notifications were dropped",
                format!(
                    "{count} came while the client did not take those before; limits.notifications \
                     bounds how much may wait."
                ),
            ),
        };
        ErrorFields::new(Severity::Warning, SqlState::WARNING, message)
            .with_detail(detail)
            .with_hint("Look for what they would have told.")
    }
}

/// Makes an error the answer to a unit.
fn give_up(unit: &mut Unit, refusal: Refusal) {
    unit.wishes.clear();
    unit.refuse(refusal);
}

/// What PostgreSQL says of a name that is too long.
///
/// Source: PostgreSQL 17, scansup.c, `truncate_identifier`.
fn truncated(name: &str) -> ErrorFields {
    let kept = match Wish::of(&Effect::Listen {
        channel: name.into(),
    }) {
        Some(Wish::Listen(kept)) => kept,
        Some(Wish::Unlisten(_) | Wish::UnlistenAll) | None => name.into(),
    };
    let message = format!("identifier \"{name}\" will be truncated to \"{kept}\"");
    ErrorFields::new(Severity::Notice, SqlState::NAME_TOO_LONG, message)
}

/// How PostgreSQL reports the encoding in which all names can be written.
const UNICODE: &str = "UTF8";
