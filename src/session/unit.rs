//! A unit of work: what a client ends with Sync, or one Query. All of it goes to one server.
//!
//! A unit is gathered as steps before its server is known. A step says what goes to the server and
//! what the client has to be told for it; the server's names of prepared statements are filled in
//! when the connection is known, because what has to be sent depends on it.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::begun::merged;
use super::channels::Wish;
use super::echo::Echo;
use super::pins::{Pin, Pins};
use super::prepared::{Prepared, StatementId};
use super::settings::{Done, changes_of};
use super::{Refusal, World};
use crate::policy::{self, CalledCode, Decision, Intent, Standing, Why};
use crate::statement::{Access, Effect, Facts, FunctionUse, Kind, Known, Modes, Statement, Verb};
use crate::wire::frame::Head;

/// One message of a client, as far as it is understood before its server is known.
#[derive(Debug)]
pub(super) enum Step {
    /// Goes to the server as it came.
    Raw {
        /// The frame, or its beginning when it is too large to hold.
        bytes: Bytes,
        /// What the server answers.
        expect: Expected,
    },
    /// A statement to prepare, unless the connection already has it.
    Parse {
        /// What.
        statement: Arc<Prepared>,
        /// Under which of the client's names.
        name: Bytes,
    },
    /// A statement whose answer is ours, unless the server has something against it: it is asked first.
    Probe(Arc<Prepared>),
    /// A portal of a statement that is known.
    Bind {
        /// Of which.
        statement: Arc<Prepared>,
        /// Whether the client bound its unnamed statement.
        unnamed: bool,
        /// The portal's name.
        portal: Bytes,
        /// What follows the names in the frame.
        rest: Bytes,
    },
    /// The beginning of a Bind that is too large to hold.
    BindHead {
        /// Of which statement.
        statement: Arc<Prepared>,
        /// Whether the client bound its unnamed statement.
        unnamed: bool,
        /// The portal's name.
        portal: Bytes,
        /// The frame's beginning.
        head: Head,
    },
    /// What parameters and columns a statement has.
    Describe {
        /// Of which.
        statement: Arc<Prepared>,
        /// Whether the client described its unnamed statement.
        unnamed: bool,
    },
    /// The connection's own copy of a statement is of no use any more.
    Renew(Arc<Prepared>),
    /// The connection's unnamed statement is somebody else's.
    DropUnnamed,
    /// A statement of ours was prepared, under this name.
    Known(Bytes),
    /// An answer of ours, in its turn.
    Local(Bytes),
    /// An error of ours, in its turn. What follows in the unit is skipped, as a server would.
    Fail(Refusal),
    /// Continues a frame that is too large to hold.
    More(Bytes),
    /// The client wants what is ready.
    Flush,
    /// The end of the unit.
    Sync,
}

/// What a server answers to one message that was sent to it.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// ParseComplete for a statement of the client; the name is the client's.
    Parse(Arc<Prepared>, Bytes),
    /// Nothing from the server, which has the statement: ParseComplete for the client, under this
    /// name of its own.
    Known(Bytes),
    /// ParseComplete for a statement that the server was only asked about; not for the client.
    Probe,
    /// What the settings of a new session bring, up to ReadyForQuery; not for the client.
    Tuned,
    /// ParseComplete for a statement that we prepare again; not for the client.
    PrepareAgain(Arc<Prepared>),
    /// ParseComplete of a statement without a name that the client need not know of.
    UnnamedAgain,
    /// CloseComplete for a statement that made room; not for the client.
    CloseOurs(StatementId),
    /// CloseComplete for a statement that was stale; not for the client.
    CloseStale,
    /// ParseComplete for a message that went as it came.
    ParseRaw,
    /// BindComplete.
    Bind,
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement,
    /// RowDescription or NoData.
    DescribePortal,
    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete.
    Close,
    /// Nothing from the server: this is for the client when its turn comes.
    Ours(Bytes),
    /// An error, which we replace by this one.
    Failure(Bytes),
    /// ParseComplete, BindComplete and CommandComplete of what begins the client's transaction, for
    /// which it has its answer already.
    Begin,
    /// What a Query or a FunctionCall brings, up to its ReadyForQuery.
    Query,
    /// The ReadyForQuery of a Sync.
    Ready,
}

