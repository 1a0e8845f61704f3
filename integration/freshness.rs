//! What a read may miss: nothing of its own session, and no more than the bounds of the cluster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgherd::local::Options;
use tokio_postgres::Client;

use crate::support::{Router, shared, start, test, test_alone, value, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

async fn route(client: &Client) -> (String, String) {
    let route = value(client, "SHOW pgherd.last_route").await;
    let (node, why) = route.split_once(": ").unwrap();
    (node.to_owned(), why.to_owned())
}

#[test]
fn no_session_ever_misses_its_own_write() {
    test(async {
        let router = &shared().await.router;
        let setup = router.connect().await;
        setup
            .batch_execute("CREATE TABLE own_writes(session int, n int)")
            .await
            .unwrap();
        let mut sessions = Vec::new();
        for session in 0..5_i32 {
            sessions.push(tokio::spawn(async move {
                let client = router.connect().await;
                let insert = client.prepare("INSERT INTO own_writes VALUES ($1, $2)").await.unwrap();
                let select = client
                    .prepare("SELECT max(n), current_setting('cluster_name') FROM own_writes WHERE session = $1")
                    .await
                    .unwrap();
                let (mut stale, mut nodes) = (0, BTreeSet::new());
                for number in 0..100_i32 {
                    client.execute(&insert, &[&session, &number]).await.unwrap();
                    // A pause now and then, so that the replicas get their share of these reads.
                    if number % 5 == 0 {
                        tokio::time::sleep(Duration::from_millis(150)).await;
                    }
                    let row = client.query_one(&select, &[&session]).await.unwrap();
                    stale += usize::from(row.get::<_, Option<i32>>(0) != Some(number));
                    nodes.insert(row.get::<_, String>(1));
                }
                (stale, nodes)
            }));
        }
        let (mut stale, mut nodes) = (0, BTreeSet::new());
        for session in sessions {
            let (missed, seen) = session.await.unwrap();
            stale += missed;
            nodes.extend(seen);
        }
        assert_eq!(stale, 0, "stale reads of 500");
        assert!(
            nodes.contains("node2") && nodes.contains("node3"),
            "tested replicas: {nodes:?}"
        );
    });
}

#[test]
fn a_session_that_wrote_reads_from_the_primary_while_no_replica_replays() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        // The bounds are wide: only the session's own write may keep it from the replicas.
        let settings = [
            ("cluster.test.lag.max_time", "1h"),
            ("cluster.test.lag.back_time", "1h"),
        ];
        let router = Router::start(&cluster, &settings).await;
        let writer = router.connect().await;
        writer
            .batch_execute("CREATE TABLE fenced(n int)")
            .await
            .unwrap();
        wait_until("the new table is known", LIMIT, async || {
            value(&writer, "SELECT count(*) FROM fenced").await;
            route(&writer).await.0 != "node1"
        })
        .await;
        for node in [1, 2] {
            cluster.wait_until_replayed(node, 0).await.unwrap();
            cluster.pause_replay(node).await.unwrap();
        }
        writer
            .batch_execute("INSERT INTO fenced VALUES (1)")
            .await
            .unwrap();
        for _ in 0..20 {
            assert_eq!(value(&writer, "SELECT count(*) FROM fenced").await, "1");
            let fenced = ("node1".to_owned(), "session_fence".to_owned());
            assert_eq!(route(&writer).await, fenced);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Who did not write need not wait for it.
        let reader = router.connect().await;
        assert_eq!(value(&reader, "SELECT count(*) FROM fenced").await, "0");
        assert_ne!(route(&reader).await.0, "node1");
        for node in [1, 2] {
            cluster.resume_replay(node).await.unwrap();
        }
        wait_until("its reads go to replicas again", LIMIT, async || {
            assert_eq!(value(&writer, "SELECT count(*) FROM fenced").await, "1");
            route(&writer).await.0 != "node1"
        })
        .await;
    });
}

#[test]
fn a_replica_that_lags_is_out_and_comes_back_after_a_calm_while() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let settings = [
            ("cluster.test.lag.max_time", "500ms"),
            ("cluster.test.lag.back_time", "300ms"),
            ("cluster.test.lag.back_for", "1s"),
        ];
        let router = Router::start(&cluster, &settings).await;
        let direct = cluster.connect(0).await.unwrap();
        direct
            .batch_execute("CREATE TABLE beats(n int)")
            .await
            .unwrap();
        cluster
            .set_apply_delay(1, Some(Duration::from_secs(5)))
            .await
            .unwrap();
        let state = async || {
            direct
                .batch_execute("INSERT INTO beats VALUES (1)")
                .await
                .unwrap();
            let nodes = router.console("SHOW NODES WHERE node = node2").await;
            (nodes[0]["state"].clone(), nodes[0]["state_reason"].clone())
        };
        wait_until("it is out by its lag", LIMIT, async || {
            let (state, reason) = state().await;
            state == "out" && reason == "lag_time"
        })
        .await;
        let client = router.connect().await;
        for _ in 0..50 {
            let node = value(&client, "SELECT current_setting('cluster_name')").await;
            assert_eq!(node, "node3");
        }
        cluster.set_apply_delay(1, None).await.unwrap();
        wait_until("its lag is small again", LIMIT, async || {
            direct
                .batch_execute("INSERT INTO beats VALUES (1)")
                .await
                .unwrap();
            let nodes = router.console("SHOW NODES WHERE node = node2").await;
            nodes[0]["state"] == "serving"
                || nodes[0]["lag_ms"].parse().is_ok_and(|ms: u64| ms < 300)
        })
        .await;
        let calm = Instant::now();
        wait_until("it serves again", LIMIT, async || {
            state().await.0 == "serving"
        })
        .await;
        assert!(
            calm.elapsed() > Duration::from_millis(600),
            "it was back after {:?}",
            calm.elapsed()
        );
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            seen.insert(value(&client, "SELECT current_setting('cluster_name')").await);
        }
        assert!(seen.contains("node2"), "{seen:?}");
    });
}

#[test]
fn a_replica_of_unknown_lag_serves_nothing() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        cluster.kill9(0).await.unwrap();
        // The replicas answer, and without the primary nobody knows how old they are.
        let router = Router::start_blind(&cluster, &[]).await;
        wait_until("both replicas were seen", LIMIT, async || {
            let nodes = router.console("SHOW NODES").await;
            nodes
                .iter()
                .filter(|node| node["role"] == "replica")
                .count()
                == 2
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            router.serving_replicas(),
            0,
            "{:?}",
            router.console("SHOW NODES").await
        );
        cluster.start_node(0).await.unwrap();
        for node in [1, 2] {
            cluster.wait_until_streaming(node).await.unwrap();
        }
        wait_until("they serve once the primary is seen", LIMIT, async || {
            router.serving_replicas() == 2
        })
        .await;
    });
}

#[test]
fn eventual_and_strong_consistency_do_what_they_say() {
    test(async {
        let cluster = &shared().await.cluster;
        let strong = [("cluster.test.route.consistency", "strong")];
        let strong = Router::start(cluster, &strong).await;
        let client = strong.connect().await;
        client.batch_execute("SELECT 1").await.unwrap();
        assert_eq!(route(&client).await.0, "node1");
        let eventual = [("cluster.test.route.consistency", "eventual")];
        let eventual = Router::start(cluster, &eventual).await;
        let client = eventual.connect().await;
        client
            .batch_execute("CREATE TABLE eventual_writes(n int)")
            .await
            .unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        assert_ne!(
            route(&client).await.0,
            "node1",
            "it does not wait for its own write"
        );
    });
}
