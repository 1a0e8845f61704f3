//! How a session that sleeps is told that something changed: without a channel, and without a lock
//! that sessions share.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

/// The bell of one session.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    rung: AtomicU8,
    /// Whether the session has buffers that it could give back.
    fat: AtomicBool,
    waker: AtomicWaker,
}

/// Why a bell was rung.
pub(super) mod ring {
    /// The cluster changed in a way that may help a statement that waits.
    pub(crate) const SNAPSHOT: u8 = 1;
    /// The router stops.
    pub(crate) const DRAIN: u8 = 2;
    /// An operator ends the session.
    pub(crate) const KILL: u8 = 4;
    /// Give back what is not needed.
    pub(crate) const TRIM: u8 = 8;
    /// The client cancels, and nothing runs on a server.
    pub(crate) const CANCEL: u8 = 16;
    /// The shared listener has something for the session.
    pub(crate) const MAIL: u8 = 32;
}

impl Doorbell {
    pub(super) fn ring(&self, why: u8) {
        self.rung.fetch_or(why, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(super) fn grow_fat(&self) {
        if !self.fat.load(Ordering::Relaxed) {
            self.fat.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn slim_down(&self) {
        self.fat.store(false, Ordering::Relaxed);
    }

    /// Takes what was rung since the last call, and has the caller woken by the next ring.
    pub(super) fn answer(&self, waker: &Waker) -> u8 {
        self.waker.register(waker);
        match self.rung.load(Ordering::Acquire) {
            0 => 0,
            _ => self.rung.swap(0, Ordering::AcqRel),
        }
    }

    /// Waits for a ring of one of these kinds, and takes no ring.
    pub(super) async fn heard(&self, kinds: u8) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.rung.load(Ordering::Acquire) & kinds {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Takes back what was rung.
    pub(super) fn forget(&self, kinds: u8) {
        self.rung.fetch_and(!kinds, Ordering::AcqRel);
    }
}

/// The bells of all sessions, by the number of the client.
#[derive(Debug, Default)]
pub(super) struct Doorbells {
    bells: Mutex<BTreeMap<u64, Arc<Doorbell>>>,
}

impl Doorbells {
    /// Hangs up a bell for a new session.
    pub(super) fn hang(&self, client: u64) -> Arc<Doorbell> {
        let bell = Arc::new(Doorbell::default());
        self.lock().insert(client, Arc::clone(&bell));
        bell
    }

    pub(super) fn take_down(&self, client: u64) {
        self.lock().remove(&client);
    }

    /// Rings for one client; false when there is none of this number.
    pub(super) fn ring_one(&self, client: u64, why: u8) -> bool {
        let bell = self.lock().get(&client).map(Arc::clone);
        bell.is_some_and(|bell| {
            bell.ring(why);
            true
        })
    }

    pub(super) fn ring_all(&self, why: u8) {
        for bell in self.lock().values() {
            bell.ring(why);
        }
    }

    /// Asks the sessions that have buffers to give them back when they are idle.
    pub(super) fn trim(&self) {
        for bell in self.lock().values() {
            if bell.fat.load(Ordering::Relaxed) {
                bell.ring(ring::TRIM);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Doorbell>>> {
        // Nothing that holds the lock can leave the map half changed.
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
