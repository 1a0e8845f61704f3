//! How many clients wait for a connection of one pool, and that they are not too many.
//!
//! The order is kept by the pool's semaphore, first come first served.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The clients that wait. Nobody enters while a connection is free.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: AtomicUsize,
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Queue);

impl Queue {
    /// Takes a place; `None` when `limit` clients wait already.
    pub(super) fn enter(&self, limit: usize) -> Option<Place<'_>> {
        let one_more = |waiting| (waiting < limit).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Place(self))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_up_when_it_is_dropped() {
        let queue = Queue::default();
        let first = queue.enter(2).unwrap();
        let second = queue.enter(2).unwrap();
        assert!(queue.enter(2).is_none());
        drop(first);
        assert_eq!(queue.len(), 1);
        assert!(queue.enter(2).is_some());
        drop(second);
        assert_eq!(queue.len(), 0);
    }
}
