//! Reads the verifiers of clients from the cluster, over one connection of its own.
//!
//! Logins must go on while the primary is down: any server may answer, and while none does, what
//! was known before is good for longer.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

use super::verifiers::{Known, Verifiers};
use super::{Login, Secret};
use crate::clock;
use crate::cluster::Address;

/// What an operator may tune of the lookups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRules {
    /// The query. Its one parameter is the name of the user; the second column of its one row is
    /// the verifier, as in `pg_authid.rolpassword`. No row means that there is no such user.
    pub query: String,
    /// An answer is good for this long.
    pub ttl: Duration,
    /// An answer is good for this long while no server can be asked.
    pub stale_ttl: Duration,
    /// How many users are remembered.
    pub entries_max: usize,
    /// How long a lookup may take, over all servers; waiting for the one before it may take as
    /// long again.
    pub timeout: Duration,
}

impl Default for LookupRules {
    fn default() -> Self {
        Self {
            query: "SELECT rolname, verifier FROM pgherd.lookup($1)".into(),
            ttl: Duration::from_secs(60),
            stale_ttl: Duration::from_secs(24 * 3600),
            entries_max: 10_000,
            timeout: Duration::from_secs(3),
        }
    }
}

/// Why a verifier is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No server could be asked: none was named, or each of them failed as the last one did.
    #[error("no server could be asked for the verifier: {0}")]
    NoServer(String),
    /// A server refused the query: the function is missing, or the right to call it.
    #[error("server refused the lookup: {sqlstate}: {message}")]
    Refused {
        /// The SQLSTATE.
        sqlstate: String,
        /// What it said.
        message: String,
    },
    /// The query does not bring a verifier as text in its second column.
    #[error("the lookup query has no second column of type text")]
    WrongColumns,
}

/// Looks verifiers up. One for all clients: those who ask at the same time wait for each other.
pub struct VerifierSource {
    login: Login,
    rules: LookupRules,
    verifiers: Mutex<Verifiers>,
    link: AsyncMutex<Link>,
}

/// The connection, and when there was last nobody to connect to.
#[derive(Default)]
struct Link {
    open: Option<Open>,
    failed: Option<(Instant, LookupError)>,
}

struct Open {
    address: Address,
    client: Client,
    driver: JoinHandle<()>,
}

/// One server's answer.
enum Answer {
    Row(Option<String>),
    /// This server cannot say; another may.
    Unavailable(LookupError),
    /// No server will say otherwise.
    Refused(LookupError),
}

impl VerifierSource {
    /// Looks up as `login`, which needs a password or trust.
    pub fn new(login: Login, rules: LookupRules) -> Self {
        Self {
            login,
            rules,
            verifiers: Mutex::default(),
            link: AsyncMutex::default(),
        }
    }

    /// The verifier of `user`, asked of the first of `candidates` that answers; `None` when there
    /// is no such user, or it has no password.
    ///
    /// # Errors
    ///
    /// `NoServer` when nobody can be asked and nothing is remembered; the others when the setup of
    /// the cluster is not what the query expects.
    pub async fn lookup(
        &self,
        user: &str,
        candidates: &[Address],
    ) -> Result<Option<String>, LookupError> {
        if let Some(known) = self.remembered(user, self.rules.ttl) {
            return Ok(known.verifier);
        }
        match self.ask(user, candidates).await {
            Err(LookupError::NoServer(why)) => self
                .remembered(user, self.rules.stale_ttl)
                .map(|known| known.verifier)
                .ok_or(LookupError::NoServer(why)),
            result => result,
        }
    }

    /// Forgets what is remembered of `user`, so that a changed password is seen at once. To be
    /// called when a client's proof was wrong; an answer younger than a second stays, so that
    /// guessing passwords does not become a load on the servers.
    pub fn forget(&self, user: &str) {
        self.cache().forget(user, clock::now(), RETRY_AFTER);
    }

