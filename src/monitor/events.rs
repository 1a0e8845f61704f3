//! What happened, for `SHOW EVENTS` and `SHOW FAILOVERS`: two bounded lists.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::cluster::ServerId;
use crate::policy::FailoverRecord;
use crate::telemetry::Severity;

/// One line of `SHOW EVENTS`.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorEvent {
    /// When.
    pub at: SystemTime,
    /// How bad.
    pub severity: Severity,
    /// A word to filter by.
    pub kind: &'static str,
    /// Which server it is about.
    pub server: Option<ServerId>,
    /// What happened.
    pub sentence: String,
}

/// A failover record with the wall-clock time of its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// When the doubt began.
    pub started: SystemTime,
    /// The record.
    pub record: FailoverRecord,
}

/// The newest events, and how many there ever were.
#[derive(Debug, Default)]
struct Events {
    total: u64,
    newest: VecDeque<MonitorEvent>,
}

/// The two lists.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: Mutex<Events>,
    records: Mutex<VecDeque<Recorded>>,
}

impl Journal {
    pub(super) fn note(&self, event: MonitorEvent) {
        let mut events = lock(&self.events);
        events.total += 1;
        push(&mut events.newest, event, EVENTS_MAX);
    }

    /// A later chapter of the same story replaces the earlier one, unless that was an ending.
    pub(super) fn record(&self, recorded: Recorded) {
        let mut records = lock(&self.records);
        let same = |last: &Recorded| {
            last.record.id == recorded.record.id && last.record.result == recorded.record.result
        };
        if records.back().is_some_and(same) {
            records.pop_back();
        }
        push(&mut records, recorded, RECORDS_MAX);
    }

    /// How many events there ever were, and those after the first `seen` that are still kept.
    pub(super) fn events_since(&self, seen: u64) -> (u64, Vec<MonitorEvent>) {
        let events = lock(&self.events);
        let new = usize::try_from(events.total.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skip = events.newest.len().saturating_sub(new);
        (
            events.total,
            events.newest.iter().skip(skip).cloned().collect(),
        )
    }

    pub(super) fn records(&self) -> Vec<Recorded> {
        lock(&self.records).iter().cloned().collect()
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, max: usize) {
    if list.len() >= max {
        list.pop_front();
    }
    list.push_back(item);
}

/// A list of plain values is whole even when a thread died while holding it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const EVENTS_MAX: usize = 1000;
const RECORDS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_events_forgets_the_oldest() {
        let journal = Journal::default();
        for number in 0..EVENTS_MAX + 5 {
            journal.note(MonitorEvent {
                at: SystemTime::UNIX_EPOCH,
                severity: Severity::Info,
                kind: "test",
                server: None,
                sentence: number.to_string(),
            });
        }
        let (total, events) = journal.events_since(0);
        assert_eq!(total, EVENTS_MAX as u64 + 5);
        assert_eq!(journal.events_since(total).1, []);
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events[0].sentence, "5");
    }
}
