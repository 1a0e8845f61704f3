//! The primary is gone: what clients see, what is kept, and what is never touched again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use pgherd::local::{LocalCluster, MONITOR_ROLE, Options};
use tokio::task::JoinHandle;

use crate::support::{Router, Row, eventually, rows, start, test_alone, value, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// What one writer saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<i32>,
    errors: Vec<String>,
    dropped: bool,
}

/// Clients that write rows with numbers of their own until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    /// How many writes were acknowledged.
    count: Arc<AtomicI32>,
    tasks: Vec<JoinHandle<Seen>>,
}

impl Writers {
    async fn start(router: &Router, writers: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicI32::new(0));
        let mut tasks = Vec::new();
        for writer in 0..writers {
            let client = router.connect().await;
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            tasks.push(tokio::spawn(async move {
                let mut seen = Seen::default();
                for number in 0..1_000_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let row = writer * 1_000_000 + number;
                    match client
                        .batch_execute(&format!("INSERT INTO acked VALUES ({row})"))
                        .await
                    {
                        Ok(()) => {
                            seen.acknowledged.push(row);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) if client.is_closed() => {
                            seen.dropped = true;
                            break;
                        }
                        Err(error) => seen.errors.push(error.code().unwrap().code().to_owned()),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                seen
            }));
        }
        Self { stop, count, tasks }
    }

