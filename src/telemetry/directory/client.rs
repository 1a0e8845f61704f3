//! The clients that are connected, and what each has done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::super::codes::codes;
use super::{Shared, lock, shard};
use crate::cluster::ServerId;

/// What is known of a client when its login ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The number that its cancel key and its log lines carry; unique among the living.
    pub id: u64,
    /// The user.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// What the start-up message said.
    pub application_name: Arc<str>,
    /// Where it comes from; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// When it came.
    pub connected_at: SystemTime,
}

codes! {
    /// What a client is doing.
    ClientState {
        /// It has not logged in yet.
        Login = "login",
        /// It has asked for nothing.
        Idle = "idle",
        /// A server works for it.
        Active = "active",
        /// It waits for a connection, a primary or a position.
        Waiting = "waiting",
        /// It is silent inside a transaction, and keeps a connection.
        InTransaction = "in_transaction",
        /// It replicates, over a connection of its own.
        Replication = "replication",
    }
}

/// The handle of one client's entry; its owner writes it without a lock.
#[derive(Debug)]
pub struct ClientEntry {
    record: Arc<Record>,
    shared: Arc<Shared>,
}

/// A client as SHOW CLIENTS shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// Who it is.
    pub info: ClientInfo,
    /// What it does.
    pub state: ClientState,
    /// For how long.
    pub state_age: Duration,
    /// The server whose connection it has.
    pub server: Option<ServerId>,
    /// Why it must stay there.
    pub pinned_reason: Option<&'static str>,
    /// What it has done.
    pub totals: Totals,
}

/// The work of one or of many clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Statements.
    pub queries: u64,
    /// Transactions that ended, statements outside of one included.
    pub transactions: u64,
    /// Bytes that came from clients.
    pub received_bytes: u64,
    /// Bytes that went to clients.
    pub sent_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    living: BTreeMap<u64, Arc<Record>>,
    /// Kept under the same lock as the living, so that a sum of both never goes down.
    departed: BTreeMap<Arc<str>, Totals>,
}

#[derive(Debug)]
struct Record {
    info: ClientInfo,
    key: u64,
    state: AtomicU8,
    pin: AtomicU8,
    server: AtomicU32,
    state_since_ms: AtomicU64,
    queries: AtomicU64,
    transactions: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// For the test that keeps it small: there is one for each connected client.
#[cfg(test)]
pub(super) const RECORD_BYTES: usize = size_of::<Record>();

const NO_SERVER: u32 = u32::MAX;
const NO_PIN: u8 = u8::MAX;
/// Databases beyond this share one line: names come from clients, and memory has an end.
const DATABASES_MAX: usize = 1_000;

impl ClientEntry {
    /// Says what the client does now.
    pub fn set_state(&self, state: ClientState, now: Instant) {
        self.record.state.store(state as u8, Ordering::Relaxed);
        let since = self.shared.millis(now);
        self.record.state_since_ms.store(since, Ordering::Relaxed);
    }

    /// Says whose connection the client has.
    pub fn set_server(&self, server: Option<ServerId>) {
        let number = server.map_or(NO_SERVER, |server| u32::from(server.0));
        self.record.server.store(number, Ordering::Relaxed);
    }

    /// Says why the client must stay on its server; `None` when it need not.
    pub fn set_pin(&self, reason: Option<&'static str>) {
        let number = reason.map_or(NO_PIN, |reason| self.shared.pin_codes.number(reason));
        self.record.pin.store(number, Ordering::Relaxed);
    }

    /// Counts a statement.
    pub fn count_query(&self) {
        self.record.queries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a transaction that ended.
    pub fn count_transaction(&self) {
        self.record.transactions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that came from the client; once for each read, not for each message.
    pub fn add_received(&self, bytes: u64) {
        self.record
            .received_bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that went to the client; once for each flush, not for each row.
    pub fn add_sent(&self, bytes: u64) {
        self.record.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for ClientEntry {
    fn drop(&mut self) {
        if let Some(mut shard) = shard(&self.shared.clients, self.record.key) {
            shard.living.remove(&self.record.key);
            shard.depart(&self.record);
        }
    }
}

impl Shard {
    fn depart(&mut self, record: &Record) {
        let known = self.departed.contains_key(&record.info.database);
        let database = if known || self.departed.len() < DATABASES_MAX {
            Arc::clone(&record.info.database)
        } else {
            Arc::from("(other)")
        };
        self.departed
            .entry(database)
            .or_default()
            .add(record.totals());
    }
}

impl Record {
    fn totals(&self) -> Totals {
        Totals {
            queries: self.queries.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }

    fn view(&self, shared: &Shared, now_ms: u64) -> ClientView {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        let since = self.state_since_ms.load(Ordering::Relaxed);
        let pin = self.pin.load(Ordering::Relaxed);
        ClientView {
            info: self.info.clone(),
            state: ClientState::ALL
                .get(state)
                .copied()
                .unwrap_or(ClientState::Idle),
            state_age: Duration::from_millis(now_ms.saturating_sub(since)),
            server: u16::try_from(self.server.load(Ordering::Relaxed))
                .ok()
                .map(ServerId),
            pinned_reason: (pin != NO_PIN).then(|| shared.pin_codes.code(pin)),
            totals: self.totals(),
        }
    }
}

impl Totals {
    /// Adds the work of somebody else.
    pub const fn add(&mut self, other: Self) {
        self.queries += other.queries;
        self.transactions += other.transactions;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
    }
}

pub(super) fn register(shared: &Arc<Shared>, info: ClientInfo, now: Instant) -> ClientEntry {
    let record = Arc::new(Record {
        // Not the client's own id: that one is random, and two must not displace each other.
        key: shared.id(),
        info,
        state: AtomicU8::new(ClientState::Login as u8),
        pin: AtomicU8::new(NO_PIN),
        server: AtomicU32::new(NO_SERVER),
        state_since_ms: AtomicU64::new(shared.millis(now)),
        queries: AtomicU64::new(0),
        transactions: AtomicU64::new(0),
        received_bytes: AtomicU64::new(0),
        sent_bytes: AtomicU64::new(0),
    });
    if let Some(mut shard) = shard(&shared.clients, record.key) {
        shard.living.insert(record.key, Arc::clone(&record));
    }
    ClientEntry {
        record,
        shared: Arc::clone(shared),
    }
}

pub(super) fn views(shared: &Shared, now: Instant) -> Vec<ClientView> {
    let now_ms = shared.millis(now);
    let mut views: Vec<_> = shared
        .clients
        .iter()
        .flat_map(|shard| {
            let shard = lock(shard);
            let views: Vec<_> = shard
                .living
                .values()
                .map(|record| record.view(shared, now_ms))
                .collect();
            views
        })
        .collect();
    views.sort_by_key(|view| view.info.id);
    views
}

pub(super) fn totals(shared: &Shared) -> BTreeMap<Arc<str>, Totals> {
    let mut sums = BTreeMap::<Arc<str>, Totals>::new();
    for shard in &shared.clients {
        let shard = lock(shard);
        for (database, totals) in &shard.departed {
            sums.entry(Arc::clone(database)).or_default().add(*totals);
        }
        for record in shard.living.values() {
            let database = Arc::clone(&record.info.database);
            sums.entry(database).or_default().add(record.totals());
        }
    }
    sums
}
