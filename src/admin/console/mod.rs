//! The console: what a command is answered with. The protocol around it belongs to the proxy.

use super::command::{Command, CommandError, Order, Ping, parse};
use super::select;
use super::sources::{ConsoleSources, ConsoleUser};
use super::table::{ColumnKind, Integer, Table, Text, some};
use super::{listening, pgbouncer, views};

/// Answers commands.
#[derive(Clone, Debug)]
pub struct Console {
    sources: ConsoleSources,
}

/// What a command is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleReply {
    /// A result: `RowDescription`, `DataRow`s, `CommandComplete`.
    Table {
        /// The columns, with their types.
        columns: Vec<(&'static str, ColumnKind)>,
        /// The rows; `None` is NULL.
        rows: Vec<Vec<Option<String>>>,
        /// The command tag.
        tag: &'static str,
    },
    /// Done: `NoticeResponse`s, `CommandComplete`.
    Done {
        /// The command tag.
        tag: &'static str,
        /// What was done, a sentence each.
        notices: Vec<String>,
    },
    /// For the router itself to carry out, and to answer.
    Order(Order),
    /// There was no command: `EmptyQueryResponse`.
    Empty,
    /// Refused: `ErrorResponse`.
    Error {
        /// The SQLSTATE.
        sqlstate: &'static str,
        /// What is wrong.
        message: String,
        /// What would be right.
        hint: Option<String>,
    },
}

/// Makes a table of what is known now.
type Topic = (&'static str, &'static str, fn(&ConsoleSources) -> Table);

/// What can be shown, with a few words about it.
const TOPICS: &[Topic] = &[
    ("nodes", "servers: role, state and why, lag", views::nodes),
    ("routing", "where statements went, and why", views::routing),
    (
        "failovers",
        "failovers; SHOW FAILOVER id for its phases",
        views::failovers,
    ),
    ("events", "what changed, newest last", views::events),
    (
        "pools",
        "pools of server connections, and who waits",
        pgbouncer::pools,
    ),
    (
        "clients",
        "clients: state, server, why pinned",
        pgbouncer::clients,
    ),
    ("servers", "connections to servers", pgbouncer::servers),
    (
        "listeners",
        "connections that listen for sessions",
        listening::listeners,
    ),
    (
        "channels",
        "channels that sessions listen to",
        listening::channels,
    ),
    (
        "databases",
        "databases that were used",
        pgbouncer::databases,
    ),
    ("stats", "work done by database", pgbouncer::stats),
    (
        "lists",
        "how many there are of each thing",
        pgbouncer::lists,
    ),
    (
        "config",
        "settings, and where each came from",
        views::config,
    ),
    (
        "state",
        "whether it serves, drains, is paused",
        pgbouncer::state,
    ),
    ("version", "the version of the router", |_| {
        pgbouncer::version()
    }),
];

impl Console {
    /// A console over these sources.
    pub fn new(sources: ConsoleSources) -> Self {
        Self { sources }
    }

    /// Answers one command.
    pub fn answer(&self, sql: &str, who: &ConsoleUser) -> ConsoleReply {
        match parse(sql) {
            Ok(Command::Empty) => ConsoleReply::Empty,
            Ok(Command::Show {
                topic,
                argument,
                selection,
            }) => match self.table(&topic, argument.as_deref()) {
                Ok(mut table) => match select::apply(&mut table, &selection) {
                    Ok(()) => shown(table),
                    Err(error) => {
                        let hint = format!("The columns are: {}.", error.known.join(", "));
                        refused("42703", error.to_string(), Some(hint))
                    }
                },
                Err(reply) => reply,
            },
            Ok(Command::Order(_)) if !who.is_admin => not_permitted("this command"),
            Ok(Command::Order(order)) => ConsoleReply::Order(order),
            Ok(Command::Reload) => self.reload(*who),
            Ok(Command::Failover { to, accept_loss }) => {
                self.failover(*who, to.as_deref(), accept_loss)
            }
            Ok(Command::Ping(ping)) => pong(ping),
            Ok(Command::NoOp(tag)) => ConsoleReply::Done {
                tag,
                notices: Vec::new(),
            },
            Ok(Command::Query) => refused(
                "0A000",
                "the console has no tables to query".to_owned(),
                some("Use SHOW HELP for what it knows; psql's \\d commands work on a database."),
            ),
            Err(error) => {
                let sqlstate = match error {
                    CommandError::TooLong => "54000",
                    CommandError::Several => "0A000",
                    CommandError::End
                    | CommandError::Near(_)
                    | CommandError::Unterminated
                    | CommandError::Unknown(_) => "42601",
                };
                refused(sqlstate, error.to_string(), some(SEE_HELP))
            }
        }
    }