    /// Waits for so many more acknowledged writes.
    async fn progress(&self, more: i32) {
        let target = self.count.load(Ordering::Relaxed) + more;
        wait_until("writes go on", LIMIT, async || {
            self.count.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await.unwrap();
            all.acknowledged.extend(seen.acknowledged);
            all.errors.extend(seen.errors);
            all.dropped |= seen.dropped;
        }
        all
    }
}

/// A cluster in which a row is acknowledged once one replica has it, and a router that promotes.
async fn lab() -> (LocalCluster, Router) {
    let cluster = start(Options::for_tests()).await;
    let direct = cluster.connect(0).await.unwrap();
    direct
        .batch_execute("CREATE TABLE acked(n int)")
        .await
        .unwrap();
    for node in 0..3 {
        let name = "synchronous_standby_names";
        cluster
            .alter_system(node, name, Some("ANY 1 (node1, node2, node3)"))
            .await
            .unwrap();
    }
    let directory = cluster.directory().join("state");
    let settings = [
        ("cluster.test.failover.mode", "auto"),
        ("cluster.test.failover.max_lost_bytes", "16MB"),
        ("state.dir", directory.to_str().unwrap()),
    ];
    let router = Router::start(&cluster, &settings).await;
    (cluster, router)
}

/// The node that the router says is the primary.
async fn primary(router: &Router) -> Option<usize> {
    let nodes = router.console("SHOW NODES WHERE state = 'primary'").await;
    let name = nodes.first()?.get("node")?;
    name.strip_prefix("node")?
        .parse::<usize>()
        .ok()?
        .checked_sub(1)
}

async fn new_primary(router: &Router) -> usize {
    eventually("another node is the primary", LIMIT, async || {
        primary(router).await.filter(|node| *node != 0)
    })
    .await
}

/// All rows that a node has.
async fn stored(cluster: &LocalCluster, node: usize) -> BTreeSet<i32> {
    let client = cluster.connect(node).await.unwrap();
    let rows = client.query("SELECT n FROM acked", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn a_killed_primary_is_replaced_and_nobody_loses_a_connection_or_an_acknowledged_row() {
    test_alone(async {
        let (cluster, router) = lab().await;
        let idle = router.connect().await;
        let open = router.connect().await;
        open.batch_execute("BEGIN; INSERT INTO acked VALUES (-1)")
            .await
            .unwrap();
        let writers = Writers::start(&router, 4).await;
        writers.progress(50).await;

        cluster.kill9(0).await.unwrap();
        let killed = Instant::now();
        writers.progress(1).await;
        let resumed = killed.elapsed();
        writers.progress(50).await;
        let winner = new_primary(&router).await;

        // Who was in a transaction is told so once, ends it, and goes on.
        let error = open
            .simple_query("INSERT INTO acked VALUES (-2)")
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "40001", "{error:?}");
        let error = open.simple_query("SELECT 1").await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "25P02", "{error:?}");
        open.batch_execute("ROLLBACK").await.unwrap();
        open.batch_execute("INSERT INTO acked VALUES (-3)")
            .await
            .unwrap();
        idle.batch_execute("INSERT INTO acked VALUES (-4)")
            .await
            .unwrap();

        // The other replica follows the new primary.
        let other = 3 - winner;
        cluster.wait_until_replayed(other, winner).await.unwrap();
        wait_until("reads go to the replica that is left", LIMIT, async || {
            router.serving_replicas() == 1
        })
        .await;

        // The old primary comes back as a primary, and is left alone.
        cluster.start_node(0).await.unwrap();
        let before = stored(&cluster, 0).await;
        wait_until("the old primary is quarantined", LIMIT, async || {
            let node = router.console("SHOW NODES WHERE node = node1").await;
            node[0]["state"] == "quarantined"
        })
        .await;
        writers.progress(100).await;
        let seen = writers.stop().await;
        assert_eq!(
            stored(&cluster, 0).await,
            before,
            "the old primary was written to"
        );
        assert_eq!(primary(&router).await, Some(winner));

        assert!(!seen.dropped, "a client lost its connection");
        let allowed = |code: &String| matches!(code.as_str(), "08007" | "40001");
        assert!(seen.errors.iter().all(allowed), "{:?}", seen.errors);
        assert!(
            seen.errors.len() <= 4,
            "one for each writer at most: {:?}",
            seen.errors
        );
        let kept = stored(&cluster, winner).await;
        let lost: Vec<_> = seen
            .acknowledged
            .iter()
            .filter(|row| !kept.contains(row))
            .collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        assert!(!kept.contains(&-1) && !kept.contains(&-2));
        assert!(kept.contains(&-3) && kept.contains(&-4));
        assert!(
            resumed < Duration::from_secs(5),
            "writes resumed after {resumed:?}"
        );

        let failovers = router.console("SHOW FAILOVERS").await;
        assert_eq!(failovers.len(), 1, "{failovers:?}");
        assert_eq!(failovers[0]["from_node"], "node1");
        assert_eq!(failovers[0]["to_node"], format!("node{}", winner + 1));
        let count = |name: &str| failovers[0][name].parse::<usize>().unwrap();
        assert!(count("clients_held") >= 1, "{failovers:?}");
        assert!(
            count("errors_returned") >= seen.errors.len(),
            "{failovers:?}"
        );
    });
}

#[test]
fn replicas_that_refuse_to_be_cut_off_are_watched_and_one_is_promoted() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let direct = cluster.connect(0).await.unwrap();
        let version = value(&direct, "SHOW server_version_num").await;
        let refuse = match version.parse::<u32>().unwrap() < 150_000 {
            true => format!("ALTER ROLE {MONITOR_ROLE} NOSUPERUSER"),
            false => format!(
                "REVOKE ALTER SYSTEM ON PARAMETER primary_conninfo FROM {MONITOR_ROLE} CASCADE"
            ),
        };
        direct.batch_execute(&refuse).await.unwrap();
        direct
            .batch_execute("CREATE TABLE refused(n int)")
            .await
            .unwrap();
        for node in 1..3 {
            cluster.wait_until_replayed(node, 0).await.unwrap();
        }
        let directory = cluster.directory().join("state");
        let settings = [
            ("cluster.test.failover.mode", "auto"),
            ("state.dir", directory.to_str().unwrap()),
        ];
        let router = Router::start(&cluster, &settings).await;
        let client = router.connect().await;
        cluster.kill9(0).await.unwrap();
        new_primary(&router).await;
        client
            .batch_execute("INSERT INTO refused VALUES (1)")
            .await
            .unwrap();
        let record = eventually("the story has ended", LIMIT, async || {
            let mut records = router.console("SHOW FAILOVERS").await;
            records.pop()
        })
        .await;
        assert_eq!(record["result"], "promoted", "{record:?}");
        // The other one refuses that as well.
        let events = router.console("SHOW EVENTS").await;
        let is_told = |event: &Row| event["kind"] == "not_following";
        assert!(events.iter().any(is_told), "{events:?}");
    });
}

