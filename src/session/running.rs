//! A unit runs on a server: what the client sends goes there, what the server answers is matched
//! with what was sent, and what is ours is put in its place.
//!
//! While nothing of a replica's answer has gone to the client, the unit can be tried again on the
//! primary: for so long, what cannot be taken back is held here. It is a few small messages.

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::answer::{Answer, HeldBack, give, give_ours, hold_or_give};
use super::begun::Begun;
use super::counted::note_served;
use super::echo::as_given;
use super::gather::refusal_on_replica;
use super::listening::Parked;
use super::machine::{Held, State, refuse_and_close, terminate};
use super::sender::Sender;
use super::stale;
use super::timers::Patience;
use super::unit::{Expected, Traits, Unit};
use super::{Condition, Note, Output, Session, Transaction, World};
use crate::wire::backend::TransactionStatus;
use crate::wire::frame::{Cut, Frame};

/// A unit on its server.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) unit: Box<Unit>,
    pub(super) held: Held,
    pub(super) expected: VecDeque<Expected>,
    pub(super) answer: Answer,
    pub(super) open: Open,
    pub(super) copy: Copy,
    pub(super) patience: Patience,
    /// When it is cancelled, or given up after that.
    pub(super) until: Option<Instant>,
    pub(super) began_at: Instant,
    /// Whether another server may answer it.
    pub(super) can_move: bool,
    /// When the server last said something.
    pub(super) heard_at: Option<Instant>,
    /// How the unit stands to the client's transaction.
    pub(super) stage: Stage,
}

/// How a unit stands to the client's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There was none when it began.
    Outside,
    /// It is the first of one: what begins it goes out in front.
    Begins,
    /// It would have been, and the server did not begin one.
    Refused,
    /// It is in one that is open on the server.
    Inside,
}

/// What the client may still send for the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Nothing.
    Complete,
    /// More messages, up to a Sync.
    UntilSync,
    /// The rest of a frame.
    UntilRest,
}

/// Whether the server waits for copy data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    None,
    In,
}

impl Running {
    pub(super) const fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn wants_client(&self) -> bool {
        (self.open != Open::Complete && !self.is_tuning()) || self.copy == Copy::In
    }

    /// Has the session look at it when its time is up, or that of its server.
    pub(super) fn arm(&self, world: &World<'_>, out: &mut Vec<Output>) {
        let given_up_at = self.given_up_at(world);
        let first = self.until.into_iter().chain(given_up_at).min();
        if first.is_some() {
            out.push(Output::Arm(first));
        }
    }
}

impl Session {
    /// Sends a unit to its server.
    pub(super) fn run(
        &mut self,
        world: &World<'_>,
        unit: Box<Unit>,
        held: Held,
        out: &mut Vec<Output>,
    ) -> State {
        let (mut unit, held) = match self.wait_before(unit, held, out) {
            Ok(ready) => ready,
            Err(waits) => return waits,
        };
        let open = match (unit.traits.has(Traits::COMPLETE), unit.unseen) {
            (true, false) => Open::Complete,
            (true, true) => Open::UntilRest,
            (false, _) => Open::UntilSync,
        };
        unit.attempts += 1;
        let on_primary = world.snapshot.primary() == Some(held.server);
        let stage = match &self.transaction {
            Transaction::None => Stage::Outside,
            Transaction::Begun(_) => Stage::Begins,
            Transaction::Open { .. } | Transaction::Lost { .. } => Stage::Inside,
        };
        let can_move = stage != Stage::Inside && self.pins.is_empty() && !on_primary;
        let can_repair = stage == Stage::Outside && stale::may_be(&unit);
        let answer = match (can_move || can_repair) && open == Open::Complete {
            true => Answer::HeldBack(HeldBack::default()),
            false => Answer::Nothing,
        };
        let until = self.deadline(world);
        let mut running = Box::new(Running {
            unit,
            held,
            expected: mem::take(&mut self.spare.expected),
            answer,
            open,
            copy: Copy::None,
            patience: Patience::Full,
            until,
            began_at: world.now,
            can_move,
            heard_at: None,
            stage,
        });
        running.arm(world, out);
        match self.untold(&running.held) {
            Some(text) => Self::tune(&mut running, &text, out),
            None => send_first(world, &self.transaction, &mut running, out),
        }
        State::Running(running)
    }

