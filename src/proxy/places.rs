//! How many there may be of something at a time, counted exactly: whoever has a place gives it up by
//! dropping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken.
#[derive(Debug, Default)]
pub(super) struct Places(AtomicUsize);

/// One of them.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Takes one; `None` when there are no more. A limit that was lowered sends nobody away.
    pub(super) fn enter(places: &Arc<Self>, limit: usize) -> Option<Place> {
        let one_more = |taken| (taken < limit).then_some(taken + 1);
        let taken = &places.0;
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        Some(Place(Arc::clone(places)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Arc::new(Places::default());
        let first = Places::enter(&places, 2).unwrap();
        let second = Places::enter(&places, 2).unwrap();
        assert!(Places::enter(&places, 2).is_none());
        drop(first);
        assert!(Places::enter(&places, 1).is_none(), "the limit was lowered");
        drop(second);
        assert!(Places::enter(&places, 1).is_some());
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_hundred_who_come_at_once_take_no_place_too_many() {
        let places = Arc::new(Places::default());
        let entered: Vec<_> = std::thread::scope(|scope| {
            let enter = || scope.spawn(|| Places::enter(&places, 7));
            let threads = [(); 100].map(|()| enter());
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert_eq!(entered.iter().flatten().count(), 7);
    }
}
