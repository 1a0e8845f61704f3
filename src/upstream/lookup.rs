//! Reads the verifiers of clients from the cluster, over connections of its own.
//!
//! Logins must go on while the primary is down: any server may answer, and while none does, what
//! was known before is good for longer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::flights::Flights;
use super::links::{Answer, Links};
use super::verifiers::{Known, Verifiers};
use super::{ControlTls, Login};
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
    /// How long a lookup may take, over all servers; waiting for those before it may take as
    /// long again.
    pub timeout: Duration,
}

impl Default for LookupRules {
    fn default() -> Self {
        Self {
            query: "SELECT rolname, verifier FROM pgherd.lookup($1)".into(),
            ttl: Duration::from_secs(1),
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

/// Looks verifiers up. One for all clients: a user is asked for once at a time, different users
/// side by side up to a bound.
pub struct VerifierSource {
    rules: ArcSwap<LookupRules>,
    verifiers: Mutex<Verifiers>,
    flights: Flights<Result<Option<String>, LookupError>>,
    places: Semaphore,
    links: Links,
}

impl VerifierSource {
    /// Looks up as `login`, which needs a password or trust.
    pub fn new(login: Login, rules: LookupRules, tls: ControlTls) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            verifiers: Mutex::default(),
            flights: Flights::default(),
            places: Semaphore::new(SIDE_BY_SIDE),
            links: Links::new(login, tls),
        }
    }

    /// Takes over new rules. What was read by another query is forgotten.
    pub fn set_rules(&self, rules: LookupRules) {
        let before = self.rules.swap(Arc::new(rules));
        if before.query != self.rules.load().query {
            *self.cache() = Verifiers::default();
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
        let rules = self.rules.load_full();
        if let Some(known) = self.remembered(user, &rules) {
            return Ok(known.verifier);
        }
        let ask = self.ask(user, candidates, &rules);
        match self.flights.join(user, ask).await {
            Err(LookupError::NoServer(why)) => self
                .cache()
                .find_stale(user, clock::now(), rules.stale_ttl.max(rules.ttl))
                .map(|known| known.verifier)
                .ok_or(LookupError::NoServer(why)),
            result => result,
        }
    }

    /// A client's proof did not fit what was looked up: the password may have been changed. It is
    /// asked for anew at the next login, at most once a second.
    pub fn doubt(&self, user: &str) {
        self.cache().doubt(user);
    }

    /// A server refused what was looked up and proved: it is of no use any more.
    pub fn forget(&self, user: &str) {
        self.cache().forget(user);
    }

    fn remembered(&self, user: &str, rules: &LookupRules) -> Option<Known> {
        self.cache().find(user, clock::now(), rules.ttl)
    }

    fn cache(&self) -> MutexGuard<'_, Verifiers> {
        // Each change is one call: a panic elsewhere leaves the map whole.
        self.verifiers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        user: &str,
        candidates: &[Address],
        rules: &LookupRules,
    ) -> Result<Option<String>, LookupError> {
        let Ok(Ok(_place)) = timeout(rules.timeout, self.places.acquire()).await else {
            let why = "the lookups before take long";
            return Err(LookupError::NoServer(why.into()));
        };
        // Whoever was before us may have asked for the same user.
        if let Some(known) = self.remembered(user, rules) {
            return Ok(known.verifier);
        }
        let share = rules.timeout / u32::try_from(candidates.len()).unwrap_or(u32::MAX).max(1);
        let mut last = LookupError::NoServer("no server is known to be up".into());
        for address in candidates {
            match self.links.ask(address, &rules.query, user, share).await {
                Answer::Row(verifier) => {
                    let (now, limit) = (clock::now(), rules.entries_max);
                    self.cache().insert(user, verifier.clone(), now, limit);
                    return Ok(verifier);
                }
                Answer::Refused(error) => return Err(error),
                Answer::Unavailable(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Debug for VerifierSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierSource")
            .field("links", &self.links)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// How many users are asked for at a time: enough to keep a connection busy.
const SIDE_BY_SIDE: usize = 16;
