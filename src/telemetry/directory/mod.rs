//! Who is here now: clients, server connections, pools. For SHOW and for gauges.
//!
//! An entry is a handful of atomics that its owner writes without a lock; the maps are locked
//! only when an entry comes, goes, or is looked at. An entry leaves the directory when its handle
//! is dropped, so a task that dies cannot leave a ghost.

mod client;
mod pool;
mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::counters::CodeNumbers;

pub use client::{ClientEntry, ClientInfo, ClientState, ClientView, Totals};
pub use pool::{PoolEntry, PoolInfo, PoolView, PoolWait};
pub use server::{ServerConnectionInfo, ServerConnectionState, ServerConnectionView, ServerEntry};

/// The lists of who is here.
#[derive(Debug)]
pub struct Directory {
    shared: Arc<Shared>,
}

/// What the entries keep alive.
#[derive(Debug)]
struct Shared {
    clients: Vec<Mutex<client::Shard>>,
    connections: Vec<Mutex<BTreeMap<u64, Arc<server::Record>>>>,
    pools: Mutex<BTreeMap<u64, Arc<pool::Record>>>,
    next_id: AtomicU64,
    pin_codes: CodeNumbers,
    /// Instants in entries are stored as milliseconds since this one.
    origin: Instant,
}

/// Logins of different clients rarely meet on one lock.
const SHARDS: usize = 16;

impl Directory {
    pub(super) fn new(origin: Instant) -> Self {
        let shared = Shared {
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            connections: (0..SHARDS).map(|_| Mutex::default()).collect(),
            pools: Mutex::default(),
            next_id: AtomicU64::new(1),
            pin_codes: CodeNumbers::new(),
            origin,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Adds a client. It leaves when the entry is dropped.
    pub fn register_client(&self, info: ClientInfo, now: Instant) -> ClientEntry {
        client::register(&self.shared, info, now)
    }

    /// Adds a connection to a server. It leaves when the entry is dropped.
    pub fn register_server_connection(&self, info: ServerConnectionInfo) -> ServerEntry {
        server::register(&self.shared, info)
    }

    /// Adds a pool. It leaves when the entry is dropped.
    pub fn register_pool(&self, info: PoolInfo) -> PoolEntry {
        pool::register(&self.shared, info)
    }

    /// The clients, by id.
    pub fn clients(&self, now: Instant) -> Vec<ClientView> {
        client::views(&self.shared, now)
    }

    /// The connections to servers, in the order in which they were made.
    pub fn server_connections(&self) -> Vec<ServerConnectionView> {
        server::views(&self.shared)
    }

    /// A number greater than the id of each server connection that is there, and not greater than
    /// those that come.
    pub fn mark(&self) -> u64 {
        self.shared.id()
    }

    /// The pools by database, user and server, with what their connections do.
    pub fn pools(&self, now: Instant) -> Vec<PoolView> {
        let mut views = pool::views(&self.shared, now);
        for connection in self.server_connections() {
            let info = &connection.info;
            let key = pool::key(&info.database, &info.user, info.server);
            if let Some(pool) = views.get_mut(&key) {
                match connection.state {
                    ServerConnectionState::Idle => pool.idle += 1,
                    ServerConnectionState::Active => pool.in_use += 1,
                    ServerConnectionState::Replication | ServerConnectionState::Listening => {}
                }
            }
        }
        views.into_values().collect()
    }

    /// The work of all clients by database, those that are gone included.
    pub fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        client::totals(&self.shared)
    }
}

impl Shared {
    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A lock that another thread died with still guards a list that can be read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shard of an id. Ids count up, so neighbours land on different locks.
fn shard<T>(shards: &[Mutex<T>], id: u64) -> Option<MutexGuard<'_, T>> {
    let count = u64::try_from(shards.len())
        .ok()
        .filter(|count| *count > 0)?;
    let place = usize::try_from(id % count).ok()?;
    shards.get(place).map(lock)
}

#[cfg(test)]
mod tests;
