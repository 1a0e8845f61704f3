//! From the client's messages to the steps of a unit, and from a unit that is complete, or cannot
//! be held any longer, to its server.

use std::sync::Arc;

use super::listening::Parked;
use super::local;
use super::machine::{Held, State, refuse_and_close};
use super::unit::{Expected, Step, Traits, Unit, fold};
use super::{Note, Output, Refusal, Session, Transaction, World, reply};
use bytes::Bytes;

use crate::policy::{Decision, Intent, Why};
use crate::wire::backend;
use crate::wire::frame::{Cut, Frame};
use crate::wire::frontend::{Bind, Describe, Execute, Parse, Query, What};
use crate::wire::sqlstate::SqlState;

/// What to do after a message was taken in.
pub(super) enum Next {
    /// The unit goes on.
    More,
    /// The unit has to find its server now.
    Dispatch,
}

impl Session {
    /// Takes a message of the client into the unit that is being gathered.
    pub(super) fn gather(
        &mut self,
        world: &World<'_>,
        mut unit: Box<Unit>,
        held: Option<Held>,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> State {
        let taken = match cut {
            Cut::Message(Frame { tag: b'X', .. }) => return self.leave(held, out),
            Cut::Message(frame) if frame.tag == b'Q' && unit.steps.is_empty() => {
                return self.simple_query(world, unit, held, &frame, out);
            }
            Cut::Message(frame) => self.take(world, &mut unit, &frame, out),
            Cut::Head(head) => self.take_head(world, &mut unit, &head, out),
            // Copy data that nobody waits for is ignored, as PostgreSQL does. In the middle of a
            // unit it belongs to a COPY whose Execute is still here.
            Cut::Run(bytes) | Cut::Rest { bytes, .. } => {
                if unit.steps.is_empty() {
                    return self.ignore_late(world, bytes, held, out);
                }
                unit.push(Step::More(bytes));
                Ok(Next::Dispatch)
            }
        };
        match taken {
            Err(refusal) => refuse_and_close(&refusal, held, out),
            Ok(Next::Dispatch) => self.dispatch(world, unit, held, out),
            Ok(Next::More) if too_large(&unit, world) => self.dispatch(world, unit, held, out),
            Ok(Next::More) if unit.steps.is_empty() => self.rest(world, held, out),
            Ok(Next::More) => State::Gathering(unit, held),
        }
    }

    /// Copy data that comes when its COPY is over. A server ignores it as well, and has to get it:
    /// it may be the rest of a frame whose beginning it has.
    fn ignore_late(
        &mut self,
        world: &World<'_>,
        bytes: Bytes,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) -> State {
        if held.is_some() {
            out.push(Output::ToServer(bytes));
        }
        self.rest(world, held, out)
    }

    /// A Query alone: the most frequent unit, answered here when it is ours.
    fn simple_query(
        &mut self,
        world: &World<'_>,
        mut unit: Box<Unit>,
        held: Option<Held>,
        frame: &Frame,
        out: &mut Vec<Output>,
    ) -> State {
        let Ok(query) = Query::parse(frame.body()) else {
            return refuse_and_close(&malformed("Query"), held, out);
        };
        // As in PostgreSQL, where a Query uses the place of the unnamed statement.
        self.names.remove(b"");
        let facts = self.facts(world, query.text, out);
        if let Some(answer) = self.answer_here(world, query.text, &facts) {
            local::note(&answer, out);
            out.push(Output::ToClient(local::simple_reply(&answer)));
            reply::ready(out, &self.transaction);
            return self.rest(world, held, out);
        }
        if self.shape_transaction(world, query.text, &facts, out) {
            return self.rest(world, held, out);
        }
        if self.listens_here(world, &facts) {
            Self::push_listen(&mut unit, &facts);
            unit.push(Step::Sync);
            return self.dispatch(world, unit, held, out);
        }
        if let Some(refusal) = self.refusal_in_lost_transaction() {
            self.note_lost_transaction_told();
            return self.refuse_unit(world, &refusal, true, held, out);
        }
        fold(world, &mut unit, &facts);
        unit.plan_for(&facts);
        self.note_unlisten(&mut unit, &facts);
        unit.traits.set(Traits::QUERY);
        match facts.statements.len() {
            1 => unit.text = Some(frame.bytes.slice_ref(query.text)),
            _ => unit.traits.set(Traits::SEVERAL),
        }
        unit.push(Step::Raw {
            bytes: frame.bytes.clone(),
            expect: Expected::Query,
        });
        unit.traits.set(Traits::COMPLETE);
        self.dispatch(world, unit, held, out)
    }

    /// Takes one message into a unit that is gathered or already runs.
    fn take(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        frame: &Frame,
        out: &mut Vec<Output>,
    ) -> Result<Next, Refusal> {
        match frame.tag {
            b'P' => self.take_parse(world, unit, frame, out)?,
            b'B' => self.take_bind(world, unit, frame)?,
            b'D' => self.take_describe(world, unit, frame)?,
            b'E' => self.take_execute(world, unit, frame)?,
            b'C' => self.take_close(unit, frame)?,
            b'H' => {
                unit.push(Step::Flush);
                return Ok(Next::Dispatch);
            }
            b'S' => {
                self.names.forget_portals();
                unit.push(Step::Sync);
                return Ok(Next::Dispatch);
            }
            b'Q' | b'F' => {
                self.take_whole(world, unit, frame, out);
                return Ok(Next::Dispatch);
            }
            // CopyDone and CopyFail that come too late are ignored, as PostgreSQL does.
            b'c' | b'f' => {}
            tag => {
                let what = format!("invalid frontend message type {tag}");
                return Err(Refusal::Protocol(what));
            }
        }
        Ok(Next::More)
    }

    /// A Query behind extended messages without a Sync, or a FunctionCall: as it is.
    fn take_whole(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        frame: &Frame,
        out: &mut Vec<Output>,
    ) {
        unit.traits.set(Traits::SEVERAL);
        match Query::parse(frame.body()) {
            Ok(query) if frame.tag == b'Q' => {
                let facts = self.facts(world, query.text, out);
                fold(world, unit, &facts);
                unit.plan_for(&facts);
                self.note_unlisten(unit, &facts);
            }
            _ => {
                unit.fold(Decision {
                    intent: Intent::Write,
                    why: Why::Utility,
                    detail: None,
                });
                unit.traits.set(Traits::MAY_WRITE);
            }
        }
        unit.push(Step::Raw {
            bytes: frame.bytes.clone(),
            expect: Expected::Query,
        });
        unit.traits.set(Traits::COMPLETE);
    }

    fn take_parse(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        frame: &Frame,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let Ok(parse) = Parse::parse(frame.body()) else {
            return Err(malformed("Parse"));
        };
        let facts = self.facts(world, parse.text, out);
        let is_ours = self.is_ours(world, parse.text, &facts);
        if !is_ours && let Some(refusal) = self.refusal_in_lost_transaction() {
            unit.push(Step::Fail(refusal));
            return Ok(());
        }
        let name = frame.bytes.slice_ref(parse.name);
        if !name.is_empty() && self.names.get(&name).is_some() {
            if !is_ours {
                // As in PostgreSQL, where the name comes last: the text may be wrong as well, and a
                // failed transaction takes no statement.
                let text = frame.bytes.slice_ref(parse.text);
                let types = frame.bytes.slice_ref(parse.parameter_types);
                let statement = world.texts.interner.intern(&text, &types, &facts);
                fold(world, unit, &facts);
                unit.push(Step::Probe(statement));
            }
            unit.push(Step::Fail(Refusal::BadCommand {
                sqlstate: SqlState::DUPLICATE_PREPARED_STATEMENT,
                message: format!(
                    "prepared statement \"{}\" already exists",
                    String::from_utf8_lossy(&name)
                ),
                hint: None,
            }));
            return Ok(());
        }
        let text = frame.bytes.slice_ref(parse.text);
        let types = frame.bytes.slice_ref(parse.parameter_types);
        let statement = world.texts.interner.intern(&text, &types, &facts);
        if let Err(refusal) = self.names.insert(&name, &statement, world.rules) {
            unit.push(Step::Fail(refusal));
            return Ok(());
        }
        if is_ours {
            unit.push(Step::Known(name));
            return Ok(());
        }
        fold(world, unit, &facts);
        unit.push(Step::Parse { statement, name });
        Ok(())
    }

    fn take_bind(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        frame: &Frame,
    ) -> Result<(), Refusal> {
        let Ok(bind) = Bind::parse(frame.body()) else {
            return Err(malformed("Bind"));
        };
        let Some(statement) = self.names.get(bind.statement).map(Arc::clone) else {
            unit.traits.set(Traits::SEVERAL);
            self.hide_others(unit, bind.statement);
            return self.take_unknown(unit, frame, Expected::Bind);
        };
        if self.is_ours(world, &statement.text, &statement.facts) {
            let portal = local::Portal::new(statement, bind.result_formats());
            self.names.insert_portal(bind.portal, portal);
            unit.push(Step::Local(reply::message(backend::bind_complete)));
            return Ok(());
        }
        if let Some(refusal) = self.refusal_in_lost_transaction() {
            unit.push(Step::Fail(refusal));
            return Ok(());
        }
        self.names.remove_portal(bind.portal);
        fold(world, unit, &statement.facts);
        unit.plan_for_portal(bind.portal, &statement.facts);
        self.note_unlisten(unit, &statement.facts);
        if unit.statement.replace(Arc::clone(&statement)).is_some() {
            unit.traits.set(Traits::SEVERAL);
        }
        unit.push(Step::Bind {
            unnamed: bind.statement.is_empty(),
            portal: frame.bytes.slice_ref(bind.portal),
            rest: frame.bytes.slice_ref(bind.rest),
            statement,
        });
        Ok(())
    }

    fn take_describe(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        frame: &Frame,
    ) -> Result<(), Refusal> {
        let Ok(describe) = Describe::parse(frame.body()) else {
            return Err(malformed("Describe"));
        };
        if describe.what == What::Portal {
            if let Some(portal) = self.names.portal(describe.name) {
                let description = self.describe_here(world, &portal);
                unit.push(Step::Local(description));
                return Ok(());
            }
            return self.take_unknown(unit, frame, Expected::DescribePortal);
        }
        let Some(statement) = self.names.get(describe.name).map(Arc::clone) else {
            self.hide_others(unit, describe.name);
            return self.take_unknown(unit, frame, Expected::DescribeStatement);
        };
        if self.is_ours(world, &statement.text, &statement.facts) {
            let portal = local::Portal::new(statement, Vec::new());
            let mut description = bytes::BytesMut::new();
            backend::parameter_description(&mut description, &[]);
            description.extend_from_slice(&self.describe_here(world, &portal));
            unit.push(Step::Local(description.freeze()));
            return Ok(());
        }
        if let Some(refusal) = self.refusal_in_lost_transaction() {
            unit.push(Step::Fail(refusal));
            return Ok(());
        }
        fold(world, unit, &statement.facts);
        unit.push(Step::Describe {
            unnamed: describe.name.is_empty(),
            statement,
        });
        Ok(())
    }

    fn take_execute(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        frame: &Frame,
    ) -> Result<(), Refusal> {
        let Ok(execute) = Execute::parse(frame.body()) else {
            return Err(malformed("Execute"));
        };
        let Some(portal) = self.names.portal(execute.portal) else {
            unit.plan_for_execute();
            if unit.statement.is_none() {
                // Of an earlier unit, or of a statement that only the server knows.
                unit.traits.set(Traits::SEVERAL);
            }
            return self.take_unknown(unit, frame, Expected::Execute);
        };
        if self.listens_here(world, &portal.statement.facts) {
            Self::push_listen(unit, &portal.statement.facts);
            return Ok(());
        }
        match self.answer_here(world, &portal.statement.text, &portal.statement.facts) {
            Some(local::Answer::Refused(refusal)) => unit.push(Step::Fail(refusal)),
            Some(answer) => {
                let answer = answer.into_described(&portal.statement.text);
                unit.push(Step::Local(local::execute_reply(&answer, &portal.formats)));
            }
            None => unit.push(Step::Fail(Refusal::Internal(
                "a portal of ours without an answer",
            ))),
        }
        Ok(())
    }

    /// Takes a message into a unit that already runs.
    pub(super) fn take_running(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        cut: Cut,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        match cut {
            Cut::Message(frame) => self.take(world, unit, &frame, out).map(|_| ()),
            Cut::Head(head) => self.take_head(world, unit, &head, out).map(|_| ()),
            Cut::Run(bytes) | Cut::Rest { bytes, .. } => {
                unit.push(Step::More(bytes));
                Ok(())
            }
        }
    }

    /// What was gathered for a connection that is there already need not wait for its end: a server
    /// tells of an error in the middle at once.
    pub(super) fn pass_on(
        &mut self,
        world: &World<'_>,
        state: State,
        out: &mut Vec<Output>,
    ) -> State {
        match state {
            State::Gathering(unit, held @ Some(_)) => self.dispatch(world, unit, held, out),
            other @ (State::Gathering(_, None)
            | State::Resting(_)
            | State::Waiting(_)
            | State::Subscribing(_)
            | State::Running(_)
            | State::Draining(_)
            | State::Closed) => other,
        }
    }

    /// Sends a unit where it has to go.
    pub(super) fn dispatch(
        &mut self,
        world: &World<'_>,
        unit: Box<Unit>,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) -> State {
        let (mut unit, held) = match self.shape_by_unit(world, unit, held, out) {
            Ok(state) => return state,
            Err(for_a_server) => for_a_server,
        };
        unit.asked_at.get_or_insert(world.now);
        let missing = self.missing_channels(world, &mut unit);
        if !missing.is_empty() {
            return Self::subscribe(Parked::Gathered(unit, held), missing, out);
        }
        // An error of ours has to fail the transaction on its server, as one of its own would.
        let in_transaction = matches!(
            self.transaction,
            Transaction::Begun(_) | Transaction::Open { .. }
        );
        let fails_transaction = unit.has_failure() && in_transaction;
        if !unit.traits.has(Traits::NEEDS_SERVER) && !fails_transaction {
            return self.answer_unit(world, &mut unit, held, out);
        }
        match held {
            Some(held) => {
                let why = self.why_bound().unwrap_or(Why::SameTransaction);
                out.push(Output::Note(Note::Routed {
                    server: held.server,
                    why,
                }));
                self.last_route = Some((held.server, why));
                if let Some(refusal) = refusal_on_replica(world, &unit, &held) {
                    unit.refuse(refusal);
                }
                self.run(world, unit, held, out)
            }
            None => {
                if let Transaction::Begun(begun) = &self.transaction {
                    unit.fold(begun.decision());
                }
                if !unit.traits.has(Traits::COMPLETE) {
                    // What follows is not known, and it has to go to the same server.
                    unit.fold(Decision {
                        intent: Intent::Write,
                        why: Why::OpenPipeline,
                        detail: None,
                    });
                }
                self.route(world, unit, out)
            }
        }
    }

    /// Answers a unit that needs no server.
    fn answer_unit(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) -> State {
        let complete = unit.traits.has(Traits::COMPLETE);
        for step in &unit.steps {
            match step {
                Step::Known(_) => {
                    let complete = reply::message(backend::parse_complete);
                    out.push(Output::ToClient(complete));
                }
                Step::Local(bytes) => out.push(Output::ToClient(bytes.clone())),
                Step::Fail(refusal) => {
                    self.note_lost_transaction_told();
                    self.forget_new(unit);
                    return self.refuse_unit(world, refusal, complete, held, out);
                }
                Step::Sync => reply::ready(out, &self.transaction),
                // Copy data that nobody waits for: see `ignore_late`.
                Step::More(bytes) if held.is_some() => out.push(Output::ToServer(bytes.clone())),
                Step::More(_)
                | Step::Flush
                | Step::Renew(_)
                | Step::DropUnnamed
                | Step::Raw { .. }
                | Step::Parse { .. }
                | Step::Probe(_)
                | Step::Bind { .. }
                | Step::BindHead { .. }
                | Step::Describe { .. } => {}
            }
        }
        self.follow_channels(unit);
        match complete {
            true => self.rest(world, held, out),
            false => State::Resting(held),
        }
    }

    /// Why the session's next unit goes to the connection that it holds.
    pub(super) fn why_bound(&self) -> Option<Why> {
        match self.transaction {
            Transaction::Open { .. } if self.transaction_wrote => Some(Why::InWriteTransaction),
            Transaction::Open { .. } => Some(Why::SameTransaction),
            Transaction::None | Transaction::Begun(_) | Transaction::Lost { .. } => {
                self.pin().map(|_code| Why::SessionPinned)
            }
        }
    }

    /// The error for anything but the end of a transaction whose connection is gone.
    pub(super) fn refusal_in_lost_transaction(&self) -> Option<Refusal> {
        match self.transaction {
            Transaction::Lost { told: false } => Some(Refusal::TransactionLost),
            Transaction::Lost { told: true } => Some(Refusal::InLostTransaction),
            Transaction::None | Transaction::Begun(_) | Transaction::Open { .. } => None,
        }
    }

    /// Forgets what the client was going to prepare: it gets an error instead.
    pub(super) fn forget_new(&mut self, unit: &Unit) {
        for name in unit.new_names() {
            self.names.remove(name);
        }
    }

    fn note_lost_transaction_told(&mut self) {
        if self.transaction.is_lost() {
            self.transaction = Transaction::Lost { told: true };
        }
    }
}

/// A transaction on a replica cannot leave state for the session's later units, which may run
/// elsewhere: it would be silently gone.
pub(super) fn refusal_on_replica(world: &World<'_>, unit: &Unit, held: &Held) -> Option<Refusal> {
    let on_replica =
        held.route.intent == Intent::Read && world.snapshot.primary() != Some(held.server);
    // What is too long to hold cannot be taken back any more.
    let pin = unit.leaves.first().filter(|_| on_replica && !unit.unseen)?;
    Some(Refusal::BadCommand {
        sqlstate: SqlState::FEATURE_NOT_SUPPORTED,
        message: format!(
            "a READ ONLY transaction on a replica cannot keep state for the session: {}",
            pin.code()
        ),
        hint: Some("Do it before the transaction, or with SET LOCAL.".to_owned()),
    })
}

fn too_large(unit: &Unit, world: &World<'_>) -> bool {
    u64::try_from(unit.bytes).unwrap_or(u64::MAX) > world.rules.gather_max.0
}

pub(super) fn malformed(message: &str) -> Refusal {
    Refusal::Protocol(format!("invalid {message} message"))
}
