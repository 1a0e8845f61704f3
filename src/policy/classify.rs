//! What a unit of work needs: facts, the session's standing, the catalog and the rules in; one
//! decision out. The order of the lines below is the specification; the first that applies wins,
//! and of a unit's statements the strictest.

use std::sync::Arc;

use super::{Decision, Intent, RouteRules, Why};
use crate::statement::{
    Access, Builtin, Catalog, Chain, Change, Effect, Explain, Facts, FunctionUse, Hint, Hold,
    Isolation, Kind, Learned, Modes, RelationName, Statement, Syntax, Verb, Verdict, builtin,
    syntax, without_catalog,
};

/// Where a session stands when a unit of work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The transaction that is open.
    pub transaction: Transaction,
    /// The modes of a transaction that names none: `default_transaction_read_only` and
    /// `default_transaction_isolation`.
    pub default_modes: Modes,
    /// By what the session is bound to its primary connection, when reads must stay there too.
    pub pinned: Option<&'a str>,
    /// What the session asks for: `SET pgherd.role`.
    pub role: Role,
    /// What the session's reads must see.
    pub consistency: Consistency,
    /// By which door it came in.
    pub port: Port,
}

/// The transaction that is open when a unit of work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// None.
    None,
    /// Begun, and on no server yet.
    Begun(Modes),
    /// On a server that was chosen for this.
    On(Intent),
}

/// What a session asks for: `SET pgherd.role`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    #[default]
    Auto,
    /// The primary.
    Primary,
    /// A replica, where that is safe.
    Replica,
}

/// What the reads of a session must see: `SET pgherd.consistency`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// What a replica within its lag bounds has.
    Eventual,
    /// Also the session's own writes.
    #[default]
    Session,
    /// What the primary has.
    Strong,
}

/// By which door a session came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    /// The one for everything.
    #[default]
    Any,
    /// The one for reads.
    ReadOnly,
}

impl Standing<'_> {
    /// A session that has done nothing yet.
    pub const FRESH: Self = Self {
        transaction: Transaction::None,
        default_modes: Modes {
            access: None,
            isolation: None,
        },
        pinned: None,
        role: Role::Auto,
        consistency: Consistency::Session,
        port: Port::Any,
    };
}

/// What a unit of work needs, and why.
///
/// Without a catalog only what names no relation and no function of users can be a read.
pub fn classify(
    facts: &Facts,
    standing: &Standing<'_>,
    catalog: Option<&Catalog>,
    rules: &RouteRules,
) -> Decision {
    // 1. Bound to a server already.
    match standing.transaction {
        Transaction::On(Intent::Write) => return write(Why::InWriteTransaction),
        Transaction::On(Intent::Read) => return read(Why::SameTransaction),
        Transaction::Begun(_) | Transaction::None => {}
    }
    let decision = match standing.pinned {
        Some(by) => write_about(Why::SessionPinned, by),
        None => unpinned(facts, standing, catalog, rules),
    };
    match standing.port {
        Port::Any => decision,
        Port::ReadOnly => at_readonly_port(decision),
    }
}

fn unpinned(
    facts: &Facts,
    standing: &Standing<'_>,
    catalog: Option<&Catalog>,
    rules: &RouteRules,
) -> Decision {
    // 2. What any statement is by itself.
    if facts.learned == Learned::RefusedByReplica {
        return write(Why::RefusedByReplica);
    }
    let mut course = Course::of(standing);
    for statement in &facts.statements {
        if let Some(decision) = course.step(statement) {
            return decision;
        }
    }
    if facts.unparsed.is_some() {
        return write(Why::ParseFailed);
    }
    course.note_end();
    if course.saw_read_write {
        return write(Why::ExplicitTransaction);
    }
    // 3. What was asked for.
    if facts.hint == Some(Hint::Primary) || standing.role == Role::Primary {
        return write(Why::HintPrimary);
    }
    if standing.consistency == Consistency::Strong {
        return write(Why::StrongConsistency);
    }
    // 4. What a hot standby cannot do.
    if course.isolation_seen == Some(Isolation::Serializable) {
        return write(Why::Serializable);
    }
    // 5 and 6. What the names stand for.
    let names = Names { catalog, rules };
    for statement in &facts.statements {
        if let Some(decision) = names.judge(statement) {
            return decision;
        }
    }
    // 7. A read.
    read_as_asked(facts, standing, &course)
}