/// What is gathered of a unit.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) steps: Vec<Step>,
    /// The strictest decision so far.
    pub(super) decision: Option<Decision>,
    /// What it leaves on its connection.
    pub(super) leaves: Pins,
    pub(super) traits: Traits,
    /// The modes of a transaction that the unit has begun and not ended, as far as it was gathered.
    pub(super) begun: Option<Modes>,
    /// How many bytes the steps hold.
    pub(super) bytes: usize,
    /// Whether its last frame continues in pieces that are not here.
    pub(super) unseen: bool,
    /// What of it concerns the settings of the session.
    pub(super) plan: Plan,
    /// What it was told to have done.
    pub(super) done: Done,
    /// Whether a server answered one of its messages with an error.
    pub(super) failed: bool,
    /// What it does to the channels that the session listens to elsewhere.
    pub(super) wishes: Vec<Wish>,
    /// Whether it was waited for what others notified on its connection.
    pub(super) echo: Echo,
    /// When it had its turn: what the client waits for it since then is its time.
    pub(super) asked_at: Option<Instant>,
    /// How often it was tried on a server.
    pub(super) attempts: u8,
    /// The text that a replica's refusal is learned for, when the unit is one statement.
    pub(super) text: Option<Bytes>,
    /// The statements to learn it for when they came prepared.
    pub(super) statement: Option<Arc<Prepared>>,
}

/// What a unit runs, as far as it concerns the settings of the session.
#[derive(Debug, Default)]
pub(super) enum Plan {
    /// Nothing so far.
    #[default]
    Empty,
    /// What neither sets anything nor shapes a transaction.
    Plain,
    /// One statement that does, and nothing else.
    One(Arc<Known<Judgement>>),
    /// More than one text, or more than one statement, and a transaction is shaped in them.
    Unclear,
    /// A portal whose text was bound in an earlier unit.
    Unseen,
}

/// What is true of a unit as a whole, as far as it was gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits(u16);

impl Traits {
    /// Some step needs a server.
    pub(super) const NEEDS_SERVER: u16 = 1;
    /// Something in it may write.
    pub(super) const MAY_WRITE: u16 = 2;
    /// It ends a transaction.
    pub(super) const COMMITS: u16 = 4;
    /// It may change the schema.
    pub(super) const CHANGES_SCHEMA: u16 = 8;
    /// It has dropped what the session holds on its connection.
    pub(super) const DISCARDED_ALL: u16 = 16;
    /// It is complete: its Sync or its Query was gathered.
    pub(super) const COMPLETE: u16 = 32;
    /// It may drop the prepared statements of the connection.
    pub(super) const DEALLOCATES_ALL: u16 = 64;
    /// It calls code of which nothing is known yet: the connection is not for anybody else.
    pub(super) const CALLS_UNJUDGED: u16 = 128;
    /// It begins, ends or marks a transaction.
    pub(super) const SHAPES_TRANSACTION: u16 = 256;
    /// More than one statement may run in it.
    pub(super) const SEVERAL: u16 = 512;
    /// It ends a transaction and undoes it.
    pub(super) const ROLLS_BACK: u16 = 1024;
    /// It is one Query.
    pub(super) const QUERY: u16 = 2048;
    /// It may notify whoever listens.
    pub(super) const NOTIFIES: u16 = 16384;
    /// The server did not understand its text, so nothing of it ran.
    pub(super) const NOT_UNDERSTOOD: u16 = 4096;
    /// Its statement was prepared again because the connection's was stale.
    pub(super) const REPAIRED: u16 = 8192;

