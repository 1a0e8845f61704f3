//! What the router answers by itself: `EXPLAIN (ROUTE)`, `SHOW pgherd.…`, `SET pgherd.…`, every
//! statement of a console session, and the end of a transaction that is lost.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::counted::note_refused;
use super::machine::Telling;
use super::prepared::Prepared;
use super::{ConsoleReply, Note, Output, Refusal, Session, Transaction, World, reply};
use crate::cluster::Snapshot;
use crate::policy::{self, Balance, Choice, Considered, Decision, Intent, Need, Refused, Standing};
use crate::statement::{Chain, Effect, Explain, Facts, Kind, SetValue, Verb};
use crate::wire::backend::{self, Column, Table};
use crate::wire::{SqlState, TransactionStatus};

/// An answer of ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Rows.
    Table {
        table: Table,
        tag: String,
        notices: Vec<String>,
    },
    /// Done, with a NOTICE for each thing worth telling.
    Done { tag: String, notices: Vec<String> },
    /// There was no statement.
    Empty,
    /// An error.
    Refused(Refusal),
}

/// A portal of a statement that we answer ourselves.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) statement: Arc<Prepared>,
    /// In which formats the client wants the columns.
    pub(super) formats: Vec<i16>,
}

/// A statement that we answer ourselves.
enum Own<'a> {
    ExplainRoute { inner: &'a [u8] },
    Show(&'a str),
    Set { name: &'a str, value: &'a SetValue },
    Deallocate(&'a [u8]),
    ListeningChannels,
    EndOfLostTransaction { commits: bool },
    Console,
}

impl Session {
    /// Whether we answer this text ourselves.
    pub(super) fn is_ours(&self, world: &World<'_>, text: &[u8], facts: &Facts) -> bool {
        self.own(world, text, facts).is_some() || self.listens_here(world, facts)
    }

    fn own<'a>(&self, world: &World<'_>, text: &'a [u8], facts: &'a Facts) -> Option<Own<'a>> {
        if world.console.is_some() {
            return Some(Own::Console);
        }
        let [statement] = facts.statements.as_slice() else {
            return None;
        };
        if let Kind::Explain {
            mode: Explain::Route,
            text: range,
            ..
        } = &statement.kind
        {
            let inner = text.get(range.clone()).unwrap_or_default();
            return Some(Own::ExplainRoute { inner });
        }
        if let Kind::Show { name } = &statement.kind {
            return name.starts_with(OWN_PREFIX).then_some(Own::Show(name));
        }
        if let Kind::Set { name, value, .. } = &statement.kind {
            let set = Own::Set { name, value };
            return name.starts_with(OWN_PREFIX).then_some(set);
        }
        if statement.kind == Kind::Deallocate {
            return self.own_deallocate(&statement.effects);
        }
        if self.shows_channels(text, statement) {
            return Some(Own::ListeningChannels);
        }
        // A chained one would have to begin another transaction; it is refused like the rest.
        let commits = match statement.transaction()? {
            Verb::Commit(Chain::NoChain) => true,
            Verb::Rollback(Chain::NoChain) => false,
            Verb::Begin(_)
            | Verb::SetTransaction(_)
            | Verb::SetSnapshot
            | Verb::SetConstraints
            | Verb::Commit(Chain::Chain)
            | Verb::Rollback(Chain::Chain)
            | Verb::Savepoint(_)
            | Verb::Release(_)
            | Verb::RollbackTo(_)
            | Verb::PrepareTransaction
            | Verb::FinishPrepared => return None,
        };
        self.transaction
            .is_lost()
            .then_some(Own::EndOfLostTransaction { commits })
    }

    /// DEALLOCATE of a statement that was prepared by the protocol: the servers know it by another
    /// name. In a transaction that failed the server has the right error for it.
    fn own_deallocate<'a>(&self, effects: &'a [Effect]) -> Option<Own<'a>> {
        let [Effect::Deallocate { name: Some(name) }] = effects else {
            return None;
        };
        let is_known = self.names.get(name.as_bytes()).is_some();
        let failed = self.transaction.status() == TransactionStatus::Failed;
        (is_known && !failed).then_some(Own::Deallocate(name.as_bytes()))
    }

    /// The answer to a text, when it is ours.
    pub(super) fn answer_here(
        &mut self,
        world: &World<'_>,
        text: &[u8],
        facts: &Facts,
    ) -> Option<Answer> {
        Some(match self.own(world, text, facts)? {
            Own::Console => console_answer(world, text),
            Own::ExplainRoute { inner } => self.explain_route(world, inner),
            Own::Show(name) => self.show(world, name),
            Own::Set { name, value } => self.set(name, value),
            Own::ListeningChannels => self.listening_channels(),
            Own::Deallocate(name) => {
                self.names.remove(name);
                Answer::Done {
                    tag: "DEALLOCATE".to_owned(),
                    notices: Vec::new(),
                }
            }
            // A client that was told nothing yet takes any answer to its COMMIT for success.
            Own::EndOfLostTransaction { commits: true }
                if self.transaction == (Transaction::Lost { told: false }) =>
            {
                self.end_lost_transaction();
                Answer::Refused(Refusal::TransactionLost)
            }
            Own::EndOfLostTransaction { .. } => {
                self.end_lost_transaction();
                Answer::Done {
                    tag: "ROLLBACK".to_owned(),
                    notices: Vec::new(),
                }
            }
        })
    }

    /// What an Execute of this portal will bring: RowDescription or NoData.
    pub(super) fn describe_here(&self, world: &World<'_>, portal: &Portal) -> Bytes {
        // The columns are those of the answer, which changes nothing but for SET and the console's
        // commands: these bring no rows and need not be run to know it.
        let facts = &portal.statement.facts;
        let table = match self.own(world, &portal.statement.text, facts) {
            Some(Own::ExplainRoute { .. }) => Some(route_table(Vec::new())),
            Some(Own::Show(name)) => Some(one_value(name, String::new())),
            Some(Own::ListeningChannels) => Some(one_value(LISTENING_CHANNELS, String::new())),
            Some(Own::Console) if is_show(&portal.statement.text) => {
                match console_answer(world, &portal.statement.text) {
                    Answer::Table { table, .. } => Some(table),
                    Answer::Done { .. } | Answer::Empty | Answer::Refused(_) => None,
                }
            }
            Some(
                Own::Console
                | Own::Set { .. }
                | Own::Deallocate(_)
                | Own::EndOfLostTransaction { .. },
            )
            | None => None,
        };
        reply::message(|to| match table {
            Some(table) => table.row_description(to, &portal.formats),
            None => backend::no_data(to),
        })
    }

    /// `pg_listening_channels()` in its plain forms: the server of a connection that is shared does
    /// not know the session's.
    fn listening_channels(&self) -> Answer {
        let names = self.channels.now();
        let rows: Vec<_> = names.map(|name| vec![Some(name.to_string())]).collect();
        let tag = format!("SELECT {}", rows.len());
        let mut table = one_value(LISTENING_CHANNELS, String::new());
        table.rows = rows;
        Answer::Table {
            table,
            tag,
            notices: Vec::new(),
        }
    }

    fn show(&self, world: &World<'_>, name: &str) -> Answer {
        let value = match name.trim_start_matches(OWN_PREFIX) {
            "explain" => self.explain.as_str().to_owned(),
            "node" => match self.last_route {
                Some((server, _)) => world.snapshot.name(server).to_owned(),
                None => String::new(),
            },
            "last_route" => match self.last_route {
                Some((server, why)) => format!("{}: {why}", world.snapshot.name(server)),
                None => String::new(),
            },
            "pinned" => self.pin().unwrap_or_default().to_owned(),
            "version" => env!("CARGO_PKG_VERSION").to_owned(),
            _ => return unknown_setting(name),
        };
        Answer::Table {
            table: one_value(name, value),
            tag: "SHOW".to_owned(),
            notices: Vec::new(),
        }
    }

    fn set(&mut self, name: &str, value: &SetValue) -> Answer {
        if name.trim_start_matches(OWN_PREFIX) != "explain" {
            return unknown_setting(name);
        }
        let plain = match value {
            SetValue::Default => Some("off".into()),
            SetValue::Text(_) | SetValue::Computed => value.plain(),
        };
        self.explain = match plain.as_deref() {
            Some("notice" | "on") => Telling::Notice,
            Some("off") => Telling::Off,
            _ => {
                return Answer::Refused(Refusal::BadCommand {
                    sqlstate: SqlState::INVALID_PARAMETER_VALUE,
                    message: format!("invalid value for parameter \"{name}\""),
                    hint: Some("Available values: off, notice.".to_owned()),
                });
            }
        };
        Answer::Done {
            tag: "SET".to_owned(),
            notices: Vec::new(),
        }
    }

    /// Where a statement would go now, and why.
    fn explain_route(&mut self, world: &World<'_>, inner: &[u8]) -> Answer {
        let facts = world.texts.facts.facts(inner, self.reading);
        let decision = match self.why_bound() {
            Some(why) => Decision {
                intent: Intent::Write,
                why,
                detail: None,
            },
            None => {
                let transaction = match &self.transaction {
                    Transaction::Begun(begun) => policy::Transaction::Begun(begun.modes()),
                    Transaction::None | Transaction::Open { .. } | Transaction::Lost { .. } => {
                        policy::Transaction::None
                    }
                };
                let standing = Standing {
                    transaction,
                    ..Standing::FRESH
                };
                policy::classify(&facts, &standing, world.catalog, world.route)
            }
        };
        let need = match decision.intent {
            Intent::Read => self.need(world),
            Intent::Write => Need::Bounded,
        };
        let balance = Balance {
            pick: self.turn,
            load: world.load,
        };
        let choice = match self.bound_to() {
            Some(server) => format!("{} (held by this session)", world.snapshot.name(server)),
            None => match policy::choose(&decision, need, world.snapshot, world.route, balance) {
                Choice::Go(route) => {
                    let mut line = describe_server(world.snapshot, route.server.index());
                    if route.why != decision.why {
                        let _infallible = write!(line, "\nbecause   {}", route.why);
                    }
                    line
                }
                Choice::Wait(why) => format!("none now, it would wait: {why}"),
                Choice::Refuse(why) => format!("none, it would be refused: {why}"),
            },
        };
        let mut lines = vec![format!("target    {choice}")];
        let detail = decision
            .detail
            .as_deref()
            .map(|d| format!(" {d}"))
            .unwrap_or_default();
        lines.push(format!("reason    {}{detail}", decision.why));
        lines.push(format!("parsed    {}", summary(&facts)));
        lines.push(format!("session   {}", self.describe_need(need)));
        for considered in policy::considered(need, world.snapshot, world.route) {
            lines.push(format!(
                "considered {}",
                describe_considered(world.snapshot, &considered)
            ));
        }
        let lines = lines
            .iter()
            .flat_map(|line| line.split('\n'))
            .map(str::to_owned)
            .collect();
        Answer::Table {
            table: route_table(lines),
            tag: "EXPLAIN".to_owned(),
            notices: Vec::new(),
        }
    }

    fn describe_need(&self, need: Need) -> String {
        let pinned = self
            .pin()
            .map(|pin| format!("pinned by {pin}, "))
            .unwrap_or_default();
        match need {
            Need::Bounded => format!("{pinned}no write to wait for"),
            Need::Replayed(lsn) => format!("{pinned}must have replayed {lsn}"),
            Need::SampleAfter(_) => format!("{pinned}wrote just now, no position known yet"),
        }
    }
}