fn read_as_asked(facts: &Facts, standing: &Standing<'_>, course: &Course) -> Decision {
    let is_copy = facts
        .statements
        .iter()
        .any(|statement| statement.kind == Kind::CopyOut);
    match (&facts.hint, standing.role) {
        (Some(Hint::Node(name)), _) => Decision {
            intent: Intent::Read,
            why: Why::HintNode,
            detail: Some(Arc::from(name.as_ref())),
        },
        (Some(Hint::Replica), _) | (None, Role::Replica) => read(Why::HintReplica),
        _ if course.saw_read_only => read(Why::ReadOnlyTransaction),
        _ if is_copy => read(Why::CopyOut),
        _ => read(Why::ReadOnly),
    }
}

/// At the door for reads the server itself is the judge of what only may write; what certainly
/// writes is refused before it gets anywhere, since the server may turn out to be the primary.
fn at_readonly_port(decision: Decision) -> Decision {
    match (decision.intent, decision.why) {
        (Intent::Read, Why::HintNode) => decision,
        (Intent::Read, _)
        | (Intent::Write, Why::Utility | Why::VolatileFunction | Why::ExplicitTransaction) => {
            read(Why::ReadonlyPort)
        }
        (Intent::Write, why) => write_about(Why::RejectedReadonlyWrite, why.code()),
    }
}

/// The transactions that the statements of a unit run through.
#[derive(Debug)]
struct Course {
    default_modes: Modes,
    /// The modes of the explicit transaction that the next statement runs in.
    open: Option<Modes>,
    saw_read_write: bool,
    saw_read_only: bool,
    isolation_seen: Option<Isolation>,
}

impl Course {
    fn of(standing: &Standing<'_>) -> Self {
        let open = match standing.transaction {
            Transaction::Begun(modes) => Some(modes),
            Transaction::None | Transaction::On(_) => None,
        };
        let mut course = Self {
            default_modes: standing.default_modes,
            open,
            saw_read_write: false,
            saw_read_only: false,
            isolation_seen: None,
        };
        course.note_modes();
        course
    }

    /// The next statement; a decision when it is a write by itself.
    fn step(&mut self, statement: &Statement) -> Option<Decision> {
        if let Some(verb) = statement.transaction() {
            return self.step_verb(verb);
        }
        let own = of_statement(statement);
        // Settings and cursors do not take a READ ONLY transaction off its replica.
        if own.is_some() && self.is_read_only() && stays_in_transaction(statement) {
            self.saw_read_only = true;
            return None;
        }
        if own.is_none() {
            self.note_run();
        }
        own
    }

    fn step_verb(&mut self, verb: &Verb) -> Option<Decision> {
        match verb {
            Verb::Begin(modes) => self.open = Some(*modes),
            Verb::SetTransaction(modes) => match &mut self.open {
                Some(open) => {
                    open.access = modes.access.or(open.access);
                    open.isolation = modes.isolation.or(open.isolation);
                }
                None => return Some(write(Why::Utility)),
            },
            // A snapshot exported on one server means nothing on another.
            Verb::SetSnapshot => return Some(write(Why::Utility)),
            Verb::PrepareTransaction | Verb::FinishPrepared => {
                return Some(write(Why::TwoPhase));
            }
            Verb::Commit(chain) | Verb::Rollback(chain) => {
                if self.open.is_some() {
                    self.note_run();
                }
                if *chain == Chain::NoChain {
                    self.open = None;
                }
                return None;
            }
            Verb::Savepoint(_) | Verb::Release(_) | Verb::RollbackTo(_) | Verb::SetConstraints => {
                self.note_run();
                return None;
            }
        }
        self.note_modes();
        None
    }

    fn is_read_only(&self) -> bool {
        self.open.is_some_and(|modes| {
            modes.access.or(self.default_modes.access) == Some(Access::ReadOnly)
        })
    }

    /// Something runs in the transaction that is open now, or in one of its own.
    fn note_run(&mut self) {
        match self.open {
            Some(_) if self.is_read_only() => self.saw_read_only = true,
            Some(_) => self.saw_read_write = true,
            None => {}
        }
        self.note_modes();
    }

    /// A transaction that the unit leaves open stays where the unit ran.
    fn note_end(&mut self) {
        if self.open.is_some() {
            self.note_run();
        }
    }

    fn note_modes(&mut self) {
        let isolation = self
            .open
            .and_then(|modes| modes.isolation)
            .or(self.default_modes.isolation);
        if isolation == Some(Isolation::Serializable) {
            self.isolation_seen = isolation;
        }
    }
}

