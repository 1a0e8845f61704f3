//! Cancel requests: keys of ours, translated to the keys of the servers.
//!
//! A cancel must never hit the next user of a server connection. So a connection that a session
//! gives back while a cancel is on its way to it stays out of its pool until the cancel has landed:
//! a server signals its process before it closes the connection that brought the request, and a
//! signal that comes between two statements is ignored.
//!
//! Source: PostgreSQL 17, postgres.c, `PostgresMain` and `ProcessInterrupts` (DoingCommandRead).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::debug;

use super::Proxy;
use super::doorbell::{Doorbell, ring};
use crate::clock;
use crate::cluster::{Peers, ServerId};
use crate::upstream::GetError;
use crate::wire::CancelKey;

/// What a session runs on, as far as a cancel is concerned.
#[derive(Debug)]
pub(super) struct CancelSlot {
    key: CancelKey,
    /// Of the session, for when nothing of it is on a server.
    bell: Arc<Doorbell>,
    target: Mutex<Option<Target>>,
}

/// A server connection that a session has.
#[derive(Debug)]
struct Target {
    server: ServerId,
    key: CancelKey,
    /// The cancels that were sent to it; most connections never see one.
    flights: Option<Arc<Flights>>,
}

/// The cancels on their way to one connection of one session.
#[derive(Debug, Default)]
pub(super) struct Flights {
    in_flight: AtomicU32,
    /// Nobody knows of one of them whether it is still to come.
    lost: AtomicBool,
    landed: Notify,
}

/// A cancel on its way. Dropping it without [`Flight::landed`] says that it is not known whether it
/// is still to come.
#[derive(Debug)]
pub(super) struct Flight {
    server: ServerId,
    key: CancelKey,
    flights: Arc<Flights>,
    end: FlightEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightEnd {
    Unknown,
    Landed,
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
        peers: &Peers,
        secret_bytes: usize,
        bell: &Arc<Doorbell>,
    ) -> std::io::Result<Arc<CancelSlot>> {
        loop {
            let random = clock::random::<36>()?;
            let (pid, secret) = random.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
            let pid = peers.number(u32::from_be_bytes(*pid));
            let mut slots = lock(&self.slots);
            if slots.contains_key(&pid) {
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
                target: Mutex::default(),
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
        *lock(&self.target) = Some(Target {
            server,
            key,
            flights: None,
        });
    }

    /// The session gives its connection back. Brings the cancels that were sent
    /// to it, if there were any: nobody else may have the connection before they have landed.
    #[must_use]
    pub(super) fn put_down(&self) -> Option<Arc<Flights>> {
        lock(&self.target).take()?.flights
    }

    /// What to cancel, if anything runs.
    pub(super) fn begin(&self) -> Option<Flight> {
        let mut target = lock(&self.target);
        let target = target.as_mut()?;
        let flights = Arc::clone(target.flights.get_or_insert_default());
        flights.in_flight.fetch_add(1, Ordering::AcqRel);
        Some(Flight {
            server: target.server,
            key: target.key.clone(),
            flights,
            end: FlightEnd::Unknown,
        })
    }
}

impl Flight {
    /// Brings the request to its server and waits until the server has closed the connection.
    pub(super) async fn fly(self, proxy: &Proxy) {
        let sent = proxy.upstreams.cancel(self.server, &self.key, CANCEL_LIMIT);
        match sent.await {
            Ok(()) => self.landed(),
            // Nothing was sent.
            Err(GetError::UnknownServer(_)) => self.landed(),
            Err(error) => {
                debug!(server = %self.server, error = %error, "could not cancel");
            }
        }
    }

    /// It will have no effect that it has not had.
    fn landed(mut self) {
        self.end = FlightEnd::Landed;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.end == FlightEnd::Unknown {
            self.flights.lost.store(true, Ordering::Release);
        }
        self.flights.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.flights.landed.notify_waiters();
    }
}

impl Flights {
    /// Waits until all of them have ended, which each of them does within its own limit. Tells
    /// whether none can come any more.
    pub(super) async fn all_landed(&self) -> bool {
        loop {
            let landed = self.landed.notified();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return !self.lost.load(Ordering::Acquire);
            }
            landed.await;
        }
    }
}

impl Proxy {
    /// Passes a cancel request on, and waits until its server took it: the client takes our
    /// closing for that.
    pub(super) async fn pass_cancel(&self, key: &CancelKey) {
        let made = CancelKey {
            pid: Peers::as_made(key.pid),
            secret: key.secret.clone(),
        };
        if !self.cancel_own(&made).await {
            self.pass_back(key).await;
            self.pass_on(key).await;
        }
    }

    /// Cancels what a session of this process does; false when none has this key.
    pub(super) async fn cancel_own(&self, key: &CancelKey) -> bool {
        let Some(slot) = self.state.cancels.find(key) else {
            return false;
        };
        match slot.begin() {
            Some(flight) => flight.fly(self).await,
            None => slot.ring(),
        }
        true
    }
}

/// How long a server may take to answer a cancel request by closing.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn only_the_right_secret_finds_a_session() {
        let keys = CancelKeys::default();
        let slot = keys.issue(&Peers::default(), 4, &Arc::default()).unwrap();
        assert!(keys.find(slot.key()).is_some());
        let mut wrong = slot.key().clone();
        wrong.secret = Bytes::from_static(b"");
        assert!(keys.find(&wrong).is_none());
        keys.revoke(&slot);
        assert!(keys.find(slot.key()).is_none());
    }

    fn aimed() -> Arc<CancelSlot> {
        let keys = CancelKeys::default();
        let slot = keys.issue(&Peers::default(), 32, &Arc::default()).unwrap();
        let secret = Bytes::from_static(b"1234");
        slot.aim(ServerId(1), CancelKey { pid: 1, secret });
        slot
    }

    #[test]
    fn a_connection_that_no_cancel_was_sent_to_is_free_at_once() {
        let slot = aimed();
        assert!(slot.put_down().is_none());
        assert!(slot.begin().is_none(), "nothing runs any more");
    }

    #[tokio::test]
    async fn a_connection_waits_for_the_cancels_on_their_way_to_it() {
        let slot = aimed();
        let (one, two) = (slot.begin().unwrap(), slot.begin().unwrap());
        let flights = slot.put_down().unwrap();
        let mut wait = std::pin::pin!(flights.all_landed());
        one.landed();
        let mut context = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        two.landed();
        assert!(wait.await, "it may go to the next");
    }

    #[tokio::test]
    async fn a_cancel_that_may_still_come_costs_the_connection() {
        let slot = aimed();
        let (one, two) = (slot.begin().unwrap(), slot.begin().unwrap());
        let flights = slot.put_down().unwrap();
        drop(one);
        two.landed();
        assert!(!flights.all_landed().await);
    }

    #[tokio::test]
    async fn a_cancel_for_an_earlier_connection_does_not_hold_the_next() {
        let slot = aimed();
        let _still_flying = slot.begin().unwrap();
        assert!(slot.put_down().is_some());
        slot.aim(ServerId(2), slot.key().clone());
        assert!(slot.put_down().is_none());
    }
}
