//! The immutable view of all servers. It is the only thing about the cluster that a session sees.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Address, ByteCount, Lineage, Lsn, Role, ServerId, Timeline};

/// Counts the changes of the primary. A server connection opened under an older epoch is not
/// handed out for writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is known of the cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The reign of the primary below.
    pub epoch: Epoch,
    /// One entry for each configured host; `servers[id.index()].id == id`.
    pub servers: Vec<ServerView>,
    /// Whether statements for the primary may be sent, and where.
    pub writes: Writes,
    /// The history that is current; `None` until a primary was seen.
    pub lineage: Option<Lineage>,
    /// The newest position of the primary, with the instant before which it was asked.
    pub primary_sample: Option<PrimarySample>,
}

/// Whether statements that need the primary may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They go to this server.
    Open(ServerId),
    /// They wait.
    Held {
        /// Since when.
        since: Instant,
        /// Why.
        cause: HoldCause,
    },
}

/// Why statements for the primary wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldCause {
    /// No primary was found yet, or more than one claims to be it.
    NoPrimary,
    /// The primary does not answer. It may come back.
    Failover,
    /// The primary was given up: whatever runs on it may be lost, and its replacement is being
    /// chosen or promoted.
    Promotion,
    /// An operator said so.
    Paused,
}

/// A position of the primary that bounds every commit acknowledged before `asked_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimarySample {
    /// The router's clock before the question was sent.
    pub asked_at: Instant,
    /// The insert position without a page header: an upper bound even of asynchronous commits.
    pub position: Lsn,
    /// The timeline that the position is on.
    pub timeline: Timeline,
}

/// One server as the router sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerView {
    /// Its number.
    pub id: ServerId,
    /// Its name in the console, in metrics and in hints: `host:port` unless configured.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Its share of reads; 100 is normal, 0 means none.
    pub weight: u32,
    /// What it said that it is, when it last answered.
    pub role: Role,
    /// Whether it is used, and for what.
    pub state: ServerState,
    /// Since when it has been in that state.
    pub since: Instant,
    /// The timeline that it is on.
    pub timeline: Option<Timeline>,
    /// The flushed position of a primary, the replayed one of a replica.
    pub position: Option<Lsn>,
    /// How far a replica is behind the primary; `None` when that is not known.
    pub lag: Option<Lag>,
    /// When the probe that brought all this was asked.
    pub last_seen: Option<Instant>,
    /// `server_version_num`.
    pub version_num: Option<u32>,
}

/// How far a replica is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// An upper bound of the age of what it has replayed.
    pub time: Duration,
    /// The distance to the newest known position of the primary.
    pub bytes: ByteCount,
}

/// Whether a server is used, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Not asked yet.
    Unknown,
    /// Writes go here.
    Primary,
    /// A replica that serves reads.
    Serving,
    /// A replica that answers and serves no reads now.
    Out(OutReason),
    /// It does not answer.
    Down(DownReason),
    /// It answers, and must not be used until a person or a rejoin says so.
    Quarantined(QuarantineReason),
}

/// Why a replica that answers serves no reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutReason {
    /// Its lag cannot be told: no sample of the primary, or none old enough.
    LagUnknown,
    /// Older than the bound.
    LagTime {
        /// How old.
        lag: Duration,
        /// The bound.
        limit: Duration,
    },
    /// Further behind than the bound.
    LagBytes {
        /// How far.
        lag: ByteCount,
        /// The bound.
        limit: ByteCount,
    },
    /// Below the lower bound again, and not yet for long enough.
    ComingBack {
        /// When it may serve, if it stays so.
        at: Instant,
    },
    /// Its WAL receiver does not stream.
    NotStreaming,
    /// It is not on the primary's timeline.
    WrongTimeline,
    /// An operator drained it.
    Drained,
}

/// Why a server counts as down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// Refused or reset.
    Refused,
    /// No answer in time.
    Silent,
    /// No answer for so long that a death would be confirmed: what runs there is given up.
    Lost,
    /// Starting up, shutting down or recovering.
    StartingUp,
    /// It refuses the monitor's login.
    LoginRefused,
    /// It has no TLS where we want it, or its certificate is not good.
    TlsFailed,
    /// Answers that make no sense.
    Failing,
}

/// Why a server must not be used although it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// It says primary, on a history that is not the current one.
    OldPrimary,
    /// It says primary beside the current one, on the same timeline number.
    SecondPrimary,
    /// It belongs to another cluster.
    OtherCluster,
    /// It has WAL that the current history does not have.
    Diverged,
}

impl Snapshot {
    /// The server that takes writes now.
    pub fn primary(&self) -> Option<ServerId> {
        match self.writes {
            Writes::Open(server) => Some(server),
            Writes::Held { .. } => None,
        }
    }

    /// The view of one server.
    pub fn server(&self, id: ServerId) -> Option<&ServerView> {
        self.servers.get(id.index())
    }

    /// The name of a server, for people.
    pub fn name(&self, id: ServerId) -> &str {
        self.server(id).map_or("?", |server| &server.name)
    }
}

impl ServerState {
    /// The word used in the console, in logs and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Serving => "serving",
            Self::Out(_) => "out",
            Self::Down(_) => "down",
            Self::Quarantined(_) => "quarantined",
        }
    }

    /// The word for the reason; empty when the state needs none.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unknown | Self::Primary | Self::Serving => "",
            Self::Out(reason) => match reason {
                OutReason::LagUnknown => "lag_unknown",
                OutReason::LagTime { .. } => "lag_time",
                OutReason::LagBytes { .. } => "lag_bytes",
                OutReason::ComingBack { .. } => "coming_back",
                OutReason::NotStreaming => "not_streaming",
                OutReason::WrongTimeline => "wrong_timeline",
                OutReason::Drained => "drained",
            },
            Self::Down(reason) => match reason {
                DownReason::Refused => "refused",
                DownReason::Silent => "silent",
                DownReason::Lost => "lost",
                DownReason::StartingUp => "starting_up",
                DownReason::LoginRefused => "login_refused",
                DownReason::TlsFailed => "tls_failed",
                DownReason::Failing => "failing",
            },
            Self::Quarantined(reason) => match reason {
                QuarantineReason::OldPrimary => "old_primary",
                QuarantineReason::SecondPrimary => "second_primary",
                QuarantineReason::OtherCluster => "other_cluster",
                QuarantineReason::Diverged => "diverged",
            },
        }
    }
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Out(OutReason::LagTime { lag, limit }) => {
                write!(
                    f,
                    "out: lag {} ms > {} ms",
                    lag.as_millis(),
                    limit.as_millis()
                )
            }
            Self::Out(OutReason::LagBytes { lag, limit }) => write!(f, "out: lag {lag} > {limit}"),
            state if state.reason().is_empty() => f.write_str(state.as_str()),
            state => write!(f, "{}: {}", state.as_str(), state.reason()),
        }
    }
}
