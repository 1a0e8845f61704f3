//! Whether a server lives, told from its probes alone.
//!
//! One lost probe is nothing; the same loss several times in a row is a doubt; a doubt that lasts
//! for a stated time without a sign of life is a death *as far as our own probes can tell*. What
//! replicas witness is added by `failover`. A server that answers anything at all, even "too many
//! clients" or "wrong password", is not dead. Time is taken from the probes, not from the caller's
//! clock: a router that was suspended must not mistake its own sleep for the silence of others.

use std::time::{Duration, Instant};

use super::{FailoverRules, HealthRules};
use crate::cluster::{DownReason, Observation, ProbeFailure, Sighting};

/// What the probes of one server add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never asked.
    Unknown,
    /// It answered the last probe, and the answer still counts.
    Alive,
    /// It runs, and does not let us look inside: full, or it refuses our login.
    Impaired(DownReason),
    /// Probes fail, fewer than a doubt takes.
    Shaky(DownReason),
    /// Enough probes failed in a row.
    Doubt(DownReason),
    /// In doubt for as long as a confirmation takes.
    Dead(DownReason),
}

/// The last answer of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// When it was asked.
    pub asked_at: Instant,
    /// What it said.
    pub sighting: Sighting,
}

/// The probes of one server over time.
#[derive(Clone, Debug, Default)]
pub struct Health {
    seen: Option<Seen>,
    failing: Option<Failing>,
}

/// An unbroken run of failed probes.
#[derive(Clone, Debug)]
struct Failing {
    reason: DownReason,
    /// The last failure was an answer.
    answered: bool,
    count: u32,
    /// The beginning of the part of the run that has this reason.
    reason_since: Instant,
    /// The beginning of the part of the run that has no sign of life.
    lifeless_since: Option<Instant>,
    /// When it first said that it is starting up.
    starting_since: Option<Instant>,
    last: Instant,
}

impl Health {
    /// Takes one probe's outcome. One that was asked before the last known answer is ignored.
    pub fn observe(&mut self, observation: &Observation) {
        let stale = |seen: &Seen| observation.asked_at < seen.asked_at;
        if self.seen.as_ref().is_some_and(stale) {
            return;
        }
        match &observation.outcome {
            Ok(sighting) => {
                self.failing = None;
                self.seen = Some(Seen {
                    asked_at: observation.asked_at,
                    sighting: sighting.clone(),
                });
            }
            Err(failure) => self.fail(observation, failure),
        }
    }

    fn fail(&mut self, observation: &Observation, failure: &ProbeFailure) {
        let reason = reason_of(failure);
        let starts = observation.asked_at;
        let old = self.failing.take();
        let carried = old.as_ref().filter(|old| old.reason == reason);
        let lifeless = !failure.shows_life();
        let lifeless_before = old.as_ref().and_then(|old| old.lifeless_since);
        let starting = matches!(failure, ProbeFailure::StartingUp).then_some(starts);
        self.failing = Some(Failing {
            reason,
            answered: matches!(
                failure,
                ProbeFailure::Full | ProbeFailure::LoginRefused { .. } | ProbeFailure::Other { .. }
            ),
            count: old.as_ref().map_or(0, |old| old.count).saturating_add(1),
            reason_since: carried.map_or(starts, |old| old.reason_since),
            lifeless_since: lifeless.then(|| lifeless_before.unwrap_or(starts)),
            starting_since: old.as_ref().and_then(|old| old.starting_since).or(starting),
            last: observation.answered_at,
        });
    }

    /// What the probes add up to at `now`.
    pub fn verdict(&self, now: Instant, health: &HealthRules, rules: &FailoverRules) -> Verdict {
        let Some(failing) = &self.failing else {
            return match &self.seen {
                None => Verdict::Unknown,
                Some(seen) if now.duration_since(seen.asked_at) > health.expires_after => {
                    Verdict::Shaky(DownReason::Silent)
                }
                Some(_) => Verdict::Alive,
            };
        };
        let reason = failing.reason;
        if failing.answered {
            return Verdict::Impaired(reason);
        }
        if failing.count < rules.probes {
            return Verdict::Shaky(reason);
        }
        match failing.is_confirmed(rules) {
            true => Verdict::Dead(reason),
            false => Verdict::Doubt(reason),
        }
    }

    /// The last answer, however old.
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Whether the last probe failed.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Whether any probe has ended, well or not.
    pub fn was_asked(&self) -> bool {
        self.seen.is_some() || self.failing.is_some()
    }

    /// How many probes have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failing.as_ref().map_or(0, |failing| failing.count)
    }
}

impl Failing {
    fn is_confirmed(&self, rules: &FailoverRules) -> bool {
        let lasted = |since: Instant| self.last.saturating_duration_since(since);
        let silent = self
            .lifeless_since
            .is_some_and(|since| lasted(since) >= rules.confirm_silent);
        let needs: Option<Duration> = match self.reason {
            DownReason::Refused => Some(rules.confirm_refused),
            DownReason::Silent => Some(rules.confirm_silent),
            DownReason::StartingUp | DownReason::LoginRefused | DownReason::Failing => None,
        };
        let starting = self.reason == DownReason::StartingUp
            && self
                .starting_since
                .is_some_and(|since| lasted(since) >= rules.crash_grace);
        silent || starting || needs.is_some_and(|needs| lasted(self.reason_since) >= needs)
    }
}

impl Verdict {
    /// Why the server is not simply alive.
    pub const fn reason(self) -> Option<DownReason> {
        match self {
            Self::Unknown | Self::Alive => None,
            Self::Impaired(reason)
            | Self::Shaky(reason)
            | Self::Doubt(reason)
            | Self::Dead(reason) => Some(reason),
        }
    }
}

fn reason_of(failure: &ProbeFailure) -> DownReason {
    match failure {
        ProbeFailure::Refused => DownReason::Refused,
        ProbeFailure::TimedOut | ProbeFailure::Unreachable => DownReason::Silent,
        ProbeFailure::StartingUp => DownReason::StartingUp,
        ProbeFailure::LoginRefused { .. } => DownReason::LoginRefused,
        ProbeFailure::Full | ProbeFailure::Other { .. } => DownReason::Failing,
    }
}
