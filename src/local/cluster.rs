//! A local cluster as a whole: making it, asking it, ending it.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Client;

use super::account::Account;
use super::binaries::{Environment, Programs};
use super::error::LocalError;
use super::node::{Node, StopMode};
use super::options::{Options, SUPERUSER};
use super::settings;
use super::sql;
use super::template::{Part, Workshop};
use super::watchdog::{After, Watchdog};

/// A throw-away primary and its streaming replicas on free ports of the loopback address.
///
/// Node 0 is the first primary; roles change with failovers, numbers do not. Dropping the cluster
/// stops its servers and removes its files, and so does the death of this process, by whatever
/// signal: see `watchdog.rs`. The drop blocks its thread for about 0.1 s.
#[derive(Debug)]
pub struct LocalCluster {
    // Dropped first: it ends the servers whose processes the nodes then wait for.
    _watchdog: Watchdog,
    pub(super) nodes: Vec<Node>,
    pub(super) workshop: Workshop,
    options: Options,
    data: PathBuf,
    initialised_after: Duration,
    ready_after: Vec<Duration>,
}

impl LocalCluster {
    /// Makes a cluster and waits until all replicas stream.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoServerPrograms`] when this system has no PostgreSQL server, and the others
    /// when it does not do what it is told. Nothing is left behind then.
    pub async fn start(options: Options) -> Result<Self, LocalError> {
        let programs = Programs::find(options.pg_bin.as_deref(), &Environment::read())?;
        let account = Account::choose()?;
        // First what may be refused: the watchdog that cleans up does not run yet.
        let kept = options
            .keep
            .as_deref()
            .map(|folder| make_kept(folder, &account))
            .transpose()?;
        let root = make_root(&account)?;
        let (data, after) = match kept {
            None => (root.clone(), After::Remove),
            Some(folder) => (folder, After::Keep),
        };
        let nodes = (0..=options.replicas)
            .map(|index| Node::new(&data, index))
            .collect();
        let mut cluster = Self {
            _watchdog: Watchdog::start(&root, &data, after)?,
            nodes,
            workshop: Workshop {
                programs,
                account,
                root,
            },
            options,
            data,
            initialised_after: Duration::ZERO,
            ready_after: Vec::new(),
        };
        cluster.bring_up().await?;
        Ok(cluster)
    }

    async fn bring_up(&mut self) -> Result<(), LocalError> {
        let started = crate::clock::now();
        self.make_data_directories().await?;
        self.initialised_after = started.elapsed();
        let primary = self.node(0)?;
        primary.start_on_a_free_port(&self.workshop).await?;
        self.ready_after.push(started.elapsed());
        let roles = self.make_roles();
        let replicas = async {
            let mut ready = Vec::new();
            for index in 1..self.nodes.len() {
                let node = self.node(index)?;
                self.make_replica(node, self.address(0)?)?;
                node.start_on_a_free_port(&self.workshop).await?;
                self.wait_until_streaming(index).await?;
                ready.push(started.elapsed());
            }
            Ok(ready)
        };
        let (made, ready) = futures_util::future::join(roles, replicas).await;
        made?;
        self.ready_after.extend(ready?);
        for index in 1..self.nodes.len() {
            self.wait_until_replayed(index, 0).await?;
        }
        Ok(())
    }

    /// `initdb` once, and a copy for each node. Off the runtime: it is work for a second.
    async fn make_data_directories(&self) -> Result<(), LocalError> {
        let workshop = self.workshop.clone();
        let cache = self.options.cache.clone();
        let folders: Vec<PathBuf> = self.nodes.iter().map(|node| node.data.clone()).collect();
        let conf = settings::postgresql_conf(&self.options);
        let hba = settings::pg_hba_conf(self.options.auth);
        off_the_runtime(move || {
            let template = workshop.template(cache.as_deref())?;
            for folder in folders {
                workshop.copy(&template, &folder, Part::Whole)?;
                edit(&folder.join("postgresql.conf"), |text| text + &conf)?;
                edit(&folder.join("pg_hba.conf"), |_| hba.clone())?;
            }
            Ok(())
        })
        .await
    }

    /// Turns a stopped node into a replica of the server at `upstream`.
    pub(super) fn make_replica(&self, node: &Node, upstream: SocketAddr) -> Result<(), LocalError> {
        let signal = node.data.join("standby.signal");
        let doing = || format!("write {}", signal.display());
        fs::write(&signal, "").map_err(LocalError::system(doing()))?;
        self.workshop
            .account
            .own(&signal)
            .map_err(LocalError::system(doing()))?;
        let conninfo = settings::primary_conninfo(&node.name, upstream);
        edit(&node.data.join("postgresql.auto.conf"), |text| {
            settings::replica_auto_conf(&text, &conninfo)
        })
    }

    async fn make_roles(&self) -> Result<(), LocalError> {
        let primary = self.node(0)?;
        let client = primary.connect(SUPERUSER, None, SUPERUSER).await?;
        for statement in sql::for_the_cluster(&self.options, self.workshop.programs.major) {
            client
                .batch_execute(&statement)
                .await
                .map_err(primary.refused())?;
        }
        for database in sql::DATABASES {
            let client = primary.connect(SUPERUSER, None, database).await?;
            client
                .batch_execute(sql::FOR_EACH_DATABASE)
                .await
                .map_err(primary.refused())?;
        }
        Ok(())
    }

