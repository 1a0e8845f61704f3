use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::super::fixture::{Fixture, fixture};
use super::*;
use crate::cluster::{HoldCause, Role, ServerState, Writes};

/// A server on a free port; it stops when the test ends.
struct Running {
    address: SocketAddr,
    fixture: Fixture,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

async fn run() -> Running {
    let fixture = fixture();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        stopped.await.ok();
    };
    let task = tokio::spawn(serve(listener, fixture.sources.clone(), shutdown));
    Running {
        address,
        fixture,
        stop,
        task,
    }
}

impl Running {
    /// The status line and the whole answer.
    async fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn status(&self, path: &str) -> u16 {
        self.request("GET", path).await.0
    }

    async fn json(&self, path: &str) -> Value {
        let (status, answer) = self.request("GET", path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            headers.contains("content-type: application/json"),
            "{headers}"
        );
        serde_json::from_str(body).unwrap()
    }

    fn hold_writes(&self) {
        let mut snapshot = self.fixture.snapshot.lock().unwrap();
        let since = snapshot.servers[0].since;
        snapshot.servers[0].state = ServerState::Unknown;
        snapshot.servers[0].role = Role::Unknown;
        snapshot.writes = Writes::Held {
            since,
            cause: HoldCause::Failover,
        };
    }

    fn stop_replicas(&self) {
        let mut snapshot = self.fixture.snapshot.lock().unwrap();
        for server in snapshot.servers.iter_mut().skip(1) {
            server.state = ServerState::Unknown;
        }
    }
}

#[tokio::test]
async fn a_load_balancer_is_told_what_works() {
    let router = run().await;
    let paths = ["/livez", "/readyz", "/primary", "/replica", "/read-only"];
    let statuses = async || {
        let mut statuses = Vec::new();
        for path in paths {
            statuses.push(router.status(path).await);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200, 200, 200, 200]);
    router.hold_writes();
    assert_eq!(statuses().await, [200, 200, 503, 200, 200]);
    router.stop_replicas();
    assert_eq!(statuses().await, [200, 503, 503, 503, 503]);
}

#[tokio::test]
async fn a_draining_router_is_alive_and_not_ready() {
    let router = run().await;
    router.fixture.router.lock().unwrap().draining = true;
    assert_eq!(router.status("/livez").await, 200);
    let (status, answer) = router.request("GET", "/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(answer.ends_with("[-]accepting draining\n[+]cluster writes and reads\nnot ready\n"));
}

#[tokio::test]
async fn a_replica_check_may_bound_the_lag() {
    let router = run().await;
    assert_eq!(router.status("/replica?lag=1s").await, 200);
    assert_eq!(router.status("/replica?lag=1ms").await, 503);
    assert_eq!(router.status("/replica?lag=soon").await, 400);
}

#[tokio::test]
async fn health_answers_to_head_and_options_too() {
    let router = run().await;
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(router.request(method, "/primary").await.0, 200, "{method}");
    }
    let (status, answer) = router.request("HEAD", "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("\r\n\r\n"), "HEAD has no body: {answer}");
    assert_eq!(router.request("POST", "/metrics").await.0, 405);
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let router = run().await;
    let (status, answer) = router.request("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.contains(&format!("content-type: {CONTENT_TYPE}\r\n")));
    assert!(answer.contains("pgherd_node_up{cluster=\"main\",node=\"pg1\"} 1.0\n"));
}

#[tokio::test]
async fn the_api_has_the_field_names_of_the_console() {
    let router = run().await;
    let summary = router.json("/api/v1/summary").await;
    assert_eq!(summary["state"], "fine");
    assert_eq!(summary["primary"], "pg1");
    assert_eq!(summary["clients"], 1);
    let nodes = router.json("/api/v1/nodes").await;
    assert_eq!(nodes["nodes"][1]["node"], "pg2");
    assert_eq!(nodes["nodes"][1]["lag_ms"], 12);
    let failovers = router.json("/api/v1/failovers").await;
    assert_eq!(failovers["failovers"][0]["total_ms"], 2_140);
    assert_eq!(failovers["failovers"][0]["phases"][0]["name"], "suspect");
    assert_eq!(failovers["failovers"][0]["candidates"][0]["node"], "pg1");
    for what in ["routing", "events", "config", "clients", "pools"] {
        let rows = router.json(&format!("/api/v1/{what}")).await;
        assert!(
            rows[what].as_array().is_some_and(|rows| !rows.is_empty()),
            "{what}"
        );
    }
    assert_eq!(router.status("/api/v1/secrets").await, 404);
}

#[tokio::test]
async fn the_page_loads_only_what_is_served_here() {
    let router = run().await;
    let (status, page) = router.request("GET", "/").await;
    assert_eq!(status, 200);
    assert!(page.contains("content-security-policy: default-src 'none'"));
    for asset in ["/assets/status.css", "/assets/status.js"] {
        assert!(page.contains(asset), "the page does not use {asset}");
        assert_eq!(router.status(asset).await, 200);
    }
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(!body.contains("http"), "the page asks another host");
}

#[tokio::test]
async fn it_stops_when_told() {
    let router = run().await;
    assert_eq!(router.status("/livez").await, 200);
    router.stop.send(()).unwrap();
    router.task.await.unwrap().unwrap();
}
