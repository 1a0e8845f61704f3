//! Collects what happens during one failover, and tells it as a record.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::candidate::Choice;
use super::record::{FailoverRecord, RecordKind, RecordPhase, RecordResult, Trigger};
use crate::cluster::{Lsn, ServerId, Timeline};

/// A story that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Story {
    id: u64,
    from: Option<ServerId>,
    to: Option<ServerId>,
    kind: RecordKind,
    old_timeline: Option<Timeline>,
    new_timeline: Option<Timeline>,
    started: Instant,
    trigger: Trigger,
    phases: Vec<(RecordPhase, Duration)>,
    /// The choice, once it was made.
    pub(super) choice: Choice,
}

impl Story {
    pub(super) fn new(
        id: u64,
        from: Option<ServerId>,
        old_timeline: Option<Timeline>,
        started: Instant,
        trigger: Trigger,
    ) -> Self {
        Self {
            id,
            from,
            to: None,
            kind: RecordKind::Automatic,
            old_timeline,
            new_timeline: None,
            started,
            trigger,
            phases: Vec::new(),
            choice: Choice::default(),
        }
    }

    pub(super) fn mark(&mut self, now: Instant, phase: RecordPhase) {
        if self.phases.len() < PHASES_MAX {
            self.phases
                .push((phase, now.saturating_duration_since(self.started)));
        }
    }

    pub(super) fn crowned(&mut self, server: ServerId, kind: RecordKind, timeline: Timeline) {
        self.to = Some(server);
        self.kind = kind;
        self.new_timeline = Some(timeline);
    }

    pub(super) fn tell(
        &self,
        now: Instant,
        result: RecordResult,
        last_known: Option<Lsn>,
    ) -> FailoverRecord {
        let total = now.saturating_duration_since(self.started);
        FailoverRecord {
            id: self.id,
            kind: self.kind,
            result,
            from: self.from,
            to: self.to,
            old_timeline: self.old_timeline,
            new_timeline: self.new_timeline,
            started: self.started,
            total,
            trigger: self.trigger,
            candidates: self.choice.assessed.clone(),
            phases: self.phases.clone(),
            maybe_lost: self.choice.missing.filter(|_| self.to.is_some()),
            last_known,
            sentence: self.sentence(result, total),
        }
    }

    /// Servers are written as `{#0}`; the caller knows their names.
    fn sentence(&self, result: RecordResult, total: Duration) -> String {
        let name =
            |id: Option<ServerId>| id.map_or_else(|| "no server".into(), |id| format!("{{{id}}}"));
        let mut text = match self.trigger {
            Trigger::Unreachable { .. } => format!("{} stopped answering", name(self.from)),
            Trigger::Demoted => format!("{} became a replica", name(self.from)),
            Trigger::NewerPrimary => "another server was promoted by somebody else".to_owned(),
            Trigger::Resumed => "the router was restarted after its decision".to_owned(),
        };
        let seconds = total.as_secs_f64();
        // Writing to a String cannot fail.
        let written = match result {
            RecordResult::Promoted => {
                let timeline = self.new_timeline.map_or(0, |timeline| timeline.0);
                let to = name(self.to);
                let loss = match self.choice.missing {
                    Some(bytes) if bytes.0 == 0 => " Nothing known is lost.".to_owned(),
                    Some(bytes) => format!(" Up to {bytes} may be lost."),
                    None => String::new(),
                };
                write!(
                    text,
                    "; {to} is the primary on timeline {timeline} after {seconds:.1} s.{loss}"
                )
            }
            RecordResult::Blocked(why) => match why {
                super::Blocked::StillReceives(server) => write!(
                    text,
                    ", but {} still receives WAL: this is our network, not the server. No promotion.",
                    name(Some(server))
                ),
                super::Blocked::Observing
                | super::Blocked::Manual
                | super::Blocked::NoWitness
                | super::Blocked::Cooldown
                | super::Blocked::NoCandidate
                | super::Blocked::TooMuchLost
                | super::Blocked::Demoted
                | super::Blocked::NeverSeen => write!(text, ". No promotion: {why}."),
            },
            RecordResult::Recovered => {
                write!(text, " and came back after {seconds:.1} s. No promotion.")
            }
            RecordResult::Halted(why) => write!(text, "; standing still: {why}."),
        };
        debug_assert!(written.is_ok(), "writing to a String");
        text
    }
}

/// More than one failover has; a story that goes round in circles is cut.
const PHASES_MAX: usize = 32;
