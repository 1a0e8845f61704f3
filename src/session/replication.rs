//! Replication connections: who asks for one, where it leads, and for how long that stays right.
//!
//! Such a connection is not a session. It is passed on byte for byte, to the primary unless the
//! client names a node; what can go wrong is that it outlives the reign of the server it leads to.

use crate::cluster::{Epoch, HoldCause, ServerId, ServerState, Snapshot, Writes};
use crate::wire::Startup;

/// What a client that replicates wants of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// The value of `replication` for the server: `true`, or `database`.
    pub mode: ReplicationMode,
    /// The node that the client named; the primary when it named none.
    pub node: Option<String>,
}

/// Which kind of replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationMode {
    /// Of the whole server: it belongs to no database.
    Physical,
    /// Of one database.
    Logical,
}

impl ReplicationMode {
    /// What the start-up parameter `replication` says.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }
}

/// A value of `replication` that PostgreSQL would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for parameter \"replication\": \"{0}\"")]
pub(super) struct NotAMode(String);

/// What a start-up message says of replication.
///
/// # Errors
///
/// [`NotAMode`].
///
/// Source: PostgreSQL 17, `ProcessStartupPacket` in `tcop/backend_startup.c`.
pub(super) fn wanted(startup: &Startup) -> Result<Option<Replication>, NotAMode> {
    let Some(value) = startup.parameter("replication") else {
        return Ok(None);
    };
    let mode = match (value, boolean(value)) {
        (b"database", _) => ReplicationMode::Logical,
        (_, Some(true)) => ReplicationMode::Physical,
        (_, Some(false)) => return Ok(None),
        (_, None) => return Err(NotAMode(String::from_utf8_lossy(value).into_owned())),
    };
    let options = startup.parameter("options").unwrap_or_default();
    let node = option(&String::from_utf8_lossy(options), NODE_OPTION);
    Ok(Some(Replication { mode, node }))
}

/// A truth value as PostgreSQL reads it: any beginning of one of the words that is the beginning of
/// no other, in any case.
///
/// Source: PostgreSQL 17, `parse_bool_with_len` in `utils/adt/bool.c`.
fn boolean(value: &[u8]) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.as_bytes().starts_with(&value);
    match value.as_slice() {
        b"o" => None,
        b"1" => Some(true),
        b"0" => Some(false),
        _ if begins("true") || begins("yes") || begins("on") => Some(true),
        _ if begins("false") || begins("no") || begins("off") => Some(false),
        _ => None,
    }
}

/// The value of a setting in the start-up parameter `options`: `-c name=value`, `-cname=value` or
/// `--name=value`; the last one when it is there twice.
fn option(options: &str, name: &str) -> Option<String> {
    let words = words(options);
    let mut found = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => Some(setting),
            (None, Some("")) => words.next().map(String::as_str),
            (None, setting) => setting,
        };
        if let Some((key, value)) = setting.and_then(|setting| setting.split_once('='))
            && key.eq_ignore_ascii_case(name)
        {
            found = Some(value.to_owned());
        }
    }
    found
}

