//! The pools, and who waits in them.

use std::collections::BTreeSet;
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

/// A pool as SHOW POOLS shows it.
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

pub(super) fn views(shared: &Shared, now: Instant) -> Vec<PoolView> {
    let records: Vec<_> = lock(&shared.pools).values().map(Arc::clone).collect();
    let mut views: Vec<_> = records
        .iter()
        .map(|record| {
            let waiting = lock(&record.waiting);
            PoolView {
                info: record.info.clone(),
                in_use: 0,
                idle: 0,
                waiting: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
                oldest_wait: waiting.first().map_or(Duration::ZERO, |(since, _)| {
                    now.saturating_duration_since(*since)
                }),
            }
        })
        .collect();
    views.sort_by(|a, b| {
        let key = |view: &PoolView| {
            let info = &view.info;
            (
                Arc::clone(&info.database),
                Arc::clone(&info.user),
                info.server,
            )
        };
        key(a).cmp(&key(b))
    });
    views
}
