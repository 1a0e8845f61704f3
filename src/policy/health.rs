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
    since: Instant,
    /// The beginning of the part of the run that has this reason.
    reason_since: Instant,
    /// The beginning of the part of the run that has no sign of life.
    lifeless_since: Option<Instant>,
    /// When it first said that it is starting up.
    starting_since: Option<Instant>,
    /// When the last of them was asked, and when it had failed.
    asked: Instant,
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
                ProbeFailure::Full
                    | ProbeFailure::LoginRefused { .. }
                    | ProbeFailure::TlsFailed { .. }
                    | ProbeFailure::Other { .. }
            ),
            count: old.as_ref().map_or(0, |old| old.count).saturating_add(1),
            since: old.as_ref().map_or(starts, |old| old.since),
            reason_since: carried.map_or(starts, |old| old.reason_since),
            lifeless_since: lifeless.then(|| lifeless_before.unwrap_or(starts)),
            starting_since: old.as_ref().and_then(|old| old.starting_since).or(starting),
            asked: starts,
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

    /// When the first probe was asked of those that failed in a row.
    pub fn failing_since(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.since)
    }

    /// When the last probe was asked, if it failed.
    pub fn failed_at(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.asked)
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
            DownReason::Silent | DownReason::Lost => Some(rules.confirm_silent),
            DownReason::StartingUp
            | DownReason::LoginRefused
            | DownReason::TlsFailed
            | DownReason::Failing => None,
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
        ProbeFailure::TlsFailed { .. } => DownReason::TlsFailed,
        ProbeFailure::Full | ProbeFailure::Other { .. } => DownReason::Failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Lsn, ServerId, SystemId, Timeline};

    fn outcome(word: &str) -> Result<Sighting, ProbeFailure> {
        Err(match word {
            "refused" => ProbeFailure::Refused,
            "timeout" => ProbeFailure::TimedOut,
            "starting" => ProbeFailure::StartingUp,
            "full" => ProbeFailure::Full,
            "tls" => ProbeFailure::TlsFailed {
                why: "certificate".into(),
            },
            "login" => ProbeFailure::LoginRefused {
                sqlstate: "28P01".into(),
            },
            "ok" => {
                return Ok(Sighting {
                    system_id: SystemId(1),
                    in_recovery: false,
                    timeline: Some(Timeline(1)),
                    position: Lsn::ZERO,
                    furthest: Lsn::ZERO,
                    receiver: None,
                    replay_paused: false,
                    version_num: 150_000,
                    streaming_standbys: 0,
                });
            }
            other => panic!("unknown outcome {other}"),
        })
    }

    fn words(verdict: Verdict) -> String {
        let word = match verdict {
            Verdict::Unknown => "unknown",
            Verdict::Alive => "alive",
            Verdict::Impaired(_) => "impaired",
            Verdict::Shaky(_) => "shaky",
            Verdict::Doubt(_) => "doubt",
            Verdict::Dead(_) => "dead",
        };
        let reason = verdict.reason().map(crate::cluster::ServerState::Down);
        reason.map_or_else(
            || word.to_owned(),
            |reason| format!("{word} {}", reason.reason()),
        )
    }

    #[test]
    fn probes_add_up_as_the_cases_say() {
        let (health_rules, rules) = (HealthRules::default(), FailoverRules::default());
        let zero = crate::clock::now();
        let mut health = Health::default();
        let mut cases = 0;
        for line in include_str!("testdata/health.txt").lines() {
            if line.is_empty() {
                health = Health::default();
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (left, expected) = line.split_once(" = ").expect(line);
            let (ms, word) = left.split_once(' ').expect(line);
            let at = zero + Duration::from_millis(ms.parse().expect(line));
            if word != "look" {
                health.observe(&Observation {
                    server: ServerId(0),
                    asked_at: at,
                    answered_at: at,
                    outcome: outcome(word),
                });
            }
            let verdict = health.verdict(at, &health_rules, &rules);
            assert_eq!(words(verdict), expected, "{line}");
            cases += 1;
        }
        assert!(cases > 30);
    }

    #[test]
    fn an_answer_to_an_older_question_changes_nothing() {
        let zero = crate::clock::now();
        let mut health = Health::default();
        for (ms, word) in [(100, "ok"), (50, "refused")] {
            let at = zero + Duration::from_millis(ms);
            health.observe(&Observation {
                server: ServerId(0),
                asked_at: at,
                answered_at: at,
                outcome: outcome(word),
            });
        }
        assert!(!health.is_failing());
    }
}
