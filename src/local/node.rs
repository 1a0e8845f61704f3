//! One server of a local cluster: its process, its port and its log.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio_postgres::{Client, Config, NoTls};

use super::error::LocalError;
use super::options::SUPERUSER;
use super::process;
use super::template::Workshop;

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Ends the sessions, writes everything down, and lets the replicas have it.
    Fast,
    /// At once; the next start recovers from the WAL.
    Immediate,
}

/// One server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) data: PathBuf,
    log: PathBuf,
    /// Chosen when the server first starts, and kept from then on. Zero before that.
    port: AtomicU16,
    process: Mutex<Option<Child>>,
}

impl Node {
    /// The node number `index`, from 0, which is not started.
    pub(super) fn new(folder: &std::path::Path, index: usize) -> Self {
        let name = format!("node{}", index + 1);
        Self {
            data: folder.join(&name),
            log: folder.join(format!("{name}.log")),
            name,
            port: AtomicU16::new(0),
            process: Mutex::new(None),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.load(Ordering::Relaxed)).into()
    }

    /// The number of the postmaster while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        let mut process = self.process();
        match process.as_mut()?.try_wait() {
            Ok(None) => process.as_ref().map(Child::id),
            // It has ended, or it is not ours to wait for any more.
            Ok(Some(_)) | Err(_) => {
                *process = None;
                None
            }
        }
    }

    /// Starts the server for the first time, on a port that is free.
    pub(super) async fn start_on_a_free_port(&self, workshop: &Workshop) -> Result<(), LocalError> {
        for _ in 0..PORT_ATTEMPTS {
            self.port.store(free_port()?, Ordering::Relaxed);
            self.launch(workshop)?;
            match self.wait_until_it_answers().await {
                Err(LocalError::ServerStopped { log, .. }) if is_port_clash(&log) => {}
                other => return other,
            }
        }
        Err(LocalError::NoFreePort {
            attempts: PORT_ATTEMPTS,
        })
    }

    /// Starts the server on the port it had. Does nothing when it runs.
    pub(super) async fn start(&self, workshop: &Workshop) -> Result<(), LocalError> {
        if self.pid().is_none() {
            self.launch(workshop)?;
        }
        self.wait_until_it_answers().await
    }

    fn launch(&self, workshop: &Workshop) -> Result<(), LocalError> {
        let log = File::create(&self.log)
            .map_err(LocalError::system(format!("write {}", self.log.display())))?;
        let errors = log
            .try_clone()
            .map_err(LocalError::system("share the log"))?;
        let setting = |name: &str, value: &str| format!("{name}={value}");
        let child = workshop
            .command("postgres")
            // The watchdog recognises the server by these two words, so they come first.
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.address().port().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &setting("cluster_name", &self.name)])
            .args([
                "-c",
                &setting("unix_socket_directories", &workshop.root.to_string_lossy()),
            ])
            // Ctrl-C in the terminal is for us; we stop the servers in our own order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(LocalError::system(format!("start {}", self.name)))?;
        *self.process() = Some(child);
        Ok(())
    }

    async fn wait_until_it_answers(&self) -> Result<(), LocalError> {
        let answers = async || match self.pid() {
            None => Err(LocalError::ServerStopped {
                node: self.name.clone(),
                log: self.log_tail(),
            }),
            // Until it answers, every error means "not yet".
            Some(_) => Ok(self.connect(SUPERUSER, None, SUPERUSER).await.is_ok()),
        };
        self.wait_until("ready for connections", answers).await
    }

    /// Asks again and again until the answer is yes.
    pub(super) async fn wait_until(
        &self,
        awaited: &'static str,
        mut condition: impl AsyncFnMut() -> Result<bool, LocalError>,
    ) -> Result<(), LocalError> {
        let watch = async {
            while !condition().await? {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, watch)
            .await
            .unwrap_or_else(|_| {
                Err(LocalError::Late {
                    node: self.name.clone(),
                    awaited,
                    seconds: PATIENCE.as_secs(),
                    log: self.log_tail(),
                })
            })
    }

    /// A session on this server. It ends when the client is dropped.
    pub(super) async fn connect(
        &self,
        user: &str,
        password: Option<&str>,
        database: &str,
    ) -> Result<Client, LocalError> {
        let address = self.address();
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user(user)
            .dbname(database)
            .application_name("pgherd local");
        if let Some(password) = password {
            config.password(password);
        }
        // A server that hangs accepts the connection in the kernel and then says nothing.
        let connected = tokio::time::timeout(ANSWER, config.connect(NoTls)).await;
        let connected = connected.map_err(|_elapsed| LocalError::Late {
            node: self.name.clone(),
            awaited: "answering",
            seconds: ANSWER.as_secs(),
            log: self.log_tail(),
        })?;
        let (client, connection) = connected.map_err(self.refused())?;
        // The task ends with the client; what breaks the connection is also told to the client.
        tokio::spawn(async move { connection.await.ok() });
        Ok(client)
    }

    /// Names this server in an error of SQL.
    pub(super) fn refused(&self) -> impl Fn(tokio_postgres::Error) -> LocalError {
        let node = self.name.clone();
        move |source| LocalError::Sql {
            node: node.clone(),
            source,
        }
    }

    /// Stops the server, hung or not, and waits until its processes are gone.
    pub(super) async fn stop(&self, mode: StopMode) -> Result<(), LocalError> {
        let Some(postmaster) = self.pid() else {
            return Ok(());
        };
        self.thaw();
        process::signal(
            postmaster,
            match mode {
                StopMode::Fast => Signal::INT,
                StopMode::Immediate => Signal::QUIT,
            },
        );
        self.wait_until("stopped", async || Ok(self.pid().is_none()))
            .await
    }

    /// Kills all processes of the server, as when the machine loses power, and waits until they
    /// are gone.
    pub(super) async fn kill9(&self) -> Result<(), LocalError> {
        let Some(postmaster) = self.pid() else {
            return Ok(());
        };
        // A postmaster that stands still makes no new children while we count them.
        process::signal(postmaster, Signal::STOP);
        let children = process::children(postmaster);
        process::signal(postmaster, Signal::KILL);
        for child in &children {
            process::signal(*child, Signal::KILL);
        }
        let gone = async || {
            let left = children.iter().any(|child| process::is_running(*child));
            Ok(!left && self.pid().is_none())
        };
        self.wait_until("gone", gone).await
    }

    /// Stops all processes where they are (SIGSTOP): connections stay open and nothing answers.
    pub(super) fn hang(&self) -> Result<(), LocalError> {
        let postmaster = self.pid().ok_or_else(|| self.not_running())?;
        process::signal(postmaster, Signal::STOP);
        for child in process::children(postmaster) {
            process::signal(child, Signal::STOP);
        }
        Ok(())
    }

    /// Lets all processes go on.
    pub(super) fn thaw(&self) {
        let Some(postmaster) = self.pid() else {
            return;
        };
        for child in process::children(postmaster) {
            process::signal(child, Signal::CONT);
        }
        process::signal(postmaster, Signal::CONT);
    }

    fn not_running(&self) -> LocalError {
        LocalError::NotRunning {
            node: self.name.clone(),
        }
    }

    /// The last lines of the log.
    pub(super) fn log_tail(&self) -> String {
        const LINES: usize = 15;
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(LINES))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// A thread that panicked cannot leave an `Option` half written.
    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    /// Asks after the process once more, so that one that has ended does not stay as a zombie.
    fn drop(&mut self) {
        self.pid();
    }
}

/// A port on which nobody listens now.
///
/// Not one that the kernel chooses: those may be taken by any outgoing connection while a server is
/// down that is to come back on its port. These lie below the range of Linux (32768) and macOS.
fn free_port() -> Result<u16, LocalError> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    for _ in 0..PORT_ATTEMPTS {
        let random = crate::clock::random().map_err(LocalError::system("read random bytes"))?;
        let port = FIRST + u16::from_ne_bytes(random) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(LocalError::NoFreePort {
        attempts: PORT_ATTEMPTS,
    })
}

/// Whether a server stopped because another program took its port before it could.
fn is_port_clash(log: &str) -> bool {
    log.contains("could not bind IPv4 address")
}

/// How often a port is tried.
const PORT_ATTEMPTS: u32 = 50;
/// How long a server may take for anything; a busy machine takes seconds for what takes 0.1 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server may take to let us in.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);
