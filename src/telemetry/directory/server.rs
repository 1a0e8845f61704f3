//! The connections to servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use super::super::codes::codes;
use super::{Shared, lock, shard};
use crate::cluster::ServerId;

/// What is known of a connection when a server accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConnectionInfo {
    /// The server.
    pub server: ServerId,
    /// The user that it is logged in as.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// The process on the server, as `BackendKeyData` named it.
    pub backend_pid: Option<i32>,
    /// When it was made.
    pub connected_at: SystemTime,
}

codes! {
    /// What a connection to a server is doing.
    ServerConnectionState {
        /// It waits in its pool.
        Idle = "idle",
        /// A client has it.
        Active = "active",
        /// It belongs to no pool: a client replicates over it.
        Replication = "replication",
        /// It belongs to no pool: it listens for the sessions of its database.
        Listening = "listening",
    }
}

/// The handle of one connection's entry; its owner writes it without a lock.
#[derive(Debug)]
pub struct ServerEntry {
    record: Arc<Record>,
    shared: Arc<Shared>,
}

/// A connection as SHOW SERVERS shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConnectionView {
    /// Which one it is: a number of ours.
    pub id: u64,
    /// Where it goes.
    pub info: ServerConnectionInfo,
    /// What it does.
    pub state: ServerConnectionState,
    /// How many statements it carried.
    pub queries: u64,
    /// How often it was lent to a client.
    pub leases: u64,
}

#[derive(Debug)]
pub(super) struct Record {
    id: u64,
    info: ServerConnectionInfo,
    state: AtomicU8,
    queries: AtomicU64,
    leases: AtomicU64,
}

impl ServerEntry {
    /// Says that a client has it.
    pub fn lend(&self) {
        let active = ServerConnectionState::Active as u8;
        self.record.state.store(active, Ordering::Relaxed);
        self.record.leases.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that a client has it for itself, to replicate.
    pub fn replicate(&self) {
        let replication = ServerConnectionState::Replication as u8;
        self.record.state.store(replication, Ordering::Relaxed);
    }

    /// Says that it listens for sessions.
    pub fn listen(&self) {
        let listening = ServerConnectionState::Listening as u8;
        self.record.state.store(listening, Ordering::Relaxed);
    }

    /// Says that it is back in its pool.
    pub fn give_back(&self) {
        let idle = ServerConnectionState::Idle as u8;
        self.record.state.store(idle, Ordering::Relaxed);
    }

    /// Counts a statement.
    pub fn count_query(&self) {
        self.record.queries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for ServerEntry {
    fn drop(&mut self) {
        if let Some(mut shard) = shard(&self.shared.connections, self.record.id) {
            shard.remove(&self.record.id);
        }
    }
}

impl Record {
    fn view(&self) -> ServerConnectionView {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        ServerConnectionView {
            id: self.id,
            info: self.info.clone(),
            state: ServerConnectionState::ALL
                .get(state)
                .copied()
                .unwrap_or(ServerConnectionState::Idle),
            queries: self.queries.load(Ordering::Relaxed),
            leases: self.leases.load(Ordering::Relaxed),
        }
    }
}

pub(super) fn register(shared: &Arc<Shared>, info: ServerConnectionInfo) -> ServerEntry {
    let record = Arc::new(Record {
        id: shared.id(),
        info,
        state: AtomicU8::new(ServerConnectionState::Idle as u8),
        queries: AtomicU64::new(0),
        leases: AtomicU64::new(0),
    });
    if let Some(mut shard) = shard(&shared.connections, record.id) {
        shard.insert(record.id, Arc::clone(&record));
    }
    ServerEntry {
        record,
        shared: Arc::clone(shared),
    }
}

pub(super) fn views(shared: &Shared) -> Vec<ServerConnectionView> {
    let mut views: Vec<_> = shared
        .connections
        .iter()
        .flat_map(|shard| {
            let shard = lock(shard);
            let views: Vec<_> = shard.values().map(|record| record.view()).collect();
            views
        })
        .collect();
    views.sort_by_key(|view| view.id);
    views
}