#[test]
fn a_read_on_a_replica_that_hangs_is_answered_by_another() {
    test_alone(async {
        let (cluster, router) = lab().await;
        let first = router.connect().await;
        wait_until("functions are known to read", LIMIT, async || {
            value(&first, "SELECT count(*) FROM generate_series(1, 1)").await;
            value(&first, "SHOW pgherd.node").await != "node1"
        })
        .await;
        let mut reading = Vec::new();
        for _ in 0..4 {
            let client = router.connect().await;
            reading.push(tokio::spawn(async move {
                value(&client, "SELECT count(*) FROM generate_series(1, 20000000)").await
            }));
        }
        wait_until("the replica is read", LIMIT, async || {
            let active = router.console("SHOW SERVERS WHERE state = 'active'").await;
            active.iter().any(|row| row["node"] == "node2")
        })
        .await;
        cluster.hang(1).unwrap();
        for read in reading {
            let read = tokio::time::timeout(Duration::from_secs(25), read).await;
            assert_eq!(read.expect("a read hangs").unwrap(), "20000000");
        }
        cluster.thaw(1).unwrap();
    });
}

#[test]
fn a_primary_that_hangs_is_replaced_and_quarantined_when_it_wakes() {
    test_alone(async {
        let (cluster, router) = lab().await;
        let writers = Writers::start(&router, 2).await;
        writers.progress(20).await;
        let open = router.connect().await;
        open.batch_execute("BEGIN; INSERT INTO acked VALUES (-1)")
            .await
            .unwrap();
        cluster.hang(0).unwrap();
        let hung = Instant::now();
        writers.progress(20).await;
        assert!(
            hung.elapsed() < Duration::from_secs(20),
            "{:?}",
            hung.elapsed()
        );
        let winner = new_primary(&router).await;
        // A transaction at rest on the old primary must not end there.
        let error = open.simple_query("COMMIT").await;
        assert!(!stored(&cluster, winner).await.contains(&-1));
        match error {
            Err(error) => assert_eq!(error.code().unwrap().code(), "40001", "{error:?}"),
            Ok(done) => panic!("committed on a primary that was replaced: {done:?}"),
        }
        open.batch_execute("INSERT INTO acked VALUES (-2)")
            .await
            .unwrap();
        cluster.thaw(0).unwrap();
        wait_until("the old primary is quarantined", LIMIT, async || {
            let node = router.console("SHOW NODES WHERE node = node1").await;
            node[0]["state"] == "quarantined"
        })
        .await;
        writers.progress(50).await;
        let seen = writers.stop().await;
        assert!(!seen.dropped, "a client lost its connection");
        assert!(
            seen.errors.iter().all(|code| code == "08007"),
            "{:?}",
            seen.errors
        );
        let kept = stored(&cluster, winner).await;
        let lost: Vec<_> = seen
            .acknowledged
            .iter()
            .filter(|row| !kept.contains(row))
            .collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    });
}

#[test]
fn an_observing_router_follows_a_promotion_by_hand() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let router = Router::start(&cluster, &[]).await;
        let client = router.connect().await;
        client
            .batch_execute("CREATE TABLE followed(n int)")
            .await
            .unwrap();
        cluster.wait_until_replayed(1, 0).await.unwrap();
        cluster.kill9(0).await.unwrap();
        // It waits while somebody else promotes; nobody else does before we do.
        let write = client.batch_execute("INSERT INTO followed VALUES (1)");
        let promote = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert_eq!(primary(&router).await.filter(|node| *node != 0), None);
            cluster.promote(1).await.unwrap();
        };
        let (written, ()) = tokio::join!(write, promote);
        written.unwrap();
        assert_eq!(new_primary(&router).await, 1);
        let direct = cluster.connect(1).await.unwrap();
        assert_eq!(value(&direct, "SELECT count(*) FROM followed").await, "1");
        assert_eq!(value(&client, "SELECT count(*) FROM followed").await, "1");
    });
}

#[test]
fn a_replica_that_dies_disturbs_nobody() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let router = Router::start(&cluster, &[]).await;
        let mut readers = Vec::new();
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let client = router.connect().await;
            let stop = Arc::clone(&stop);
            readers.push(tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(
                        value(&client, "SELECT count(*) FROM pg_am WHERE amname = 'heap'").await,
                        "1"
                    );
                    count += 1;
                }
                count
            }));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.kill9(1).await.unwrap();
        wait_until("it is seen as down", LIMIT, async || {
            router.console("SHOW NODES WHERE node = node2").await[0]["state"] == "down"
        })
        .await;
        cluster.start_node(1).await.unwrap();
        wait_until("it serves again", LIMIT, async || {
            router.serving_replicas() == 2
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 0);
        }
        let failovers = router.console("SHOW FAILOVERS").await;
        assert!(failovers.is_empty(), "{failovers:?}");
        assert_eq!(rows(&router.connect().await, "SELECT 1").await.len(), 1);
    });
}
