//! What an operator may tune of the connections to the servers. Built by `config`.

use std::time::Duration;

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
        }
    }
}