    pub(super) const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    pub(super) const fn unset(&mut self, bit: u16) {
        self.0 &= !bit;
    }

    pub(super) const fn set(&mut self, bit: u16) {
        self.0 |= bit;
    }
}

impl Unit {
    /// Makes it the beginning of another unit; the room for its steps stays.
    pub(super) fn reset(&mut self) {
        let mut steps = mem::take(&mut self.steps);
        steps.clear();
        *self = Self {
            steps,
            ..Self::default()
        };
    }

    /// Adds a step.
    pub(super) fn push(&mut self, step: Step) {
        self.bytes += match &step {
            Step::Raw { bytes, .. } | Step::Local(bytes) | Step::More(bytes) => bytes.len(),
            Step::Parse { statement, .. } | Step::Probe(statement) => statement.text.len(),
            Step::Bind { rest, .. } => rest.len(),
            Step::BindHead { head, .. } => head.bytes.len(),
            Step::Describe { .. }
            | Step::Renew(_)
            | Step::DropUnnamed
            | Step::Known(_)
            | Step::Fail(_)
            | Step::Flush
            | Step::Sync => 0,
        };
        let needs = match &step {
            Step::Raw { .. }
            | Step::Parse { .. }
            | Step::Probe(_)
            | Step::Bind { .. }
            | Step::BindHead { .. }
            | Step::Describe { .. } => Traits::NEEDS_SERVER,
            Step::Renew(_)
            | Step::DropUnnamed
            | Step::Known(_)
            | Step::Local(_)
            | Step::Fail(_)
            | Step::More(_)
            | Step::Flush => 0,
            Step::Sync => Traits::COMPLETE,
        };
        self.traits.set(needs);
        self.steps.push(step);
    }

    /// Folds in what another statement needs: the strictest wins, and the first of the strictest.
    pub(super) fn fold(&mut self, decision: Decision) {
        match &self.decision {
            Some(known) if known.intent >= decision.intent => {}
            _ => self.decision = Some(decision),
        }
    }

    /// What the unit needs. A unit without a statement, such as a Sync alone, reads nothing and
    /// goes wherever is easiest.
    pub(super) fn decision(&self) -> Decision {
        self.decision.clone().unwrap_or(Decision {
            intent: Intent::Read,
            why: Why::ReadOnly,
            detail: None,
        })
    }
}

impl Unit {
    /// Follows the transactions that the unit begins and ends by itself. One that is not READ ONLY
    /// goes to the primary even if nothing was done in it yet.
    pub(super) fn note_verb(&mut self, verb: &Verb) {
        match verb {
            Verb::Begin(modes) => {
                self.begun = Some(*modes);
                let read_only = modes.access == Some(Access::ReadOnly);
                let (intent, why) = match read_only {
                    true => (Intent::Read, Why::ReadOnlyTransaction),
                    false => (Intent::Write, Why::ExplicitTransaction),
                };
                self.fold(Decision {
                    intent,
                    why,
                    detail: None,
                });
            }
            Verb::Commit(_) | Verb::Rollback(_) | Verb::PrepareTransaction => self.begun = None,
            Verb::SetTransaction(modes) => {
                self.begun = self.begun.map(|begun| merged(begun, *modes));
            }
            Verb::SetSnapshot
            | Verb::SetConstraints
            | Verb::Savepoint(_)
            | Verb::Release(_)
            | Verb::RollbackTo(_)
            | Verb::FinishPrepared => {}
        }
    }

