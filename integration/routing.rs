//! Where statements go, seen from outside.

use pgherd::wire::frontend::{self, NO_TYPES, What};
use tokio_postgres::Client;

use crate::support::{Router, rows, shared, tags, test, value, wait_until};

/// Runs a statement and tells on which server it ran, and why.
async fn route(client: &Client, statement: &str) -> (String, String) {
    client
        .batch_execute(statement)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let route = value(client, "SHOW pgherd.last_route").await;
    let (node, why) = route.split_once(": ").unwrap();
    (node.to_owned(), why.to_owned())
}

/// Sees to it that names made by a test are known to the router and to all replicas.
async fn settled(router: &Router, probe: &str) {
    let cluster = &shared().await.cluster;
    for node in [1, 2] {
        cluster.wait_until_replayed(node, 0).await.unwrap();
    }
    let client = router.connect().await;
    wait_until(probe, std::time::Duration::from_secs(20), async || {
        route(&client, probe).await.0 != "node1"
    })
    .await;
}

#[test]
fn a_read_goes_to_a_replica_and_says_so() {
    test(async {
        let router = &shared().await.router;
        router
            .connect()
            .await
            .batch_execute("CREATE TABLE plain_read(n int)")
            .await
            .unwrap();
        settled(router, "SELECT * FROM plain_read").await;
        let client = router.connect().await;
        for statement in [
            "SELECT 1",
            "SELECT count(*) FROM plain_read",
            "TABLE plain_read",
            "VALUES (1)",
            "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
            "SELECT now(), lower('A'), current_setting('cluster_name')",
            "EXPLAIN SELECT * FROM plain_read",
        ] {
            let (node, why) = route(&client, statement).await;
            assert_ne!(node, "node1", "{statement} because {why}");
            assert_eq!(why, "read_only", "{statement}");
        }
        let ran = value(&client, "SELECT current_setting('cluster_name')").await;
        assert_eq!(
            value(&client, "SHOW pgherd.node").await,
            ran,
            "told where it really ran"
        );
    });
}

#[test]
fn what_may_write_goes_to_the_primary_with_its_reason() {
    test(async {
        let router = &shared().await.router;
        let client = router.connect().await;
        client
            .batch_execute("CREATE TABLE written(n int); CREATE SEQUENCE written_seq; INSERT INTO written VALUES (0)")
            .await
            .unwrap();
        client
            .batch_execute(
                "CREATE FUNCTION writes_volatile() RETURNS int LANGUAGE sql VOLATILE AS \
                 'INSERT INTO written VALUES (9) RETURNING n'",
            )
            .await
            .unwrap();
        settled(router, "SELECT * FROM written").await;
        let expected = [
            ("INSERT INTO written VALUES (1)", "write"),
            ("UPDATE written SET n = 2", "write"),
            ("DELETE FROM written WHERE n = 77", "write"),
            ("SELECT * FROM written FOR UPDATE", "locking_clause"),
            ("SELECT * FROM written FOR SHARE", "locking_clause"),
            (
                "WITH w AS (INSERT INTO written VALUES (3) RETURNING n) SELECT * FROM w",
                "data_modifying_cte",
            ),
            ("SELECT writes_volatile()", "volatile_function"),
            ("CREATE INDEX ON written(n)", "ddl"),
            ("ANALYZE written", "utility"),
            ("EXPLAIN ANALYZE INSERT INTO written VALUES (4)", "write"),
            ("NOTIFY something", "listen_notify"),
            ("DO 'BEGIN END'", ""),
            ("SELECT pg_advisory_xact_lock(1)", "advisory_lock"),
            ("BEGIN; SELECT 1; COMMIT", "explicit_transaction"),
            ("SELECT 1; INSERT INTO written VALUES (5)", "write"),
        ];
        for (statement, reason) in expected {
            // A session of its own: after a write, and after a pin, reads have other reasons.
            let client = router.connect().await;
            let (node, why) = route(&client, statement).await;
            assert_eq!(node, "node1", "{statement} because {why}");
            if !reason.is_empty() {
                assert_eq!(why, reason, "{statement}");
            }
        }
        let client = router.connect().await;
        assert_eq!(
            route(&client, "SELECT nextval('written_seq')").await.0,
            "node1"
        );
    });
}

#[test]
fn what_is_not_understood_goes_to_the_primary() {
    test(async {
        let client = shared().await.router.connect().await;
        // The parser does not know this, the server does.
        let statement = "SELECT 1 AS a FROM pg_class TABLESAMPLE BERNOULLI (1) REPEATABLE (3) WHERE oid IS NOT DISTINCT FROM 1 OR ROW(1, 2) OVERLAPS ROW(1, 2)";
        let result = client.simple_query(statement).await;
        let route = value(&client, "SHOW pgherd.last_route").await;
        assert!(route.starts_with("node1") || result.is_ok(), "{route}");
        // What was not understood pins its session, and the reason would be that.
        let client = shared().await.router.connect().await;
        let error = client
            .simple_query("FROBNICATE everything")
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42601");
        assert_eq!(
            value(&client, "SHOW pgherd.last_route").await,
            "node1: parse_failed"
        );
    });
}

