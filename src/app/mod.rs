//! Builds the parts, names and owns the tasks, orders the shutdown.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod console;
mod doors;
mod estate;
mod handover;
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
use tokio::sync::{Notify, watch as news};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::info;

use doors::{Door, Doors};
use estate::Estate;
pub use handover::{Inherited, TakeoverError};
use reload::Parts;
pub use reload::{ConfigSource, Reloader};

use crate::cluster::{Address, ServerState};
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
    stop_http: Arc<Notify>,
    stop_serving: Arc<Notify>,
    handed_over: news::Receiver<bool>,
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
    /// The process that runs did not hand over.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
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
    /// The process has no descriptor left for what it would hand over.
    #[error("no descriptors for a later restart")]
    Spares(#[source] io::Error),
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
        Self::start_with(config, source, Inherited::default()).await
    }

    /// The same, with what another process has handed over.
    ///
    /// # Errors
    ///
    /// As [`App::start`], and when the other process keeps the right to promote.
    pub async fn start_with(
        config: Config,
        source: ConfigSource,
        mut inherited: Inherited,
    ) -> Result<Self, AppError> {
        let moment = Moment {
            now: clock::now(),
            wall: clock::wall(),
        };
        let servers = config.cluster.hosts.len();
        let telemetry = Arc::new(Telemetry::new(&config.cluster.name, servers, moment));
        let doors = Doors::open(&config, &mut inherited).await?;
        inherited.take_authority().await?;
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
        if inherited.is_from_another() {
            // The other one accepts clients until then, and knows the servers.
            first_look(&monitor).await;
        }
        proxy.follow_on(std::mem::take(&mut inherited.cancels));
        let claims = doors.claims();
        let app = Self::assemble(
            doors,
            sources,
            Assembled {
                monitor,
                telemetry,
                reloader,
                proxy,
                catalogs,
                upstreams,
            },
        )?;
        inherited.tell_serving().await;
        claims.into_iter().for_each(net::FileClaim::take);
        Ok(app)
    }

    fn assemble(
        doors: Doors,
        sources: admin::ConsoleSources,
        parts: Assembled,
    ) -> Result<Self, AppError> {
        let (over, handed_over) = news::channel(false);
        let mut app = Self {
            addresses: doors
                .clients
                .iter()
                .filter_map(|door| door.address)
                .collect(),
            unix_socket: doors.unix.as_ref().map(|door| door.path().to_owned()),
            http: doors.http.as_ref().and_then(|door| door.address),
            monitor: parts.monitor,
            telemetry: parts.telemetry,
            reloader: parts.reloader,
            proxy: parts.proxy,
            catalogs: parts.catalogs,
            accepting: JoinSet::new(),
            serving: JoinSet::new(),
            stop_accepting: Arc::default(),
            stop_http: Arc::default(),
            stop_serving: Arc::default(),
            handed_over,
        };
        app.spawn(doors, sources, parts.upstreams, over)?;
        Ok(app)
    }

    /// Starts the tasks. Each of them ends by one of the three stops.
    fn spawn(
        &mut self,
        doors: Doors,
        sources: admin::ConsoleSources,
        upstreams: Arc<Pools>,
        over: news::Sender<bool>,
    ) -> Result<(), AppError> {
        let spares = match &doors.restart {
            Some(_) => doors.spares().map_err(AppError::Spares)?,
            None => Vec::new(),
        };
        let tcp = doors.clients.into_iter().map(tcp_door);
        for door in tcp.chain(doors.unix.map(net::Listener::Unix)) {
            let stop = notified(&self.stop_accepting);
            self.accepting
                .spawn(proxy::serve(Arc::clone(&self.proxy), door, stop));
        }
        if let Some(Door { listener, .. }) = doors.http {
            let stop = notified(&self.stop_http);
            self.serving.spawn(async move {
                if let Err(error) = admin::serve(listener, sources, stop).await {
                    tracing::error!(error = %error, "the HTTP server ended");
                }
            });
        }
        if let Some(door) = doors.restart {
            let estate = Estate {
                door,
                spares,
                proxy: Arc::clone(&self.proxy),
                monitor: self.monitor.clone(),
            };
            let leaving = leave_to(estate, notified(&self.stop_accepting), over);
            self.serving
                .spawn(until(notified(&self.stop_serving), leaving));
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
        Ok(())
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

    /// Waits until another process has taken over: it has what we listened on, and this one is to
    /// end when its clients have left.
    pub async fn handed_over(&self) {
        let mut news = self.handed_over.clone();
        if news.wait_for(|is_over| *is_over).await.is_err() {
            std::future::pending::<()>().await;
        }
        // Whoever asks for our health is to ask the other.
        self.stop_http.notify_one();
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
        self.stop_http.notify_one();
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

/// Waits until each server has been seen or found silent, and one is the primary; not for ever.
async fn first_look(monitor: &MonitorHandle) {
    let deadline = Instant::now() + FIRST_LOOK;
    loop {
        let snapshot = monitor.snapshot.load();
        let mut servers = snapshot.servers.iter();
        let is_seen = servers.all(|server| server.state != ServerState::Unknown);
        if (is_seen && snapshot.primary().is_some()) || Instant::now() >= deadline {
            return;
        }
        drop(snapshot);
        sleep(READY_POLL).await;
    }
}

/// What the tasks share.
struct Assembled {
    monitor: MonitorHandle,
    telemetry: Arc<Telemetry>,
    reloader: Arc<Reloader>,
    proxy: Arc<Proxy>,
    catalogs: Arc<CatalogStore>,
    upstreams: Arc<Pools>,
}

fn tcp_door(door: Door) -> net::Listener {
    net::Listener::Tcp(door.listener)
}

/// Hands over to another process when one comes, and answers cancels for the sessions that stay.
async fn leave_to(estate: Estate, stop: impl Future<Output = ()>, over: news::Sender<bool>) {
    let mut cancels = JoinSet::new();
    if estate.hand_over(stop, &mut cancels).await {
        over.send_replace(true);
    }
    while cancels.join_next().await.is_some() {}
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
/// How long a process that takes over looks at its servers before it accepts clients.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const READY_POLL: Duration = Duration::from_millis(10);
/// How long a session that was told to end may take to tell its client.
const KILL_GRACE: Duration = Duration::from_secs(2);
