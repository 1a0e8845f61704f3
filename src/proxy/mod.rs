//! Clients in, statements out: accepts connections, logs clients in, and drives each session
//! between its client and the server that it is lent. It holds no rule: what is done with a
//! message is the session's to say, and where it goes the policy's.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod accept;
mod cancel;
mod doorbell;
mod drive;
mod forebear;
mod greeting;
mod lease;
mod lent;
mod listen;
mod listeners;
mod login;
mod notes;
mod orders;
mod parting;
mod peer;
mod places;
mod queue;
mod replicate;
mod secure;
mod seen;
mod shutdown;
mod sister;
mod switches;
mod tunnel;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Semaphore;

pub use accept::serve;
pub use forebear::serve_cancels;
pub use listeners::{ChannelView, ListenerView};
pub use orders::Order;
pub use shutdown::Shutdown;
pub use switches::SwitchState;

use crate::cluster::{Own, Peers, ServerId, Snapshot};
use crate::net::TlsAcceptor;
use crate::session::{
    AccessRules, Catalog, ConsoleReply, RouteRules, Rules, ServerSide, Texts, TlsOffer,
};
use crate::telemetry::Telemetry;
use crate::upstream::{self, GetError, Login, Secret, Upstreams, VerifierSource};
use crate::wire::SqlState;

/// What a reload replaces in one step.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells these settings from others.
    pub stamp: u32,
    /// The limits of a session.
    pub session: Rules,
    /// Where statements go.
    pub route: RouteRules,
    /// Prepared statements kept on a server connection.
    pub server_statements_max: usize,
    /// How long a client waits for a server connection, which depends on whose it is.
    pub pools: upstream::Rules,
    /// The other routers behind the same address.
    pub peers: Peers,
    /// How many clients may be connected.
    pub clients_max: usize,
    /// How many of one user, and of one database.
    pub own_clients: Own<usize>,
    /// How long a command of the console that waits may wait.
    pub console_wait: Duration,
    /// How many sessions of the console there may be beside them.
    pub consoles_max: usize,
    /// How many of them may replicate.
    pub replication_max: usize,
    /// Who may come in, and how it proves who it is.
    pub access: Arc<AccessRules>,
    /// The users of a file; `None` asks the cluster.
    pub users: Option<BTreeMap<String, String>>,
    /// How connections of clients are encrypted; `None` when they are not.
    pub tls: Option<TlsAcceptor>,
    /// Whether clients may or must encrypt.
    pub tls_offer: TlsOffer,
    /// The databases that are served; `*` is all.
    pub databases: Vec<String>,
    /// Who may run commands in the console.
    pub admins: Vec<String>,
    /// Who may only look.
    pub watchers: Vec<String>,
}

/// Everything that sessions share.
pub struct Proxy {
    /// The newest view of the cluster.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What a reload replaces.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The connections to the servers.
    pub upstreams: Arc<Upstreams<Option<Box<ServerSide>>>>,
    /// What is known of texts.
    pub texts: Texts,
    /// Looks up verifiers of users.
    pub verifiers: VerifierSource,
    /// Counters and lists.
    pub telemetry: Arc<Telemetry>,
    /// Finds the catalog of a database, and is told when it may have changed.
    pub catalogs: Box<dyn Catalogs>,
    /// Is told when a server connection was refused or broke.
    pub on_loss: OnLoss,
    /// Answers the console.
    pub console: ConsoleAnswer,
    /// Reads the orders of operators, of which some take their time.
    pub order: ReadOrder,
    /// Random, the same for the life of the process.
    pub mock_secret: [u8; 32],
    /// What the sessions keep among themselves.
    pub state: Shared,
}

/// Is told of a server whose connection was refused or broke.
pub type OnLoss = Box<dyn Fn(ServerId) + Send + Sync>;

/// Answers a text of the console; true for somebody who may run commands.
pub type ConsoleAnswer = Box<dyn Fn(&str, bool) -> ConsoleReply + Send + Sync>;

/// The order in a text of the console, if it is one.
pub type ReadOrder = fn(&str) -> Option<Order>;

/// Where sessions find what their database says of names.
pub trait Catalogs: Send + Sync {
    /// The cell with the catalog of a database; it is filled as soon as the catalog is known.
    fn of(&self, database: &str) -> Arc<ArcSwapOption<Catalog>>;
    /// The schema of a database may have changed.
    fn changed(&self, database: &str);
}