    /// The client sends more for a unit that already runs.
    pub(super) fn stream(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> State {
        match (&cut, running.open) {
            (Cut::Message(Frame { tag: b'X', .. }), _) => terminate(Some(running.held), out),
            (Cut::Run(bytes), _) => {
                // More is read of a client only as its server takes it.
                running.heard_at = Some(world.now);
                out.push(Output::ToServer(bytes.clone()));
                State::Running(running)
            }
            (Cut::Rest { bytes, last }, open) => {
                out.push(Output::ToServer(bytes.clone()));
                if *last && open == Open::UntilRest {
                    running.open = Open::Complete;
                }
                State::Running(running)
            }
            (Cut::Message(frame), _) if matches!(frame.tag, b'c' | b'f') => {
                running.copy = Copy::None;
                out.push(Output::ToServer(frame.bytes.clone()));
                State::Running(running)
            }
            // The server itself ignores Flush and Sync while it waits for copy data.
            (Cut::Message(frame), _)
                if running.copy == Copy::In && matches!(frame.tag, b'H' | b'S') =>
            {
                out.push(Output::ToServer(frame.bytes.clone()));
                State::Running(running)
            }
            (Cut::Message(_) | Cut::Head(_), Open::UntilSync) => {
                self.stream_step(world, running, cut, out)
            }
            (Cut::Message(_) | Cut::Head(_), Open::Complete | Open::UntilRest) => {
                // Only a client that sends something else in the middle of a COPY comes here. The
                // server has the right words for it.
                out.push(Output::ToServer(match cut {
                    Cut::Message(frame) => frame.bytes,
                    Cut::Head(head) => head.bytes,
                    Cut::Run(bytes) | Cut::Rest { bytes, .. } => bytes,
                }));
                State::Running(running)
            }
        }
    }

    fn stream_step(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> State {
        let is_sync = matches!(&cut, Cut::Message(Frame { tag: b'S', .. }));
        if running.unit.failed && !is_sync {
            // The server skips it. What is too long goes there all the same: its rest will, too.
            if let Cut::Head(head) = cut {
                out.push(Output::ToServer(head.bytes));
            }
            return State::Running(running);
        }
        if let Err(refusal) = self.take_running(world, &mut running.unit, cut, out) {
            return refuse_and_close(&refusal, Some(running.held), out);
        }
        let missing = self.missing_channels(world, &mut running.unit);
        if !missing.is_empty() {
            return Self::subscribe(Parked::Running(running), missing, out);
        }
        self.send_more(world, running, out)
    }

    /// Sends what came for a unit that already runs.
    pub(super) fn send_more(
        &self,
        world: &World<'_>,
        mut running: Box<Running>,
        out: &mut Vec<Output>,
    ) -> State {
        if let Some(refusal) = refusal_on_replica(world, &running.unit, &running.held) {
            running.unit.refuse(refusal);
        }
        if running.unit.traits.has(Traits::COMPLETE) {
            running.open = Open::Complete;
        }
        send(world, &self.transaction, &mut running, out);
        running.unit.steps.clear();
        State::Running(running)
    }

    /// The server answers.
    pub(super) fn answered(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> State {
        running.heard_at = Some(world.now);
        match cut {
            Cut::Run(bytes) | Cut::Rest { bytes, .. } => {
                give(&mut running, bytes, out);
                State::Running(running)
            }
            // A message of the server that is too large to hold is an error, a notice or a row
            // description with very long texts.
            Cut::Head(head) => {
                let frame = Frame {
                    tag: head.tag,
                    bytes: head.bytes,
                };
                self.message(world, running, frame, out)
            }
            Cut::Message(frame) => self.message(world, running, frame, out),
        }
    }

    fn message(
        &mut self,
        world: &World<'_>,
        mut running: Box<Running>,
        frame: Frame,
        out: &mut Vec<Output>,
    ) -> State {
        if running.is_tuning() {
            return self.tuned(world, running, frame, out);
        }
        match frame.tag {
            b'Z' => return self.ready(world, running, &frame, out),
            b'E' => return self.failed(world, running, frame, out),
            b'A' if self.is_heard_twice(&frame) => return State::Running(running),
            b'N' | b'A' | b'S' => {
                self.note_setting(&frame);
                let bytes = match frame.tag {
                    b'A' => as_given(world, frame.bytes),
                    _ => frame.bytes,
                };
                hold_or_give(&mut running, bytes, out);
                return State::Running(running);
            }
            b'G' => copy_in_begins(&mut running),
            // What begins the transaction is nothing that the unit has done.
            b'C' if !matches!(running.expected.front(), Some(Expected::Begin)) => {
                Self::note_done(&mut running.unit, &frame);
                self.note_command(&mut running, &frame);
            }
            _ => {}
        }
        match settle(&mut running, frame.tag) {
            Settled::ForClient => match frame.tag {
                b'1' | b'2' | b't' | b'T' | b'n' => {
                    hold_or_give(&mut running, frame.bytes, out);
                }
                _ => give(&mut running, frame.bytes, out),
            },
            Settled::NotForClient => {}
        }
        give_ours(&mut running, out);
        State::Running(running)
    }

    pub(super) fn finish(
        &mut self,
        world: &World<'_>,
        running: Running,
        status: TransactionStatus,
        untold: Option<Bytes>,
        out: &mut Vec<Output>,
    ) -> State {
        let Running {
            mut unit,
            mut held,
            expected,
            ..
        } = running;
        if unit.traits.has(Traits::CALLS_UNJUDGED) {
            held.condition = Condition::Discard;
        }
        if world.rules.has_limit_of_running() {
            out.push(Output::Arm(None));
        }
        note_served(world, &unit, &held, out);
        let before = mem::replace(&mut self.transaction, Transaction::from_status(status));
        self.transaction_wrote |= unit.traits.has(Traits::MAY_WRITE);
        if self.transaction.is_none() {
            if mem::take(&mut self.transaction_wrote) {
                self.wrote(world.now, world.snapshot.epoch);
            }
            out.push(Output::Note(Note::Ended {
                server: held.server,
            }));
        }
        if unit.traits.has(Traits::CHANGES_SCHEMA) {
            out.push(Output::Note(Note::SchemaChanged));
        }
        self.follow_channels(&mut unit);
        self.note_left(&unit, &before, out);
        held.side.settings = self.wanted.now().cloned();
        self.spare.keep(unit, expected);
        match untold {
            Some(ready) => Self::wait_after(held, ready, out),
            None => self.rest(world, Some(held), out),
        }
    }
}

/// Sends the steps of a running unit that were not sent yet. Those of a unit that may be tried
/// again stay with it.
fn send(
    world: &World<'_>,
    transaction: &Transaction,
    running: &mut Running,
    out: &mut Vec<Output>,
) {
    send_behind(world, transaction, None, running, out);
}

/// The same, when nothing of the unit was sent: behind what begins its transaction.
pub(super) fn send_first(
    world: &World<'_>,
    transaction: &Transaction,
    running: &mut Running,
    out: &mut Vec<Output>,
) {
    send_behind(world, transaction, transaction.begun(), running, out);
}

fn send_behind(
    world: &World<'_>,
    transaction: &Transaction,
    begun: Option<&Begun>,
    running: &mut Running,
    out: &mut Vec<Output>,
) {
    let steps = mem::take(&mut running.unit.steps);
    let mut sender = Sender {
        side: &mut running.held.side,
        expected: &mut running.expected,
        is_failed: transaction.is_failed(),
        max: world.server_statements_max,
        buffer: BytesMut::new(),
        out,
    };
    if let Some(begun) = begun {
        sender.begin(begun);
    }
    for step in &steps {
        sender.step(step);
    }
    sender.flush();
    if running.open == Open::Complete {
        running.unit.steps = steps;
    }
    give_ours(running, out);
}

/// For whom a message of the server is.
enum Settled {
    ForClient,
    NotForClient,
}

/// Matches a message with what was sent.
fn settle(running: &mut Running, tag: u8) -> Settled {
    let ours = match (running.expected.front(), tag) {
        (Some(Expected::Begin), b'1' | b'2') => return Settled::NotForClient,
        (Some(Expected::PrepareAgain(_) | Expected::UnnamedAgain | Expected::Probe), b'1')
        | (Some(Expected::CloseOurs(_) | Expected::CloseStale), b'3')
        | (Some(Expected::Begin), b'C') => true,
        (Some(Expected::Parse(..) | Expected::ParseRaw), b'1')
        | (Some(Expected::Bind), b'2')
        | (Some(Expected::Close), b'3')
        | (Some(Expected::DescribeStatement | Expected::DescribePortal), b'T' | b'n')
        | (Some(Expected::Execute), b'C' | b'I' | b's') => false,
        _ => return Settled::ForClient,
    };
    running.expected.pop_front();
    match ours {
        true => Settled::NotForClient,
        false => Settled::ForClient,
    }
}

/// The server waits for copy data. If the Sync of an extended unit is already there, the server
/// ignores it, and the client sends another behind its data.
fn copy_in_begins(running: &mut Running) {
    running.copy = Copy::In;
    if matches!(running.expected.front(), Some(Expected::Execute))
        && matches!(running.expected.back(), Some(Expected::Ready))
    {
        running.expected.pop_back();
        running.open = Open::UntilSync;
        running.unit.steps.clear();
        running.unit.traits.unset(Traits::COMPLETE);
    }
}
