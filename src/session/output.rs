//! What a session wants done.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::channels::Channel;
use super::prepared::ServerSide;
use crate::cluster::{Role, ServerId};
use crate::policy::{Intent, Route, Why};

/// Something to do. Outputs are carried out in order.
#[derive(Debug)]
pub enum Output {
    /// Send this to the client.
    ToClient(Bytes),
    /// Send this to the leased server.
    ToServer(Bytes),
    /// Get a connection to this server.
    Lease(Route),
    /// Have the shared listener subscribe to these channels, and say when it has.
    Listen(Vec<Channel>),
    /// The session does not need these channels any more.
    Unlisten(Vec<Channel>),
    /// Say when the shared listener has heard all that was notified so far.
    Echo(When),
    /// Give the leased connection back.
    Release {
        /// In what condition it is.
        condition: Condition,
        /// What it has prepared.
        side: Box<ServerSide>,
    },
    /// Wake the session at this instant; `None` takes an earlier request back.
    Arm(Option<Instant>),
    /// Cancel what the leased server runs.
    CancelServer,
    /// Something to count or to log.
    Note(Note),
    /// Send what is to be sent, and end the session.
    Close,
}

/// When the shared listener is asked to catch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the session notifies. What comes from its connection from then on is its own.
    Before,
    /// After it has notified. What was heard is to be given to it before the answer.
    After,
}

/// In what condition a connection comes back, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It holds nothing of this session.
    Clean,
    /// It holds something, and `DISCARD ALL` drops all of it.
    Reset,
    /// It must not be used again.
    Discard,
}

/// Something that happened, for those who count and those who log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A unit of work goes to this server.
    Routed {
        /// The server.
        server: ServerId,
        /// Why.
        why: Why,
    },
    /// A unit of work was answered here.
    Answered,
    /// A unit of work waits.
    Held {
        /// For what.
        why: Why,
    },
    /// A unit of work goes on after it waited.
    Released {
        /// When it began to wait.
        since: Instant,
    },
    /// A replica refused a statement as a write.
    Misrouted {
        /// The replica.
        server: ServerId,
    },
    /// A unit of work is tried again elsewhere.
    Retried {
        /// Why.
        cause: RetryCause,
    },
    /// A server connection broke while this session had it.
    ServerLost {
        /// The server.
        server: ServerId,
    },
    /// The session is pinned now.
    Pinned {
        /// The code of the reason.
        pin: &'static str,
    },
    /// The session is not pinned any more.
    Unpinned,
    /// The schema may have changed.
    SchemaChanged,
    /// A transaction, or a unit without one, ended.
    Ended {
        /// Where it ran.
        server: ServerId,
    },
    /// A unit was answered by a server.
    Served {
        /// What the server was when the unit was sent there.
        role: Role,
        /// What it was sent there as.
        intent: Intent,
        /// How long the client waited for it, a connection to run on included.
        took: Duration,
    },
    /// The facts of a text were known.
    TextKnown,
    /// A text was parsed.
    TextParsed {
        /// Whether all of it was understood.
        understood: bool,
    },
    /// The client got an error of a server.
    Failed {
        /// The SQLSTATE.
        sqlstate: [u8; 5],
    },
    /// We refused something.
    Refused {
        /// The SQLSTATE.
        sqlstate: [u8; 5],
    },
}

/// Why a unit of work is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// A replica refused it as a write.
    ReadOnlyServer,
    /// The server could not be reached.
    Unreachable,
    /// The connection broke before anything was answered.
    ConnectionLost,
    /// A replica cancelled it for a recovery conflict.
    RecoveryConflict,
    /// A replica has not replayed the schema, or cannot read the relation.
    MissingOnReplica,
    /// The connection's prepared statement is gone, or is planned for a schema that has changed.
    StaleStatement,
}

impl RetryCause {
    /// The metric label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ReadOnlyServer => "read_only_server",
            Self::Unreachable => "unreachable",
            Self::ConnectionLost => "connection_lost",
            Self::RecoveryConflict => "recovery_conflict",
            Self::MissingOnReplica => "missing_on_replica",
            Self::StaleStatement => "stale_statement",
        }
    }
}