/// Cut at spaces; a backslash takes its meaning from the next character.
///
/// Source: PostgreSQL 17, `pg_split_opts` in `utils/init/postinit.c`.
fn words(options: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut chars = options.chars();
    while let Some(char) = chars.next() {
        match char {
            space if space.is_ascii_whitespace() => words.push(String::new()),
            '\\' => words
                .last_mut()
                .into_iter()
                .for_each(|word| word.extend(chars.next())),
            other => words
                .last_mut()
                .into_iter()
                .for_each(|word| word.push(other)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Where a replication connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The server.
    pub server: ServerId,
    /// The reign in which it was the primary, when it was asked for as that.
    reign: Option<Epoch>,
}

/// Why there is nowhere to lead it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    /// There may be one soon.
    #[error("there is no primary to replicate from now")]
    NoPrimary,
    /// The client named a node that does not exist.
    #[error("there is no node \"{0}\" to replicate from")]
    UnknownNode(String),
    /// The client named a node that nobody must use.
    #[error("node \"{0}\" must not be used: its history is not the current one")]
    Quarantined(String),
}

impl Source {
    /// Where a connection that begins now leads.
    ///
    /// # Errors
    ///
    /// [`NoSource`]: of all of them only `NoPrimary` passes by itself.
    pub fn find(snapshot: &Snapshot, node: Option<&str>) -> Result<Self, NoSource> {
        let Some(name) = node else {
            let server = snapshot.primary().ok_or(NoSource::NoPrimary)?;
            let reign = Some(snapshot.epoch);
            return Ok(Self { server, reign });
        };
        let mut servers = snapshot.servers.iter();
        let server = servers
            .find(|server| &*server.name == name)
            .ok_or_else(|| NoSource::UnknownNode(name.to_owned()))?;
        match server.state {
            ServerState::Quarantined(_) => Err(NoSource::Quarantined(name.to_owned())),
            ServerState::Unknown
            | ServerState::Primary
            | ServerState::Serving
            | ServerState::Out(_)
            | ServerState::Down(_) => Ok(Self {
                server: server.id,
                reign: None,
            }),
        }
    }

    /// Whether what the server sends still is what the client asked for.
    ///
    /// Not when the server must not be used; nor, when the primary was asked for, once another is
    /// the primary or this one was given up: what it writes from then on is not the history that
    /// goes on, and a client that follows it could not follow the new primary. A primary that only
    /// does not answer us may still be the primary, and goes on sending.
    pub fn is_right(self, snapshot: &Snapshot) -> bool {
        let Some(server) = snapshot.server(self.server) else {
            return false;
        };
        if matches!(server.state, ServerState::Quarantined(_)) {
            return false;
        }
        let Some(reign) = self.reign else {
            return true;
        };
        match snapshot.writes {
            Writes::Open(primary) => primary == self.server,
            Writes::Held { cause, .. } => cause != HoldCause::Promotion && reign == snapshot.epoch,
        }
    }
}

/// How a client names the node, in its start-up `options`.
const NODE_OPTION: &str = "pgherd.node";

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test: one reading of the clock as its zero"
)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::super::tests::snapshot;
    use super::*;
    use crate::cluster::QuarantineReason;

    fn startup(parameters: &[(&'static str, &'static str)]) -> Startup {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        Startup {
            minor: 0,
            parameters: parameters
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            protocol_options: Vec::new(),
        }
    }

    fn mode(value: &'static str) -> Result<Option<ReplicationMode>, NotAMode> {
        let wanted = wanted(&startup(&[("user", "ann"), ("replication", value)]));
        Ok(wanted?.map(|wanted| wanted.mode))
    }

    #[test]
    fn the_values_are_those_of_postgresql() {
        for value in ["true", "TRUE", "t", "on", "yes", "y", "1"] {
            assert_eq!(mode(value), Ok(Some(ReplicationMode::Physical)), "{value}");
        }
        for value in ["false", "f", "off", "of", "no", "n", "0"] {
            assert_eq!(mode(value), Ok(None), "{value}");
        }
        for value in ["", "o", "2", "databases", "Database", "truely"] {
            assert_eq!(mode(value), Err(NotAMode(value.to_owned())), "{value}");
        }
        assert_eq!(mode("database"), Ok(Some(ReplicationMode::Logical)));
        assert_eq!(wanted(&startup(&[("user", "ann")])), Ok(None));
    }

    #[test]
    fn a_node_is_named_in_the_options() {
        for (options, node) in [
            ("", None),
            ("-c pgherd.node=node2", Some("node2")),
            ("-cpgherd.node=node2", Some("node2")),
            ("--PGHERD.node=node2", Some("node2")),
            ("-c pgherd.node=a -c pgherd.node=b", Some("b")),
            (r"-c geqo=off -c pgherd.node=two\ words", Some("two words")),
            ("-c pgherd.nodes=node2 -c", None),
        ] {
            assert_eq!(option(options, NODE_OPTION).as_deref(), node, "{options}");
        }
    }

    fn held(epoch: u64, cause: HoldCause) -> Snapshot {
        let since = Instant::now();
        let mut snapshot = snapshot(since, epoch, "- replica replica2");
        snapshot.writes = Writes::Held { since, cause };
        snapshot
    }

    #[test]
    fn a_connection_to_the_primary_ends_with_its_reign_and_not_with_a_doubt() {
        let now = Instant::now();
        let source = Source::find(&snapshot(now, 1, "primary replica replica2"), None).unwrap();
        assert_eq!(source.server, ServerId(0));
        for (right, later) in [
            (true, snapshot(now, 1, "primary replica replica2")),
            (true, snapshot(now, 2, "primary replica replica2")),
            (true, held(1, HoldCause::Failover)),
            (true, held(1, HoldCause::NoPrimary)),
            (false, held(1, HoldCause::Promotion)),
            (false, held(2, HoldCause::Failover)),
            (false, snapshot(now, 2, "replica replica2")),
        ] {
            assert_eq!(source.is_right(&later), right, "{:?}", later.writes);
        }
    }

    #[test]
    fn a_connection_to_a_named_node_ends_when_the_node_must_not_be_used() {
        let now = Instant::now();
        let mut view = snapshot(now, 1, "primary replica replica2");
        let source = Source::find(&view, Some("replica")).unwrap();
        assert_eq!(source.server, ServerId(1));
        assert!(source.is_right(&snapshot(now, 2, "replica2 replica")));
        view.servers[1].state = ServerState::Quarantined(QuarantineReason::Diverged);
        assert!(!source.is_right(&view));
        assert_eq!(
            Source::find(&view, Some("replica")),
            Err(NoSource::Quarantined("replica".to_owned()))
        );
    }

    #[test]
    fn where_there_is_nothing_to_lead_it_is_told() {
        let view = held(1, HoldCause::NoPrimary);
        assert_eq!(Source::find(&view, None), Err(NoSource::NoPrimary));
        assert_eq!(
            Source::find(&view, Some("x")),
            Err(NoSource::UnknownNode("x".to_owned()))
        );
    }
}
