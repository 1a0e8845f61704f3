//! A new process takes over from the one that runs, on the same port.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgherd::local::{DATABASE, Options, SUPERUSER};
use pgherd::wire::frontend;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::support::{
    Listener, Raw, Router, config_text, fields, get, rows, shared, start, tags, test, test_alone,
    wait_until,
};

/// The program, and what it has logged so far.
struct Program {
    child: Child,
    log: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Program {
    fn start(config: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgherd"))
            .args(["run", "--config"])
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<_>>>::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let read = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line) {
                    read.lock().unwrap().push(line);
                }
            }
        });
        Self { child, log }
    }

    fn find(&self, message: &str) -> Option<serde_json::Value> {
        let log = self.log.lock().unwrap();
        let mut lines = log.iter();
        lines
            .find(|line| line.to_string().contains(message))
            .cloned()
    }

    async fn wait_for(&self, message: &str) -> serde_json::Value {
        wait_until(message, LIMIT, async || self.find(message).is_some()).await;
        self.find(message).unwrap()
    }

    /// Waits until it has ended, and tells its exit code.
    async fn ended(&mut self) -> Option<i32> {
        wait_until("it ends", LIMIT, async || {
            self.child.try_wait().unwrap().is_some()
        })
        .await;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the test failed or it is the last.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The address in a line of the log.
fn address(line: &serde_json::Value) -> SocketAddr {
    let object = line.as_object().unwrap();
    let found = object
        .get("address")
        .or_else(|| object.values().find_map(|inner| inner.get("address")));
    found.unwrap().as_str().unwrap().parse().unwrap()
}

/// A directory with a configuration in it, for programs that follow each other.
struct Site(PathBuf);

impl Site {
    async fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgh.{}.{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let site = Self(path);
        site.configure("config.toml", "").await;
        site
    }

    /// Writes a configuration for the shared servers, with more at its end.
    async fn configure(&self, name: &str, more: &str) -> PathBuf {
        let directory = self.0.display();
        let text = config_text(&shared().await.cluster).replace(
            "[listen]\n",
            &format!(
                "[restart]\nsocket = \"{directory}/restart\"\n[log]\nformat = \"json\"\n\
                 [listen]\nunix_socket_dir = \"{directory}\"\n"
            ),
        );
        let path = self.0.join(name);
        std::fs::write(&path, format!("{text}{more}")).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Program {
        Program::start(&self.0.join("config.toml"), arguments)
    }

    /// The names of the sockets that are there.
    fn sockets(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".toml")).collect();
        names.sort();
        names
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Clients that come, ask one thing, and go, one after the other.
struct Comers {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Comers {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let tasks = (0..4).map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match come(address).await {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => errors.push(format!("{error:?}")),
                    }
                }
                errors
            })
        });
        let tasks = tasks.collect();
        Self {
            stop,
            served,
            tasks,
        }
    }

    async fn progress(&self) {
        let target = self.served.load(Ordering::Relaxed) + 20;
        wait_until("clients are served", LIMIT, async || {
            self.served.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    /// What went wrong for any of them.
    async fn errors(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for task in self.tasks {
            errors.extend(task.await.unwrap());
        }
        errors
    }
}

async fn come(address: SocketAddr) -> Result<(), tokio_postgres::Error> {
    let client = Listener::connect(address, SUPERUSER, "", DATABASE).await?;
    client.client.simple_query("SELECT 1").await.map(drop)
}

/// A session in whose transaction a statement runs that takes its time.
async fn sleeper(address: SocketAddr, name: &str) -> Raw {
    let mut raw = Raw::log_in(address, SUPERUSER, DATABASE).await;
    let query = format!("BEGIN; SELECT pg_sleep(60), txid_current(), '{name}'");
    raw.send(|out| frontend::query(out, query.as_bytes())).await;
    let primary = shared().await.cluster.connect(0).await.unwrap();
    let runs = format!(
        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' \
         AND query LIKE '%''{name}''' AND pid <> pg_backend_pid()"
    );
    wait_until("it runs", LIMIT, async || {
        rows(&primary, &runs).await.len() == 1
    })
    .await;
    raw
}

/// A session with an open transaction that has written.
async fn writer(address: SocketAddr) -> Raw {
    let mut raw = Raw::log_in(address, SUPERUSER, DATABASE).await;
    let begun = raw.query("BEGIN; SELECT txid_current()").await;
    assert_eq!(tags(&begun), "CTDCZ");
    raw
}

#[test]
fn nobody_is_refused_during_three_restarts_and_long_sessions_go_on() {
    test(async {
        let site = Site::new("takeover").await;
        let mut running = site.run(&["--takeover"]);
        let address_of_clients = address(&running.wait_for("listening for clients").await);
        let http = address(&running.wait_for("listening for health").await);
        running.wait_for("nobody to take over from").await;
        wait_until("it is ready", LIMIT, async || {
            get(http, "/readyz").await.0 == 200
        })
        .await;
        let comers = Comers::start(address_of_clients);
        let mut old = Vec::new();
        for round in 0..3 {
            comers.progress().await;
            let sleeps = sleeper(address_of_clients, &format!("takeover {round}")).await;
            let writes = writer(address_of_clients).await;
            let next = site.run(&["-R"]);
            next.wait_for("took over").await;
            running.wait_for("another process has taken over").await;
            let same = address(&next.wait_for("listening for clients").await);
            assert_eq!(same, address_of_clients);
            old.push((std::mem::replace(&mut running, next), sleeps, writes));
        }
        comers.progress().await;
        assert_eq!(comers.errors().await, Vec::<String>::new());
        // Those who were there go on where they are, and a cancel finds the process that has them.
        for (mut process, mut sleeps, mut writes) in old {
            assert_eq!(process.child.try_wait().unwrap(), None);
            let key = sleeps.key.clone().unwrap();
            let mut cancel = Raw::connect(address_of_clients).await;
            cancel.send(|out| frontend::cancel_request(out, &key)).await;
            assert_eq!(cancel.until_end().await, []);
            assert_eq!(fields(&sleeps.until_ready().await)[&'C'], "57014");
            assert_eq!(tags(&writes.query("SELECT 1").await), "TDCZ");
            assert_eq!(tags(&writes.query("COMMIT").await), "CZ");
            drop((sleeps, writes));
            assert_eq!(process.ended().await, Some(0));
        }
        assert_eq!(get(http, "/readyz").await.0, 200);
        let port = address_of_clients.port();
        let file = format!(".s.PGSQL.{port}");
        assert_eq!(site.sockets(), [file.clone(), "restart".into()]);
        UnixStream::connect(site.0.join(file)).await.unwrap();
    });
}

#[test]
fn a_process_that_fails_half_way_leaves_the_old_one_serving() {
    test(async {
        let site = Site::new("halfway").await;
        let mut first = site.run(&[]);
        let clients = address(&first.wait_for("listening for clients").await);
        let http = address(&first.wait_for("listening for health").await);
        wait_until("it is ready", LIMIT, async || {
            get(http, "/readyz").await.0 == 200
        })
        .await;
        let comers = Comers::start(clients);
        comers.progress().await;
        // The first fails before it asks for the right to promote, the second after.
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listening.local_addr().unwrap();
        let text = std::fs::read_to_string(site.0.join("config.toml")).unwrap();
        let busy = text.replace("http = \"127.0.0.1:0\"", &format!("http = \"{taken}\""));
        std::fs::write(site.0.join("busy.toml"), busy).unwrap();
        let state = format!("[state]\ndir = \"{}/config.toml\"\n", site.0.display());
        site.configure("state.toml", &state).await;
        std::fs::write(site.0.join("bad.toml"), "[listen]\npostgres = 7\n").unwrap();
        for name in ["busy.toml", "state.toml", "bad.toml"] {
            let mut failing = Program::start(&site.0.join(name), &["--takeover"]);
            assert_ne!(failing.ended().await, Some(0), "{name}");
            comers.progress().await;
        }
        wait_until("both are given up", LIMIT, async || {
            let log = first.log.lock().unwrap();
            let gone = "the process that wanted to take over is gone";
            log.iter()
                .filter(|line| line.to_string().contains(gone))
                .count()
                == 2
        })
        .await;
        assert_eq!(first.child.try_wait().unwrap(), None);
        drop(listening);
        let second = site.run(&["--takeover"]);
        second.wait_for("took over").await;
        comers.progress().await;
        assert_eq!(comers.errors().await, Vec::<String>::new());
        assert_eq!(first.ended().await, Some(0));
    });
}

#[test]
fn who_gave_the_right_to_promote_away_promotes_nobody() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let directory = cluster.directory().join("state");
        let settings = [
            ("cluster.test.failover.mode", "auto"),
            ("cluster.test.failover.max_lost_bytes", "16MB"),
            ("state.dir", directory.to_str().unwrap()),
        ];
        let router = Router::start(&cluster, &settings).await;
        router.app.monitor.give_authority().await.unwrap();
        cluster.kill9(0).await.unwrap();
        let epoch = || router.app.monitor.snapshot.load().epoch;
        let before = epoch();
        let observes = || {
            let records = router.app.monitor.records();
            let text = format!("{records:?}");
            text.contains("Observing")
        };
        wait_until("it says that another promotes", LIMIT, async || observes()).await;
        assert_eq!(epoch(), before);
        router.app.monitor.take_authority().await.unwrap();
        wait_until("it promotes", LIMIT, async || epoch() > before).await;
    });
}

const LIMIT: Duration = Duration::from_secs(40);
