//! Clients that do not keep to the protocol, and peers that vanish.

use std::time::Duration;

use bytes::BytesMut;
use pgherd::local::{DATABASE, SUPERUSER};
use pgherd::wire::frontend::{self, NO_TYPES};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Raw, Router, fields, rows, shared, tags, test, value, wait_until};

/// A router that gives nobody much time to log in.
async fn router() -> Router {
    let settings = [("limits.login_timeout", "1s")];
    Router::start(&shared().await.cluster, &settings).await
}

/// Nothing is left of the clients, and the router serves.
async fn is_well(router: &Router) {
    let mut left = Vec::new();
    wait_until(
        "all clients are forgotten",
        Duration::from_secs(20),
        async || {
            left = router.console("SHOW CLIENTS WHERE database = 'app'").await;
            left.is_empty()
        },
    )
    .await;
    wait_until(
        "all connections are given back",
        Duration::from_secs(20),
        async || {
            let pools = router.console("SHOW POOLS WHERE database = 'app'").await;
            let count = |name: &str| {
                pools
                    .iter()
                    .map(|row| row[name].parse::<u64>().unwrap())
                    .sum::<u64>()
            };
            count("cl_active") + count("cl_waiting") + count("sv_active") == 0
        },
    )
    .await;
    let client = router.connect().await;
    assert_eq!(value(&client, "SELECT 1").await, "1");
    assert_eq!(value(&client, "BEGIN; SELECT 2; COMMIT").await, "2");
}

/// Numbers that look random and are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Sends bytes, does not care what becomes of them, and hangs up after a moment.
async fn throw(router: &Router, bytes: &[u8], moment: Duration) {
    let mut stream = TcpStream::connect(router.address).await.unwrap();
    stream.write_all(bytes).await.ok();
    tokio::time::sleep(moment).await;
}

fn startup() -> BytesMut {
    let mut out = BytesMut::new();
    let (user, database) = (SUPERUSER.as_bytes(), DATABASE.as_bytes());
    frontend::startup(
        &mut out,
        0,
        [(b"user".as_slice(), user), (b"database", database)],
    );
    out
}

#[test]
fn random_bytes_before_and_after_the_login_harm_nobody() {
    test(async {
        let router = router().await;
        let mut noise = Noise(42);
        for round in 0..150_usize {
            let length = usize::try_from(noise.next() % 300).unwrap();
            let mut bytes = match round % 3 {
                0 => BytesMut::new(),
                _ => startup(),
            };
            if round % 3 == 2 {
                // A tag that exists, so that more than the first byte is looked at.
                let known = b"QPBEDCHSFXdcfp";
                bytes.extend_from_slice(&[known[round % known.len()], 0, 0, 0]);
            }
            bytes.extend_from_slice(&noise.bytes(length));
            throw(&router, &bytes, Duration::from_millis(5)).await;
        }
        is_well(&router).await;
    });
}

#[test]
fn lengths_that_make_no_sense_end_the_session_with_an_error() {
    test(async {
        let router = router().await;
        for start in [
            [0xFF; 8],
            [0; 8],
            [0, 0, 0, 7, 0, 3, 0, 0],
            [0x7F, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0],
        ] {
            let mut raw = Raw::connect(router.address).await;
            raw.send_bytes(&start).await;
            let answer = raw.until_end().await;
            assert!(
                answer.iter().all(|message| message.tag == b'E'),
                "{answer:?}"
            );
        }
        for frame in [
            [b'Q', 0xFF, 0xFF, 0xFF, 0xFF],
            [b'Q', 0, 0, 0, 3],
            [b'S', 0, 0, 0x7F, 0xFF],
            [b'!', 0, 0, 0, 4],
            [b'p', 0, 0, 0, 4],
            [b'X', 0x7F, 0xFF, 0xFF, 0xFF],
        ] {
            let mut raw = router.raw().await;
            raw.send_bytes(&frame).await;
            let answer = raw.until_end().await;
            let told = fields(&answer);
            assert_eq!(
                (told[&'S'].as_str(), told[&'C'].as_str()),
                ("FATAL", "08P01"),
                "{frame:?}"
            );
        }
        is_well(&router).await;
    });
}

