//! What one database says of names: which functions are volatile, which relations replicas lack,
//! which views call what. Values only; `monitor` reads the rows.
//!
//! A name is looked up as the worst of all that it may mean: the session's `search_path` is not
//! followed, so a volatile function of any schema spoils the bare name.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{FunctionUse, RelationName, Statement};
use super::functions::{self, Builtin};

/// What one database says of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    functions: BTreeMap<Box<str>, Vec<Function>>,
    relations: BTreeMap<Box<str>, Vec<Relation>>,
    /// Operator names that may call a function that is not safe, with the function.
    operators: BTreeMap<Box<str>, Box<str>>,
    /// Names of functions of one row that are not safe: `t.f` may call them.
    row_functions: BTreeSet<Box<str>>,
    /// Types whose explicit casts call a function that is not safe, with the function.
    casts: BTreeMap<Box<str>, Box<str>>,
    /// A function that is not safe and that any expression may call unseen.
    anywhere: Option<Box<str>>,
    /// Tells one reading of a catalog from another.
    pub stamp: u32,
}

/// What the catalog says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It only reads, and reads the same on every server.
    Reads,
    /// It may write, or calls this function, which may.
    Calls(&'a str),
    /// It takes or looks at advisory locks.
    Advisory,
    /// It is temporary or unlogged: replicas do not have it.
    NotReplicated,
    /// No such name.
    Unknown,
}

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// `i`.
    Immutable,
    /// `s`.
    Stable,
    /// `v`, and whatever we do not know.
    Volatile,
}

/// `pg_class.relpersistence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `p`: replicas have it.
    Permanent,
    /// `u`: empty and unreadable on a replica.
    Unlogged,
    /// `t`: of one session.
    Temporary,
}

/// One row of `pg_proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRow {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What its owner promises.
    pub volatility: Volatility,
    /// How few arguments it takes.
    pub args_min: u16,
    /// How many it takes; `None` when variadic.
    pub args_max: Option<u16>,
    /// Whether its one argument is a row type.
    pub takes: Takes,
}

/// What a function takes, as far as functional notation is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value of a row type: `t.f` may call it.
    OneRow,
    /// Anything else.
    Values,
}

/// One row of `pg_class`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationRow {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// `relpersistence`.
    pub persistence: Persistence,
    /// Whether reading it runs code of its own.
    pub storage: Storage,
}

/// Where the rows of a relation come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Its own heap, its partitions, or its view's query.
    Local,
    /// Another server: a read may write there, and a replica may not reach it.
    Foreign,
}

/// A relation's view query, rule or policy uses a function or a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseRow {
    /// OID of the relation that is read.
    pub relation: u32,
    /// What it uses.
    pub uses: Used,
}

/// What a view's query, a rule or a policy uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// A function, by OID.
    Function(u32),
    /// A relation, by OID.
    Relation(u32),
}

/// An operator and its function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRow {
    /// Its name.
    pub name: Box<str>,
    /// OID of its function.
    pub function: u32,
}

/// A cast of users and its function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastRow {
    /// Name of the type that it makes.
    pub target: Box<str>,
    /// OID of its function.
    pub function: u32,
    /// When it is applied.
    pub context: CastContext,
}

/// `pg_cast.castcontext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastContext {
    /// Only where it is written, or in an assignment.
    Written,
    /// Anywhere.
    Implicit,
}

/// Everything that is read of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogRows {
    /// All of `pg_proc`.
    pub functions: Vec<FunctionRow>,
    /// Everything of `pg_class` that can be read from.
    pub relations: Vec<RelationRow>,
    /// What views, rules and policies use.
    pub uses: Vec<UseRow>,
    /// Operators whose function is volatile.
    pub operators: Vec<OperatorRow>,
    /// Casts of users whose function is volatile.
    pub casts: Vec<CastRow>,
}

