//! The moves that the promotion machine may make, each with its reason. The simulator
//! checks that it makes no other, and that its seeds make each of them.

use std::fmt;

/// A state of the promotion machine without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No primary is known yet.
    Searching,
    /// The primary answers.
    Steady,
    /// The primary does not answer; writes wait.
    Doubt,
    /// It is dead; the replicas are cut off from it and report what they have.
    Collecting,
    /// A decision was taken, and only goes forward.
    Promoting,
    /// Writes flow to the new primary; the other replicas are being told.
    Settling,
    /// A person, or a change of the facts, is needed.
    Halted,
}

/// Every move that is allowed: from, to, when. The machine begins in `Searching`, or in `Promoting`
/// when a decision was written down before the router stopped.
pub const MOVES: &[(Stage, Stage, &str)] = &[
    (
        Stage::Searching,
        Stage::Steady,
        "one primary is on the newest timeline",
    ),
    (
        Stage::Searching,
        Stage::Doubt,
        "the remembered primary does not answer",
    ),
    (
        Stage::Searching,
        Stage::Halted,
        "several primaries are on the newest timeline",
    ),
    (
        Stage::Steady,
        Stage::Doubt,
        "the primary fails its probes, or turned into a replica",
    ),
    (
        Stage::Steady,
        Stage::Settling,
        "somebody else promoted another server",
    ),
    (Stage::Doubt, Stage::Steady, "the primary answers again"),
    (
        Stage::Doubt,
        Stage::Settling,
        "somebody else promoted another server",
    ),
    (
        Stage::Doubt,
        Stage::Collecting,
        "the primary is dead, the replicas agree, the rules allow it",
    ),
    (
        Stage::Collecting,
        Stage::Steady,
        "the primary answers before the decision",
    ),
    (
        Stage::Collecting,
        Stage::Settling,
        "somebody else promoted another server",
    ),
    (
        Stage::Collecting,
        Stage::Promoting,
        "all are cut off, and one has enough WAL",
    ),
    (Stage::Collecting, Stage::Halted, "nobody may be promoted"),
    (
        Stage::Promoting,
        Stage::Settling,
        "the chosen server is a primary on a new timeline",
    ),
    (
        Stage::Promoting,
        Stage::Halted,
        "the promotion does not end, or ends in the wrong place",
    ),
    (
        Stage::Settling,
        Stage::Steady,
        "the other replicas were told, or had their time",
    ),
    (
        Stage::Settling,
        Stage::Doubt,
        "the new primary fails its probes",
    ),
    (
        Stage::Settling,
        Stage::Settling,
        "somebody else promoted another server",
    ),
    (
        Stage::Halted,
        Stage::Steady,
        "the old primary answers, and nothing was decided",
    ),
    (
        Stage::Halted,
        Stage::Settling,
        "a primary on a newer timeline was found",
    ),
    (
        Stage::Halted,
        Stage::Promoting,
        "the chosen server answers again; the decision stands",
    ),
    (
        Stage::Halted,
        Stage::Doubt,
        "the facts or the rules changed; look again",
    ),
    (
        Stage::Halted,
        Stage::Searching,
        "an operator, or the end of the ambiguity, starts over",
    ),
];

/// Whether the machine may go from one state to the other. Staying is always allowed.
pub fn is_allowed(from: Stage, to: Stage) -> bool {
    from == to || MOVES.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

impl Stage {
    /// The word used in logs and in the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Searching => "searching",
            Self::Steady => "steady",
            Self::Doubt => "doubt",
            Self::Collecting => "collecting",
            Self::Promoting => "promoting",
            Self::Settling => "settling",
            Self::Halted => "halted",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
