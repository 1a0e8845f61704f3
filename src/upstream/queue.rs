//! Who waits for a connection of one pool, and since when.
//!
//! The order is kept by the pool's semaphore, first come first served; this counts and bounds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The clients that wait. Nobody enters while a connection is free.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Queue {
    /// Takes a place; `None` when `limit` clients wait already.
    pub(super) fn enter(&self, now: Instant, limit: usize) -> Option<Place<'_>> {
        let mut waiting = self.lock();
        if waiting.since.len() >= limit {
            return None;
        }
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        waiting.since.insert(number, now);
        Some(Place {
            queue: self,
            number,
        })
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lock().since.len()
    }

    /// Since when the one waits who came first.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().since.values().next().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is one call on the map: a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.lock().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_place_is_given_up_when_it_is_dropped() {
        let queue = Queue::default();
        let now = clock::now();
        let first = queue.enter(now, 2).unwrap();
        let second = queue.enter(now, 2).unwrap();
        assert!(queue.enter(now, 2).is_none());
        drop(first);
        assert_eq!(queue.len(), 1);
        assert!(queue.enter(now, 2).is_some());
        drop(second);
        assert_eq!(queue.oldest(), None);
    }
}