    fn remembered(&self, user: &str, age: Duration) -> Option<Known> {
        self.cache()
            .find(user, clock::now(), age, UNKNOWN_TTL.min(age))
    }

    fn cache(&self) -> MutexGuard<'_, Verifiers> {
        // Each change is one call: a panic elsewhere leaves the map whole.
        self.verifiers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, user: &str, candidates: &[Address]) -> Result<Option<String>, LookupError> {
        let Ok(mut link) = timeout(self.rules.timeout, self.link.lock()).await else {
            return Err(LookupError::NoServer("the lookup before takes long".into()));
        };
        // Whoever was before us may have asked for the same user, or found all servers down.
        if let Some(known) = self.remembered(user, self.rules.ttl) {
            return Ok(known.verifier);
        }
        if let Some((at, error)) = &link.failed
            && clock::now().saturating_duration_since(*at) < RETRY_AFTER
        {
            return Err(error.clone());
        }
        link.failed = None;
        let mut last = LookupError::NoServer("no server is known to be up".into());
        for address in link.in_order(candidates) {
            let share = self.rules.timeout / u32::try_from(candidates.len()).unwrap_or(u32::MAX);
            let asked = timeout(share, self.ask_at(&mut link, address, user)).await;
            match asked {
                Ok(Answer::Row(verifier)) => {
                    let limit = self.rules.entries_max;
                    self.cache()
                        .insert(user, verifier.clone(), clock::now(), limit);
                    return Ok(verifier);
                }
                Ok(Answer::Refused(error)) => return Err(error),
                Ok(Answer::Unavailable(error)) => last = error,
                Err(_elapsed) => last = LookupError::NoServer(format!("{address}: no answer")),
            }
            link.open = None;
        }
        link.failed = Some((clock::now(), last.clone()));
        Err(last)
    }

    async fn ask_at(&self, link: &mut Link, address: &Address, user: &str) -> Answer {
        // A connection that stood unused may have ended long ago: that says nothing of the server.
        for fresh in [false, true] {
            if fresh || !link.open.as_ref().is_some_and(|open| open.is_at(address)) {
                match self.open(address).await {
                    Ok(open) => link.open = Some(open),
                    Err(error) => return unavailable(address, &error),
                }
            }
            let Some(open) = &link.open else { break };
            match open.client.query(&self.rules.query, &[&user]).await {
                Ok(rows) => return read(&rows),
                Err(error) if error.is_closed() && !fresh => {}
                Err(error) => return refused_or_unavailable(address, &error),
            }
        }
        Answer::Unavailable(LookupError::NoServer(format!("{address}: connection lost")))
    }

    async fn open(&self, address: &Address) -> Result<Open, tokio_postgres::Error> {
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
        let (client, connection) = config.connect(NoTls).await?;
        // It ends with the client, or with the server; what it says then, the next query says too.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Open {
            address: address.clone(),
            client,
            driver,
        })
    }
}

impl Link {
    /// The candidates, the one that we are connected to first.
    fn in_order<'a>(&self, candidates: &'a [Address]) -> Vec<&'a Address> {
        let is_open =
            |address: &Address| self.open.as_ref().is_some_and(|open| open.is_at(address));
        let mut ordered: Vec<_> = candidates.iter().collect();
        ordered.sort_by_key(|address| !is_open(address));
        ordered
    }
}

impl Open {
    fn is_at(&self, address: &Address) -> bool {
        self.address == *address && !self.client.is_closed()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for VerifierSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierSource")
            .field("login", &self.login)
            .field("rules", &self.rules)
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

fn unavailable(address: &Address, error: &tokio_postgres::Error) -> Answer {
    Answer::Unavailable(LookupError::NoServer(format!("{address}: {error}")))
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
        _ => unavailable(address, error),
    }
}

/// How long it is remembered that a user does not exist: a role that was just created should soon
/// be able to log in.
const UNKNOWN_TTL: Duration = Duration::from_secs(2);
/// After all servers failed, how long nobody tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
