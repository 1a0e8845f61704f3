//! What the promotion machine wants done, and what comes of it.

use super::LostBytes;
use super::failover::Fenced;
use super::record::{Blocked, FailoverRecord, HaltReason};
use crate::cluster::{
    Address, Epoch, HoldCause, Lineage, Lsn, QuarantineReason, ServerId, Sighting,
};

/// What is kept on disk over a restart of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The epoch that was current.
    pub epoch: Epoch,
    /// The newest history that was seen.
    pub lineage: Lineage,
    /// The primary of that history.
    pub primary: Option<Address>,
    /// The server that was chosen, when a promotion was under way.
    pub decision: Option<Address>,
    /// Servers that must not be used.
    pub quarantined: Vec<Address>,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask this server now instead of at the next interval.
    Probe(ServerId),
    /// Writes wait from now on. The snapshot says so already.
    HoldWrites(HoldCause),
    /// Cut this replica off from the primary, for good until it is told otherwise.
    Freeze(ServerId),
    /// Write this to disk. The result is reported when `decision` is set.
    Record(Remembered),
    /// Promote this server; the proof says that it is safe.
    Promote {
        /// The server.
        server: ServerId,
        /// What makes it safe.
        proof: Fenced,
    },
    /// Point this replica at the primary.
    Follow {
        /// The replica.
        server: ServerId,
        /// The primary.
        leader: Address,
    },
    /// Point this replica at the primary, if it was left cut off by us; otherwise leave it alone.
    Unfreeze {
        /// The replica.
        server: ServerId,
        /// The primary.
        leader: Address,
    },
    /// Writes go to this server from now on. The snapshot says so already.
    ResumeWrites {
        /// The server.
        server: ServerId,
        /// The reign that begins or goes on.
        epoch: Epoch,
    },
    /// Tell a person.
    Alert(Alert),
    /// Keep this story.
    Publish(FailoverRecord),
}

/// Something that a person should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// The primary is gone, and this is why nobody is promoted.
    Blocked(Blocked),
    /// The machine stands still.
    Halted(HaltReason),
    /// A server is not to be used any more.
    Quarantined(ServerId, QuarantineReason),
    /// A replica could not be told where the primary is.
    NotFollowing(ServerId),
}

/// The result of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A replica was cut off, and this is what it has.
    Frozen(Frozen),
    /// A replica could not be cut off.
    NotFrozen(ServerId, FailedWhy),
    /// What was to be remembered is on disk.
    Recorded,
    /// It is not.
    NotRecorded,
    /// The candidate left recovery.
    Promoted(Promoted),
    /// It did not, or not in time; it still may.
    NotPromoted(ServerId, FailedWhy),
    /// A replica was told.
    Following(ServerId),
    /// It was not.
    NotFollowing(ServerId, FailedWhy),
}

/// A replica whose WAL receiver is gone and will not come back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The replica.
    pub server: ServerId,
    /// The greatest of received and replayed, read after the receiver was gone.
    pub furthest: Lsn,
}

/// A server that left recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct Promoted {
    /// The server.
    pub server: ServerId,
    /// What it says of itself now.
    pub sighting: Sighting,
    /// Where its timeline began.
    pub forked_at: Lsn,
}

/// Why an action failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedWhy {
    /// Our role may not do it.
    NotPermitted,
    /// No answer.
    NoAnswer,
    /// Another error.
    Refused,
}

/// What an operator may ask of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The only server that may be chosen; `None` for the best.
    pub to: Option<ServerId>,
    /// How much may be lost.
    pub accept_loss: LostBytes,
}