/// Whether a command may run on a replica as part of a READ ONLY transaction: what it leaves is
/// sent along, or ends with the transaction.
fn stays_in_transaction(statement: &Statement) -> bool {
    let is_such = matches!(
        &statement.kind,
        Kind::Set { .. }
            | Kind::ResetAll
            | Kind::Show { .. }
            | Kind::Declare {
                hold: Hold::Transaction
            }
            | Kind::Fetch { .. }
            | Kind::Close
    );
    is_such && statement.change.is_none() && statement.unparsed.is_none()
}

/// What a statement is by itself, when it is not a read.
fn of_statement(statement: &Statement) -> Option<Decision> {
    if let Some(decision) = by_kind(statement) {
        return Some(decision);
    }
    let change = match statement.change {
        Some(Change::RowLock) => Some(Why::LockingClause),
        Some(Change::DataModifyingCte) => Some(Why::DataModifyingCte),
        Some(Change::SelectInto) => Some(Why::Ddl),
        None => None,
    };
    if let Some(why) = change {
        return Some(write(why));
    }
    if statement.unparsed.is_some() {
        return Some(write(Why::ParseFailed));
    }
    let mut decision = statement.effects.iter().find_map(by_effect)?;
    if let Some(called) = statement.functions.iter().find(is_of_connection) {
        decision.detail = Some(Arc::from(called.name.as_ref()));
    }
    Some(decision)
}

fn by_kind(statement: &Statement) -> Option<Decision> {
    let why = match &statement.kind {
        Kind::Select | Kind::Values | Kind::Table | Kind::CopyOut | Kind::Transaction(_) => {
            return None;
        }
        Kind::Explain {
            mode: Explain::Plan | Explain::Analyze,
            inner,
            ..
        } => {
            return of_statement(inner)
                .or_else(|| inner.transaction().map(|_| write(Why::ParseFailed)));
        }
        Kind::Explain {
            mode: Explain::Route,
            ..
        } => return Some(write(Why::AnsweredHere)),
        Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => Why::Write,
        Kind::CopyIn => Why::CopyIn,
        Kind::Listen | Kind::Unlisten | Kind::Notify => Why::ListenNotify,
        Kind::Ddl => Why::Ddl,
        Kind::Declare { .. } | Kind::Fetch { .. } | Kind::Close => Why::Utility,
        Kind::Lock => Why::LockingClause,
        Kind::Show { .. }
        | Kind::Set { .. }
        | Kind::ResetAll
        | Kind::SessionCharacteristics(_)
        | Kind::Prepare
        | Kind::Execute
        | Kind::Deallocate
        | Kind::Discard
        | Kind::Call
        | Kind::Do
        | Kind::Utility => Why::Utility,
        Kind::Other => Why::ParseFailed,
    };
    Some(write(why))
}

fn is_of_connection(called: &&FunctionUse) -> bool {
    matches!(
        builtin(&called.name),
        Some(Builtin::Advisory | Builtin::Depends | Builtin::Writes)
    )
}

/// What a read leaves behind belongs on the session's own connection to the primary.
fn by_effect(effect: &Effect) -> Option<Decision> {
    let (why, detail) = match effect {
        Effect::AdvisoryLock | Effect::AdvisoryUnlock | Effect::AdvisoryUnlockAll => {
            (Why::AdvisoryLock, None)
        }
        Effect::TempObject => (Why::TempObject, None),
        Effect::Connection { function } => (Why::VolatileFunction, Some(function.as_ref())),
        Effect::Setting { name, .. } | Effect::LocalSetting { name, .. } => {
            (Why::VolatileFunction, Some(name.as_ref()))
        }
        Effect::Sequence | Effect::LargeObject => (Why::VolatileFunction, None),
        Effect::Listen { .. } | Effect::Unlisten { .. } => (Why::ListenNotify, None),
        Effect::ResetAll
        | Effect::Role
        | Effect::SessionAuthorization
        | Effect::PreparedStatement { .. }
        | Effect::Deallocate { .. }
        | Effect::HoldCursor { .. }
        | Effect::OpenCursor { .. }
        | Effect::CloseCursor { .. }
        | Effect::Load
        | Effect::DiscardAll
        | Effect::DiscardTemp
        | Effect::DiscardSequences
        | Effect::DiscardPlans => (Why::Utility, None),
        Effect::Unknown => (Why::ParseFailed, None),
    };
    Some(Decision {
        intent: Intent::Write,
        why,
        detail: detail.map(Arc::from),
    })
}

/// The judge of names.
#[derive(Clone, Copy, Debug)]
struct Names<'a> {
    catalog: Option<&'a Catalog>,
    rules: &'a RouteRules,
}

