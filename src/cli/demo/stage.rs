//! What a demo is made of: a local cluster, a router in front of it, and clients.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::load::{self, Load, READERS, WRITERS};
use super::waits::milliseconds;
use crate::app::{App, AppError, ConfigSource};
use crate::cli::DemoArgs;
use crate::clock;
use crate::cluster::{ServerId, ServerState, Snapshot};
use crate::config::{self, Environment};
use crate::local::{DATABASE, DEMO_ROLE, LocalCluster, LocalError, MONITOR_ROLE, Options};

/// A running demo.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) cluster: LocalCluster,
    pub(super) app: App,
    pub(super) router: SocketAddr,
    /// None with `--no-load`.
    pub(super) load: Option<Load>,
    /// From the start of the first server to the first answer through the router.
    pub(super) first_answer: Duration,
}

/// Why a demo did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// The servers.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The router.
    #[error(transparent)]
    App(#[from] AppError),
    /// Our own configuration has a mistake.
    #[error("{0}")]
    Config(String),
    /// A statement that must not fail.
    #[error("a statement of the demo itself failed")]
    Sql(#[from] tokio_postgres::Error),
    /// The terminal is gone, or there is no port.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody did not want to wait.
    #[error("stopped before the end")]
    Interrupted,
    /// The router found no primary.
    #[error("pgherd found no primary within {} s", READY.as_secs())]
    NotReady,
}

impl Stage {
    /// Starts everything, and tells how far it is.
    pub(super) async fn open(
        args: &DemoArgs,
        out: &mut (dyn Write + Send),
    ) -> Result<Self, DemoError> {
        let begun = clock::now();
        let cluster = LocalCluster::start(Options {
            replicas: usize::from(args.replicas),
            pg_bin: args.pg_bin.clone(),
            keep: args.keep.clone(),
            ..Options::default()
        })
        .await?;
        tell_servers(&cluster, out)?;
        let port = free_port(args.port, "clients", out)?;
        let http = free_port(args.http, "the status page", out)?;
        let text = configuration(&cluster, port, http)?;
        let (config, _risks_we_take) = config::load_text(
            "the demo's own configuration",
            &text,
            &Environment::default(),
        )
        .map_err(|problems| DemoError::Config(problems.to_string()))?;
        let app = App::start(config, ConfigSource::Fixed).await?;
        if !app.wait_ready(READY).await {
            return Err(DemoError::NotReady);
        }
        let router = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let client = load::connect(router).await?;
        client.query_one("SELECT 1", &[]).await?;
        let since_initdb = begun.elapsed();
        let first_answer = since_initdb.saturating_sub(cluster.initialised_after());
        client.batch_execute(load::SCHEMA).await?;
        let mut stage = Self {
            cluster,
            app,
            router,
            load: None,
            first_answer,
        };
        let router_text = router.to_string();
        let served = milliseconds(since_initdb);
        writeln!(
            out,
            "  ✓ pgherd   {router_text:<21} router, first query answered after {served}"
        )?;
        stage.tell_how_to_connect(http, out)?;
        if !args.no_load || args.script {
            stage.load = Some(Load::start(router, args.script));
            writeln!(
                out,
                "  load      {WRITERS} clients write, {READERS} read, all through pgherd"
            )?;
        }
        Ok(stage)
    }

    fn tell_how_to_connect(&self, http: u16, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let port = self.router.port();
        writeln!(
            out,
            "  connect   psql -h 127.0.0.1 -p {port} -U {DEMO_ROLE} {DATABASE}      (no password)"
        )?;
        writeln!(
            out,
            "  console   psql -h 127.0.0.1 -p {port} -U {DEMO_ROLE} pgherd   (try SHOW NODES)"
        )?;
        writeln!(out, "  look      http://127.0.0.1:{http}/")?;
        writeln!(
            out,
            "  try       SET pgherd.explain = 'notice';  SELECT 1;  INSERT INTO t VALUES (1);  \
             SELECT * FROM t;"
        )
    }

    /// Ends all of it, in this order, so that nobody is surprised.
    pub(super) async fn close(mut self) -> Result<(), DemoError> {
        if let Some(load) = &mut self.load {
            load.stop().await;
        }
        self.app.shutdown(sleep(DRAIN_LIMIT)).await;
        Ok(self.cluster.shutdown().await?)
    }

    /// The node that takes writes now.
    pub(super) fn primary(&self) -> Option<usize> {
        self.app
            .monitor
            .snapshot
            .load()
            .primary()
            .map(ServerId::index)
    }

    /// What the router thinks of a node.
    pub(super) fn state(&self, node: usize) -> ServerState {
        let snapshot = self.app.monitor.snapshot.load();
        let view = snapshot.servers.get(node);
        view.map_or(ServerState::Unknown, |view| view.state)
    }

    /// The replicas that serve reads.
    pub(super) fn serving(&self) -> Vec<usize> {
        let nodes = 0..self.cluster.node_count();
        nodes
            .filter(|node| self.state(*node) == ServerState::Serving)
            .collect()
    }

    pub(super) fn name(&self, node: usize) -> String {
        self.cluster.name(node).unwrap_or("?").to_owned()
    }

    /// Waits until the router's view is as wished; how long that took, or `None` when it is too
    /// long.
    pub(super) async fn wait_for(&self, wish: impl Fn(&Snapshot) -> bool) -> Option<Duration> {
        let begun = clock::now();
        self.wait_until(|| wish(&self.app.monitor.snapshot.load()))
            .await
            .then(|| begun.elapsed())
    }

    /// Waits until a node is in such a state.
    pub(super) async fn wait_for_state(
        &self,
        node: usize,
        wish: impl Fn(ServerState) -> bool,
    ) -> Option<Duration> {
        self.wait_for(|snapshot| {
            let view = snapshot.servers.get(node);
            view.is_some_and(|view| wish(view.state))
        })
        .await
    }

    /// Waits for the first write that another server than `old` acknowledges: its name, and when.
    pub(super) async fn wait_for_a_write_elsewhere(&self, old: &str) -> Option<(String, Instant)> {
        let load = self.load.as_ref()?;
        let elsewhere = || {
            let mut first = load.window().first_write.into_iter();
            first.find(|(node, _)| node != old)
        };
        self.wait_until(|| elsewhere().is_some()).await;
        elsewhere()
    }

    /// Waits until it is so; false when that takes too long.
    pub(super) async fn wait_until(&self, condition: impl Fn() -> bool) -> bool {
        let begun = clock::now();
        while !condition() {
            if begun.elapsed() > PATIENCE {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}

fn tell_servers(cluster: &LocalCluster, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let programs = cluster.programs();
    let (version, bin) = (&programs.version, programs.bin.display());
    write!(out, "pgherd demo: PostgreSQL {version} from {bin}")?;
    match cluster.user() {
        Some(user) => writeln!(out, "; running it as user \"{user}\" because we are root")?,
        None => writeln!(out)?,
    }
    for (node, ready) in cluster.ready_after().iter().enumerate() {
        let (name, address) = (cluster.name(node)?, cluster.address(node)?);
        let role = match node {
            0 => "primary",
            _ => "streaming replica",
        };
        let ready = milliseconds(*ready);
        writeln!(
            out,
            "  ✓ {name:<8} {:<21} {role}, ready after {ready}",
            address.to_string()
        )?;
    }
    Ok(())
}

/// This port, or the next one that nobody listens on.
fn free_port(wished: u16, whom: &str, out: &mut (dyn Write + Send)) -> io::Result<u16> {
    let last = wished.saturating_add(PORTS_TRIED);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let found = (wished..=last).find(is_free).ok_or_else(|| {
        let text = format!("no free port for {whom} from {wished} to {last}");
        io::Error::new(io::ErrorKind::AddrInUse, text)
    })?;
    if found != wished {
        writeln!(
            out,
            "  ! port {wished} is taken by another program; {whom}: port {found}"
        )?;
    }
    Ok(found)
}

fn configuration(cluster: &LocalCluster, port: u16, http: u16) -> Result<String, DemoError> {
    let hosts = (0..cluster.node_count())
        .map(|node| {
            Ok(format!(
                "\"{}={}\"",
                cluster.name(node)?,
                cluster.address(node)?
            ))
        })
        .collect::<Result<Vec<_>, LocalError>>()?
        .join(", ");
    let state = cluster.directory().join("pgherd");
    Ok(format!(
        "[listen]
postgres = \"127.0.0.1:{port}\"
http = \"127.0.0.1:{http}\"
[monitor]
user = \"{MONITOR_ROLE}\"
[auth]
method = \"trust\"
[admin]
users = [\"{DEMO_ROLE}\"]
[state]
dir = \"{}\"
[cluster.demo]
hosts = [{hosts}]
[cluster.demo.failover]
mode = \"auto\"
max_lost_bytes = \"any\"
cooldown = \"1s\"
",
        state.display()
    ))
}

const PORTS_TRIED: u16 = 100;
/// How long the router may take to find the primary.
const READY: Duration = Duration::from_secs(10);
/// How long anything that the demo shows may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long clients may take to end when the demo does.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
