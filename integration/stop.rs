//! The program is told to stop, by signals.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use pgherd::proxy::Shutdown;
use pgherd::wire::frontend::{self, What};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Raw, Router, fields, get, rows, shared, tags, test, value, wait_until};

/// The program, in front of servers that are not there.
struct Program {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Program {
    fn start() -> Self {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stop.toml");
        let text = "[listen]\npostgres = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
                    [log]\nformat = \"json\"\n[monitor]\nuser = \"nobody\"\n\
                    [auth]\nmethod = \"trust\"\n[admin]\nusers = [\"admin\"]\n\
                    [cluster.test]\nhosts = [\"127.0.0.1:1\"]\n\
                    [cluster.test.failover]\nhold_clients = \"100ms\"\n";
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgherd"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads on until a line of the log has this message.
    fn wait_for(&mut self, message: &str) -> serde_json::Value {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            if parsed.to_string().contains(message) {
                return parsed;
            }
            line.clear();
        }
        panic!("it ended before it said {message:?}")
    }

    /// Where its clients come in, and its HTTP.
    fn addresses(&mut self) -> [SocketAddr; 2] {
        ["listening for clients", "listening for health"].map(|what| {
            let line = self.wait_for(what);
            find(&line, "address").unwrap().parse().unwrap()
        })
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A field of a line, however deep.
fn find(value: &serde_json::Value, key: &str) -> Option<String> {
    let object = value.as_object()?;
    match object.get(key) {
        Some(found) => found.as_str().map(str::to_owned),
        None => object.values().find_map(|inner| find(inner, key)),
    }
}

#[test]
fn the_first_signal_lets_work_end_and_the_second_does_not() {
    test(async {
        for signals in [
            [Signal::TERM, Signal::TERM],
            [Signal::INT, Signal::INT],
            [Signal::TERM, Signal::INT],
        ] {
            let mut program = Program::start();
            let [address, http] = program.addresses();
            let mut idle = Raw::log_in(address, "admin", "pgherd").await;
            let mut busy = Raw::log_in(address, "admin", "pgherd").await;
            // A unit that failed is not over before its Sync.
            busy.send(|out| {
                frontend::describe(out, What::Statement, b"never prepared");
                frontend::flush(out);
            })
            .await;
            assert_eq!(busy.next().await.tag, b'E');
            program.signal(signals[0]);
            program.wait_for("shutting down");
            assert_eq!(fields(&idle.until_end().await)[&'C'], "57P01");
            assert!(busy.is_silent().await);
            assert!(!program.has_ended());
            let (status, body) = get(http, "/readyz?verbose").await;
            assert_eq!(status, 503);
            assert!(body.contains("[-]accepting draining"), "{body}");
            assert_eq!(get(http, "/livez").await.0, 200);
            let began = Instant::now();
            program.signal(signals[1]);
            assert_eq!(fields(&busy.until_end().await)[&'C'], "57P01");
            assert_eq!(program.child.wait().unwrap().code(), Some(0));
            assert!(began.elapsed() < Duration::from_secs(10));
        }
    });
}

#[test]
fn sigquit_waits_for_nobody() {
    test(async {
        let mut program = Program::start();
        let [address, _] = program.addresses();
        let mut busy = Raw::log_in(address, "admin", "pgherd").await;
        busy.send(|out| {
            frontend::describe(out, What::Statement, b"never prepared");
            frontend::flush(out);
        })
        .await;
        assert_eq!(busy.next().await.tag, b'E');
        program.signal(Signal::QUIT);
        assert_eq!(fields(&busy.until_end().await)[&'C'], "57P01");
        assert_eq!(program.child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn the_console_stops_the_program() {
    test(async {
        for command in [
            "SHUTDOWN",
            "SHUTDOWN WAIT_FOR_SERVERS",
            "SHUTDOWN WAIT_FOR_CLIENTS",
        ] {
            let mut program = Program::start();
            let [address, _] = program.addresses();
            let mut console = Raw::log_in(address, "admin", "pgherd").await;
            console
                .send(|out| frontend::query(out, command.as_bytes()))
                .await;
            let told = console.until_end().await;
            assert_eq!(fields(&told)[&'C'], "57P01", "{command}");
            assert_eq!(program.child.wait().unwrap().code(), Some(0));
        }
    });
}

#[test]
fn a_stop_that_waits_for_clients_lets_them_work_and_takes_no_new_ones() {
    test(async {
        let router = Router::start(&shared().await.cluster, &[]).await;
        let client = router.connect().await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
        assert_eq!(get(router.http, "/readyz").await.0, 200);
        let told = router.console("SHUTDOWN WAIT_FOR_CLIENTS").await;
        assert_eq!(told[0]["command"], "SHUTDOWN");
        assert_eq!(
            router.app.asked_to_stop(None).await,
            Shutdown::WaitForClients
        );
        let work = async {
            wait_until("it is not ready", LIMIT, async || {
                get(router.http, "/readyz").await.0 == 503
            })
            .await;
            assert_eq!(get(router.http, "/livez").await.0, 200);
            wait_until("the door is closed", LIMIT, async || {
                tokio::net::TcpStream::connect(router.address)
                    .await
                    .is_err()
            })
            .await;
            for _ in 0..3 {
                let row = rows(&client, "BEGIN; SELECT txid_current() > 0 AS is; COMMIT").await;
                assert_eq!(row[0]["is"], "t");
            }
            drop(client);
        };
        tokio::join!(router.app.wait_for_clients(), work);
    });
}

#[test]
fn a_transaction_ends_before_its_client_is_told_that_the_router_stops() {
    test(async {
        let router = Router::start(&shared().await.cluster, &[]).await;
        let (mut idle, mut busy) = (router.raw().await, router.raw().await);
        busy.send(|out| frontend::query(out, b"BEGIN; SELECT txid_current()"))
            .await;
        busy.until_ready().await;
        let stopped = tokio::spawn(router.app.shutdown(std::future::pending()));
        assert_eq!(fields(&idle.until_end().await)[&'C'], "57P01");
        busy.send(|out| frontend::query(out, b"SELECT 'still here'"))
            .await;
        busy.until_ready().await;
        busy.send(|out| frontend::query(out, b"COMMIT")).await;
        assert_eq!(tags(&busy.until_end().await), "CZE");
        stopped.await.unwrap();
    });
}

const LIMIT: Duration = Duration::from_secs(30);
