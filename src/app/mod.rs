//! Builds the parts, names and owns the tasks, orders the shutdown.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod console;
mod journal;
mod reload;
mod watch;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::info;

use reload::Parts;
pub use reload::{ConfigSource, Reloader};

use crate::cluster::Address;
use crate::config::Config;
use crate::coordination::{StateError, StateFile};
use crate::monitor::{self, CatalogStore, MonitorHandle, MonitorSettings};
use crate::policy::Configured;
use crate::proxy::{self, Proxy, Shutdown};
use crate::session::{ServerSide, Texts};
use crate::telemetry::{Moment, Telemetry};
use crate::upstream::{self, ControlTls, LookupRules, Secret, Upstreams, VerifierSource};
use crate::{admin, clock, net};

/// The connections to the servers, with what sessions keep on them.
type Pools = Upstreams<Option<Box<ServerSide>>>;

/// A running router.
pub struct App {
    /// Where clients come in.
    pub addresses: Vec<SocketAddr>,
    /// The file of the Unix socket where they come in, too.
    pub unix_socket: Option<PathBuf>,
    /// Where health, metrics and status are.
    pub http: Option<SocketAddr>,
    /// The monitor of the cluster.
    pub monitor: MonitorHandle,
    /// What was counted.
    pub telemetry: Arc<Telemetry>,
    /// Takes a new configuration.
    pub reloader: Arc<Reloader>,
    proxy: Arc<Proxy>,
    catalogs: Arc<CatalogStore>,
    accepting: JoinSet<()>,
    serving: JoinSet<()>,
    stop_accepting: Arc<Notify>,
    stop_serving: Arc<Notify>,
}

