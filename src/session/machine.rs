//! The session: its states, what it remembers, and the way of an input through it.
//!
//! It is total: each state answers each input. What a peer may send at the wrong moment is a
//! protocol violation and ends this session; what only our own driver could do wrong is an
//! internal error, which ends it as well and is counted.

use std::mem;
use std::time::Instant;

use super::begun::Begun;
use super::channels::Channels;
use super::counted::note_refused;
use super::echo::as_given;
use super::listening::Subscribing;
use super::names::Names;
use super::pins::Pins;
use super::prepared::ServerSide;
use super::reading::TextSettings;
use super::running::Running;
use super::settings::Settings;
use super::spare::Spare;
use super::transaction::Transaction;
use super::unit::{Traits, Unit};
use super::waiting::Waiting;
use super::{Condition, Input, Note, Output, Refusal, World, reply};
use crate::cluster::{Epoch, ServerId};
use crate::policy::{Need, Route, Why};
use crate::statement::Reading;
use crate::wire::frame::{Cut, Frame};

/// One client's conversation after its login.
#[derive(Debug)]
pub struct Session {
    pub(super) state: State,
    pub(super) names: Names,
    pub(super) transaction: Transaction,
    /// Whether the open transaction may have written.
    pub(super) transaction_wrote: bool,
    pub(super) pins: Pins,
    /// What the open transaction will have left when it commits, and not when it is undone.
    pub(super) pending: Pins,
    /// What it listens to without a connection of its own.
    pub(super) channels: Channels,
    pub(super) freshness: Freshness,
    /// Whether each route is told in a NOTICE.
    pub(super) explain: Telling,
    pub(super) settings: TextSettings,
    /// What the session has set, and takes along.
    pub(super) wanted: Settings,
    /// How texts of this session are read.
    pub(super) reading: Reading,
    /// Where the last unit ran, and why.
    pub(super) last_route: Option<(ServerId, Why)>,
    /// Turns among equal replicas; begins at a number of the session's own.
    pub(super) turn: u64,
    drain: bool,
    /// What the last unit needed, for the next one.
    pub(super) spare: Spare,
    /// When the client has been silent for too long, while it may be.
    pub(super) idle_until: Option<Instant>,
    /// When the transaction that is open, or the unit that runs by itself, has lasted for too long.
    pub(super) transaction_until: Option<Instant>,
}

/// What the session must be able to see of its own writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    pub(super) need: Need,
    /// The epoch in which the need arose. A position means nothing in another one.
    pub(super) epoch: Epoch,
}

/// A server connection that the session has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) server: ServerId,
    pub(super) side: Box<ServerSide>,
    pub(super) route: Route,
    /// The epoch in which its server was the primary; `None` when it was a replica.
    pub(super) reign: Option<Epoch>,
    /// In what condition it will be when the session needs it no more.
    pub(super) condition: Condition,
}

/// Whether the client is told each route: `SET pgherd.explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    Off,
    Notice,
}

impl Telling {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Notice => "notice",
        }
    }
}

/// Where the conversation stands. Each state holds exactly what is true then.
#[derive(Debug)]
pub(super) enum State {
    /// Between two units. A connection is held by a transaction or by a pin.
    Resting(Option<Held>),
    /// The beginning of a unit is here, its end is not.
    Gathering(Box<Unit>, Option<Held>),
    /// A unit waits for a connection, or for a primary.
    Waiting(Box<Waiting>),
    /// A unit waits for the shared listener.
    Subscribing(Box<Subscribing>),
    /// A unit runs on a server.
    Running(Box<Running>),
    /// The unit has failed: what comes before its Sync is skipped.
    Draining(Option<Held>),
    /// It is over.
    Closed,
}

impl Session {
    /// A session that has just logged in. `turn` spreads sessions over equal replicas.
    pub fn new(turn: u64, settings: TextSettings) -> Self {
        Self {
            state: State::Resting(None),
            names: Names::default(),
            transaction: Transaction::None,
            transaction_wrote: false,
            pins: Pins::default(),
            pending: Pins::default(),
            channels: Channels::default(),
            freshness: Freshness {
                need: Need::Bounded,
                epoch: Epoch::default(),
            },
            explain: Telling::Off,
            reading: settings.reading(),
            settings,
            wanted: Settings::default(),
            last_route: None,
            turn,
            drain: false,
            spare: Spare::default(),
            idle_until: None,
            transaction_until: None,
        }
    }

