//! What an operator may tune of the connections to the servers. Built by `config`.

use std::time::Duration;

use super::Login;
use crate::cluster::Own;
use crate::net::TlsConnector;

/// The limits of the pools of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Connections for each server, user and database.
    pub size: usize,
    /// How many clients may wait for a connection of one pool.
    pub queue_max: usize,
    /// How long a client waits for a connection.
    pub wait_timeout: Duration,
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
    /// An unused connection is closed after this long.
    pub idle_timeout: Duration,
    /// A connection is closed at its first rest after this long.
    pub lifetime: Duration,
    /// Prepared statements kept on a server connection; the least used is closed beyond it.
    pub prepared_statements: usize,
    /// How connections are encrypted.
    pub tls: TlsConnector,
    /// What single users and databases have instead.
    pub own: Own<OwnRules>,
}

/// What a user or a database has instead of what everybody has; `None` is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRules {
    /// See [`Rules::size`].
    pub size: Option<usize>,
    /// See [`Rules::queue_max`].
    pub queue_max: Option<usize>,
    /// See [`Rules::wait_timeout`].
    pub wait_timeout: Option<Duration>,
}

impl Rules {
    /// Connections for each server, for this login.
    pub fn size_for(&self, login: &Login) -> usize {
        self.own_of(login, |own| own.size).unwrap_or(self.size)
    }

    /// How many clients may wait in its pool.
    pub fn queue_max_for(&self, login: &Login) -> usize {
        let own = self.own_of(login, |own| own.queue_max);
        own.unwrap_or(self.queue_max)
    }

    /// How long they wait.
    pub fn wait_timeout_for(&self, login: &Login) -> Duration {
        let own = self.own_of(login, |own| own.wait_timeout);
        own.unwrap_or(self.wait_timeout)
    }

    fn own_of<V: Copy>(&self, login: &Login, value: fn(&OwnRules) -> Option<V>) -> Option<V> {
        self.own.last(&login.user, &login.database, value)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            size: 20,
            queue_max: 1000,
            wait_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(600),
            lifetime: Duration::from_secs(3600),
            prepared_statements: 500,
            tls: TlsConnector::default(),
            own: Own::default(),
        }
    }
}