impl Portal {
    pub(super) const fn new(statement: Arc<Prepared>, formats: Vec<i16>) -> Self {
        Self { statement, formats }
    }
}

/// The answer to a simple Query, without its ReadyForQuery.
pub(super) fn simple_reply(answer: &Answer) -> Bytes {
    reply::message(|to| {
        if let Answer::Table { table, .. } = answer {
            table.row_description(to, &[]);
        }
        write_answer(to, answer, &[]);
    })
}

/// The answer to an Execute.
pub(super) fn execute_reply(answer: &Answer, formats: &[i16]) -> Bytes {
    reply::message(|to| write_answer(to, answer, formats))
}

impl Answer {
    /// The answer to an Execute of this text: a Describe promised rows only for what shows
    /// something, so a command that did something tells it in its notices alone.
    pub(super) fn into_described(self, text: &[u8]) -> Self {
        match self {
            Self::Table { tag, notices, .. } if !notices.is_empty() && !is_show(text) => {
                Self::Done { tag, notices }
            }
            other @ (Self::Table { .. } | Self::Done { .. } | Self::Empty | Self::Refused(_)) => {
                other
            }
        }
    }
}

fn write_answer(to: &mut BytesMut, answer: &Answer, formats: &[i16]) {
    match answer {
        Answer::Table {
            table,
            tag,
            notices,
        } => {
            write_notices(to, notices);
            table.data_rows(to, formats);
            backend::command_complete(to, tag);
        }
        Answer::Done { tag, notices } => {
            write_notices(to, notices);
            backend::command_complete(to, tag);
        }
        Answer::Empty => backend::empty_query(to),
        Answer::Refused(refusal) => backend::error(to, &refusal.fields()),
    }
}

