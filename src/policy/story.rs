//! Collects what happens during one failover, and tells it as a record.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::candidate::Choice;
use super::record::{FailoverRecord, RecordKind, RecordPhase, RecordResult, Trigger};
use crate::cluster::{ByteCount, Lsn, ServerId, Timeline};

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
    choice: Choice,
    /// The last flushed position of the old primary and when it was asked, as the choice knew it.
    known: Option<(Instant, Lsn)>,
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
            known: None,
        }
    }

    pub(super) fn mark(&mut self, now: Instant, phase: RecordPhase) {
        if self.phases.len() < PHASES_MAX {
            self.phases
                .push((phase, now.saturating_duration_since(self.started)));
        }
    }

    pub(super) fn decided(&mut self, choice: Choice, known: Option<(Instant, Lsn)>) {
        self.choice = choice;
        self.known = known;
    }

    /// `known` is still about the old primary.
    pub(super) fn crowned(
        &mut self,
        server: ServerId,
        kind: RecordKind,
        timeline: Timeline,
        known: Option<(Instant, Lsn)>,
    ) {
        self.to = Some(server);
        self.kind = kind;
        self.new_timeline = Some(timeline);
        self.known = self.known.or(known);
    }

    pub(super) fn tell(
        &self,
        now: Instant,
        result: RecordResult,
        known: Option<(Instant, Lsn)>,
    ) -> FailoverRecord {
        // After the change of the primary `known` is about the new one.
        let known = match self.to {
            Some(_) => self.known,
            None => self.known.or(known),
        };
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
            maybe_lost: self.missing(),
            last_known: known.map(|(_, flushed)| flushed),
            sentence: self.sentence(result, total),
        }
    }

    /// How much known WAL the new primary lacks. A choice tells nothing about a server that
    /// somebody else promoted.
    fn missing(&self) -> Option<ByteCount> {
        let as_chosen = self.to.is_some() && self.to == self.choice.chosen;
        self.choice.missing.filter(|_| as_chosen)
    }

    /// What was acknowledged after the old primary was asked for its position for the last time is
    /// not known to anybody, so the sentence must not promise it.
    fn loss(&self) -> String {
        let (Some(missing), Some((asked_at, _))) = (self.missing(), self.known) else {
            return String::new();
        };
        let held = self
            .phases
            .iter()
            .find(|(phase, _)| *phase == RecordPhase::HoldWrites)
            .map_or(self.started, |(_, after)| self.started + *after);
        let unseen = held.saturating_duration_since(asked_at);
        let unseen_ms = unseen.as_micros().div_ceil(1000);
        let from = name(self.from);
        match missing {
            ByteCount(0) => format!(
                " Nothing is lost that {from} had on disk when last seen, {unseen_ms} ms before \
                 writes waited."
            ),
            bytes => format!(
                " At least {bytes} of WAL are lost; {from} was last seen {unseen_ms} ms before \
                 writes waited."
            ),
        }
    }

    /// Servers are written as `{#0}`; the caller knows their names.
    fn sentence(&self, result: RecordResult, total: Duration) -> String {
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
                let loss = self.loss();
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
                super::Blocked::NotCutOff(server) => write!(
                    text,
                    ", but {} refuses to be cut off, and may find it again. No promotion.",
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

fn name(id: Option<ServerId>) -> String {
    id.map_or_else(|| "no server".into(), |id| format!("{{{id}}}"))
}

/// More than one failover has; a story that goes round in circles is cut.
const PHASES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::DownReason;

    const OLD: ServerId = ServerId(0);
    const CHOSEN: ServerId = ServerId(1);
    const OTHER: ServerId = ServerId(2);

    /// The record of a failover to `to`: the old primary was asked last at 1 s, its first probe
    /// failed at 1.1 s, writes waited from 1.25 s on.
    fn told(missing: u64, to: ServerId) -> FailoverRecord {
        let origin = crate::clock::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let trigger = Trigger::Unreachable {
            reason: DownReason::Refused,
            probes: 2,
        };
        let mut story = Story::new(1, Some(OLD), Some(Timeline(1)), at(1100), trigger);
        story.mark(at(1250), RecordPhase::HoldWrites);
        let choice = Choice {
            chosen: Some(CHOSEN),
            missing: Some(ByteCount(missing)),
            ..Choice::default()
        };
        story.decided(choice, Some((at(1000), Lsn::from_bytes(500))));
        let later = Some((at(1400), Lsn::from_bytes(600)));
        story.crowned(to, RecordKind::Automatic, Timeline(2), later);
        story.tell(
            at(1600),
            RecordResult::Promoted,
            Some((at(1590), Lsn::from_bytes(900))),
        )
    }

    #[test]
    fn what_was_written_after_the_last_answer_is_not_called_safe() {
        assert_eq!(
            told(0, CHOSEN).sentence,
            "{#0} stopped answering; {#1} is the primary on timeline 2 after 0.5 s. Nothing is \
             lost that {#0} had on disk when last seen, 250 ms before writes waited."
        );
    }

    #[test]
    fn missing_wal_is_the_least_that_is_lost() {
        let record = told(2048, CHOSEN);
        assert!(
            record.sentence.ends_with(
                " At least 2048 B of WAL are lost; {#0} was last seen 250 ms before writes waited."
            ),
            "{}",
            record.sentence
        );
        assert_eq!(record.maybe_lost, Some(ByteCount(2048)));
    }

    #[test]
    fn the_last_known_position_is_the_one_that_the_choice_knew() {
        assert_eq!(told(0, CHOSEN).last_known, Some(Lsn::from_bytes(500)));
    }

    #[test]
    fn nothing_is_said_of_the_loss_when_somebody_else_promoted_another_server() {
        let record = told(0, OTHER);
        assert!(
            record.sentence.ends_with(" after 0.5 s."),
            "{}",
            record.sentence
        );
        assert_eq!(record.maybe_lost, None);
    }
}