    /// The table of a topic, or why there is none.
    fn table(&self, topic: &str, argument: Option<&str>) -> Result<Table, ConsoleReply> {
        match (topic, argument) {
            ("help", None) => Ok(help()),
            ("failover", Some(id)) => views::failover(&self.sources, id).ok_or_else(|| {
                let message = format!("there is no failover \"{id}\"");
                refused("42704", message, some("SHOW FAILOVERS lists them."))
            }),
            ("failover", None) => {
                let message = "SHOW FAILOVER needs an id".to_owned();
                Err(refused(
                    "42601",
                    message,
                    some("SHOW FAILOVERS lists them."),
                ))
            }
            (_, argument) => match TOPICS.iter().find(|(name, ..)| *name == topic) {
                Some((_, _, make)) => match argument {
                    None => Ok(make(&self.sources)),
                    Some(word) => {
                        let message = format!("syntax error at or near \"{word}\"");
                        Err(refused("42601", message, some(SEE_HELP)))
                    }
                },
                None => driver_setting(topic).ok_or_else(|| {
                    let message = format!("there is no topic \"{topic}\" to show");
                    refused("42704", message, some(SEE_HELP))
                }),
            },
        }
    }

    fn failover(&self, who: ConsoleUser, to: Option<&str>, accept_loss: bool) -> ConsoleReply {
        if !who.is_admin {
            return not_permitted("FAILOVER");
        }
        match (self.sources.failover)(to, accept_loss) {
            Ok(notice) => ConsoleReply::Done {
                tag: "FAILOVER",
                notices: vec![notice],
            },
            Err(message) => refused("55000", message, some("SHOW NODES lists the servers.")),
        }
    }

    fn reload(&self, who: ConsoleUser) -> ConsoleReply {
        if !who.is_admin {
            return not_permitted("RELOAD");
        }
        match (self.sources.reload)() {
            Ok(changes) if changes.is_empty() => ConsoleReply::Done {
                tag: "RELOAD",
                notices: vec!["nothing changed".to_owned()],
            },
            Ok(notices) => ConsoleReply::Done {
                tag: "RELOAD",
                notices,
            },
            Err(errors) => refused(
                "F0000",
                format!(
                    "the configuration is not valid, the old one stays: {}",
                    errors.join("; ")
                ),
                some("pgherd check shows each mistake with its line."),
            ),
        }
    }
}

fn shown(table: Table) -> ConsoleReply {
    ConsoleReply::Table {
        columns: table.columns,
        rows: table.rows,
        tag: "SHOW",
    }
}

fn not_permitted(command: &str) -> ConsoleReply {
    let hint = "Commands are for the users in admin.users; others may SHOW.";
    let message = format!("permission denied for {command}");
    refused("42501", message, some(hint))
}

fn refused(sqlstate: &'static str, message: String, hint: Option<String>) -> ConsoleReply {
    ConsoleReply::Error {
        sqlstate,
        message,
        hint,
    }
}

fn help() -> Table {
    let mut table = Table::new(&[("command", Text), ("about", Text)]);
    let topic = |(name, about, _): &Topic| {
        vec![
            some(format!("SHOW {}", name.to_ascii_uppercase())),
            some(about),
        ]
    };
    table.rows = TOPICS.iter().map(topic).collect();
    table.rows.push(vec![
        some("SHOW x WHERE column = value AND … ORDER BY column DESC LIMIT n"),
        some("picks and sorts the rows of any of them"),
    ]);
    table.rows.push(vec![
        some("RELOAD"),
        some("reads the configuration again, and says what changed"),
    ]);
    table.rows.push(vec![
        some("FAILOVER [TO node] [ACCEPT LOSS]"),
        some("promotes a replica when the primary is gone"),
    ]);
    for (command, about) in ORDERS {
        table.rows.push(vec![some(command), some(about)]);
    }
    table
}

/// The commands about clients and connections.
const ORDERS: [(&str, &str); 9] = [
    (
        "PAUSE [database]",
        "lets transactions end, holds new ones, closes the server connections",
    ),
    ("RESUME [database]", "ends a pause"),
    (
        "RECONNECT [database]",
        "closes server connections, each as soon as it is free",
    ),
    (
        "WAIT_CLOSE [database]",
        "waits until those of RECONNECT are closed",
    ),
    (
        "KILL [database]",
        "ends clients and server connections at once, and pauses",
    ),
    ("KILL_CLIENT id", "ends one client of SHOW CLIENTS"),
    (
        "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
        "stops the router",
    ),
    ("DISABLE database", "takes no new clients"),
    ("ENABLE database", "takes new clients again"),
];

/// The settings that drivers ask for at the beginning.
fn driver_setting(name: &str) -> Option<Table> {
    let (name, value) = match name {
        "server_version" => ("server_version", pgbouncer::VERSION),
        "client_encoding" => ("client_encoding", "UTF8"),
        "server_encoding" => ("server_encoding", "UTF8"),
        "standard_conforming_strings" => ("standard_conforming_strings", "on"),
        "datestyle" => ("DateStyle", "ISO"),
        "timezone" => ("TimeZone", "UTC"),
        _ => return None,
    };
    let mut table = Table::new(&[(name, Text)]);
    table.rows.push(vec![some(value)]);
    Some(table)
}

fn pong(ping: Ping) -> ConsoleReply {
    let (column, value) = match ping {
        Ping::Number(number) => (("?column?", Integer), number),
        Ping::Version => (("version", Text), pgbouncer::VERSION.to_owned()),
        Ping::Database => (("current_database", Text), "pgherd".to_owned()),
    };
    ConsoleReply::Table {
        columns: vec![column],
        rows: vec![vec![Some(value)]],
        tag: "SELECT 1",
    }
}

const SEE_HELP: &str = "SHOW HELP lists what the console knows.";

#[cfg(test)]
mod tests;
