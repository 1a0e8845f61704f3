//! Connections of a pool that rest where the next loan finds them at once.
//!
//! For the pool of the crate they are still lent, so that a loan that follows another touches
//! neither its list nor its semaphore. Whoever waits, waits at that semaphore: while anybody does,
//! nothing is laid here, and who begins to wait looks here once more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool::managed::Object;

use super::connection::Connection;
use super::gate::Shared;
use super::opener::Opener;
use super::queue::Queue;
use crate::net::Idle;

/// The connections that rest, the last one on top.
pub(super) struct Shelf<S: Default + Send + 'static> {
    pub(super) shared: Arc<Shared>,
    queue: Arc<Queue>,
    /// `None` when its pool is no more.
    resting: Mutex<Option<Vec<Object<Opener<S>>>>>,
}

impl<S: Default + Send + 'static> Shelf<S> {
    pub(super) fn new(shared: &Arc<Shared>, queue: &Arc<Queue>) -> Self {
        Self {
            shared: Arc::clone(shared),
            queue: Arc::clone(queue),
            resting: Mutex::new(Some(Vec::new())),
        }
    }

    /// Lays a connection down, or leaves it to whoever waits for one.
    pub(super) fn put(&self, object: Object<Opener<S>>) {
        let mut resting = self.lock();
        // Who waits entered the queue before it looked here, behind the same lock.
        match &mut *resting {
            Some(objects) if self.queue.len() == 0 => objects.push(object),
            _ => {
                drop(resting);
                drop(object);
            }
        }
    }

    /// The topmost connection that may still be lent; those above it that may not are closed.
    pub(super) fn take(&self) -> Option<Object<Opener<S>>> {
        loop {
            let object = self.lock().as_mut()?.pop()?;
            if self.shared.is_current(&object) && object.stream.check_idle() == Idle::Silent {
                return Some(object);
            }
            drop(Object::take(object));
        }
    }

    /// Closes what is not to be kept, and tells how many these were.
    pub(super) fn weed(&self, keep: impl Fn(&Connection<S>) -> bool) -> usize {
        let mut resting = self.lock();
        let Some(objects) = resting.as_mut() else {
            return 0;
        };
        let weeds: Vec<_> = objects.extract_if(.., |object| !keep(object)).collect();
        drop(resting);
        let count = weeds.len();
        for weed in weeds {
            drop(Object::take(weed));
        }
        count
    }

    /// Closes all of it, and what comes later.
    pub(super) fn close(&self) {
        let objects = self.lock().take();
        for object in objects.into_iter().flatten() {
            drop(Object::take(object));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Object<Opener<S>>>>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