fn write_notices(to: &mut BytesMut, notices: &[String]) {
    for text in notices {
        to.extend_from_slice(&reply::notice(text.clone()));
    }
}

/// Notes that a unit was answered here.
pub(super) fn note(answer: &Answer, out: &mut Vec<Output>) {
    out.push(Output::Note(Note::Answered));
    if let Answer::Refused(refusal) = answer {
        note_refused(refusal, out);
    }
}

fn console_answer(world: &World<'_>, text: &[u8]) -> Answer {
    let Some(console) = world.console else {
        return Answer::Refused(Refusal::Internal("a console session without a console"));
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return Answer::Refused(Refusal::BadCommand {
            sqlstate: SqlState::SYNTAX_ERROR,
            message: "the console understands UTF-8 only".to_owned(),
            hint: None,
        });
    };
    if text
        .trim_matches(|c: char| c.is_whitespace() || c == ';')
        .is_empty()
    {
        return Answer::Empty;
    }
    match console(text) {
        ConsoleReply::Table {
            table,
            tag,
            notices,
        } => Answer::Table {
            table,
            tag,
            notices,
        },
        ConsoleReply::Done { tag, notices } => Answer::Done { tag, notices },
        ConsoleReply::Empty => Answer::Empty,
        ConsoleReply::Refused(refusal) => Answer::Refused(refusal),
    }
}

