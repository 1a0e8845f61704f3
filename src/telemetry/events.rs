//! The last state changes and failovers, in two bounded rings.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Something that an operator may want to know about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// How bad.
    pub severity: Severity,
    /// What kind of thing: a code of a closed list, such as `node_out` or `failover`.
    pub kind: &'static str,
    /// The name of the server that it is about.
    pub node: Option<String>,
    /// What happened, for people.
    pub sentence: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The cluster or a setting changed.
    Info,
    /// Degraded; somebody should look.
    Warning,
    /// A promise was broken.
    Error,
}

/// The record of one failover, switchover, or refusal to fail over.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverSummary {
    /// Unique, and sorted by time.
    pub id: String,
    /// Who began it: a code such as `automatic`, `manual`, `observed`.
    pub kind: &'static str,
    /// When it began.
    pub started_at: SystemTime,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<SystemTime>,
    /// How it ended: a code such as `promoted`, `followed`, `blocked`, `failed`.
    pub result: &'static str,
    /// The name of the primary before.
    pub from_node: Option<String>,
    /// The name of the primary after.
    pub to_node: Option<String>,
    /// The timeline before.
    pub old_tli: Option<u32>,
    /// The timeline after.
    pub new_tli: Option<u32>,
    /// What set it off, as a code.
    pub trigger: String,
    /// From the last sign of life to the confirmed loss.
    pub detect_ms: Option<u64>,
    /// The longest that a client's statement was held.
    pub hold_ms: Option<u64>,
    /// From the order to promote to the promoted server's first answer as a primary.
    pub promote_ms: Option<u64>,
    /// From the last sign of life to the first write.
    pub total_ms: Option<u64>,
    /// How many statements waited for a primary meanwhile.
    pub clients_held: u64,
    /// How many errors of ours told of a server that was lost or missing.
    pub errors_returned: u64,
    /// How much WAL of the old primary may be lost; `None` when that is not known.
    pub maybe_lost_bytes: Option<u64>,
    /// The whole story in one sentence.
    pub sentence: String,
    /// The steps, with their beginnings.
    pub phases: Vec<PhaseSummary>,
    /// Who might have been promoted, and what was thought of each.
    pub candidates: Vec<CandidateSummary>,
}

/// One step of a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// When it began, counted from the beginning of the failover.
    pub at_ms: u64,
}

/// One candidate of a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateSummary {
    /// The name of the server.
    pub node: String,
    /// The end of the WAL that it has, such as `0/5000148`.
    pub lsn: Option<String>,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// `chosen: most WAL`, `80 B behind pg2`.
    pub verdict: String,
}

/// The two rings. Written a few times a day, so one lock each is enough.
#[derive(Debug, Default)]
pub struct Events {
    events: Mutex<VecDeque<Event>>,
    failovers: Mutex<VecDeque<FailoverSummary>>,
}

/// A day of a restless cluster.
const EVENTS_MAX: usize = 1_000;
/// More than a person will read.
const FAILOVERS_MAX: usize = 100;

impl Severity {
    /// The word used in the console and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Events {
    /// Adds an event; the oldest makes room.
    pub fn push(&self, event: Event) {
        let mut ring = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= EVENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(event);
    }

    /// Adds a record, or replaces the one with the same id: a failover is shown while it runs.
    /// Says whether this record is the first of it that has ended.
    pub(super) fn record_failover(&self, failover: FailoverSummary) -> bool {
        let mut ring = self
            .failovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let has_ended = failover.ended_at.is_some();
        if let Some(known) = ring.iter_mut().find(|known| known.id == failover.id) {
            let had_ended = known.ended_at.is_some();
            *known = failover;
            return has_ended && !had_ended;
        }
        if ring.len() >= FAILOVERS_MAX {
            ring.pop_front();
        }
        ring.push_back(failover);
        has_ended
    }

    /// The events, oldest first.
    pub fn events(&self) -> Vec<Event> {
        let ring = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().cloned().collect()
    }

    /// The failovers, oldest first.
    pub fn failovers(&self) -> Vec<FailoverSummary> {
        let ring = self
            .failovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ring.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sentence: String) -> Event {
        Event {
            at: SystemTime::UNIX_EPOCH,
            severity: Severity::Info,
            kind: "test",
            node: None,
            sentence,
        }
    }

    #[test]
    fn the_oldest_event_makes_room() {
        let events = Events::default();
        for number in 0..=EVENTS_MAX {
            events.push(event(number.to_string()));
        }
        let kept = events.events();
        assert_eq!(kept.len(), EVENTS_MAX);
        assert_eq!(kept.first().unwrap().sentence, "1");
    }
}
