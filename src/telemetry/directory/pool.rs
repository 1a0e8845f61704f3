//! The pools, and who waits in them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Shared, lock};
use crate::cluster::ServerId;

/// One pool: connections of one user to one database on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// The server.
    pub server: ServerId,
    /// The user.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// How many connections it may have.
    pub size: u32,
}

/// The handle of one pool's entry.
#[derive(Debug)]
pub struct PoolEntry {
    key: u64,
    record: Arc<Record>,
    shared: Arc<Shared>,
}

/// One client that waits for a connection. Dropping it ends the wait.
#[derive(Debug)]
pub struct PoolWait {
    record: Arc<Record>,
    ticket: (Instant, u64),
}

/// A pool as SHOW POOLS shows it. Pools of the same server, user and database are one here: after a
/// change of a password there are two of them until the older one is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Which one it is.
    pub info: PoolInfo,
    /// Connections that clients have.
    pub in_use: u32,
    /// Connections that wait for a client.
    pub idle: u32,
    /// Clients that wait for a connection.
    pub waiting: u32,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
}

#[derive(Debug)]
pub(super) struct Record {
    info: PoolInfo,
    /// Since a reload it may be another than the pool began with.
    size: AtomicU32,
    /// Locked only by those who must wait anyway, and by SHOW.
    waiting: Mutex<BTreeSet<(Instant, u64)>>,
}

impl PoolEntry {
    /// Says that a client waits from now on. Ask only when no connection is at hand.
    pub fn begin_wait(&self, now: Instant) -> PoolWait {
        let ticket = (now, self.shared.id());
        lock(&self.record.waiting).insert(ticket);
        PoolWait {
            record: Arc::clone(&self.record),
            ticket,
        }
    }

    /// Says how many connections the pool may have from now on.
    pub fn set_size(&self, size: u32) {
        self.record.size.store(size, Ordering::Relaxed);
    }
}

impl Drop for PoolEntry {
    fn drop(&mut self) {
        lock(&self.shared.pools).remove(&self.key);
    }
}

impl PoolWait {
    /// Ends the wait; says how long it was.
    pub fn end(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.ticket.0)
    }
}

impl Drop for PoolWait {
    fn drop(&mut self) {
        lock(&self.record.waiting).remove(&self.ticket);
    }
}

pub(super) fn register(shared: &Arc<Shared>, info: PoolInfo) -> PoolEntry {
    let key = shared.id();
    let record = Arc::new(Record {
        size: AtomicU32::new(info.size),
        info,
        waiting: Mutex::default(),
    });
    lock(&shared.pools).insert(key, Arc::clone(&record));
    PoolEntry {
        key,
        record,
        shared: Arc::clone(shared),
    }
}

pub(super) fn views(shared: &Shared, now: Instant) -> BTreeMap<Key, PoolView> {
    let records: Vec<_> = lock(&shared.pools).values().map(Arc::clone).collect();
    let mut views = BTreeMap::new();
    for record in records {
        let view = record.view(now);
        let info = &view.info;
        match views.entry(key(&info.database, &info.user, info.server)) {
            Entry::Vacant(place) => {
                place.insert(view);
            }
            Entry::Occupied(mut same) => same.get_mut().add(&view),
        }
    }
    views
}

/// The order of the lines, and what makes two pools one line.
pub(super) type Key = (Arc<str>, Arc<str>, ServerId);

pub(super) fn key(database: &Arc<str>, user: &Arc<str>, server: ServerId) -> Key {
    (Arc::clone(database), Arc::clone(user), server)
}

impl Record {
    fn view(&self, now: Instant) -> PoolView {
        let waiting = lock(&self.waiting);
        let oldest = waiting.first().map(|(since, _)| *since);
        PoolView {
            info: PoolInfo {
                size: self.size.load(Ordering::Relaxed),
                ..self.info.clone()
            },
            in_use: 0,
            idle: 0,
            waiting: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
            oldest_wait: oldest
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        }
    }
}

impl PoolView {
    /// Adds a pool of the same name, before connections are counted.
    fn add(&mut self, other: &Self) {
        self.info.size = self.info.size.saturating_add(other.info.size);
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.oldest_wait = self.oldest_wait.max(other.oldest_wait);
    }
}
