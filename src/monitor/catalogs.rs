//! Keeps the catalog of each database that clients use: read at its first use, when its schema may
//! have changed, and every minute for the changes that went round us.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::connect::Link;
use super::{MonitorSettings, read_catalog};
use crate::cluster::Snapshot;
use crate::statement::Catalog;

/// The catalogs of all databases in use.
pub struct CatalogStore {
    snapshot: Arc<ArcSwap<Snapshot>>,
    settings: MonitorSettings,
    databases: Arc<Mutex<Databases>>,
    tasks: Mutex<JoinSet<()>>,
    /// The next catalog's stamp; zero is nobody's.
    stamps: Arc<AtomicU32>,
    /// A database that nobody has used for so long is forgotten.
    unused_max: Duration,
}

type Databases = BTreeMap<String, Watched>;

#[derive(Clone)]
struct Watched {
    cell: Arc<ArcSwapOption<Catalog>>,
    changed: Arc<Notify>,
}

impl CatalogStore {
    /// An empty store that reads from the primary of the newest snapshot.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, settings: MonitorSettings) -> Self {
        Self {
            snapshot,
            settings,
            databases: Arc::default(),
            tasks: Mutex::default(),
            stamps: Arc::new(AtomicU32::new(1)),
            unused_max: UNUSED_MAX,
        }
    }

    /// The cell with the catalog of a database. It is empty until the catalog was read.
    ///
    /// Must be called within a tokio runtime.
    pub fn of(&self, database: &str) -> Arc<ArcSwapOption<Catalog>> {
        let mut databases = lock(&self.databases);
        if let Some(watched) = databases.get(database) {
            return Arc::clone(&watched.cell);
        }
        let watched = Watched {
            cell: Arc::default(),
            changed: Arc::default(),
        };
        if databases.len() >= DATABASES_MAX {
            // A cell that nobody fills: reads of such a database go to the primary.
            warn!("too many databases, not reading the catalog of another one");
            return watched.cell;
        }
        let reader = Reader {
            databases: Arc::clone(&self.databases),
            snapshot: Arc::clone(&self.snapshot),
            settings: MonitorSettings {
                database: database.to_owned(),
                ..self.settings.clone()
            },
            watched: watched.clone(),
            stamps: Arc::clone(&self.stamps),
            unused_max: self.unused_max,
        };
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(reader.run());
        drop(tasks);
        let cell = Arc::clone(&watched.cell);
        databases.insert(database.to_owned(), watched);
        cell
    }

    /// The schema of a database may have changed: it is read again soon, once for a burst.
    pub fn changed(&self, database: &str) {
        if let Some(watched) = lock(&self.databases).get(database) {
            watched.changed.notify_one();
        }
    }

    /// Stops reading.
    pub async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }
}

/// Reads one database again and again, as long as somebody wants to know.
struct Reader {
    databases: Arc<Mutex<Databases>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    settings: MonitorSettings,
    watched: Watched,
    stamps: Arc<AtomicU32>,
    unused_max: Duration,
}

impl Reader {
    async fn run(self) {
        let mut retry = RETRY_MIN;
        let mut unused = Duration::ZERO;
        loop {
            let pause = match timeout(READ_LIMIT, self.read()).await {
                Ok(Some(catalog)) => {
                    self.publish(catalog);
                    retry = RETRY_MIN;
                    REFRESH
                }
                // A database that the monitor may not connect to says so each time.
                Ok(None) | Err(_) => {
                    retry = (retry * 2).min(RETRY_MAX);
                    retry
                }
            };
            if self.is_used() {
                unused = Duration::ZERO;
            } else if unused >= self.unused_max && self.is_forgotten() {
                return;
            }
            unused += pause;
            if timeout(pause, self.watched.changed.notified())
                .await
                .is_ok()
            {
                // A migration changes the schema many times in a row.
                tokio::time::sleep(BURST).await;
            }
        }
    }

    /// Whether somebody else has the catalog. One that has it is a session.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.watched.cell) > OWN_HANDLES
    }

    /// Takes the database from the list, unless somebody has come for it: handles are given out
    /// under the lock.
    fn is_forgotten(&self) -> bool {
        let mut databases = lock(&self.databases);
        let is_forgotten = !self.is_used();
        if is_forgotten {
            databases.remove(&self.settings.database);
        }
        is_forgotten
    }

    /// A catalog that says what the last one said is the last one: what was judged by it holds.
    fn publish(&self, mut catalog: Catalog) {
        if let Some(last) = &*self.watched.cell.load() {
            catalog.stamp = last.stamp;
            if catalog == **last {
                return;
            }
        }
        catalog.stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        self.watched.cell.store(Some(Arc::new(catalog)));
    }

    async fn read(&self) -> Option<Catalog> {
        let snapshot = self.snapshot.load_full();
        let address = snapshot.server(snapshot.primary()?)?.address.clone();
        let link = match Link::open(&address, &self.settings).await {
            Ok(link) => link,
            Err(error) => {
                let database = &self.settings.database;
                debug!(error = %error, database, "could not connect to read the catalog");
                return None;
            }
        };
        match read_catalog(&link.client).await {
            Ok(catalog) => Some(catalog),
            Err(error) => {
                let database = &self.settings.database;
                warn!(error = %error, database, "could not read the catalog");
                None
            }
        }
    }
}

impl fmt::Debug for CatalogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogStore").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const DATABASES_MAX: usize = 1000;
/// The list's and the reader's.
const OWN_HANDLES: usize = 2;
/// Long enough that clients that come and go do not wait for a catalog each time.
const UNUSED_MAX: Duration = Duration::from_secs(600);
const READ_LIMIT: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_secs(60);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
const BURST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cluster::{Epoch, HoldCause, Writes};

    /// A store that finds no server to read from.
    fn store(unused_max: Duration) -> CatalogStore {
        let snapshot = Snapshot {
            epoch: Epoch(1),
            servers: Vec::new(),
            writes: Writes::Held {
                since: Instant::now(),
                cause: HoldCause::NoPrimary,
            },
            lineage: None,
            primary_sample: None,
        };
        let settings = MonitorSettings {
            user: "monitor".to_owned(),
            password: None,
            database: "postgres".to_owned(),
            application_name: "test".to_owned(),
            connect_timeout: Duration::from_secs(1),
            tls: crate::upstream::ControlTls::default(),
        };
        CatalogStore {
            unused_max,
            ..CatalogStore::new(Arc::new(ArcSwap::from_pointee(snapshot)), settings)
        }
    }

    async fn is_forgotten_soon(store: &CatalogStore, database: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while lock(&store.databases).contains_key(database) {
            if Instant::now() > deadline {
                return false;
            }
            store.changed(database);
            tokio::task::yield_now().await;
        }
        true
    }

    #[tokio::test]
    async fn a_database_that_no_session_uses_is_forgotten() {
        let store = store(Duration::ZERO);
        let (kept, dropped) = (store.of("kept"), store.of("dropped"));
        drop(dropped);
        assert!(is_forgotten_soon(&store, "dropped").await);
        assert!(lock(&store.databases).contains_key("kept"));
        assert!(Arc::ptr_eq(&kept, &store.of("kept")));
        drop(kept);
        assert!(is_forgotten_soon(&store, "kept").await);
        store.shutdown().await;
    }

    #[tokio::test]
    async fn one_that_was_used_a_while_ago_is_not() {
        let store = store(UNUSED_MAX);
        drop(store.of("short"));
        for _ in 0..100 {
            store.changed("short");
            tokio::task::yield_now().await;
        }
        assert!(lock(&store.databases).contains_key("short"));
        store.shutdown().await;
    }
}
