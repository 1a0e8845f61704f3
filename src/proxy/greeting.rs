//! What a client is told of the settings of its server when it has logged in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::lock;
use super::login::{Attempt, FAILED_SERVER, Failed};
use crate::clock;
use crate::cluster::ServerState;
use crate::upstream::{self, GetError};
use crate::wire::SqlState;

/// What makes the greetings of two logins equal: whom and how they ask.
pub(super) type GreetingKey = Arc<upstream::Login>;
/// The settings that a server reports to a new connection.
pub(super) type Greeting = Arc<BTreeMap<String, String>>;

impl Attempt<'_> {
    /// The settings that a server reports to this login. Asking for them also finds out whether
    /// the database exists and the user may use it.
    pub(super) async fn greeting(
        &mut self,
        login: &Arc<upstream::Login>,
    ) -> Result<Greeting, Failed> {
        let snapshot = self.proxy.snapshot.load_full();
        let remembered = lock(&self.proxy.state.greetings).get(login).cloned();
        let now = clock::now();
        // A session needs no connection before its first statement: where busy pools would make a
        // client wait that was here before, it is told what it was told then.
        let deadline = match &remembered {
            Some(_) => self.proxy.deadline(login, now).min(now + GREETING_WAIT),
            None => self.proxy.deadline(login, now),
        };
        // A paused database has no server connections, and gets none for somebody new.
        while self.proxy.state.switches.is_paused(&login.database) {
            if let Some(greeting) = remembered {
                return Ok(greeting);
            }
            if clock::now() >= self.deadline {
                return Err(self.too_late().await);
            }
            sleep(PAUSE_LOOK).await;
        }
        let primary = snapshot.primary();
        let serving = snapshot
            .servers
            .iter()
            .filter(|s| s.state == ServerState::Serving);
        let candidates = primary.into_iter().chain(serving.map(|server| server.id));
        let mut failure = None;
        for server in candidates {
            let lent = match self.proxy.upstreams.pool(server, login) {
                Ok(pool) => pool.get(None, deadline, clock::now()).await,
                Err(error) => Err(error),
            };
            match lent {
                Ok(lease) => {
                    let greeting = Arc::clone(&lease.parameters);
                    lease.release(clock::now());
                    self.remember(login, &greeting);
                    return Ok(greeting);
                }
                Err(error) if error.retry() => {
                    (self.proxy.on_loss)(server);
                    failure = Some(error);
                }
                Err(error) => {
                    self.proxy.note_refused_secret(login, &error);
                    failure = Some(error);
                    break;
                }
            }
        }
        let is_full =
            |error: &GetError| matches!(error, GetError::WaitTimedOut(_) | GetError::QueueFull(_));
        match (failure, remembered) {
            (Some(error), Some(greeting)) if is_full(&error) => Ok(greeting),
            (Some(error), _) if !error.retry() => Err(self.refuse_by(&error).await),
            (_, Some(greeting)) => Ok(greeting),
            (Some(error), None) => Err(self.refuse_by(&error).await),
            (None, None) => {
                let text = "no server can be asked for this database now";
                Err(self
                    .refuse(SqlState::CANNOT_CONNECT_NOW, text, FAILED_SERVER)
                    .await)
            }
        }
    }

    fn remember(&self, login: &Arc<upstream::Login>, greeting: &Greeting) {
        let mut greetings = lock(&self.proxy.state.greetings);
        if greetings.len() >= GREETINGS_MAX && !greetings.contains_key(login) {
            greetings.pop_first();
        }
        greetings.insert(Arc::clone(login), Arc::clone(greeting));
    }
}

/// What the console says of itself. The version is one that psql knows.
pub(super) fn console_greeting() -> BTreeMap<String, String> {
    [
        (
            "server_version",
            concat!("15.0 (pgherd ", env!("CARGO_PKG_VERSION"), ")"),
        ),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// How often a login to a paused database looks whether it is still paused.
const PAUSE_LOOK: Duration = Duration::from_millis(50);
const GREETINGS_MAX: usize = 1000;
/// How long a client that was here before waits for news from a server.
const GREETING_WAIT: Duration = Duration::from_millis(100);
