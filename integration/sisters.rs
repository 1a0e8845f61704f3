//! Several routers behind one address: a cancel request comes to any of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use pgherd::local::{DATABASE, SUPERUSER};
use pgherd::wire::{CancelKey, frontend};
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{Raw, Router, fields, rows, shared, tags, test, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

async fn router(id: &str, routers: &str) -> Router {
    let settings = [("peers.id", id), ("peers.routers", routers)];
    Router::start(&shared().await.cluster, &settings).await
}

/// Sends a cancel request and waits until it is closed.
async fn cancel(address: SocketAddr, key: &CancelKey) {
    let mut raw = Raw::connect(address).await;
    raw.send(|out| frontend::cancel_request(out, key)).await;
    assert_eq!(raw.until_end().await, []);
}

/// A key that the router of number 2 may have made.
fn key_of_second() -> CancelKey {
    CancelKey {
        pid: 0x4000_0000 | 2 << 24 | 77,
        secret: Bytes::from_static(b"0123"),
    }
}

/// Gives connections to these in turn, as a balancer does.
async fn balancer(targets: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for target in targets.iter().cycle() {
            let (mut client, _) = listener.accept().await.unwrap();
            let target = *target;
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                // One side that breaks off is how a cancel request ends.
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[test]
fn a_cancel_that_comes_to_another_router_finds_its_session() {
    test(async {
        let second = router("2", "").await;
        let list = format!("1={},2={}", second.address, second.address);
        let first = router("1", &list).await;
        let address = balancer(vec![second.address, first.address]).await;
        let mut raw = Raw::log_in(address, SUPERUSER, DATABASE).await;
        let query = b"SELECT pg_sleep(60), txid_current(), 'cancelled elsewhere'";
        raw.send(|out| frontend::query(out, query)).await;
        let primary = shared().await.cluster.connect(0).await.unwrap();
        let runs = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' \
                    AND query LIKE '%''cancelled elsewhere''' AND pid <> pg_backend_pid()";
        wait_until("it runs", LIMIT, async || {
            rows(&primary, runs).await.len() == 1
        })
        .await;
        let key = raw.key.clone().unwrap();
        let mut wrong = key.clone();
        wrong.secret = Bytes::from_static(b"none");
        cancel(first.address, &wrong).await;
        assert!(raw.is_silent().await, "a wrong secret cancels nothing");
        let began = Instant::now();
        cancel(address, &key).await;
        let answer = raw.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "57014");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn a_cancel_goes_one_hop_and_to_the_router_that_made_its_key() {
    test(async {
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let third = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let list = format!(
            "2={},3={}",
            second.local_addr().unwrap(),
            third.local_addr().unwrap()
        );
        let first = router("1", &list).await;
        let key = key_of_second();
        let told = async {
            let (mut stream, _) = second.accept().await.unwrap();
            let mut packet = [0; 16];
            stream.read_exact(&mut packet).await.unwrap();
            packet
        };
        let ((), packet) = tokio::join!(cancel(first.address, &key), told);
        let mut expected = Vec::new();
        for word in [16, 80_877_102, key.pid | 0x8000_0000] {
            expected.extend_from_slice(&word.to_be_bytes());
        }
        expected.extend_from_slice(b"0123");
        assert_eq!(packet, expected.as_slice());
        // It comes back, as it would if each thought that the other made it; or from nobody.
        let passed_on = CancelKey {
            pid: key.pid | 0x8000_0000,
            ..key.clone()
        };
        let of_first = CancelKey {
            pid: 0x4000_0000 | 1 << 24 | 77,
            ..key.clone()
        };
        let of_a_server = CancelKey { pid: 77, ..key };
        for key in [passed_on, of_first, of_a_server] {
            cancel(first.address, &key).await;
        }
        let more = async {
            tokio::select! {
                _ = second.accept() => {}
                _ = third.accept() => {}
            }
        };
        assert!(timeout(Duration::from_millis(300), more).await.is_err());
    });
}

#[test]
fn so_many_are_passed_on_at_once_and_none_for_ever() {
    test(async {
        // Takes requests, and never has enough of them.
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let list = format!("2={}", second.local_addr().unwrap());
        let first = router("1", &list).await;
        let key = key_of_second();
        let began = Instant::now();
        let clients = join_all((0..17).map(|_| cancel(first.address, &key)));
        let other = async {
            let mut taken = Vec::new();
            for _ in 0..16 {
                taken.push(second.accept().await.unwrap());
            }
            let one_more = timeout(Duration::from_millis(300), second.accept());
            assert!(one_more.await.is_err(), "more than are allowed");
            drop(taken.pop());
            taken.push(second.accept().await.unwrap());
            taken
        };
        let (_, taken) = tokio::join!(clients, other);
        assert_eq!(taken.len(), 16);
        assert!(began.elapsed() < Duration::from_secs(15));
        let mut raw = first.raw().await;
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}