    /// Puts an error of ours in front of everything. The server skips to the next Sync then, so a
    /// Query, which would be skipped as well, becomes one.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.steps.insert(0, Step::Fail(refusal));
        if let Some(last) = self.steps.last_mut()
            && matches!(
                last,
                Step::Raw {
                    expect: Expected::Query,
                    ..
                }
            )
        {
            *last = Step::Sync;
        }
        self.leaves.clear();
    }

    /// The client's names that the unit gives to statements.
    pub(super) fn new_names(&self) -> impl Iterator<Item = &Bytes> {
        self.steps.iter().filter_map(|step| match step {
            Step::Parse { name, .. } | Step::Known(name) => Some(name),
            Step::Raw { .. }
            | Step::Probe(_)
            | Step::Bind { .. }
            | Step::BindHead { .. }
            | Step::Describe { .. }
            | Step::Renew(_)
            | Step::DropUnnamed
            | Step::Local(_)
            | Step::Fail(_)
            | Step::More(_)
            | Step::Flush
            | Step::Sync => None,
        })
    }

    /// Whether an error of ours is among its steps.
    pub(super) fn has_failure(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Fail(_)))
    }

    /// Makes the unit go to the primary, whatever it needs itself.
    pub(super) fn demand_primary(&mut self, why: Why) {
        let detail = self.decision.take().and_then(|decision| decision.detail);
        self.decision = Some(Decision {
            intent: Intent::Write,
            why,
            detail,
        });
    }
}

impl Unit {
    /// Notes that a text is run.
    pub(super) fn plan_for(&mut self, facts: &Arc<Known<Judgement>>) {
        let carries = changes_of(facts).is_some();
        let shapes = facts.statements.iter().any(|s| s.transaction().is_some());
        self.plan = match (mem::take(&mut self.plan), carries || shapes) {
            (Plan::Empty | Plan::Plain, false) => Plan::Plain,
            (Plan::Empty, true) if facts.statements.len() == 1 => Plan::One(Arc::clone(facts)),
            (Plan::Unseen, _) => Plan::Unseen,
            (Plan::One(other), _) => {
                self.keep_what_it_sets(&other);
                Plan::Unclear
            }
            (Plan::Empty | Plan::Plain | Plan::Unclear, _) => Plan::Unclear,
        };
        if !matches!(self.plan, Plan::One(_)) {
            self.keep_what_it_sets(facts);
        }
    }

    /// Notes that a text is bound, and run with this unit. A portal with a name may be run later.
    pub(super) fn plan_for_portal(&mut self, portal: &[u8], facts: &Arc<Known<Judgement>>) {
        self.plan_for(facts);
        if !portal.is_empty() {
            self.keep_what_it_sets(facts);
        }
    }

    /// Notes that a portal is run; of an earlier unit, when nothing was bound in this one.
    pub(super) fn plan_for_execute(&mut self) {
        if matches!(self.plan, Plan::Empty) {
            self.plan_for_unseen();
        }
    }

    /// Notes that something is run whose text is not at hand.
    pub(super) fn plan_for_unseen(&mut self) {
        if let Plan::One(facts) = mem::replace(&mut self.plan, Plan::Unseen) {
            self.keep_what_it_sets(&facts);
        }
    }

    /// What is not carried stays on the connection.
    fn keep_what_it_sets(&mut self, facts: &Facts) {
        self.leaves.extend(Pins::left_by(facts.session_effects()));
    }
}

/// What the policy says of a text.
#[derive(Clone, Debug)]
pub struct Judgement {
    decision: Decision,
    called: CalledCode,
    /// It does nothing but change settings that the session takes along.
    carries: bool,
    /// It notifies, by a statement of its own.
    notifies: bool,
}

impl Judgement {
    fn of(world: &World<'_>, begun: Option<Modes>, facts: &Facts) -> Self {
        let transaction = match begun {
            Some(modes) => policy::Transaction::Begun(modes),
            None => policy::Transaction::None,
        };
        let standing = Standing {
            transaction,
            ..Standing::FRESH
        };
        Self {
            decision: policy::classify(facts, &standing, world.catalog, world.route),
            called: policy::called_code(facts, world.catalog, world.route),
            carries: changes_of(facts).is_some(),
            notifies: facts.statements.iter().any(notifies),
        }
    }
}

