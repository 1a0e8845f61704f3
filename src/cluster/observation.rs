//! One probe's answer about one server, with the instants between which it was true.

use std::time::{Duration, Instant};

use super::{Address, Lsn, ServerId, SystemId, Timeline};

/// What one probe of one server brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The server that was asked.
    pub server: ServerId,
    /// The router's clock before the question was sent. A position in the answer covers
    /// everything that was durably committed before this instant.
    pub asked_at: Instant,
    /// The router's clock when the answer, or its absence, was known.
    pub answered_at: Instant,
    /// The answer.
    pub outcome: Result<Sighting, ProbeFailure>,
}

/// What a server that answered said of itself. All of it was read in one statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The cluster that this server belongs to.
    pub system_id: SystemId,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// On a primary the timeline that it writes; on a replica the one that its WAL receiver gets
    /// or, without a receiver, the one that it last replayed as far as it can tell.
    pub timeline: Option<Timeline>,
    /// On a primary the flushed position; on a replica the replayed one.
    pub position: Lsn,
    /// On a primary the insert position without a page header; on a replica the greatest of
    /// received and replayed.
    pub furthest: Lsn,
    /// The WAL receiver of a replica; `None` when there is none, and on a primary.
    pub receiver: Option<Receiver>,
    /// `pg_is_wal_replay_paused()`; false on a primary.
    pub replay_paused: bool,
    /// `server_version_num`, such as 150018.
    pub version_num: u32,
    /// The number of connected walsenders that stream.
    pub streaming_standbys: u16,
}

/// The WAL receiver of a replica, from `pg_stat_wal_receiver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Whether WAL is being streamed.
    pub status: ReceiverStatus,
    /// The timeline that is received.
    pub timeline: Option<Timeline>,
    /// Where from.
    pub sender: Option<Address>,
    /// The last position that the sender reported (`latest_end_lsn`). It moves with each
    /// heartbeat of a live primary: the witness looks at its progress, not at the connection.
    pub latest_end: Option<Lsn>,
    /// How long ago the last message came, by the replica's own clock.
    pub last_message_age: Option<Duration>,
}

/// The states of a WAL receiver that we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverStatus {
    /// `streaming`.
    Streaming,
    /// Anything else: `starting`, `waiting`, `restarting`, `stopping`, or hidden from our role.
    NotStreaming,
}

/// Why a probe brought no answer. What each means is the health policy's to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// The address refused or reset the connection: nothing listens there now.
    #[error("connection refused or reset")]
    Refused,
    /// No answer within the limit.
    #[error("no answer in time")]
    TimedOut,
    /// The name could not be resolved, or the network said that there is no way.
    #[error("address unreachable")]
    Unreachable,
    /// `57P03`: alive, and starting up, shutting down or recovering.
    #[error("the server is starting up or shutting down")]
    StartingUp,
    /// `53300`: alive, and out of connections.
    #[error("the server has no connection left for us")]
    Full,
    /// It refused our role: wrong password, no `pg_hba.conf` line, no such database.
    #[error("login refused: {sqlstate}")]
    LoginRefused {
        /// The SQLSTATE that came.
        sqlstate: String,
    },
    /// It has no TLS where we want it, or its certificate is not good.
    #[error("no TLS with the server: {why}")]
    TlsFailed {
        /// What is wrong.
        why: String,
    },
    /// Anything else that it answered.
    #[error("unexpected answer: {sqlstate}")]
    Other {
        /// The SQLSTATE that came, or `XX000` for an answer that is not one.
        sqlstate: String,
    },
}

impl ProbeFailure {
    /// Whether this failure tells that nothing runs at the address, as opposed to a server that
    /// is slow, busy or hidden from us.
    pub const fn shows_no_process(&self) -> bool {
        matches!(self, Self::Refused)
    }

    /// Whether a PostgreSQL server did answer, even if not what we asked.
    pub const fn shows_life(&self) -> bool {
        matches!(
            self,
            Self::StartingUp
                | Self::Full
                | Self::LoginRefused { .. }
                | Self::TlsFailed { .. }
                | Self::Other { .. }
        )
    }
}