/// Whether a console statement brings rows and changes nothing.
fn is_show(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    [b"show".as_slice(), b"select"].iter().any(|word| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    })
}

fn unknown_setting(name: &str) -> Answer {
    Answer::Refused(Refusal::BadCommand {
        sqlstate: SqlState::UNDEFINED_OBJECT,
        message: format!("unrecognized configuration parameter \"{name}\""),
        hint: Some(
            "Known are pgherd.explain, and to SHOW pgherd.node, pgherd.last_route, \
             pgherd.pinned, pgherd.version."
                .to_owned(),
        ),
    })
}

fn one_value(name: &str, value: String) -> Table {
    Table {
        columns: vec![Column::new(name, backend::Kind::Text)],
        rows: vec![vec![Some(value)]],
    }
}

fn route_table(lines: Vec<String>) -> Table {
    Table {
        columns: vec![Column::new("ROUTE", backend::Kind::Text)],
        rows: lines.into_iter().map(|line| vec![Some(line)]).collect(),
    }
}

fn describe_server(snapshot: &Snapshot, index: usize) -> String {
    let Some(server) = snapshot.servers.get(index) else {
        return "?".to_owned();
    };
    let lag = match server.lag {
        Some(lag) => format!(", lag {} ms / {}", lag.time.as_millis(), lag.bytes),
        None => String::new(),
    };
    format!("{} ({}{lag})", server.name, server.role)
}

fn describe_considered(snapshot: &Snapshot, considered: &Considered) -> String {
    let name = snapshot.name(considered.server);
    match considered.refused {
        None => format!("{name} ok"),
        Some(Refused::State(state)) => format!("{name} {state}"),
        Some(Refused::NoWeight) => format!("{name} has weight 0"),
        Some(Refused::NotReplayed) => format!("{name} has not replayed the session's own write"),
        Some(Refused::Primary) => format!("{name} primary, only if no replica"),
    }
}

fn summary(facts: &Facts) -> String {
    if let Some(unparsed) = facts.unparsed {
        return format!("no ({unparsed:?})");
    }
    let mut words = Vec::new();
    for statement in &facts.statements {
        let kind = format!("{:?}", statement.kind);
        let kind = kind
            .split([' ', '(', '{'])
            .next()
            .unwrap_or_default()
            .to_uppercase();
        let names = |all: &[crate::statement::RelationName]| {
            all.iter()
                .map(|relation| relation.name.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let functions: Vec<_> = statement
            .functions
            .iter()
            .map(|f| f.name.to_string())
            .collect();
        words.push(format!(
            "{kind}; relations {}; functions {}",
            or_none(names(&statement.relations)),
            or_none(functions.join(", "))
        ));
    }
    or_none(words.join(" | "))
}

fn or_none(text: String) -> String {
    match text.is_empty() {
        true => "none".to_owned(),
        false => text,
    }
}

/// The function, and the only column of what it brings.
pub(super) const LISTENING_CHANNELS: &str = "pg_listening_channels";
/// The settings that are ours begin so.
const OWN_PREFIX: &str = "pgherd.";