/// What sessions of one router share and nobody else sees.
pub struct Shared {
    bells: doorbell::Doorbells,
    cancels: cancel::CancelKeys,
    /// Places for cancels of sessions of other routers.
    passing_on: Semaphore,
    /// Where the processes that this one follows take cancels for the sessions that they keep.
    forebears: Mutex<Vec<PathBuf>>,
    /// Connections lent, by server.
    busy: Vec<AtomicU32>,
    next_client: AtomicU64,
    draining: AtomicBool,
    shutdown: shutdown::Requests,
    switches: switches::Switches,
    reconnects: orders::Reconnects,
    listeners: listeners::Listeners,
    /// Connections before the end of their login.
    logging_in: Arc<places::Places>,
    /// Clients that have logged in, but for the console.
    guests: Arc<places::Places>,
    /// The same of each user and of each database.
    of_users: places::PlacesByName,
    of_databases: places::PlacesByName,
    /// Sessions of the console.
    consoles: Arc<places::Places>,
    replicating: Arc<places::Places>,
    /// The reported settings that a login was last greeted with, for when no server can be asked.
    greetings: Mutex<BTreeMap<greeting::GreetingKey, greeting::Greeting>>,
}

impl Shared {
    /// Nobody is connected yet to a cluster of so many servers.
    pub fn new(servers: usize) -> Self {
        Self {
            bells: doorbell::Doorbells::default(),
            cancels: cancel::CancelKeys::default(),
            passing_on: Semaphore::new(sister::AT_ONCE_MAX),
            forebears: Mutex::default(),
            busy: (0..servers).map(|_| AtomicU32::new(0)).collect(),
            next_client: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            shutdown: shutdown::Requests::default(),
            switches: switches::Switches::default(),
            reconnects: orders::Reconnects::default(),
            listeners: listeners::Listeners::default(),
            logging_in: Arc::default(),
            guests: Arc::default(),
            of_users: places::PlacesByName::default(),
            of_databases: places::PlacesByName::default(),
            consoles: Arc::default(),
            replicating: Arc::default(),
            greetings: Mutex::default(),
        }
    }
}

impl Proxy {
    /// Tells the statements that wait that the cluster changed.
    pub fn cluster_changed(&self) {
        self.state.bells.ring_all(doorbell::ring::SNAPSHOT);
        self.state.listeners.wake();
    }

    /// Has idle sessions give their buffers back. To be called every few seconds.
    pub fn trim(&self) {
        self.state.bells.trim();
    }

    /// Ends each session when it is between two transactions, and takes no new ones.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
        self.state.bells.ring_all(doorbell::ring::DRAIN);
    }

    /// Ends all sessions now.
    pub fn kill(&self) {
        self.state.bells.ring_all(doorbell::ring::KILL);
    }

    /// Ends the connections that listen: nobody is left for whom.
    pub fn stop_listening(&self) {
        self.state.listeners.stop();
    }

    /// The connections that listen.
    pub fn listeners(&self) -> Vec<ListenerView> {
        self.state.listeners.views()
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.state.bells.count()
    }

    /// How many of them replicate: these end by themselves only when somebody else does.
    pub fn replicating(&self) -> usize {
        self.state.replicating.taken()
    }

    /// Whether it takes no new clients any more.
    pub fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire)
    }

    /// How many connections of a server are lent.
    fn load(&self, server: ServerId) -> u32 {
        self.state
            .busy
            .get(server.index())
            .map_or(0, |busy| busy.load(Ordering::Relaxed))
    }

    fn count_lent(&self, server: ServerId) {
        if let Some(busy) = self.state.busy.get(server.index()) {
            busy.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count_returned(&self, server: ServerId) {
        if let Some(busy) = self.state.busy.get(server.index()) {
            busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets a verifier that a server no longer takes.
    fn note_refused_secret(&self, login: &Login, error: &GetError) {
        let GetError::Connect(connect) = error else {
            return;
        };
        let said = connect.server_error().map(|error| error.sqlstate.as_str());
        let is_read = matches!(login.secret, Secret::ScramKeys { .. } | Secret::Md5(_));
        if is_read && said == Some(SqlState::INVALID_PASSWORD.0) {
            self.verifiers.forget(&login.user);
        }
    }

    fn deadline(&self, login: &Login, now: Instant) -> Instant {
        now + self.settings.load().pools.wait_timeout_for(login)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("clients", &self.clients())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
