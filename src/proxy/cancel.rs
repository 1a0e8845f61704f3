//! Cancel requests: keys of ours, translated to the keys of the servers.
//!
//! A cancel must never hit the next user of a server connection. So a session that gives its
//! connection back while a cancel is on its way to it gives it back as unusable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::doorbell::{Doorbell, ring};
use crate::clock;
use crate::cluster::ServerId;
use crate::wire::CancelKey;

/// What a session runs on, as far as a cancel is concerned.
#[derive(Debug)]
pub(super) struct CancelSlot {
    key: CancelKey,
    /// Of the session, for when nothing of it is on a server.
    bell: Arc<Doorbell>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    target: Option<(ServerId, CancelKey)>,
    /// Cancels that are on their way to the target.
    in_flight: u32,
}

/// The keys that clients were given.
#[derive(Debug, Default)]
pub(super) struct CancelKeys {
    slots: Mutex<BTreeMap<u32, Arc<CancelSlot>>>,
}

impl CancelKeys {
    /// A new key: `secret_bytes` is 4 for protocol 3.0, up to 32 since 3.2.
    ///
    /// # Errors
    ///
    /// When the operating system has no random bytes.
    pub(super) fn issue(
        &self,
        secret_bytes: usize,
        bell: &Arc<Doorbell>,
    ) -> std::io::Result<Arc<CancelSlot>> {
        loop {
            let random = clock::random::<36>()?;
            let (pid, secret) = random.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
            // libpq takes the number for a process: positive, and not zero.
            let pid = u32::from_be_bytes(*pid) & 0x7FFF_FFFF;
            let mut slots = lock(&self.slots);
            if pid == 0 || slots.contains_key(&pid) {
                continue;
            }
            let secret = secret.get(..secret_bytes).unwrap_or(secret);
            let key = CancelKey {
                pid,
                secret: Bytes::copy_from_slice(secret),
            };
            let slot = Arc::new(CancelSlot {
                key,
                bell: Arc::clone(bell),
                state: Mutex::default(),
            });
            slots.insert(pid, Arc::clone(&slot));
            return Ok(slot);
        }
    }

    /// Takes a key back.
    pub(super) fn revoke(&self, slot: &CancelSlot) {
        lock(&self.slots).remove(&slot.key.pid);
    }

    /// The session with this key.
    pub(super) fn find(&self, key: &CancelKey) -> Option<Arc<CancelSlot>> {
        let slots = lock(&self.slots);
        let slot = slots.get(&key.pid)?;
        slot.key.matches(key).then(|| Arc::clone(slot))
    }
}

impl CancelSlot {
    pub(super) const fn key(&self) -> &CancelKey {
        &self.key
    }

    /// Cancels what waits for a server.
    pub(super) fn ring(&self) {
        self.bell.ring(ring::CANCEL);
    }

    /// The session runs on this connection now.
    pub(super) fn aim(&self, server: ServerId, key: CancelKey) {
        lock(&self.state).target = Some((server, key));
    }

    /// The session gives its connection back. False when a cancel is on its way to it.
    #[must_use]
    pub(super) fn put_down(&self) -> bool {
        let mut state = lock(&self.state);
        state.target = None;
        state.in_flight == 0
    }

    /// What to cancel, if anything runs. [`CancelSlot::sent`] has to follow.
    pub(super) fn begin(&self) -> Option<(ServerId, CancelKey)> {
        let mut state = lock(&self.state);
        let target = state.target.clone()?;
        state.in_flight += 1;
        Some(target)
    }

    /// The cancel has reached its server, or never will.
    pub(super) fn sent(&self) {
        let mut state = lock(&self.state);
        state.in_flight = state.in_flight.saturating_sub(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_finds_a_session() {
        let keys = CancelKeys::default();
        let slot = keys.issue(4, &Arc::default()).unwrap();
        assert!(keys.find(slot.key()).is_some());
        let mut wrong = slot.key().clone();
        wrong.secret = Bytes::from_static(b"");
        assert!(keys.find(&wrong).is_none());
        keys.revoke(&slot);
        assert!(keys.find(slot.key()).is_none());
    }

    #[test]
    fn a_connection_with_a_cancel_on_its_way_is_not_given_back() {
        let keys = CancelKeys::default();
        let slot = keys.issue(32, &Arc::default()).unwrap();
        slot.aim(
            ServerId(1),
            CancelKey {
                pid: 1,
                secret: Bytes::from_static(b"1234"),
            },
        );
        assert!(slot.begin().is_some());
        assert!(!slot.put_down());
        slot.sent();
        assert!(slot.put_down());
        assert!(slot.begin().is_none(), "nothing runs any more");
    }
}
