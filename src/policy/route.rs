//! The vocabulary of a routing decision: what a statement needs, where it goes, and why.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::cluster::{Epoch, Lsn, ServerId, ServerState};

/// What a unit of work needs, with the reason. Made once by `classify`, never overwritten.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What it needs.
    pub intent: Intent,
    /// Why.
    pub why: Why,
    /// What the reason is about: the function, the relation, the pin; for people.
    pub detail: Option<Arc<str>>,
}

/// What a unit of work needs. Ordered by strictness: the strictest of a unit's statements wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intent {
    /// Any server that is fresh enough.
    Read,
    /// The primary.
    Write,
}

/// How fresh a server must be to answer a read of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The lag bounds of the cluster are enough.
    Bounded,
    /// It must have replayed this position of the primary.
    Replayed(Lsn),
    /// The session wrote at this instant, and no position sampled after it is known yet.
    SampleAfter(Instant),
}

/// Where a unit of work goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The server.
    pub server: ServerId,
    /// The epoch of the snapshot that the choice was made on.
    pub epoch: Epoch,
    /// What was needed: a connection for writing is refused when a newer epoch fenced its server.
    pub intent: Intent,
    /// Why this server.
    pub why: Why,
}

/// A server that was looked at for a read, and what was found: for `EXPLAIN (ROUTE)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// The server.
    pub server: ServerId,
    /// Why it was not chosen; `None` when it could have been.
    pub refused: Option<Refused>,
}

/// Why a server cannot answer a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not serving.
    State(ServerState),
    /// Its weight is zero.
    NoWeight,
    /// It has not replayed the session's own write.
    NotReplayed,
    /// It is the primary, and replicas are preferred.
    Primary,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal,)+) => {
        /// Why a unit of work went where it went: the closed list. The code of each is the log
        /// field, the metric label, the word in a NOTICE and in the console. Adding one is a
        /// documented change, renaming one breaks users.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Why { $($(#[doc = $doc])+ $variant,)+ }

        impl Why {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code of this reason.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// One sentence that tells an operator what the reason means.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    // The primary.
    /// It changes rows.
    Write = "write",
    /// It changes the schema.
    Ddl = "ddl",
    /// A command that only the primary may run.
    Utility = "utility",
    /// The transaction has already written.
    InWriteTransaction = "in_write_transaction",
    /// A transaction that was not begun READ ONLY.
    ExplicitTransaction = "explicit_transaction",
    /// It locks rows.
    LockingClause = "locking_clause",
    /// A WITH query in it changes rows.
    DataModifyingCte = "data_modifying_cte",
    /// It calls a function that may write or depends on the server.
    VolatileFunction = "volatile_function",
    /// It calls a function, or uses an operator or relation, that the catalog does not know.
    UnknownFunction = "unknown_function",
    /// It uses a temporary or unlogged relation, which replicas do not have.
    TempObject = "temp_object",
    /// It takes or looks at advisory locks.
    AdvisoryLock = "advisory_lock",
    /// LISTEN, UNLISTEN or NOTIFY.
    ListenNotify = "listen_notify",
    /// COPY ... FROM.
    CopyIn = "copy_in",
    /// A two-phase commit.
    TwoPhase = "two_phase",
    /// The session holds state on its primary connection.
    SessionPinned = "session_pinned",
    /// Serializable isolation, which a hot standby cannot serve.
    Serializable = "serializable",
    /// No replica is proven past the session's own write.
    SessionFence = "session_fence",
    /// A hint asked for the primary.
    HintPrimary = "hint_primary",
    /// Strong consistency is set.
    StrongConsistency = "strong_consistency",
    /// The configuration sends reads to the primary.
    PolicyPrimary = "policy_primary",
    /// The text was not understood, so it counts as a write.
    ParseFailed = "parse_failed",
    /// No replica is configured or answers.
    NoReplica = "no_replica",
    /// Every replica is out of its lag bounds.
    AllLagging = "all_lagging",
    /// A replica refused it as a write, so it went to the primary.
    RefusedByReplica = "refused_by_replica",
    /// The client asked for an answer before its pipeline ended, and what follows may write.
    OpenPipeline = "open_pipeline",
    // A replica.
    /// It only reads.
    ReadOnly = "read_only",
    /// A transaction begun READ ONLY.
    ReadOnlyTransaction = "read_only_transaction",
    /// A hint asked for a replica.
    HintReplica = "hint_replica",
    /// A hint named the server.
    HintNode = "hint_node",
    /// It came in by the read-only port.
    ReadonlyPort = "readonly_port",
    /// COPY ... TO of something that only reads.
    CopyOut = "copy_out",
    /// The transaction runs there.
    SameTransaction = "same_transaction",
    /// A cursor is open there.
    CursorAffinity = "cursor_affinity",
    // Neither.
    /// It waits for a primary.
    HeldFailover = "held_failover",
    /// It waits because an operator paused the database.
    HeldPaused = "held_paused",
    /// A write where only reads are allowed.
    RejectedReadonlyWrite = "rejected_readonly_write",
    /// No primary was found in time.
    RejectedNoPrimary = "rejected_no_primary",
    /// The router answered by itself.
    AnsweredHere = "answered_here",
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_and_a_number_of_its_own() {
        let codes: std::collections::BTreeSet<_> = Why::ALL.iter().map(|why| why.code()).collect();
        assert_eq!(codes.len(), Why::ALL.len());
        for (number, why) in Why::ALL.iter().enumerate() {
            assert_eq!(*why as usize, number);
        }
    }
}
