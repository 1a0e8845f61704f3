//! The story of one failover, or of the decision not to fail over, for people.

use std::fmt;
use std::time::{Duration, Instant};

use super::candidate::Assessed;
use crate::cluster::{ByteCount, DownReason, Lsn, ServerId, Timeline};

/// What happened when a primary was lost, in one object.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverRecord {
    /// Its number since the router started.
    pub id: u64,
    /// Who wanted it.
    pub kind: RecordKind,
    /// How it ended.
    pub result: RecordResult,
    /// The primary that was lost.
    pub from: Option<ServerId>,
    /// The primary that took over.
    pub to: Option<ServerId>,
    /// The timeline before.
    pub old_timeline: Option<Timeline>,
    /// The timeline after.
    pub new_timeline: Option<Timeline>,
    /// When the doubt began.
    pub started: Instant,
    /// From the first failed probe that counts to the end.
    pub total: Duration,
    /// What began it.
    pub trigger: Trigger,
    /// The servers that were looked at.
    pub candidates: Vec<Assessed>,
    /// When each phase began, since `started`.
    pub phases: Vec<(RecordPhase, Duration)>,
    /// How much WAL, known of the old primary, the new one lacks.
    pub maybe_lost: Option<ByteCount>,
    /// The last flushed position that the old primary told us.
    pub last_known: Option<Lsn>,
    /// All of it in one sentence.
    pub sentence: String,
}

/// Who wanted the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The router did.
    Automatic,
    /// An operator gave the command.
    Manual,
    /// Somebody else promoted, the router followed.
    Followed,
}

/// How a story ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordResult {
    /// Another server is the primary.
    Promoted,
    /// Nothing was done, for the reason given.
    Blocked(Blocked),
    /// The primary came back before a decision.
    Recovered,
    /// It went wrong half-way; a person is needed.
    Halted(HaltReason),
}

/// What began a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The primary's probes failed.
    Unreachable {
        /// How.
        reason: DownReason,
        /// How many in a row.
        probes: u32,
    },
    /// The primary says that it is a replica.
    Demoted,
    /// Another server says that it is the primary of a newer timeline.
    NewerPrimary,
    /// The router was restarted after its decision.
    Resumed,
}

/// The steps of a failover, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPhase {
    /// Writes are held.
    HoldWrites,
    /// The death is confirmed, replicas are being cut off.
    Freeze,
    /// The decision is being written down.
    Decide,
    /// The candidate was told.
    Promote,
    /// It is a primary, and was checked; writes flow.
    ResumeWrites,
    /// The others were told.
    Repointed,
}

/// Why the machine does not promote although the primary is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// `failover.mode` is observe.
    Observing,
    /// `failover.mode` is manual, and nobody gave the command.
    Manual,
    /// No reachable replica can confirm that the primary is dead.
    NoWitness,
    /// This replica still gets WAL from it: the network is broken, not the server.
    StillReceives(ServerId),
    /// This replica refuses to be cut off, and may find the primary again.
    NotCutOff(ServerId),
    /// The last promotion is too recent.
    Cooldown,
    /// Nobody qualifies.
    NoCandidate,
    /// The best candidate lacks too much WAL.
    TooMuchLost,
    /// The primary turned itself into a replica: somebody else is at work.
    Demoted,
    /// The router never saw the primary, so it cannot tell what may be lost.
    NeverSeen,
}

/// Why the machine stands still until a person or a change of the facts helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltReason {
    /// Nobody may be promoted.
    Blocked(Blocked),
    /// Two servers say that they are the primary of the newest timeline.
    Ambiguous,
    /// The promotion did not end in time.
    PromotionStuck,
    /// What was promoted is not what was expected: other cluster, or no newer timeline.
    WrongResult,
    /// The decision could not be written down.
    NotRecorded,
}

impl RecordKind {
    /// The word used in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
            Self::Followed => "followed",
        }
    }
}

impl RecordResult {
    /// The word used in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Blocked(_) => "blocked",
            Self::Recovered => "recovered",
            Self::Halted(_) => "halted",
        }
    }
}

impl Trigger {
    /// The code used in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "primary_unreachable",
            Self::Demoted => "primary_demoted",
            Self::NewerPrimary => "newer_primary",
            Self::Resumed => "resumed",
        }
    }
}

impl RecordPhase {
    /// The word used in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HoldWrites => "hold_writes",
            Self::Freeze => "freeze",
            Self::Decide => "decide",
            Self::Promote => "promote",
            Self::ResumeWrites => "resume_writes",
            Self::Repointed => "repointed",
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observing => "failover.mode is observe: somebody else promotes",
            Self::Manual => "failover.mode is manual: waiting for the command",
            Self::NoWitness => "no replica can confirm that the primary is dead",
            Self::StillReceives(_) => "a replica still receives WAL",
            Self::NotCutOff(_) => "a replica refuses to be cut off, and may find the primary again",
            Self::Cooldown => "the last promotion is too recent",
            Self::NoCandidate => "no replica qualifies",
            Self::TooMuchLost => "more WAL would be lost than failover.max_lost_bytes allows",
            Self::Demoted => "the primary became a replica: somebody else is at work",
            Self::NeverSeen => "the primary was never seen alive",
        })
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(blocked) => blocked.fmt(f),
            Self::Ambiguous => f.write_str("several servers say that they are the primary"),
            Self::PromotionStuck => f.write_str("the promotion does not come to its end"),
            Self::WrongResult => f.write_str("the promoted server is not on a newer timeline"),
            Self::NotRecorded => f.write_str("the decision could not be written down"),
        }
    }
}