    /// Whether the next message of the client may be handled now. If not, it stays unread.
    pub fn wants_client(&self) -> bool {
        match &self.state {
            State::Resting(_) | State::Gathering(..) | State::Draining(_) => true,
            State::Running(running) => running.wants_client(),
            State::Waiting(_) | State::Subscribing(_) | State::Closed => false,
        }
    }

    /// Whether the session has something to do when the client sends no more for now.
    pub fn wants_pause(&self) -> bool {
        matches!(&self.state, State::Gathering(unit, Some(_)) if unit.traits.has(Traits::NEEDS_SERVER))
    }

    /// Whether the session is between two units and holds no connection.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Resting(None))
    }

    /// Gives back what is kept for the next unit.
    pub fn trim(&mut self) {
        self.spare = Spare::default();
    }

    /// Whether a statement of the client is under way.
    pub fn is_active(&self) -> bool {
        matches!(
            self.state,
            State::Running(_) | State::Waiting(_) | State::Subscribing(_)
        )
    }

    /// Whether the session waits for a change of the cluster or for a connection.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// The encoding in which the client reads and writes.
    pub fn client_encoding(&self) -> &str {
        self.settings.client_encoding()
    }

    /// The code of the pin that keeps the session on its connection.
    pub fn pin(&self) -> Option<&'static str> {
        self.pins.first().map(|pin| pin.code())
    }

    /// Handles one input. What has to be done is appended to `out`.
    pub fn handle(&mut self, world: &World<'_>, input: Input, out: &mut Vec<Output>) {
        let mut state = mem::replace(&mut self.state, State::Closed);
        if input.concerns_server() && state.is_given_up(world, &input) {
            state = self.server_lost(world, state, out);
            // What that server still said came too late. What the client says is about what is left.
            if !matches!(input, Input::Client(_)) || state.is_waiting() {
                self.state = state;
                return;
            }
        }
        self.state = match input {
            Input::Client(cut) => self.handle_client(world, state, cut, out),
            Input::Server(cut) => self.handle_server(world, state, cut, out),
            Input::Granted { server, side } => match state.waiting() {
                Ok(waiting) => self.granted(world, waiting, server, side, out),
                Err(other) => stray_grant(other, side, out),
            },
            Input::Denied(denial) => match state.waiting() {
                Ok(waiting) => self.denied(world, waiting, denial, out),
                Err(other) => other,
            },
            Input::Listening(result) => match state {
                State::Subscribing(waits) => self.subscribed(world, *waits, result, out),
                other @ (State::Resting(_)
                | State::Gathering(..)
                | State::Waiting(_)
                | State::Running(_)
                | State::Draining(_)
                | State::Closed) => other,
            },
            Input::Notified(frame) => {
                self.hear(frame, out);
                state
            }
            Input::Echoed(frame) => {
                self.hear(as_given(world, frame), out);
                state
            }
            Input::Missed(missed) => {
                self.missed(missed, out);
                state
            }
            Input::ServerLost => self.server_lost(world, state, out),
            Input::ClientGone => self.client_gone(state, out),
            Input::SnapshotChanged => self.look_around(world, state, out),
            Input::Cancel => self.canceled(world, state, out),
            Input::Pause => self.pass_on(world, state, out),
            Input::Timer => self.handle_timer(world, state, out),
            Input::Drain => self.handle_drain(world, state, out),
        };
    }

    fn look_around(&mut self, world: &World<'_>, state: State, out: &mut Vec<Output>) -> State {
        match state {
            State::Waiting(waiting) => self.look_again(world, waiting, out),
            State::Running(running) => {
                running.arm(world, out);
                State::Running(running)
            }
            other @ (State::Resting(_)
            | State::Gathering(..)
            | State::Subscribing(_)
            | State::Draining(_)
            | State::Closed) => other,
        }
    }

    /// The router stops: who is idle is closed now, the others at their end.
    fn handle_drain(&mut self, world: &World<'_>, state: State, out: &mut Vec<Output>) -> State {
        self.drain = true;
        match state {
            State::Resting(held) => self.rest(world, held, out),
            other @ (State::Gathering(..)
            | State::Waiting(_)
            | State::Subscribing(_)
            | State::Running(_)
            | State::Draining(_)
            | State::Closed) => other,
        }
    }

    fn handle_client(
        &mut self,
        world: &World<'_>,
        state: State,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> State {
        match state {
            State::Resting(held) => {
                if self.idle_until.take().is_some() {
                    out.push(Output::Arm(self.transaction_until));
                }
                let mut unit = self.spare.unit.take().unwrap_or_default();
                unit.begun = self.transaction.begun().map(Begun::modes);
                self.gather(world, unit, held, cut, out)
            }
            State::Gathering(unit, held) => self.gather(world, unit, held, cut, out),
            State::Running(running) => self.stream(world, running, cut, out),
            State::Draining(held) => match cut {
                Cut::Message(Frame { tag: b'S', .. }) => {
                    reply::ready(out, &self.transaction);
                    self.rest(world, held, out)
                }
                Cut::Message(Frame { tag: b'X', .. }) => terminate(held, out),
                Cut::Message(_) | Cut::Run(_) | Cut::Head(_) | Cut::Rest { .. } => {
                    State::Draining(held)
                }
            },
            other @ (State::Waiting(_) | State::Subscribing(_)) => {
                debug_assert!(false, "the driver must not feed a session that waits");
                other
            }
            State::Closed => State::Closed,
        }
    }

    fn handle_server(
        &mut self,
        world: &World<'_>,
        state: State,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> State {
        match state {
            State::Running(running) => self.answered(world, running, cut, out),
            State::Resting(Some(held)) => self.unasked(world, held, cut, out, State::resting),
            State::Gathering(unit, Some(held)) => self.unasked(world, held, cut, out, |held| {
                State::Gathering(unit, Some(held))
            }),
            State::Draining(Some(held)) => self.unasked(world, held, cut, out, State::draining),
            other @ (State::Resting(None)
            | State::Gathering(_, None)
            | State::Draining(None)
            | State::Waiting(_)
            | State::Subscribing(_)
            | State::Closed) => other,
        }
    }

    /// The connection of the session is gone.
    pub(super) fn server_lost(
        &mut self,
        world: &World<'_>,
        state: State,
        out: &mut Vec<Output>,
    ) -> State {
        match state {
            State::Running(running) => self.lost_while_running(world, *running, out),
            State::Resting(Some(held)) => self.lost_at_rest(held, out, State::Resting),
            State::Gathering(unit, Some(held)) => {
                let state = self.lost_at_rest(held, out, |held| State::Gathering(unit, held));
                self.refuse_gathered(world, state, out)
            }
            State::Draining(Some(held)) => self.lost_at_rest(held, out, State::Draining),
            other @ (State::Resting(None)
            | State::Gathering(_, None)
            | State::Draining(None)
            | State::Waiting(_)
            | State::Subscribing(_)
            | State::Closed) => other,
        }
    }

    fn lost_at_rest(
        &mut self,
        held: Held,
        out: &mut Vec<Output>,
        stay: impl FnOnce(Option<Held>) -> State,
    ) -> State {
        let server = held.server;
        out.push(Output::Note(Note::ServerLost { server }));
        release(held, Condition::Discard, out);
        if let Some(pin) = self.pin() {
            return refuse_and_close(&Refusal::PinnedLost { pin }, None, out);
        }
        self.wanted.roll_back();
        self.channels.roll_back();
        if !self.transaction.is_none() {
            self.transaction = Transaction::Lost { told: false };
        }
        stay(None)
    }

    /// What was gathered in a transaction that is lost must not run outside of it.
    fn refuse_gathered(&mut self, world: &World<'_>, state: State, out: &mut Vec<Output>) -> State {
        match state {
            State::Gathering(unit, None) if self.transaction.is_lost() => {
                self.transaction = Transaction::Lost { told: true };
                self.forget_new(&unit);
                self.refuse_unit(world, &Refusal::TransactionLost, false, None, out)
            }
            other @ (State::Resting(_)
            | State::Gathering(..)
            | State::Waiting(_)
            | State::Subscribing(_)
            | State::Running(_)
            | State::Draining(_)
            | State::Closed) => other,
        }
    }

    /// The end of a unit: nothing runs, and what need not be held is given back.
    pub(super) fn rest(
        &mut self,
        world: &World<'_>,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) -> State {
        self.settle_channels(out);
        let held = match held {
            Some(held) if self.transaction.is_none() && self.pins.is_empty() => {
                let condition = held.condition;
                release(held, condition, out);
                None
            }
            held => held,
        };
        if self.drain && self.transaction.is_none() {
            return refuse_and_close(&Refusal::ShuttingDown, held, out);
        }
        if self.transaction.is_none() {
            self.transaction_until = None;
        } else if self.has_transaction_lasted_too_long(world) {
            return refuse_and_close(&Refusal::TransactionTimeout, held, out);
        }
        self.expect_client(world, out);
        State::Resting(held)
    }

    /// Ends a session whose client nobody can tell anything.
    fn client_gone(&self, state: State, out: &mut Vec<Output>) -> State {
        match state {
            State::Resting(held) | State::Gathering(_, held) => self.leave(held, out),
            State::Draining(held) => terminate(held, out),
            State::Running(running) => terminate(Some(running.held), out),
            State::Waiting(_) => terminate(None, out),
            State::Subscribing(waits) => terminate(waits.into_held(), out),
            State::Closed => State::Closed,
        }
    }

    /// Ends the session between two units, when nothing is on its way on its connection. What it
    /// holds there is known, unless a transaction is open.
    pub(super) fn leave(&self, held: Option<Held>, out: &mut Vec<Output>) -> State {
        if let Some(held) = held {
            let condition = match self.transaction.is_none() {
                true => held.condition.max(self.pins.condition()),
                false => Condition::Discard,
            };
            release(held, condition, out);
        }
        terminate(None, out)
    }

    /// Notes that something of this session was committed, or may have been, just now.
    pub(super) fn wrote(&mut self, now: Instant, epoch: Epoch) {
        self.freshness = Freshness {
            need: Need::SampleAfter(now),
            epoch,
        };
    }

    /// The server whose connection the session holds, when it holds one.
    pub(super) fn bound_to(&self) -> Option<ServerId> {
        self.last_route
            .map(|(server, _)| server)
            .filter(|_| self.why_bound().is_some())
    }

    /// What a server must have replayed for the next read of this session.
    pub(super) fn need(&mut self, world: &World<'_>) -> Need {
        if !world.route.read_your_writes {
            return Need::Bounded;
        }
        let known = self.freshness.need;
        if known != Need::Bounded && self.freshness.epoch != world.snapshot.epoch {
            // A position of another epoch may lie on a history that is gone: ask anew.
            self.wrote(world.now, world.snapshot.epoch);
        }
        self.freshness.need = crate::policy::resolve(self.freshness.need, world.snapshot);
        self.freshness.need
    }

    /// Takes the session out of a transaction that was lost.
    pub(super) fn end_lost_transaction(&mut self) {
        self.transaction = Transaction::None;
        self.transaction_wrote = false;
    }

    /// Makes an error of ours the answer to a unit that is complete, or skips to its end.
    pub(super) fn refuse_unit(
        &mut self,
        world: &World<'_>,
        refusal: &Refusal,
        complete: bool,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) -> State {
        if refusal.ends_session() {
            return refuse_and_close(refusal, held, out);
        }
        note_refused(refusal, out);
        reply::refusal(out, refusal);
        match complete {
            true => {
                reply::ready(out, &self.transaction);
                self.rest(world, held, out)
            }
            false => State::Draining(held),
        }
    }
}

impl State {
    const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// What waits, if something does.
    pub(super) fn waiting(self) -> Result<Box<Waiting>, Self> {
        match self {
            Self::Waiting(waiting) => Ok(waiting),
            other @ (Self::Resting(_)
            | Self::Gathering(..)
            | Self::Running(_)
            | Self::Subscribing(_)
            | Self::Draining(_)
            | Self::Closed) => Err(other),
        }
    }

    fn resting(held: Held) -> Self {
        Self::Resting(Some(held))
    }

    fn draining(held: Held) -> Self {
        Self::Draining(Some(held))
    }
}

/// Gives back a connection that came when nobody waited for it any more.
fn stray_grant(state: State, side: Box<ServerSide>, out: &mut Vec<Output>) -> State {
    debug_assert!(
        matches!(state, State::Closed),
        "a lease that nobody asked for"
    );
    out.push(Output::Release {
        condition: Condition::Clean,
        side,
    });
    state
}

/// Tells the client why the session ends, and ends it.
pub(super) fn refuse_and_close(
    refusal: &Refusal,
    held: Option<Held>,
    out: &mut Vec<Output>,
) -> State {
    note_refused(refusal, out);
    reply::refusal(out, refusal);
    terminate(held, out)
}

/// Ends the session. A connection that was held has the session's state on it.
pub(super) fn terminate(held: Option<Held>, out: &mut Vec<Output>) -> State {
    if let Some(held) = held {
        release(held, Condition::Discard, out);
    }
    out.push(Output::Close);
    State::Closed
}

/// Gives a connection back.
pub(super) fn release(held: Held, condition: Condition, out: &mut Vec<Output>) {
    out.push(Output::Release {
        condition,
        side: held.side,
    });
}
