//! How many there may be of something at a time, counted exactly: whoever has a place gives it up by
//! dropping it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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

/// How many places are taken of each name.
#[derive(Debug, Default)]
pub(super) struct PlacesByName(Mutex<BTreeMap<String, Arc<Places>>>);

impl PlacesByName {
    /// Takes one of a name. All are counted, those without a limit too: it may get one.
    pub(super) fn enter(&self, name: &str, limit: Option<usize>) -> Option<Place> {
        let mut names = super::lock(&self.0);
        if names.len() >= NAMES_MAX {
            // Nobody else can reach them while the names are locked.
            names.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = match names.get(name) {
            Some(places) => places,
            None => names.entry(name.to_owned()).or_default(),
        };
        Places::enter(places, limit.unwrap_or(usize::MAX))
    }
}

/// So many names are remembered before those are forgotten that nobody uses. Those in use are
/// bounded by the number of clients.
const NAMES_MAX: usize = 1000;

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
    fn each_name_has_places_of_its_own_and_is_forgotten_without_them() {
        let names = PlacesByName::default();
        let first = names.enter("alice", None).unwrap();
        assert!(names.enter("alice", Some(1)).is_none(), "it is counted");
        let other = names.enter("bob", Some(1)).unwrap();
        drop(first);
        for number in 0..NAMES_MAX {
            assert!(names.enter(&number.to_string(), Some(1)).is_some());
        }
        assert!(names.0.lock().unwrap().len() < 10);
        assert!(names.enter("bob", Some(1)).is_none(), "it is not forgotten");
        drop(other);
        assert!(names.enter("bob", Some(1)).is_some());
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
