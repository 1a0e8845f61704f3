//! A light load of our own: a few clients that write, a few that read, all through the router.
//!
//! Each statement also asks which server answers it, so what is reported is what the clients saw
//! and not what the router believes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::waits::Waits;
use crate::clock;
use crate::local::{DATABASE, DEMO_ROLE};

/// The clients at work.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    router: SocketAddr,
    is_over: AtomicBool,
    keeps_ledger: bool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    window: Tally,
    total: Tally,
    ledger: Ledger,
}

/// What the clients saw in some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Acknowledged writes, by the server that did them.
    pub(super) writes: BTreeMap<String, u64>,
    /// Reads of the clients that do nothing else, by the server that answered.
    pub(super) reads: BTreeMap<String, u64>,
    /// Reads of what the same client has just written, by the server that answered.
    pub(super) own_reads: BTreeMap<String, u64>,
    /// The first acknowledged write of each server.
    pub(super) first_write: BTreeMap<String, Instant>,
    /// Statements that ended with an error, by its SQLSTATE.
    pub(super) errors: BTreeMap<String, u64>,
    /// Connections that were closed, or could not be opened.
    pub(super) dropped: u64,
    /// How long each statement took.
    pub(super) waits: Waits,
}

/// All that was promised to the clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Acknowledged rows.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Rows that their writer was told are there, and did not find.
    pub(super) not_seen: Vec<i64>,
}

/// A row that a server said it has.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) id: i64,
    pub(super) at: Instant,
    pub(super) node: String,
}

impl Load {
    /// Starts the clients. `keeps_ledger` remembers each row, for a run that has an end.
    pub(super) fn start(router: SocketAddr, keeps_ledger: bool) -> Self {
        let shared = Arc::new(Shared {
            router,
            is_over: AtomicBool::new(false),
            keeps_ledger,
            book: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        for number in 0..WRITERS {
            clients.spawn(write(Arc::clone(&shared), number));
        }
        for _ in 0..READERS {
            clients.spawn(read(Arc::clone(&shared)));
        }
        Self { shared, clients }
    }

    /// What was seen since [`Load::begin_window`].
    pub(super) fn window(&self) -> Tally {
        self.shared.book().window.clone()
    }

    /// What was seen since the beginning.
    pub(super) fn total(&self) -> Tally {
        self.shared.book().total.clone()
    }

    /// What was promised since the beginning.
    pub(super) fn ledger(&self) -> Ledger {
        self.shared.book().ledger.clone()
    }

    pub(super) fn begin_window(&self) {
        self.shared.book().window = Tally::default();
    }

    /// Lets each client finish its statement, and ends it.
    pub(super) async fn stop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let ended = async { while self.clients.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            self.clients.shutdown().await;
        }
    }
}

impl Tally {
    /// All acknowledged writes.
    pub(super) fn write_count(&self) -> u64 {
        self.writes.values().sum()
    }

    /// All reads, of own writes or not.
    pub(super) fn read_count(&self) -> u64 {
        self.reads.values().chain(self.own_reads.values()).sum()
    }

    /// `none`, or such as `2 × 08007`.
    pub(super) fn errors_by_code(&self) -> String {
        let codes: Vec<String> = self
            .errors
            .iter()
            .map(|(code, count)| format!("{count} × {code}"))
            .collect();
        if codes.is_empty() {
            "none".to_owned()
        } else {
            codes.join(", ")
        }
    }

    /// All that this server did.
    pub(super) fn of(&self, node: &str) -> u64 {
        let counts = [&self.writes, &self.reads, &self.own_reads];
        counts.iter().filter_map(|counts| counts.get(node)).sum()
    }
}

impl Shared {
    /// A thread that panicked leaves numbers, not half a number.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn note(&self, change: impl Fn(&mut Tally)) {
        let mut book = self.book();
        change(&mut book.window);
        change(&mut book.total);
    }

    fn wrote(&self, id: i64, node: &str, begun: Instant) {
        let at = clock::now();
        self.note(|tally| {
            *tally.writes.entry(node.to_owned()).or_default() += 1;
            tally.first_write.entry(node.to_owned()).or_insert(at);
            tally.waits.add(at.saturating_duration_since(begun));
        });
        if self.keeps_ledger {
            let node = node.to_owned();
            let row = Acknowledged { id, at, node };
            self.book().ledger.acknowledged.push(row);
        }
    }

