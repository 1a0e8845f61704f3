//! The configuration after all checks: what the parts of the program are built from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Address, Own, Peers};
use crate::net::TlsAcceptor;
use crate::{policy, session, upstream};

use super::passfile::Passfile;
use super::secret::Secret;
use super::show::Entry;
use super::userlist::User;

/// A complete and checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where we listen.
    pub listen: Listen,
    /// The other routers behind the same address.
    pub peers: Peers,
    /// Who we are when we look at the servers.
    pub monitor: MonitorConfig,
    /// Who may come in.
    pub auth: AuthConfig,
    /// The servers.
    pub cluster: ClusterConfig,
    /// Where statements go, lag, health, failover.
    pub policy: policy::Rules,
    /// The limits of a client session.
    pub session: session::Rules,
    /// The limits of the pools.
    pub upstream: upstream::Rules,
    /// Who may use the console.
    pub admin: AdminConfig,
    /// How the router stops.
    pub shutdown: ShutdownConfig,
    /// Where another process takes over; `None` when none can.
    pub restart_socket: Option<PathBuf>,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where decisions are remembered; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// The limits of the whole program.
    pub limits: Limits,
    pub(super) entries: Vec<Entry>,
}

/// Where we listen. A port of 0 lets the system choose one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For clients; at least one.
    pub postgres: Vec<Address>,
    /// The directory of the Unix socket for clients, and the mode of its file.
    pub unix_socket: Option<(PathBuf, u32)>,
    /// For health, metrics and status.
    pub http: Option<Address>,
    /// How connections of clients are encrypted.
    pub tls: ListenTls,
}

/// How connections of clients are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// Whether they may or must be.
    pub mode: ListenTlsMode,
    /// Made of the files; `None` when there is no certificate, or nobody may encrypt.
    pub acceptor: Option<TlsAcceptor>,
    /// Whether clients are asked for certificates, and must have one.
    pub client_certificates: ClientCertificates,
}

/// Whether clients may or must encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenTlsMode {
    /// They cannot.
    Disable,
    /// They can, once there is a certificate.
    Allow,
    /// They must.
    Require,
}

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not.
    No,
    /// They are, and may have none.
    Asked,
    /// They must have one.
    Required,
}

/// Who we are when we look at the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// The role.
    pub user: String,
    /// Its password from the file or the environment.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    pub(super) passfile: Passfile,
}

impl MonitorConfig {
    /// The password for one server: the configured one, or else the one of `~/.pgpass`.
    pub fn password_for(&self, server: &Address) -> Option<&Secret> {
        self.password
            .as_ref()
            .or_else(|| self.passfile.find(server, &self.database, &self.user))
    }
}

/// Who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// How clients prove who they are.
    pub method: AuthMethod,
    /// The query of `Lookup`.
    pub query: String,
    /// How long its answers are used.
    pub cache_ttl: Duration,
    /// How long they are used while no server can be asked.
    pub stale_ttl: Duration,
    /// Where `users` were read from.
    pub file: Option<PathBuf>,
    /// The users of `File`.
    pub users: Vec<User>,
    /// Who may come in, and how it proves who it is.
    pub access: Arc<policy::AccessRules>,
    /// Whether clients of other machines may come in without a proof.
    pub remote_trust: bool,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM against the verifier that a server has.
    Lookup,
    /// Against the list in `AuthConfig::users`.
    File,
    /// Not at all; every listener is on loopback.
    Trust,
}

/// The servers of one replicated cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name.
    pub name: String,
    /// Its servers; the place in this list is the `ServerId`.
    pub hosts: Vec<Host>,
    /// The databases that clients may connect to; `["*"]` is all.
    pub databases: Vec<String>,
}

impl ClusterConfig {
    /// Whether clients may connect to `database`.
    pub fn serves(&self, database: &str) -> bool {
        self.databases
            .iter()
            .any(|name| name == "*" || name == database)
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What people call it.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Its share of reads; 100 is normal, 0 means none.
    pub weight: u32,
    /// Whether it may be promoted.
    pub candidate: bool,
}

/// Who may use the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// May run commands.
    pub users: Vec<String>,
    /// May only look.
    pub stats_users: Vec<String>,
    /// How many of them at a time.
    pub connections: usize,
    /// How long a command that waits may wait.
    pub wait_timeout: Duration,
}

/// How the router stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long what runs may take to end.
    pub transactions: Duration,
    /// How long clients are waited for, when they are.
    pub clients: Duration,
    /// Whether SIGTERM waits for them.
    pub sigterm_waits_for_clients: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// The least important line that is written.
    pub level: tracing::Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The limits of the whole program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many clients may be connected.
    pub max_client_connections: usize,
    /// How many of one user, and of one database.
    pub own_clients: Own<usize>,
    /// How many clients may replicate.
    pub replication_connections: usize,
    /// How many threads move bytes; 0 leaves it to the program.
    pub worker_threads: usize,
}
