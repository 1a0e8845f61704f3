//! A transaction that was begun and is on no server yet.
//!
//! `BEGIN` by itself is answered here, and so are the modes that `SET TRANSACTION` gives it. They go
//! out in front of the first statement, which decides the server. A transaction that ends before
//! there was one has touched no server.

use bytes::{Bytes, BytesMut};

use super::machine::{Held, State};
use super::settings::Done;
use super::timers::after;
use super::unit::{Expected, Step, Traits, Unit};
use super::{Note, Output, Session, Transaction, World, reply};
use crate::policy::{Decision, Intent, Why};
use crate::statement::{Access, Chain, Facts, Isolation, Modes, Statement, Verb, first_word_is};
use crate::wire::backend;
use crate::wire::frontend::{Describe, Execute};

/// What begins a transaction that is on no server yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// `BEGIN`, then each `SET TRANSACTION`, as the client wrote them.
    texts: Vec<Bytes>,
    modes: Modes,
}

impl Begun {
    /// What the server gets to begin the transaction.
    pub(super) fn texts(&self) -> &[Bytes] {
        &self.texts
    }

    /// The modes of the transaction, as far as they were named.
    pub(super) const fn modes(&self) -> Modes {
        self.modes
    }

    /// What the transaction needs if its first unit says nothing else.
    pub(super) fn decision(&self) -> Decision {
        let (intent, why) = match (self.modes.access, self.modes.isolation) {
            (_, Some(Isolation::Serializable)) => (Intent::Write, Why::Serializable),
            (Some(Access::ReadOnly), _) => (Intent::Read, Why::ReadOnlyTransaction),
            (Some(Access::ReadWrite) | None, _) => (Intent::Write, Why::ExplicitTransaction),
        };
        Decision {
            intent,
            why,
            detail: None,
        }
    }

    fn with(&self, text: &[u8], modes: Modes) -> Self {
        let mut next = self.clone();
        // The text owns its bytes: a slice would keep the whole read buffer alive.
        next.texts.push(Bytes::copy_from_slice(text));
        next.modes = merged(next.modes, modes);
        next
    }
}

/// The modes that count when a transaction is given more of them.
pub(super) fn merged(known: Modes, more: Modes) -> Modes {
    Modes {
        access: more.access.or(known.access),
        isolation: more.isolation.or(known.isolation),
    }
}

/// What a text that does nothing but begin, shape or end a transaction on no server is answered
/// with, and what the transaction is then.
fn shaped(
    transaction: &Transaction,
    text: &[u8],
    facts: &Facts,
) -> Option<(&'static str, Transaction)> {
    let [statement] = facts.statements.as_slice() else {
        return None;
    };
    // A hint in it is for whoever decides the server.
    let verb = statement.transaction().filter(|_| facts.hint.is_none())?;
    Some(match (transaction, verb) {
        (Transaction::None, Verb::Begin(modes)) => {
            let begun = Begun {
                texts: vec![Bytes::copy_from_slice(text)],
                modes: *modes,
            };
            let tag = match first_word_is(text, "start") {
                true => "START TRANSACTION",
                false => "BEGIN",
            };
            (tag, Transaction::Begun(Box::new(begun)))
        }
        (Transaction::Begun(begun), Verb::SetTransaction(modes))
            if begun.texts.len() < TEXTS_MAX =>
        {
            (
                "SET",
                Transaction::Begun(Box::new(begun.with(text, *modes))),
            )
        }
        (Transaction::Begun(_), Verb::Commit(Chain::NoChain)) => ("COMMIT", Transaction::None),
        (Transaction::Begun(_), Verb::Rollback(Chain::NoChain)) => ("ROLLBACK", Transaction::None),
        // The server has the right answer to all others, a second BEGIN among them.
        _ => return None,
    })
}

impl Session {
    /// Answers a Query that only begins, shapes or ends a transaction on no server.
    pub(super) fn shape_transaction(
        &mut self,
        world: &World<'_>,
        text: &[u8],
        facts: &Facts,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some((tag, transaction)) = shaped(&self.transaction, text, facts) else {
            return false;
        };
        self.become_shaped(world, transaction);
        self.follow_shaped(facts);
        out.push(Output::Note(Note::Answered));
        out.push(Output::ToClient(reply::message(|to| {
            backend::command_complete(to, tag);
            backend::ready(to, self.transaction.status());
        })));
        true
    }