    fn read_own(&self, id: i64, node: &str, rows: i64, begun: Instant) {
        let wait = begun.elapsed();
        self.note(|tally| {
            *tally.own_reads.entry(node.to_owned()).or_default() += 1;
            tally.waits.add(wait);
        });
        if rows == 0 && self.keeps_ledger {
            self.book().ledger.not_seen.push(id);
        }
    }

    fn read(&self, node: &str, begun: Instant) {
        let wait = begun.elapsed();
        self.note(|tally| {
            *tally.reads.entry(node.to_owned()).or_default() += 1;
            tally.waits.add(wait);
        });
    }

    fn failed(&self, error: &Error, begun: Instant) {
        let wait = begun.elapsed();
        let code = error.code().map_or("no SQLSTATE", |code| code.code());
        self.note(|tally| {
            if error.is_closed() {
                tally.dropped += 1;
            } else {
                *tally.errors.entry(code.to_owned()).or_default() += 1;
            }
            tally.waits.add(wait);
        });
    }
}

/// A client that writes a row, looks whether it is there, and rests.
async fn write(shared: Arc<Shared>, number: i64) {
    let mut id = number << 40;
    while !shared.is_over() {
        let begun = clock::now();
        let ended = async {
            let client = connect(shared.router).await?;
            let insert = client.prepare(INSERT).await?;
            let own = client.prepare(READ_OWN).await?;
            while !shared.is_over() {
                id += 1;
                write_one(&shared, &client, &insert, &own, id).await?;
                sleep(PAUSE).await;
            }
            Ok(())
        };
        if let Err(error) = ended.await {
            shared.failed(&error, begun);
            sleep(PAUSE).await;
        }
    }
}

/// Returns an error only when the connection is gone.
async fn write_one(
    shared: &Shared,
    client: &Client,
    insert: &Statement,
    own: &Statement,
    id: i64,
) -> Result<(), Error> {
    let begun = clock::now();
    match client.query_one(insert, &[&id]).await {
        Ok(row) => shared.wrote(id, row.try_get(0)?, begun),
        Err(error) if error.is_closed() => return Err(error),
        Err(error) => {
            shared.failed(&error, begun);
            return Ok(());
        }
    }
    let begun = clock::now();
    match client.query_one(own, &[&id]).await {
        Ok(row) => shared.read_own(id, row.try_get(0)?, row.try_get(1)?, begun),
        Err(error) if error.is_closed() => return Err(error),
        Err(error) => shared.failed(&error, begun),
    }
    Ok(())
}

/// A client that only reads.
async fn read(shared: Arc<Shared>) {
    while !shared.is_over() {
        let begun = clock::now();
        let ended = async {
            let client = connect(shared.router).await?;
            let newest = client.prepare(READ).await?;
            while !shared.is_over() {
                let begun = clock::now();
                match client.query_one(&newest, &[]).await {
                    Ok(row) => shared.read(row.try_get(0)?, begun),
                    Err(error) if error.is_closed() => return Err(error),
                    Err(error) => shared.failed(&error, begun),
                }
                sleep(PAUSE).await;
            }
            Ok(())
        };
        if let Err(error) = ended.await {
            shared.failed(&error, begun);
            sleep(PAUSE).await;
        }
    }
}

/// A session through the router.
pub(super) async fn connect(router: SocketAddr) -> Result<Client, Error> {
    let mut config = Config::new();
    config
        .host(router.ip().to_string())
        .port(router.port())
        .user(DEMO_ROLE)
        .dbname(DATABASE)
        .application_name("pgherd demo");
    let (client, connection) = config.connect(NoTls).await?;
    // The task ends with the client; what breaks the connection is also told to the client.
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

/// Nothing forbids a row twice, so that a statement that was done twice is found.
pub(super) const SCHEMA: &str = "CREATE TABLE load (id bigint NOT NULL);
CREATE INDEX ON load (id);
CREATE TABLE t (n int)";
const INSERT: &str = "INSERT INTO load VALUES ($1) RETURNING current_setting('cluster_name')";
const READ_OWN: &str = "SELECT current_setting('cluster_name'), count(*) FROM load WHERE id = $1";
const READ: &str = "SELECT current_setting('cluster_name'), max(id) FROM load";
pub(super) const WRITERS: i64 = 3;
pub(super) const READERS: i64 = 5;
const PAUSE: Duration = Duration::from_millis(10);
/// How long a statement may still take when all is to end.
const PATIENCE: Duration = Duration::from_secs(3);