/// Folds what a text needs and leaves into a unit.
///
/// The session's own transaction and pins are left out: a unit that is bound to a connection
/// is not routed, and whether it may write has to be known all the same.
pub(super) fn fold(world: &World<'_>, unit: &mut Unit, facts: &Known<Judgement>) {
    let judge = |facts: &Facts| Judgement::of(world, unit.begun, facts);
    let judgement = match unit.begun {
        None => facts.judged(world.view, judge, Judgement::clone),
        Some(_) => judge(facts),
    };
    let carries = judgement.carries;
    // In a transaction that may write later, a read goes to the primary and is a read all the same.
    let is_write = judgement.decision.intent == Intent::Write
        && (unit.begun.is_none() || writes_by_itself(world, facts));
    // Settings that are taken along are nothing that a later read has to see.
    if is_write && !carries && !only_shapes_transactions(facts) {
        unit.traits.set(Traits::MAY_WRITE);
    }
    if judgement.notifies {
        unit.traits.set(Traits::NOTIFIES);
    }
    match judgement.called {
        CalledCode::Known => {}
        CalledCode::Unknown => unit.leaves.insert(Pin::Function),
        CalledCode::NotJudged => unit.traits.set(Traits::CALLS_UNJUDGED),
    }
    for statement in &facts.statements {
        unit.traits.set(traits_of(&statement.kind));
        if matches!(statement.kind, Kind::Do | Kind::Call) {
            // Code that nobody reads, which may leave anything.
            unit.leaves.insert(Pin::NotUnderstood);
        }
        if let Kind::Transaction(verb) = &statement.kind {
            unit.traits.set(Traits::SHAPES_TRANSACTION);
            unit.note_verb(verb);
        }
        for effect in &statement.effects {
            let deallocates_all = matches!(
                effect,
                Effect::DiscardAll | Effect::Deallocate { name: None }
            );
            if deallocates_all {
                unit.traits.set(Traits::DEALLOCATES_ALL);
            }
        }
    }
    if facts.unparsed.is_some() {
        // What was not understood may be a COMMIT.
        unit.traits.set(Traits::COMMITS);
    }
    unit.fold(judgement.decision);
    if !carries {
        unit.leaves.extend(Pins::left_by(facts.session_effects()));
    }
}

/// Whether a statement is a NOTIFY, or calls the function that does the same.
fn notifies(statement: &Statement) -> bool {
    let calls = |function: &FunctionUse| &*function.name == "pg_notify";
    statement.kind == Kind::Notify || statement.functions.iter().any(calls)
}

/// Whether a text may write, whatever transaction it runs in.
fn writes_by_itself(world: &World<'_>, facts: &Known<Judgement>) -> bool {
    let judge = |facts: &Facts| Judgement::of(world, None, facts);
    let intent = |judgement: &Judgement| judgement.decision.intent;
    facts.judged(world.view, judge, intent) == Intent::Write
}

/// Whether a text does nothing but begin, end and mark transactions.
fn only_shapes_transactions(facts: &Facts) -> bool {
    let two_phase = |verb: &Verb| matches!(verb, Verb::PrepareTransaction | Verb::FinishPrepared);
    let shapes = |verb: Option<&Verb>| verb.is_some_and(|verb| !two_phase(verb));
    facts
        .statements
        .iter()
        .all(|statement| shapes(statement.transaction()))
}

const fn traits_of(kind: &Kind) -> u16 {
    if let Kind::Transaction(Verb::Commit(_) | Verb::PrepareTransaction | Verb::FinishPrepared) =
        kind
    {
        return Traits::COMMITS;
    }
    if let Kind::Transaction(Verb::Rollback(_)) = kind {
        return Traits::ROLLS_BACK;
    }
    match matches!(kind, Kind::Ddl) {
        true => Traits::CHANGES_SCHEMA,
        false => 0,
    }
}