#[derive(Clone, Debug, PartialEq)]
struct Function {
    schema: Box<str>,
    args_min: u16,
    args_max: Option<u16>,
    safety: Safety,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Safety {
    Reads,
    Unsafe,
    Advisory,
}

#[derive(Clone, Debug, PartialEq)]
struct Relation {
    schema: Box<str>,
    persistence: Persistence,
    storage: Storage,
    /// The function that is not safe and that reading it may call.
    calls: Option<Box<str>>,
    /// A relation below it that replicas do not have.
    lacks: bool,
}

/// Operators that syntax calls without naming them: IN, BETWEEN, USING, DISTINCT, ORDER BY, LIKE.
const IMPLIED_OPERATORS: [&str; 10] = ["=", "<>", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*"];

impl Catalog {
    /// The catalog that these rows describe.
    pub fn from_rows(rows: &CatalogRows) -> Self {
        let unsafe_functions: BTreeMap<u32, &str> = rows
            .functions
            .iter()
            .filter(|row| safety(row) != Safety::Reads)
            .map(|row| (row.oid, row.name.as_ref()))
            .collect();
        let mut catalog = Self::default();
        catalog.add_functions(rows);
        catalog.add_relations(rows, &unsafe_functions);
        for row in &rows.operators {
            if let Some(function) = unsafe_functions.get(&row.function) {
                if IMPLIED_OPERATORS.contains(&row.name.as_ref()) {
                    catalog.anywhere = Some((*function).into());
                }
                catalog
                    .operators
                    .insert(row.name.clone(), (*function).into());
            }
        }
        for row in &rows.casts {
            if let Some(function) = unsafe_functions.get(&row.function) {
                if row.context == CastContext::Implicit {
                    catalog.anywhere = Some((*function).into());
                }
                catalog.casts.insert(row.target.clone(), (*function).into());
            }
        }
        catalog
    }

    fn add_functions(&mut self, rows: &CatalogRows) {
        for row in &rows.functions {
            let safety = safety(row);
            if safety != Safety::Reads && row.takes == Takes::OneRow {
                self.row_functions.insert(row.name.clone());
            }
            self.functions
                .entry(row.name.clone())
                .or_default()
                .push(Function {
                    schema: row.schema.clone(),
                    args_min: row.args_min,
                    args_max: row.args_max,
                    safety,
                });
        }
    }

    fn add_relations(&mut self, rows: &CatalogRows, unsafe_functions: &BTreeMap<u32, &str>) {
        let mut uses: BTreeMap<u32, Vec<Used>> = BTreeMap::new();
        for row in &rows.uses {
            uses.entry(row.relation).or_default().push(row.uses);
        }
        let by_oid: BTreeMap<u32, &RelationRow> =
            rows.relations.iter().map(|row| (row.oid, row)).collect();
        for row in &rows.relations {
            let below = reach(row.oid, &uses);
            let calls = below.iter().find_map(|used| match used {
                Used::Function(oid) => unsafe_functions.get(oid).map(|name| (*name).into()),
                Used::Relation(oid) => by_oid
                    .get(oid)
                    .filter(|row| row.storage == Storage::Foreign)
                    .map(|row| row.name.clone()),
            });
            let lacks = below.iter().any(|used| match used {
                Used::Relation(oid) => by_oid
                    .get(oid)
                    .is_some_and(|row| row.persistence != Persistence::Permanent),
                Used::Function(_) => false,
            });
            self.relations
                .entry(row.name.clone())
                .or_default()
                .push(Relation {
                    schema: row.schema.clone(),
                    persistence: row.persistence,
                    storage: row.storage,
                    calls,
                    lacks,
                });
        }
    }

    /// What a function may do, called like this.
    pub fn function(&self, called: &FunctionUse) -> Verdict<'_> {
        let Some((name, candidates)) = self.functions.get_key_value(&called.name) else {
            return Verdict::Unknown;
        };
        let worst = candidates
            .iter()
            .filter(|function| function.may_be(called))
            .map(|function| function.safety)
            .max();
        match worst {
            Some(Safety::Reads) => Verdict::Reads,
            Some(Safety::Unsafe) => Verdict::Calls(name),
            Some(Safety::Advisory) => Verdict::Advisory,
            None => Verdict::Unknown,
        }
    }

    /// What reading a relation may do.
    pub fn relation(&self, named: &RelationName) -> Verdict<'_> {
        let Some((name, candidates)) = self.relations.get_key_value(&named.name) else {
            return Verdict::Unknown;
        };
        let in_schema = |relation: &&Relation| {
            named
                .schema
                .as_ref()
                .is_none_or(|schema| *schema == relation.schema)
        };
        let mut verdict = Verdict::Unknown;
        for relation in candidates.iter().filter(in_schema) {
            if relation.persistence != Persistence::Permanent || relation.lacks {
                return Verdict::NotReplicated;
            }
            match (&relation.calls, relation.storage) {
                (Some(function), _) => return Verdict::Calls(function),
                (None, Storage::Foreign) => return Verdict::Calls(name),
                (None, Storage::Local) => verdict = Verdict::Reads,
            }
        }
        verdict
    }

