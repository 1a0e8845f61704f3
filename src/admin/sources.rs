//! Where the console and the HTTP server get what they show.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::cluster::{ServerId, Snapshot};
use crate::telemetry::{Moment, Telemetry};

/// What the application hands in. Each function answers for the moment in which it is called.
#[derive(Clone)]
pub struct ConsoleSources {
    /// What is known of the cluster.
    pub snapshot: Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    /// What was counted.
    pub telemetry: Arc<Telemetry>,
    /// The settings, without secrets.
    pub config_rows: Arc<dyn Fn() -> Vec<ConfigRowView> + Send + Sync>,
    /// Reads the configuration again. What changed, or what is wrong with it.
    pub reload: Arc<dyn Fn() -> Result<Vec<String>, Vec<String>> + Send + Sync>,
    /// Asks for a promotion of this server, or of the best; true accepts any loss of WAL. What was
    /// asked for, or why it cannot be.
    pub failover: Arc<FailoverOrder>,
    /// What is known of the router itself.
    pub router: Arc<dyn Fn() -> RouterView + Send + Sync>,
    /// The connections that listen for sessions.
    pub listeners: Arc<dyn Fn() -> Vec<ListenerView> + Send + Sync>,
    /// Both clocks.
    pub clock: Arc<dyn Fn() -> Moment + Send + Sync>,
}

/// Takes the name of a server, and whether any loss is accepted.
pub type FailoverOrder = dyn Fn(Option<&str>, bool) -> Result<String, String> + Send + Sync;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRowView {
    /// Its name, such as `cluster.main.lag.max_time`.
    pub key: String,
    /// What it is; a secret is shown as stars.
    pub value: String,
    /// What it would be if nobody had said anything.
    pub default: String,
    /// Whether a reload takes it.
    pub changeable: bool,
    /// Whether it was changed and waits for a restart: `value` is not in force yet.
    pub pending_restart: bool,
    /// Who said it: `default`, `file`, `environment`, `command line`.
    pub source: String,
    /// Where in the file, such as `/etc/pgherd/pgherd.toml:31`.
    pub file_line: Option<String>,
}

/// The router itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterView {
    /// Whether it takes no new clients because it is about to stop.
    pub draining: bool,
    /// `auto`, `transaction` or `session`.
    pub pool_mode: &'static str,
    /// The limit of clients.
    pub max_clients: u64,
    /// Whether all databases are paused.
    pub paused: bool,
    /// Databases that are paused by name.
    pub paused_databases: BTreeSet<String>,
    /// Databases that take no new clients.
    pub disabled_databases: BTreeSet<String>,
}

/// A connection that listens for the sessions of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerView {
    /// Which database.
    pub database: String,
    /// How texts are written on it.
    pub encoding: String,
    /// Its server; `None` while there is no connection.
    pub server: Option<ServerId>,
    /// How many sessions listen.
    pub sessions: usize,
    /// How many notifications came.
    pub notifications: u64,
    /// How often one was dropped, because a session did not take those before.
    pub dropped: u64,
    /// How often the connection was lost.
    pub lost: u64,
    /// The channels.
    pub channels: Vec<ChannelView>,
}

/// A channel that is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// How many sessions listen to it.
    pub sessions: usize,
    /// Whether the connection does.
    pub is_subscribed: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleUser {
    /// Whether commands are allowed, and not only SHOW.
    pub is_admin: bool,
}

impl fmt::Debug for ConsoleSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSources").finish_non_exhaustive()
    }
}