/// Why a router could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The Unix socket could not be opened.
    #[error("could not listen on {path}")]
    ListenUnix {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A listener could not be opened.
    #[error("could not listen on {address}")]
    Listen {
        /// Where.
        address: Address,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// What the last run remembered cannot be read.
    #[error("could not read the state of the last run")]
    State(#[from] StateError),
    /// The directory of the state cannot be made.
    #[error("could not make {path}")]
    StateDirectory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The operating system has no random bytes.
    #[error("no random bytes")]
    Entropy(#[source] io::Error),
}

impl App {
    /// Starts everything. The listeners are open when this returns; the cluster may not have been
    /// seen yet.
    ///
    /// # Errors
    ///
    /// When a listener cannot be opened, or the state of the last run cannot be read.
    pub async fn start(config: Config, source: ConfigSource) -> Result<Self, AppError> {
        let moment = Moment {
            now: clock::now(),
            wall: clock::wall(),
        };
        let servers = config.cluster.hosts.len();
        let telemetry = Arc::new(Telemetry::new(&config.cluster.name, servers, moment));
        let mut listeners = Vec::new();
        for address in &config.listen.postgres {
            listeners.push(open(address).await?);
        }
        let door = open_unix(&config, &listeners)?;
        let http = match &config.listen.http {
            Some(address) => Some(open(address).await?),
            None => None,
        };
        let tls = ControlTls::new(config.upstream.tls.clone());
        let settings = monitor_settings(&config, tls.clone());
        let monitor = start_monitor(&config, settings.clone(), &telemetry)?;
        let catalogs = Arc::new(CatalogStore::new(Arc::clone(&monitor.snapshot), settings));
        let upstreams = Arc::new(pools(&config, &telemetry));
        let reloader = Arc::new(Reloader::new(config, source));
        let cell = console::ProxyCell::default();
        let sources = console::sources(&reloader, &monitor, &telemetry, &cell);
        let proxy = Arc::new(Proxy {
            snapshot: Arc::clone(&monitor.snapshot),
            settings: Arc::new(ArcSwap::from_pointee(reload::settings(&reloader.config()))),
            upstreams: Arc::clone(&upstreams),
            texts: Texts::new(FACTS_BYTES, secret_pair()?),
            verifiers: verifier_source(&reloader.config(), tls.clone()),
            telemetry: Arc::clone(&telemetry),
            catalogs: Box::new(console::SharedCatalogs(Arc::clone(&catalogs))),
            on_loss: {
                let monitor = monitor.clone();
                Box::new(move |server| monitor.report_loss(server))
            },
            console: console::answerer(&sources, &cell),
            order: console::order,
            mock_secret: clock::random().map_err(AppError::Entropy)?,
            state: proxy::Shared::new(servers),
        });
        reloader.attach(Parts {
            proxy: Arc::downgrade(&proxy),
            upstreams: Arc::downgrade(&upstreams),
            monitor: monitor.clone(),
            telemetry: Arc::clone(&telemetry),
            tls,
        });
        cell.fill(&proxy);
        let mut app = Self {
            addresses: listeners
                .iter()
                .filter_map(|(_, address)| *address)
                .collect(),
            unix_socket: door.as_ref().map(|door| door.path().to_owned()),
            http: http.as_ref().and_then(|(_, address)| *address),
            monitor,
            telemetry,
            reloader,
            proxy,
            catalogs,
            accepting: JoinSet::new(),
            serving: JoinSet::new(),
            stop_accepting: Arc::default(),
            stop_serving: Arc::default(),
        };
        app.spawn(doors(listeners, door), http, sources, upstreams);
        Ok(app)
    }

    /// Starts the tasks. Each of them ends by one of the two stops.
    fn spawn(
        &mut self,
        doors: Vec<net::Listener>,
        http: Option<Listener>,
        sources: admin::ConsoleSources,
        upstreams: Arc<Pools>,
    ) {
        for door in doors {
            let stop = notified(&self.stop_accepting);
            self.accepting
                .spawn(proxy::serve(Arc::clone(&self.proxy), door, stop));
        }
        if let Some((listener, _)) = http {
            let stop = notified(&self.stop_serving);
            self.serving.spawn(async move {
                if let Err(error) = admin::serve(listener, sources, stop).await {
                    tracing::error!(error = %error, "the HTTP server ended");
                }
            });
        }
        let changes = watch::follow(
            self.monitor.clone(),
            Arc::clone(&self.proxy),
            Arc::clone(&upstreams),
        );
        self.serving
            .spawn(until(notified(&self.stop_serving), changes));
        let upkeep = journal::keep(
            self.monitor.clone(),
            Arc::clone(&self.telemetry),
            upstreams,
            Arc::clone(&self.proxy),
        );
        self.serving
            .spawn(until(notified(&self.stop_serving), upkeep));
    }

    /// Waits until writes can be sent somewhere, or the limit has passed. True when they can.
    pub async fn wait_ready(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.monitor.snapshot.load().primary().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(READY_POLL).await;
        }
        true
    }

    /// Waits until somebody asks in the console for a stop that waits for less than the one that is
    /// known.
    pub async fn asked_to_stop(&self, known: Option<Shutdown>) -> Shutdown {
        self.proxy.asked_to_stop(known).await
    }

    /// Takes no new clients, and waits until those that are there have left. May be dropped, and
    /// followed by [`App::shutdown`].
    pub async fn wait_for_clients(&self) {
        info!(
            clients = self.proxy.clients(),
            "waiting for clients to leave"
        );
        self.proxy.leave();
        self.close_doors();
        while self.proxy.guests() > 0 {
            sleep(READY_POLL).await;
        }
    }

    fn close_doors(&self) {
        self.stop_accepting.notify_waiters();
        self.stop_accepting.notify_one();
    }

    /// Stops: takes no new clients, lets running transactions end until there is `enough` of it,
    /// then ends the rest.
    pub async fn shutdown(mut self, enough: impl Future<Output = ()>) {
        info!(clients = self.proxy.clients(), "shutting down");
        self.proxy.drain();
        self.close_doors();
        let all_gone = async {
            while self.proxy.clients() > self.proxy.replicating() {
                sleep(READY_POLL).await;
            }
        };
        tokio::select! {
            () = all_gone => {}
            () = enough => {}
        }
        self.proxy.kill();
        let finished = async { while self.accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(KILL_GRACE, finished).await.is_err() {
            self.accepting.shutdown().await;
        }
        self.proxy.stop_listening();
        self.stop_serving.notify_waiters();
        self.serving.shutdown().await;
        self.catalogs.shutdown().await;
        self.monitor.shutdown().await;
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("addresses", &self.addresses)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

type Listener = (tokio::net::TcpListener, Option<SocketAddr>);

/// Opens a listener. A name is looked up; all its addresses are tried.
async fn open(address: &Address) -> Result<Listener, AppError> {
    let failed = |cause| AppError::Listen {
        address: address.clone(),
        cause,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    for candidate in found.map_err(failed)? {
        match net::listen(candidate) {
            Ok(listener) => {
                let bound = listener.local_addr().ok();
                return Ok((listener, bound));
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// All that clients come in by.
fn doors(listeners: Vec<Listener>, unix: Option<net::UnixDoor>) -> Vec<net::Listener> {
    let tcp = listeners
        .into_iter()
        .map(|(listener, _)| net::Listener::Tcp(listener));
    tcp.chain(unix.map(net::Listener::Unix)).collect()
}

/// Opens the Unix socket, if there is to be one. It is named by the port of the first listener.
fn open_unix(config: &Config, listeners: &[Listener]) -> Result<Option<net::UnixDoor>, AppError> {
    let Some((directory, mode)) = &config.listen.unix_socket else {
        return Ok(None);
    };
    let port = listeners
        .iter()
        .find_map(|(_, bound)| Some(bound.as_ref()?.port()));
    let path = net::socket_path(directory, port.unwrap_or_default());
    match net::listen_unix(&path, *mode) {
        Ok(door) => Ok(Some(door)),
        Err(cause) => Err(AppError::ListenUnix { path, cause }),
    }
}

fn start_monitor(
    config: &Config,
    settings: MonitorSettings,
    telemetry: &Arc<Telemetry>,
) -> Result<MonitorHandle, AppError> {
    let servers = config.cluster.hosts.iter().map(|host| Configured {
        name: host.name.as_str().into(),
        address: host.address.clone(),
        weight: host.weight,
        candidate: host.candidate,
    });
    let (remembered, keep): (_, monitor::Keep) = match &config.state_dir {
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(|cause| AppError::StateDirectory {
                path: directory.clone(),
                cause,
            })?;
            let file = StateFile::new(directory.join(format!("{}.json", config.cluster.name)));
            (file.load()?, Arc::new(move |memory| file.store(memory)))
        }
        None => (None, Arc::new(|_memory| Ok(()))),
    };
    Ok(monitor::start(monitor::Deps {
        servers: servers.collect(),
        settings,
        rules: config.policy.clone(),
        remembered,
        keep,
        telemetry: Arc::clone(telemetry),
    }))
}

fn monitor_settings(config: &Config, tls: ControlTls) -> MonitorSettings {
    let first = config.cluster.hosts.first().map(|host| &host.address);
    let password = first.and_then(|address| config.monitor.password_for(address));
    MonitorSettings {
        user: config.monitor.user.clone(),
        password: password.map(|secret| secret.reveal().to_owned()),
        database: config.monitor.database.clone(),
        application_name: config.monitor.application_name.clone(),
        connect_timeout: config.policy.health.timeout,
        tls,
    }
}

fn pools(config: &Config, telemetry: &Arc<Telemetry>) -> Pools {
    let addresses = config
        .cluster
        .hosts
        .iter()
        .map(|host| host.address.clone())
        .collect();
    Upstreams::new(addresses, config.upstream.clone(), Arc::clone(telemetry))
}

fn verifier_source(config: &Config, tls: ControlTls) -> VerifierSource {
    let settings = monitor_settings(config, tls);
    let login = upstream::Login {
        database: settings.database,
        user: settings.user,
        secret: settings.password.map_or(Secret::None, Secret::Password),
        parameters: std::iter::once(("application_name".to_owned(), settings.application_name))
            .collect(),
    };
    VerifierSource::new(login, lookup_rules(config), settings.tls)
}

fn lookup_rules(config: &Config) -> LookupRules {
    LookupRules {
        query: config.auth.query.clone(),
        ttl: config.auth.cache_ttl,
        stale_ttl: config.auth.stale_ttl,
        ..LookupRules::default()
    }
}

fn secret_pair() -> Result<[u64; 2], AppError> {
    let random: [u8; 16] = clock::random().map_err(AppError::Entropy)?;
    let number = u128::from_ne_bytes(random);
    Ok([(number >> 64) as u64, number as u64])
}

/// A future that ends when it is notified.
fn notified(notify: &Arc<Notify>) -> impl Future<Output = ()> + Send + 'static {
    let notify = Arc::clone(notify);
    async move { notify.notified().await }
}

/// Runs a task that has no end of its own until it is stopped.
async fn until(stop: impl Future<Output = ()>, task: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = task => {}
    }
}

/// Counted once for the whole program: the texts of a busy application fit many times.
const FACTS_BYTES: u64 = 64 << 20;
const READY_POLL: Duration = Duration::from_millis(10);
/// How long a session that was told to end may take to tell its client.
const KILL_GRACE: Duration = Duration::from_secs(2);