    /// How many nodes there are, running or not.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The name of a node, under which its upstream lists it (`application_name`): `node1` for
    /// node 0.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoSuchNode`], as for all that take a number.
    pub fn name(&self, index: usize) -> Result<&str, LocalError> {
        Ok(&self.node(index)?.name)
    }

    /// Where a node listens. It stays the same for as long as the cluster lives.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoSuchNode`].
    pub fn address(&self, index: usize) -> Result<SocketAddr, LocalError> {
        Ok(self.node(index)?.address())
    }

    /// The process number of a node's postmaster, `None` when it does not run.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoSuchNode`].
    pub fn pid(&self, index: usize) -> Result<Option<u32>, LocalError> {
        Ok(self.node(index)?.pid())
    }

    /// How long after the beginning the data directories were there and the first server was
    /// started.
    pub fn initialised_after(&self) -> Duration {
        self.initialised_after
    }

    /// How long after the beginning each node was ready, in the order of the nodes.
    pub fn ready_after(&self) -> &[Duration] {
        &self.ready_after
    }

    /// The server's programs that run here.
    pub fn programs(&self) -> &Programs {
        &self.workshop.programs
    }

    /// The user the servers run as, when it is not ourselves because we are root.
    pub fn user(&self) -> Option<&str> {
        self.workshop.account.name()
    }

    /// The short directory with the sockets, and with the data unless it is kept elsewhere.
    pub fn directory(&self) -> &Path {
        &self.workshop.root
    }

    /// A session of the superuser in the database `app`.
    ///
    /// # Errors
    ///
    /// [`LocalError::Sql`] when the server does not let us in.
    pub async fn connect(&self, index: usize) -> Result<Client, LocalError> {
        self.connect_as(index, SUPERUSER, None, super::DATABASE)
            .await
    }

    /// A session of any role.
    ///
    /// # Errors
    ///
    /// As [`LocalCluster::connect`].
    pub async fn connect_as(
        &self,
        index: usize,
        user: &str,
        password: Option<&str>,
        database: &str,
    ) -> Result<Client, LocalError> {
        self.node(index)?.connect(user, password, database).await
    }

    /// Stops the servers and removes the files, off the runtime. With [`Options::keep`] the servers
    /// write everything down first.
    ///
    /// # Errors
    ///
    /// When a server whose data is kept does not stop by itself; it is ended nevertheless.
    pub async fn shutdown(self) -> Result<(), LocalError> {
        let stopped = if self.options.keep.is_some() {
            self.stop_all().await
        } else {
            Ok(())
        };
        off_the_runtime(move || {
            drop(self);
            Ok(())
        })
        .await?;
        stopped
    }

    /// Primaries before their replicas, so that these receive the last of the WAL: the node that
    /// was made first is the likeliest primary.
    async fn stop_all(&self) -> Result<(), LocalError> {
        for node in &self.nodes {
            node.stop(StopMode::Fast).await?;
        }
        Ok(())
    }

    /// Where the data directories are.
    pub fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn node(&self, index: usize) -> Result<&Node, LocalError> {
        let count = self.nodes.len();
        self.nodes
            .get(index)
            .ok_or(LocalError::NoSuchNode { index, count })
    }
}

/// Runs what blocks on a thread of its own.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Result<T, LocalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LocalError::System {
            doing: "finish the work of a thread".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

/// Rewrites a file in place, so that its owner stays the same.
pub(super) fn edit(path: &Path, change: impl FnOnce(String) -> String) -> Result<(), LocalError> {
    fs::read_to_string(path)
        .and_then(|text| fs::write(path, change(text)))
        .map_err(LocalError::system(format!("edit {}", path.display())))
}

/// A directory of our own with a short name: a path of a socket ends at 103 bytes, and the
/// temporary directory of macOS alone may need 60.
fn make_root(account: &Account) -> Result<PathBuf, LocalError> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let random = crate::clock::random::<6>().map_err(LocalError::system("read random bytes"))?;
    let letters = random
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
    let name: String = letters.map(|letter| char::from(*letter)).collect();
    let root = PathBuf::from(format!("/tmp/pgh.{name}"));
    make_private(&root, account)?;
    Ok(root)
}

/// The directory that is kept: new, or empty.
fn make_kept(folder: &Path, account: &Account) -> Result<PathBuf, LocalError> {
    let doing = || format!("use {}", folder.display());
    if folder.exists() {
        let mut entries = fs::read_dir(folder).map_err(LocalError::system(doing()))?;
        if entries.next().is_some() {
            return Err(LocalError::NotEmpty {
                path: folder.to_owned(),
            });
        }
        account.own(folder).map_err(LocalError::system(doing()))?;
    } else {
        make_private(folder, account)?;
    }
    folder.canonicalize().map_err(LocalError::system(doing()))
}

fn make_private(folder: &Path, account: &Account) -> Result<(), LocalError> {
    DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .and_then(|()| account.own(folder))
        .map_err(LocalError::system(format!("create {}", folder.display())))
}