    /// Answers a unit of extended messages that does nothing else; gives it back if it does.
    pub(super) fn shape_by_unit(
        &mut self,
        world: &World<'_>,
        unit: Box<Unit>,
        held: Option<Held>,
        out: &mut Vec<Output>,
    ) -> Result<State, (Box<Unit>, Option<Held>)> {
        let is_whole = unit.traits.has(Traits::COMPLETE) && !unit.unseen;
        let rehearsed = match is_whole && unit.traits.has(Traits::SHAPES_TRANSACTION) {
            true => Rehearsal::of(&self.transaction, &unit),
            false => None,
        };
        let Some(Rehearsal {
            transaction,
            mut answer,
            ran,
            ..
        }) = rehearsed
        else {
            return Err((unit, held));
        };
        self.become_shaped(world, transaction);
        for facts in ran {
            self.follow_shaped(facts);
        }
        out.push(Output::Note(Note::Answered));
        backend::ready(&mut answer, self.transaction.status());
        out.push(Output::ToClient(answer.freeze()));
        Ok(self.rest(world, held, out))
    }

    /// The time of a transaction counts from its BEGIN.
    fn become_shaped(&mut self, world: &World<'_>, transaction: Transaction) {
        if self.transaction.is_none() {
            self.transaction_until = after(world, world.rules.transaction_timeout);
        }
        self.transaction = transaction;
    }

    /// What the session listens to since a transaction that ended here.
    fn follow_shaped(&mut self, facts: &Facts) {
        for verb in facts.statements.iter().filter_map(Statement::transaction) {
            let in_transaction = !self.transaction.is_none();
            self.channels.shape(verb, Done::Shaped, in_transaction);
        }
    }

    /// A transaction that was begun gets no server, or none that lets it begin.
    pub(super) fn fail_begun(&mut self) {
        if self.transaction.is_begun() {
            self.transaction = Transaction::Lost { told: true };
            self.channels.roll_back();
        }
    }
}

/// What the messages of a unit would be answered with here, one after the other.
struct Rehearsal<'a> {
    transaction: Transaction,
    /// The portal that was bound last, and what it would run.
    bound: Option<(&'a Bytes, &'a [u8], &'a Facts)>,
    /// What was run of it.
    ran: Vec<&'a Facts>,
    answer: BytesMut,
}

impl<'a> Rehearsal<'a> {
    /// `None` when a message is for a server.
    fn of(transaction: &Transaction, unit: &'a Unit) -> Option<Self> {
        let mut rehearsal = Self {
            transaction: transaction.clone(),
            bound: None,
            ran: Vec::new(),
            answer: BytesMut::new(),
        };
        for step in &unit.steps {
            rehearsal.step(step)?;
        }
        Some(rehearsal)
    }

    fn step(&mut self, step: &'a Step) -> Option<()> {
        let answer = &mut self.answer;
        match step {
            Step::Parse { statement, .. } => {
                shaped(&self.transaction, &statement.text, &statement.facts)?;
                backend::parse_complete(answer);
            }
            Step::Describe { statement, .. } => {
                shaped(&self.transaction, &statement.text, &statement.facts)?;
                backend::parameter_description(answer, &[]);
                backend::no_data(answer);
            }
            Step::Bind {
                statement,
                portal,
                rest,
                ..
            } => {
                shaped(&self.transaction, &statement.text, &statement.facts)?;
                // Parameters are an error that the server tells best.
                rest.get(..NO_PARAMETERS.len())
                    .filter(|given| *given == NO_PARAMETERS)?;
                self.bound = Some((portal, &statement.text, &statement.facts));
                backend::bind_complete(answer);
            }
            Step::Raw {
                bytes,
                expect: Expected::DescribePortal,
            } => {
                let describe = Describe::parse(bytes.get(5..)?).ok()?;
                self.bound
                    .filter(|(portal, ..)| **portal == describe.name)?;
                backend::no_data(answer);
            }
            Step::Raw {
                bytes,
                expect: Expected::Execute,
            } => {
                let execute = Execute::parse(bytes.get(5..)?).ok()?;
                let (portal, text, facts) = self.bound.take()?;
                if **portal != *execute.portal {
                    return None;
                }
                let (tag, transaction) = shaped(&self.transaction, text, facts)?;
                self.transaction = transaction;
                self.ran.push(facts);
                backend::command_complete(answer, tag);
            }
            Step::Flush | Step::Sync => {}
            Step::Raw { .. }
            | Step::BindHead { .. }
            | Step::Probe(_)
            | Step::Renew(_)
            | Step::DropUnnamed
            | Step::Known(_)
            | Step::Local(_)
            | Step::Fail(_)
            | Step::More(_) => return None,
        }
        Some(())
    }
}

/// How a Bind goes on that brings no parameters: no formats, no values.
const NO_PARAMETERS: [u8; 4] = [0; 4];
/// How many texts may begin a transaction before a server has to be asked. Nobody needs more than
/// one for each mode.
const TEXTS_MAX: usize = 8;
