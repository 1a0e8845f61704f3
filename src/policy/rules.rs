//! What an operator may tune of the policies. Built by `config`, which the policies do not know.

use std::time::Duration;

use crate::cluster::ByteCount;

/// All rules of one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Where statements go.
    pub route: RouteRules,
    /// When a replica is out, when it is back.
    pub lag: LagRules,
    /// When a server counts as down.
    pub health: HealthRules,
    /// What happens when the primary is gone.
    pub failover: FailoverRules,
}

/// Where statements go.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRules {
    /// Which servers answer reads.
    pub reads: ReadTargets,
    /// Whether a function that the catalog does not know may run on a replica.
    pub unknown_functions_read: bool,
    /// Functions that the operator vouches for, in lower case, with or without schema.
    pub read_only_functions: Vec<String>,
    /// Whether a session's read waits for its own write; off for `consistency = "eventual"`.
    pub read_your_writes: bool,
    /// What is done when no replica is within its bounds.
    pub when_all_lag: WhenAllLag,
}

/// Which servers answer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTargets {
    /// Replicas, and the primary when no replica can.
    ReplicasThenPrimary,
    /// Replicas and the primary alike.
    ReplicasAndPrimary,
    /// Only the primary.
    PrimaryOnly,
}

/// What is done with a read when no replica is within its lag bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAllLag {
    /// The primary answers.
    Primary,
    /// The replica that lags least answers, if it streams the current timeline.
    LeastLag,
    /// The client gets an error.
    Error,
}

/// When a replica serves no reads, and when it does again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagRules {
    /// Out when older than this.
    pub max_time: Duration,
    /// Out when further behind than this.
    pub max_bytes: ByteCount,
    /// Back when not older than this ...
    pub back_time: Duration,
    /// ... and not further behind than this ...
    pub back_bytes: ByteCount,
    /// ... for this long without a break.
    pub back_for: Duration,
    /// Whether a replica whose WAL receiver does not stream is out.
    pub require_streaming: bool,
}

/// When a server counts as down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// How often a server is asked.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// An observation older than this proves nothing any more.
    pub expires_after: Duration,
}

/// What happens when the primary is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverRules {
    /// Who promotes.
    pub mode: FailoverMode,
    /// This many failed probes in a row make a doubt.
    pub probes: u32,
    /// A refused primary is confirmed dead after this long without a sign of life.
    pub confirm_refused: Duration,
    /// A silent primary is confirmed dead after this long without a sign of life, and without
    /// progress of any replica's WAL receiver.
    pub confirm_silent: Duration,
    /// A primary that says that it is starting up gets this long.
    pub crash_grace: Duration,
    /// Whose word confirms it.
    pub confirm_by: ConfirmBy,
    /// How much of the primary's known WAL may be missing on the candidate.
    pub max_lost: LostBytes,
    /// How long a promotion may take without progress before a person is called.
    pub promote_timeout: Duration,
    /// Whether the other replicas are told where the new primary is.
    pub repoint: bool,
    /// At most one automatic promotion in this time.
    pub cooldown: Duration,
}

/// Who promotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverMode {
    /// Somebody else; we follow.
    Observe,
    /// We do, on command.
    Manual,
    /// We do.
    Auto,
}

/// Whose word confirms that the primary is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmBy {
    /// No reachable replica may still get WAL from it, and at least one must be reachable.
    Replicas,
    /// Our own probes are enough.
    OwnProbes,
}

/// How much WAL that the primary was known to have may be missing on the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostBytes {
    /// At most so much.
    AtMost(ByteCount),
    /// Whatever is missing.
    Any,
}

impl Default for RouteRules {
    fn default() -> Self {
        Self {
            reads: ReadTargets::ReplicasThenPrimary,
            unknown_functions_read: false,
            read_only_functions: Vec::new(),
            read_your_writes: true,
            when_all_lag: WhenAllLag::Primary,
        }
    }
}

impl Default for LagRules {
    fn default() -> Self {
        Self {
            max_time: Duration::from_secs(1),
            max_bytes: ByteCount(16 << 20),
            back_time: Duration::from_millis(500),
            back_bytes: ByteCount(8 << 20),
            back_for: Duration::from_secs(3),
            require_streaming: true,
        }
    }
}

impl Default for HealthRules {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            expires_after: Duration::from_secs(3),
        }
    }
}

impl Default for FailoverRules {
    fn default() -> Self {
        Self {
            mode: FailoverMode::Observe,
            probes: 3,
            confirm_refused: Duration::from_millis(500),
            confirm_silent: Duration::from_secs(3),
            crash_grace: Duration::from_secs(10),
            confirm_by: ConfirmBy::Replicas,
            max_lost: LostBytes::AtMost(ByteCount(0)),
            promote_timeout: Duration::from_secs(60),
            repoint: true,
            cooldown: Duration::from_secs(300),
        }
    }
}
