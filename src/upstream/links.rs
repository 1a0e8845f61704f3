//! The connections on which verifiers are looked up: one for each server, opened when it is first
//! asked. Several questions may be on their way on one connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config};

use super::{ControlTls, InForce, Login, LookupError, Secret};
use crate::clock;
use crate::cluster::Address;

/// The connections.
pub(super) struct Links {
    login: Login,
    tls: ControlTls,
    links: Mutex<BTreeMap<Address, Arc<Link>>>,
}

/// One connection, open or not; those who need it at the same time open it once.
type Link = OnceCell<Result<Open, Failed>>;

struct Open {
    client: Client,
    tls: InForce,
    driver: JoinHandle<()>,
}

/// A server that could not be asked is left alone for a moment.
#[derive(Debug)]
struct Failed {
    at: Instant,
    error: LookupError,
}

/// One server's answer.
pub(super) enum Answer {
    Row(Option<String>),
    /// This server cannot say; another may.
    Unavailable(LookupError),
    /// No server will say otherwise.
    Refused(LookupError),
}

impl Links {
    pub(super) fn new(login: Login, tls: ControlTls) -> Self {
        Self {
            login,
            tls,
            links: Mutex::default(),
        }
    }

    /// Asks one server for the verifier of `user`, within `limit`.
    pub(super) async fn ask(
        &self,
        address: &Address,
        query: &str,
        user: &str,
        limit: Duration,
    ) -> Answer {
        let answer = match timeout(limit, self.try_ask(address, query, user)).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                Answer::Unavailable(LookupError::NoServer(format!("{address}: no answer")))
            }
        };
        if let Answer::Unavailable(error) = &answer {
            self.put_off(address, error);
        }
        answer
    }

    async fn try_ask(&self, address: &Address, query: &str, user: &str) -> Answer {
        // A connection that stood unused may have ended long ago: that says nothing of the server.
        for _attempt in 0..2 {
            let link = self.link(address);
            let is_fresh = !link.initialized();
            let open = match link.get_or_init(|| self.open(address)).await {
                Ok(open) => open,
                Err(failed) => return Answer::Unavailable(failed.error.clone()),
            };
            match open.client.query(query, &[&user]).await {
                Ok(rows) => return read(&rows),
                Err(error) if error.is_closed() && !is_fresh => {}
                Err(error) => return refused_or_unavailable(address, &error),
            }
        }
        Answer::Unavailable(LookupError::NoServer(format!("{address}: connection lost")))
    }

    /// The connection to a server, or a place for it.
    fn link(&self, address: &Address) -> Arc<Link> {
        let now = clock::now();
        let mut links = self.lock();
        match links.get(address) {
            Some(link) if self.is_of_use(link, now) => Arc::clone(link),
            _ => {
                let link = Arc::default();
                links.insert(address.clone(), Arc::clone(&link));
                link
            }
        }
    }

    /// Asks a server no more for a moment, unless it has been found that it cannot be asked
    /// already: the moment ends some time.
    fn put_off(&self, address: &Address, error: &LookupError) {
        let mut links = self.lock();
        let has_failed = |link: &Arc<Link>| matches!(link.get(), Some(Err(_)));
        if !links.get(address).is_some_and(has_failed) {
            let failed = Failed {
                at: clock::now(),
                error: error.clone(),
            };
            let link = Link::new_with(Some(Err(failed)));
            links.insert(address.clone(), Arc::new(link));
        }
    }

    async fn open(&self, address: &Address) -> Result<Open, Failed> {
        self.connect(address).await.map_err(|error| Failed {
            at: clock::now(),
            error: LookupError::NoServer(format!("{address}: {error}")),
        })
    }

    async fn connect(&self, address: &Address) -> Result<Open, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .host(&address.host)
            .port(address.port)
            .user(&self.login.user)
            .dbname(&self.login.database)
            .application_name("pgherd lookup");
        if let Secret::Password(password) = &self.login.secret {
            config.password(password);
        }
        let tls = self.tls.in_force();
        let (client, connection) = self.tls.connect(&mut config).await?;
        // It ends with the client, or with the server; what it says then, the next query says too.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Open {
            client,
            tls,
            driver,
        })
    }

    /// Whether a link is open as it should be, is being opened, or has just failed.
    fn is_of_use(&self, link: &Link, now: Instant) -> bool {
        match link.get() {
            None => true,
            Some(Ok(open)) => !open.client.is_closed() && self.tls.is_in_force(&open.tls),
            Some(Err(failed)) => now.saturating_duration_since(failed.at) < RETRY_AFTER,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Arc<Link>>> {
        // Each change is one call: a panic elsewhere leaves the map whole.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

fn read(rows: &[tokio_postgres::Row]) -> Answer {
    let Some(row) = rows.first() else {
        return Answer::Row(None);
    };
    match row.try_get::<_, Option<String>>(1) {
        Ok(verifier) => Answer::Row(verifier),
        Err(_no_such_column) => Answer::Refused(LookupError::WrongColumns),
    }
}

/// A server that goes down or is full says so in classes 57, 53 and 08; one that says anything else
/// has understood the query and will not run it.
fn refused_or_unavailable(address: &Address, error: &tokio_postgres::Error) -> Answer {
    match error.as_db_error() {
        Some(said) if !matches!(said.code().code().get(..2), Some("57" | "53" | "08")) => {
            Answer::Refused(LookupError::Refused {
                sqlstate: said.code().code().to_owned(),
                message: said.message().to_owned(),
            })
        }
        _ => Answer::Unavailable(LookupError::NoServer(format!("{address}: {error}"))),
    }
}

/// How long nobody tries to ask a server that could not be asked.
const RETRY_AFTER: Duration = Duration::from_secs(1);