impl Names<'_> {
    fn judge(&self, statement: &Statement) -> Option<Decision> {
        let subject = if let Kind::Explain { inner, .. } = &statement.kind {
            inner
        } else {
            statement
        };
        subject
            .functions
            .iter()
            .find_map(|called| self.judge_function(called))
            .or_else(|| {
                subject
                    .relations
                    .iter()
                    .find_map(|named| self.judge_relation(named))
            })
            .or_else(|| {
                let function = self.catalog?.hidden_call(subject)?;
                Some(write_about(Why::VolatileFunction, function))
            })
    }

    fn judge_function(&self, called: &FunctionUse) -> Option<Decision> {
        if self.is_vouched_for(called) {
            return None;
        }
        let verdict = match (syntax(called), self.catalog) {
            (Some(Syntax::Expression), _) => Verdict::Reads,
            (None, Some(catalog)) => catalog.function(called),
            (None, None) => without_catalog(called),
        };
        match verdict {
            Verdict::Reads => None,
            Verdict::Advisory => Some(write_about(Why::AdvisoryLock, &called.name)),
            Verdict::Calls(_) | Verdict::NotReplicated => {
                Some(write_about(Why::VolatileFunction, &called.name))
            }
            Verdict::Unknown if self.rules.unknown_functions_read && self.catalog.is_some() => None,
            Verdict::Unknown => Some(write_about(Why::UnknownFunction, &called.name)),
        }
    }

    fn is_vouched_for(&self, called: &FunctionUse) -> bool {
        self.rules.read_only_functions.iter().any(|vouched| {
            match (vouched.split_once('.'), &called.schema) {
                (Some((schema, name)), Some(written)) => {
                    *schema == **written && *name == *called.name
                }
                (Some((_, name)), None) => *name == *called.name,
                (None, _) => **vouched == *called.name,
            }
        })
    }

    fn judge_relation(&self, named: &RelationName) -> Option<Decision> {
        let verdict = match (named.schema.as_deref(), self.catalog) {
            (Some("pg_temp"), _) => Verdict::NotReplicated,
            (_, Some(catalog)) => catalog.relation(named),
            (_, None) => Verdict::Unknown,
        };
        match verdict {
            Verdict::Reads => None,
            Verdict::NotReplicated => Some(write_about(Why::TempObject, &named.name)),
            Verdict::Calls(function) => Some(write_about(Why::VolatileFunction, function)),
            Verdict::Advisory => Some(write_about(Why::AdvisoryLock, &named.name)),
            Verdict::Unknown => Some(write_about(Why::UnknownFunction, &named.name)),
        }
    }
}

/// What is known of the code that a text calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledCode {
    /// It calls none, or only what is known to leave nothing unseen on its connection.
    Known,
    /// It calls a volatile function of the user's own, or one that the catalog does not know:
    /// either may leave anything.
    Unknown,
    /// It calls something, and the catalog was not read yet.
    NotJudged,
}

/// What is known of the code that a text calls. What the built-in functions leave is in the
/// [`Effect`]s of their statements.
pub fn called_code(facts: &Facts, catalog: Option<&Catalog>, rules: &RouteRules) -> CalledCode {
    let names = Names { catalog, rules };
    let is_foreign = |called: &&FunctionUse| {
        let in_catalog = called
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
        syntax(called) != Some(Syntax::Expression)
            && !names.is_vouched_for(called)
            && !(in_catalog && builtin(&called.name).is_some())
    };
    let mut foreign = facts
        .statements
        .iter()
        .flat_map(|statement| statement.functions.iter().filter(is_foreign));
    let Some(catalog) = catalog else {
        let calls = foreign.any(|called| without_catalog(called) != Verdict::Reads);
        return match calls {
            true => CalledCode::NotJudged,
            false => CalledCode::Known,
        };
    };
    // A view hides what it calls.
    let hides = |statement: &Statement| {
        statement.relations.iter().any(|named| {
            let verdict = catalog.relation(named);
            matches!(verdict, Verdict::Calls(function) if builtin(function).is_none())
        })
    };
    let unknown = foreign.any(|called| catalog.function(called) != Verdict::Reads)
        || facts.statements.iter().any(hides);
    match unknown {
        true => CalledCode::Unknown,
        false => CalledCode::Known,
    }
}

fn read(why: Why) -> Decision {
    Decision {
        intent: Intent::Read,
        why,
        detail: None,
    }
}

fn write(why: Why) -> Decision {
    Decision {
        intent: Intent::Write,
        why,
        detail: None,
    }
}

fn write_about(why: Why, about: &str) -> Decision {
    Decision {
        intent: Intent::Write,
        why,
        detail: Some(Arc::from(about)),
    }
}
