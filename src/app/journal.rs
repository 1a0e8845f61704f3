//! Regular upkeep: what the monitor records is told to those who show it, rates are sampled,
//! old connections are closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pools;
use crate::clock;
use crate::cluster::{ServerId, Snapshot, Writes};
use crate::monitor::{MonitorHandle, Recorded};
use crate::policy::{FailoverRecord, RecordPhase};
use crate::proxy::Proxy;
use crate::telemetry::{CandidateSummary, FailoverSummary, PhaseSummary, Suffered, Telemetry};

/// Runs until it is dropped.
pub(super) async fn keep(
    monitor: MonitorHandle,
    telemetry: Arc<Telemetry>,
    upstreams: Arc<Pools>,
    proxy: Arc<Proxy>,
) {
    let mut tick = tokio::time::interval(TICK);
    let mut ticks: u32 = 0;
    let mut told = 0;
    let mut last: Vec<Recorded> = Vec::new();
    let mut pains = Pains::default();
    loop {
        tick.tick().await;
        ticks = ticks.wrapping_add(1);
        let snapshot = monitor.snapshot.load_full();
        let suffered = telemetry.suffered();
        let is_held = matches!(snapshot.writes, Writes::Held { .. });
        pains.remember(clock::now(), suffered, is_held);
        let records = monitor.records();
        for recorded in records.iter().filter(|recorded| !last.contains(recorded)) {
            let before = pains.before(recorded.record.started);
            telemetry.failover(summary(recorded, &snapshot, suffered.since(before)));
        }
        last = records;
        told = tell_events(&monitor, &telemetry, &snapshot, told);
        if ticks.is_multiple_of(TICKS_PER_SAMPLE) {
            telemetry.sample(clock::now());
        }
        if ticks.is_multiple_of(TICKS_PER_REAP) {
            upstreams.reap();
            proxy.trim();
        }
    }
}

/// What clients had suffered at each tick of the last minutes.
///
/// A record is told when its story ends, and says what was suffered since it began.
#[derive(Debug, Default)]
struct Pains(VecDeque<(Instant, Suffered)>);

impl Pains {
    /// A story begins before writes are held, or just then: while they are, what was before must be
    /// kept, and nothing new is needed.
    fn remember(&mut self, now: Instant, suffered: Suffered, is_held: bool) {
        let is_full = self.0.len() >= PAINS_MAX;
        if is_full && is_held {
            return;
        }
        if is_full {
            self.0.pop_front();
        }
        self.0.push_back((now, suffered));
    }

    /// What had been suffered when a story began.
    fn before(&self, started: Instant) -> Suffered {
        let older = self.0.iter().rev().find(|(at, _)| *at <= started);
        let (_, suffered) = older.or_else(|| self.0.front()).copied().unzip();
        suffered.unwrap_or_default()
    }
}

/// Tells the events that came since the last time; returns how many there have been.
fn tell_events(
    monitor: &MonitorHandle,
    telemetry: &Telemetry,
    snapshot: &Snapshot,
    told: u64,
) -> u64 {
    let (total, events) = monitor.events_since(told);
    for event in events {
        telemetry.event(crate::telemetry::Event {
            at: event.at,
            severity: event.severity,
            kind: event.kind,
            node: event.server.map(|server| snapshot.name(server).to_owned()),
            sentence: event.sentence,
        });
    }
    total
}

/// A record in the words of those who show it.
fn summary(recorded: &Recorded, snapshot: &Snapshot, suffered: Suffered) -> FailoverSummary {
    let record = &recorded.record;
    let name = |server: ServerId| snapshot.name(server).to_owned();
    FailoverSummary {
        id: record.id.to_string(),
        kind: record.kind.as_str(),
        started_at: recorded.started,
        ended_at: Some(recorded.started + record.total),
        result: record.result.as_str(),
        from_node: record.from.map(name),
        to_node: record.to.map(name),
        old_tli: record.old_timeline.map(|timeline| timeline.0),
        new_tli: record.new_timeline.map(|timeline| timeline.0),
        trigger: record.trigger.as_str().to_owned(),
        detect_ms: phase_ms(record, RecordPhase::Freeze),
        hold_ms: between(record, RecordPhase::HoldWrites, RecordPhase::ResumeWrites),
        promote_ms: between(record, RecordPhase::Promote, RecordPhase::ResumeWrites),
        total_ms: Some(millis(record.total)),
        clients_held: suffered.holds,
        errors_returned: suffered.errors,
        maybe_lost_bytes: record.maybe_lost.map(|bytes| bytes.0),
        sentence: record.sentence.clone(),
        phases: record
            .phases
            .iter()
            .map(|(phase, at)| PhaseSummary {
                name: phase.as_str().to_owned(),
                at_ms: millis(*at),
            })
            .collect(),
        candidates: record
            .candidates
            .iter()
            .map(|candidate| CandidateSummary {
                node: name(candidate.server),
                lsn: candidate.furthest.map(|lsn| lsn.to_string()),
                timeline: candidate.timeline.map(|timeline| timeline.0),
                verdict: candidate.assessment.to_string(),
            })
            .collect(),
    }
}

fn phase_ms(record: &FailoverRecord, wanted: RecordPhase) -> Option<u64> {
    record
        .phases
        .iter()
        .find(|(phase, _)| *phase == wanted)
        .map(|(_, at)| millis(*at))
}

fn between(record: &FailoverRecord, from: RecordPhase, to: RecordPhase) -> Option<u64> {
    phase_ms(record, to)?.checked_sub(phase_ms(record, from)?)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Two minutes of ticks: longer than a primary can fail to answer before writes are held.
const PAINS_MAX: usize = 480;
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_SAMPLE: u32 = 4;
const TICKS_PER_REAP: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn pain(holds: u64) -> Suffered {
        Suffered { holds, errors: 0 }
    }

    #[test]
    fn what_was_suffered_before_a_story_is_not_counted_to_it() {
        let zero = clock::now();
        let at = |tick: u64| zero + TICK * u32::try_from(tick).unwrap();
        let mut pains = Pains::default();
        assert_eq!(pains.before(zero), pain(0));
        (0..1000).for_each(|tick| pains.remember(at(tick), pain(tick), false));
        assert_eq!(pains.before(at(900)), pain(900));
        assert_eq!(pains.before(at(900) + TICK / 2), pain(900));
        assert_eq!(pains.0.len(), PAINS_MAX);
    }

    #[test]
    fn a_hold_of_any_length_keeps_what_was_before_it() {
        let zero = clock::now();
        let at = |tick: u64| zero + TICK * u32::try_from(tick).unwrap();
        let mut pains = Pains::default();
        (0..1000).for_each(|tick| pains.remember(at(tick), pain(tick), false));
        (1000..9000).for_each(|tick| pains.remember(at(tick), pain(tick), true));
        assert_eq!(pains.before(at(998)), pain(998));
    }
}