#[test]
fn an_explicit_transaction_stays_on_the_primary_and_a_read_only_one_on_a_replica() {
    test(async {
        let client = shared().await.router.connect().await;
        let node = "SELECT current_setting('cluster_name')";
        client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(value(&client, node).await, "node1");
        assert_eq!(value(&client, node).await, "node1");
        client.batch_execute("COMMIT").await.unwrap();
        let begins = [
            "BEGIN READ ONLY",
            "START TRANSACTION READ ONLY",
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ];
        for begin in begins {
            let client = shared().await.router.connect().await;
            client.batch_execute(begin).await.unwrap();
            let first = value(&client, node).await;
            assert_ne!(first, "node1", "{begin}");
            for _ in 0..5 {
                assert_eq!(value(&client, node).await, first, "{begin}");
            }
            let error = client
                .simple_query("CREATE TABLE refused(n int)")
                .await
                .unwrap_err();
            assert_eq!(error.code().unwrap().code(), "25006", "{begin}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    });
}

#[test]
fn a_stable_function_that_writes_is_tried_again_on_the_primary_and_remembered() {
    test(async {
        let lab = shared().await;
        let client = lab.router.connect().await;
        client
            .batch_execute("CREATE TABLE lied_about(n int)")
            .await
            .unwrap();
        client
            .batch_execute(
                "CREATE FUNCTION liar() RETURNS int LANGUAGE plpgsql VOLATILE AS \
                 $$ BEGIN INSERT INTO lied_about VALUES (1); RETURN 1; END $$",
            )
            .await
            .unwrap();
        // PostgreSQL itself refuses a write in a STABLE function: the lie hides one level deeper.
        client
            .batch_execute(
                "CREATE FUNCTION promised() RETURNS int LANGUAGE plpgsql STABLE AS \
                 $$ BEGIN RETURN liar(); END $$",
            )
            .await
            .unwrap();
        // A router of its own, whose counters nobody else moves.
        let router = Router::start(&lab.cluster, &[]).await;
        settled(&router, "SELECT * FROM lied_about").await;
        let client = router.connect().await;
        wait_until(
            "the catalog knows it",
            std::time::Duration::from_secs(10),
            async || {
                let plan = rows(&client, "EXPLAIN (ROUTE) SELECT promised()").await;
                plan.iter()
                    .any(|row| row.values().any(|line| line.contains("read_only")))
            },
        )
        .await;
        let before = router.count_of("refused_by_replica").await;
        assert_eq!(value(&client, "SELECT promised()").await, "1");
        assert_eq!(
            value(&client, "SHOW pgherd.last_route").await,
            "node1: refused_by_replica"
        );
        assert_eq!(router.count_of("refused_by_replica").await, before + 1);
        // What was tried again is no error that a client got.
        let (_, page) = router.get("/metrics").await;
        assert!(!page.contains("pgherd_errors_total{"), "{page}");
        assert_eq!(
            value(&client, "SELECT count(*) FROM lied_about").await,
            "1",
            "once"
        );
        // The second time it goes there at once: nothing is refused any more.
        let other = router.connect().await;
        let (node, why) = route(&other, "SELECT promised()").await;
        assert_eq!(
            (node.as_str(), why.as_str()),
            ("node1", "refused_by_replica")
        );
    });
}

#[test]
fn a_statement_that_is_prepared_and_tried_again_in_one_breath_keeps_its_name() {
    test(async {
        let lab = shared().await;
        let client = lab.router.connect().await;
        client
            .batch_execute(
                "CREATE TABLE lied_again(n int); \
                 CREATE FUNCTION liar_again() RETURNS int LANGUAGE plpgsql VOLATILE AS \
                 $$ BEGIN INSERT INTO lied_again VALUES (1); RETURN 1; END $$; \
                 CREATE FUNCTION promised_again() RETURNS int LANGUAGE plpgsql STABLE AS \
                 $$ BEGIN RETURN liar_again(); END $$",
            )
            .await
            .unwrap();
        let router = Router::start(&lab.cluster, &[]).await;
        settled(&router, "SELECT * FROM lied_again").await;
        let before = router.count_of("refused_by_replica").await;
        let mut raw = router.raw().await;
        let run = |out: &mut bytes::BytesMut| {
            frontend::bind_for(out, b"named", b"", &[0, 0, 0, 0, 0, 0]);
            frontend::execute(out, b"", 0);
            frontend::sync(out);
        };
        raw.send(|out| {
            frontend::parse(out, b"named", b"SELECT promised_again()", NO_TYPES);
            run(out);
        })
        .await;
        assert_eq!(tags(&raw.until_ready().await), "12DCZ");
        assert!(
            router.count_of("refused_by_replica").await > before,
            "it was tried again"
        );
        raw.send(run).await;
        assert_eq!(tags(&raw.until_ready().await), "2DCZ");
    });
}

#[test]
fn explain_route_tells_where_a_statement_would_go() {
    test(async {
        let client = shared().await.router.connect().await;
        for (statement, word) in [
            ("SELECT 1", "read_only"),
            ("CREATE TABLE explained(n int)", "ddl"),
            ("SELECT pg_advisory_lock(1)", "advisory_lock"),
        ] {
            let simple = rows(&client, &format!("EXPLAIN (ROUTE) {statement}")).await;
            let lines: Vec<String> = simple
                .iter()
                .flat_map(|row| row.values().cloned())
                .collect();
            assert!(
                lines.iter().any(|line| line.starts_with("target ")),
                "{lines:?}"
            );
            assert!(lines.iter().any(|line| line.contains(word)), "{lines:?}");
            let extended = client
                .query(&format!("EXPLAIN (ROUTE) {statement}"), &[])
                .await
                .unwrap();
            let extended: Vec<String> = extended.iter().map(|row| row.get(0)).collect();
            assert_eq!(extended.len(), lines.len(), "{extended:?}");
        }
        let error = client
            .simple_query("SELECT * FROM explained")
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42P01", "it was not run");
    });
}

#[test]
fn a_session_that_asks_is_told_each_route_as_a_notice() {
    test(async {
        let router = &shared().await.router;
        let listener = router.listener().await;
        listener
            .client
            .batch_execute("SET pgherd.explain = 'notice'")
            .await
            .unwrap();
        listener.client.batch_execute("SELECT 1").await.unwrap();
        let told = listener.told().join("\n");
        assert!(told.contains("read_only"), "{told}");
        assert_eq!(
            listener.client.query("SELECT 1", &[]).await.unwrap().len(),
            1
        );
        let told = listener.told().join("\n");
        assert!(told.contains("read_only"), "extended: {told}");
        listener
            .client
            .batch_execute("BEGIN; SELECT 1; COMMIT")
            .await
            .unwrap();
        let told = listener.told().join("\n");
        assert!(told.contains("explicit_transaction"), "{told}");
        listener
            .client
            .batch_execute("SET pgherd.explain = 'off'")
            .await
            .unwrap();
        listener.told();
        listener.client.batch_execute("SELECT 1").await.unwrap();
        assert!(listener.told().is_empty());
    });
}

#[test]
fn our_own_statements_work_in_the_extended_protocol_message_by_message() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.send(|out| {
            frontend::parse(out, b"", b"SHOW pgherd.version", NO_TYPES);
            frontend::describe(out, What::Statement, b"");
            frontend::bind_for(out, b"", b"", &[0, 0, 0, 0, 0, 0]);
            frontend::describe(out, What::Portal, b"");
            frontend::execute(out, b"", 0);
            frontend::sync(out);
        })
        .await;
        let answer = raw.until_ready().await;
        assert_eq!(tags(&answer), "1tT2TDCZ");
        raw.send(|out| {
            frontend::parse(out, b"", b"SET pgherd.explain = 'off'", NO_TYPES);
            frontend::bind_for(out, b"", b"", &[0, 0, 0, 0, 0, 0]);
            frontend::describe(out, What::Portal, b"");
            frontend::execute(out, b"", 0);
            frontend::sync(out);
        })
        .await;
        assert_eq!(tags(&raw.until_ready().await), "12nCZ");
    });
}

#[test]
fn a_new_table_is_readable_at_once_by_its_maker() {
    test(async {
        let client = shared().await.router.connect().await;
        for number in 0..20 {
            let create = format!("CREATE TABLE fresh_{number} AS SELECT {number} AS n");
            client.batch_execute(&create).await.unwrap();
            let select = format!("SELECT n FROM fresh_{number}");
            assert_eq!(value(&client, &select).await, number.to_string());
        }
    });
}

#[test]
fn a_hint_sends_a_read_to_the_primary_and_never_a_write_to_a_replica() {
    test(async {
        let client = shared().await.router.connect().await;
        assert_eq!(
            route(&client, "/* pgherd: primary */ SELECT 1").await,
            ("node1".to_owned(), "hint_primary".to_owned())
        );
        let (node, _) = route(&client, "/* pgherd: replica */ CREATE TABLE hinted(n int)").await;
        assert_eq!(node, "node1");
    });
}

#[test]
fn reads_are_spread_over_the_replicas() {
    test(async {
        // Of its own: what other tests have running on a replica would move these to the other.
        let router = Router::start(&shared().await.cluster, &[]).await;
        settled(&router, "SELECT current_setting('cluster_name')").await;
        let client = router.connect().await;
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..100 {
            let node = value(&client, "SELECT current_setting('cluster_name')").await;
            *seen.entry(node).or_insert(0) += 1;
        }
        assert!(
            seen.get("node2").is_some_and(|count| *count > 10),
            "{seen:?}"
        );
        assert!(
            seen.get("node3").is_some_and(|count| *count > 10),
            "{seen:?}"
        );
        assert_eq!(seen.get("node1"), None, "{seen:?}");
    });
}