    /// The function that a statement may call without a call that one can see: by an operator, a
    /// cast, or as `row.function`.
    pub fn hidden_call(&self, statement: &Statement) -> Option<&str> {
        let symbols = &statement.symbols;
        let by_operator = || {
            symbols
                .operators
                .iter()
                .find_map(|name| self.operators.get(name))
                .map(AsRef::as_ref)
        };
        let by_cast = || {
            symbols
                .types
                .iter()
                .find_map(|name| self.casts.get(name))
                .map(AsRef::as_ref)
        };
        let by_row = || {
            symbols
                .attributes
                .iter()
                .find_map(|name| self.row_functions.get(name))
                .map(AsRef::as_ref)
        };
        let anywhere = || {
            let is_trivial = statement.relations.is_empty() && statement.functions.is_empty();
            self.anywhere.as_deref().filter(|_| !is_trivial)
        };
        let is_plain = self.operators.is_empty()
            && self.casts.is_empty()
            && self.row_functions.is_empty()
            && self.anywhere.is_none();
        if is_plain {
            return None;
        }
        by_operator()
            .or_else(by_cast)
            .or_else(by_row)
            .or_else(anywhere)
    }
}

impl Function {
    fn may_be(&self, called: &FunctionUse) -> bool {
        let in_schema = called
            .schema
            .as_ref()
            .is_none_or(|schema| *schema == self.schema);
        let takes_them = called.args.is_none_or(|args| {
            args >= self.args_min && self.args_max.is_none_or(|most| args <= most)
        });
        in_schema && takes_them
    }
}

/// Our own list overrules the mark of a built-in: it knows what a mark cannot say.
fn safety(row: &FunctionRow) -> Safety {
    let builtin = match row.schema.as_ref() {
        "pg_catalog" => functions::builtin(&row.name),
        _ => None,
    };
    match (builtin, row.volatility) {
        (Some(Builtin::Computes), _) => Safety::Reads,
        (Some(Builtin::Advisory), _) => Safety::Advisory,
        (Some(Builtin::Depends | Builtin::Writes), _) => Safety::Unsafe,
        (None, Volatility::Volatile) => Safety::Unsafe,
        (None, Volatility::Immutable | Volatility::Stable) => Safety::Reads,
    }
}

/// Everything that a relation uses, through views of views.
fn reach(from: u32, uses: &BTreeMap<u32, Vec<Used>>) -> Vec<Used> {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    let mut found = Vec::new();
    while let Some(oid) = open.pop() {
        for used in uses.get(&oid).into_iter().flatten() {
            match *used {
                Used::Function(_) => found.push(*used),
                Used::Relation(below) if seen.insert(below) => {
                    open.push(below);
                    found.push(*used);
                }
                Used::Relation(_) => {}
            }
        }
    }
    found
}