#[test]
fn malformed_bodies_end_the_session_with_an_error() {
    test(async {
        let router = router().await;
        for frame in [
            b"Q\0\0\0\x07abc".as_slice(),
            b"P\0\0\0\x06ab",
            b"B\0\0\0\x08\0\0\xFF\xFF",
            b"D\0\0\0\x06Z\0",
            b"C\0\0\0\x06Z\0",
            b"E\0\0\0\x05\0",
        ] {
            let mut raw = router.raw().await;
            raw.send_bytes(frame).await;
            raw.send(frontend::sync).await;
            let answer = raw.next().await;
            assert_eq!(answer.tag, b'E', "{frame:?}");
            assert_eq!(answer.fields()[&'C'], "08P01", "{frame:?}");
        }
        is_well(&router).await;
    });
}

#[test]
fn a_login_that_never_ends_is_ended() {
    test(async {
        let router = router().await;
        let half = &startup()[..10];
        let mut slow = Raw::connect(router.address).await;
        slow.send_bytes(half).await;
        let mut silent = Raw::connect(router.address).await;
        slow.until_end().await;
        silent.until_end().await;
        is_well(&router).await;
    });
}

#[test]
fn a_client_that_owes_its_password_for_too_long_is_told_so() {
    test(async {
        let settings = [("limits.login_timeout", "1s"), ("auth.method", "lookup")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let mut owing = Raw::connect(router.address).await;
        owing.send_bytes(&startup()).await;
        let told = fields(&owing.until_end().await);
        assert_eq!(told[&'C'], "57014");
        assert_eq!(told[&'M'], "canceling authentication due to timeout");
    });
}

#[test]
fn a_client_may_vanish_at_every_byte_of_a_conversation() {
    test(async {
        let router = router().await;
        let mut all = startup();
        frontend::query(&mut all, b"SELECT 1");
        frontend::query(&mut all, b"BEGIN");
        frontend::parse(&mut all, b"s", b"SELECT $1::int", NO_TYPES);
        frontend::bind_for(&mut all, b"s", b"", &[0, 0, 0, 1, 0, 0, 0, 1, b'7', 0, 0]);
        frontend::execute(&mut all, b"", 0);
        frontend::sync(&mut all);
        frontend::query(&mut all, b"COPY (SELECT generate_series(1, 100)) TO STDOUT");
        frontend::query(&mut all, b"COMMIT");
        for length in 0..all.len() {
            // Some hang up at once, some after the server had a moment to begin.
            let moment = Duration::from_millis(if length % 7 == 0 { 10 } else { 0 });
            throw(&router, &all[..length], moment).await;
        }
        is_well(&router).await;
    });
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_result_frees_its_connection() {
    test(async {
        let router = router().await;
        for _ in 0..10 {
            let mut raw = router.raw().await;
            let text = b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
            raw.send(|out| frontend::query(out, text)).await;
            raw.next().await;
        }
        is_well(&router).await;
        // And nothing of it still runs.
        for node in 0..3 {
            let direct = shared().await.cluster.connect(node).await.unwrap();
            wait_until(
                "the servers have stopped",
                Duration::from_secs(10),
                async || {
                    let runs = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' \
                            AND query LIKE 'SELECT repeat(''x'', 1000)%'";
                    rows(&direct, runs).await.is_empty()
                },
            )
            .await;
        }
    });
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_copy_leaves_no_row() {
    test(async {
        let router = router().await;
        let client = router.connect().await;
        client
            .batch_execute("CREATE TABLE copy_abandoned(n int)")
            .await
            .unwrap();
        let mut raw = router.raw().await;
        raw.send(|out| frontend::query(out, b"COPY copy_abandoned FROM STDIN"))
            .await;
        raw.until(b'G').await;
        raw.send_bytes(b"d\0\0\0\x061\n").await;
        drop(raw);
        assert_eq!(
            value(&client, "SELECT count(*) FROM copy_abandoned").await,
            "0"
        );
        drop(client);
        is_well(&router).await;
    });
}

/// Terminates the backend that runs a statement, wherever it runs.
async fn terminate(mark: &str) {
    let cluster = &shared().await.cluster;
    let text = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE query LIKE '%{mark}%' AND pid <> pg_backend_pid() AND state <> 'idle'"
    );
    let mut nodes = Vec::new();
    for node in 0..3 {
        nodes.push(cluster.connect(node).await.unwrap());
    }
    wait_until("it was terminated", Duration::from_secs(10), async || {
        let mut found = 0;
        for node in &nodes {
            found += rows(node, &text).await.len();
        }
        found > 0
    })
    .await;
}

#[test]
fn a_server_that_vanishes_in_the_middle_of_a_result_is_a_clear_error() {
    test(async {
        let router = router().await;
        let mut raw = router.raw().await;
        // Rows of a size that is sent at once: until some of it is out, it would be tried again.
        let text =
            b"SELECT repeat('x', 20000), pg_sleep(0.05), 'mark one' FROM generate_series(1, 10000)";
        raw.send(|out| frontend::query(out, text)).await;
        raw.until(b'D').await;
        terminate("mark one").await;
        let answer = raw.until_ready().await;
        let told = fields(&answer);
        assert_eq!(told[&'S'], "ERROR", "{told:?}");
        assert_eq!(&told[&'C'][..2], "08", "{told:?}");
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
        drop(raw);
        is_well(&router).await;
    });
}

#[test]
fn a_server_that_vanishes_during_a_write_leaves_the_outcome_unknown_and_says_so() {
    test(async {
        let router = router().await;
        let mut raw = router.raw().await;
        raw.query("CREATE TABLE vanished(n int)").await;
        let text = b"INSERT INTO vanished SELECT 1 FROM pg_sleep(30) WHERE 'mark two' <> ''";
        raw.send(|out| frontend::query(out, text)).await;
        terminate("mark two").await;
        let answer = raw.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "08007");
        let answer = raw.query("SELECT count(*) FROM vanished").await;
        assert_eq!(answer[1].columns(), ["0"]);
        drop(raw);
        is_well(&router).await;
    });
}

#[test]
fn an_answer_that_breaks_off_inside_a_row_ends_the_connection() {
    test(async {
        let router = router().await;
        let mut raw = router.raw().await;
        // One row, larger than what anybody between the server and the client holds.
        let text = b"SELECT repeat('x', 100000000), 'mark five'";
        raw.send(|out| frontend::query(out, text)).await;
        assert_eq!(raw.next().await.tag, b'T');
        terminate("mark five").await;
        // An error in the middle of the row would be taken for its text, and the rest waited for.
        let answer = raw.until_end().await;
        assert_eq!(tags(&answer), "");
        assert!(!raw.unread().contains(&b'0'), "an error is in the row");
        is_well(&router).await;
    });
}

#[test]
fn a_transaction_whose_server_vanishes_is_told_once_and_can_be_ended() {
    test(async {
        let router = router().await;
        let mut raw = router.raw().await;
        raw.query("BEGIN").await;
        raw.query("SELECT 'mark three'").await;
        terminate("mark three").await;
        let answer = raw.query("SELECT 2").await;
        assert_eq!(fields(&answer)[&'C'], "40001");
        assert_eq!(
            answer.last().unwrap().body,
            b"E",
            "the transaction has failed"
        );
        assert_eq!(fields(&raw.query("SELECT 3").await)[&'C'], "25P02");
        let answer = raw.query("ROLLBACK").await;
        assert_eq!(
            (tags(&answer).as_str(), &answer[1].body[..]),
            ("CZ", b"I".as_slice())
        );
        assert_eq!(tags(&raw.query("SELECT 4").await), "TDCZ");
        drop(raw);
        is_well(&router).await;
    });
}

#[test]
fn an_idle_connection_that_its_server_closed_is_not_given_to_anybody() {
    test(async {
        let router = router().await;
        let client = router.connect().await;
        for _ in 0..5 {
            let pid = value(&client, "BEGIN; SELECT pg_backend_pid(); COMMIT").await;
            let direct = shared().await.cluster.connect(0).await.unwrap();
            value(
                &direct,
                &format!("SELECT pg_terminate_backend({pid}, 5000)"),
            )
            .await;
            assert_eq!(value(&client, "SELECT 1").await, "1");
            client
                .batch_execute("BEGIN; SELECT 1; COMMIT")
                .await
                .unwrap();
        }
    });
}
