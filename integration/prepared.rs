//! Prepared statements of the protocol, over many server connections.

use std::time::Duration;

use pgherd::local::Options;
use pgherd::wire::frontend::{self, NO_TYPES, What};
use tokio_postgres::SimpleQueryMessage;

use crate::support::{
    Raw, Router, fields, rows, shared, start, tags, test, test_alone, value, wait_until,
};

/// Bind and Execute of a statement with one text parameter, without a Sync.
fn run(out: &mut bytes::BytesMut, name: &[u8], argument: &[u8]) {
    let length = u32::try_from(argument.len()).unwrap().to_be_bytes();
    let mut rest = vec![0, 0, 0, 1];
    rest.extend_from_slice(&length);
    rest.extend_from_slice(argument);
    rest.extend_from_slice(&[0, 0]);
    frontend::bind_for(out, name, b"", &rest);
    frontend::execute(out, b"", 0);
}

/// Executes a prepared statement and gives the first column of its first row.
async fn executed(raw: &mut Raw, name: &[u8], argument: &[u8]) -> String {
    raw.send(|out| {
        run(out, name, argument);
        frontend::sync(out);
    })
    .await;
    let answer = raw.until_ready().await;
    assert_eq!(tags(&answer), "2DCZ", "{answer:?}");
    answer[1].columns()[0].clone()
}

async fn prepared(raw: &mut Raw, name: &[u8], text: &str) {
    raw.send(|out| {
        frontend::parse(out, name, text.as_bytes(), NO_TYPES);
        frontend::sync(out);
    })
    .await;
    assert_eq!(tags(&raw.until_ready().await), "1Z");
}

/// Where the last statement of this session ran.
async fn node(raw: &mut Raw) -> String {
    raw.query("SHOW pgherd.node").await[1].columns()[0].clone()
}

#[test]
fn parsed_once_it_executes_on_replicas_and_on_the_primary_in_turn() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        prepared(
            &mut raw,
            b"s",
            "SELECT $1 || ' ' || current_setting('cluster_name')",
        )
        .await;
        let mut seen = std::collections::BTreeSet::new();
        for turn in 0..60 {
            let argument = format!("turn {turn}");
            let on_primary = turn % 3 == 0;
            if on_primary {
                raw.query("BEGIN").await;
            }
            let answer = executed(&mut raw, b"s", argument.as_bytes()).await;
            let (text, server) = answer.rsplit_once(' ').unwrap();
            assert_eq!(text, argument);
            assert_eq!(node(&mut raw).await, server);
            assert_eq!(server == "node1", on_primary, "turn {turn} ran on {server}");
            seen.insert(server.to_owned());
            if on_primary {
                raw.query("COMMIT").await;
            }
        }
        assert!(seen.len() >= 2 && seen.contains("node1"), "{seen:?}");
    });
}

#[test]
fn a_driver_prepares_describes_executes_and_closes() {
    test(async {
        let client = shared().await.router.connect().await;
        client
            .batch_execute("CREATE TABLE driven(n int, t text)")
            .await
            .unwrap();
        let insert = client
            .prepare("INSERT INTO driven VALUES ($1, $2)")
            .await
            .unwrap();
        assert_eq!(insert.params().len(), 2);
        for number in 0..20_i32 {
            let text = number.to_string();
            assert_eq!(client.execute(&insert, &[&number, &text]).await.unwrap(), 1);
        }
        let select = client
            .prepare("SELECT n, t FROM driven WHERE n >= $1 ORDER BY n")
            .await
            .unwrap();
        assert_eq!(select.columns().len(), 2);
        for from in 0..20_i32 {
            let found = client.query(&select, &[&from]).await.unwrap();
            assert_eq!(i32::try_from(found.len()).unwrap(), 20 - from);
        }
        drop(select);
        assert_eq!(
            client
                .query("SELECT count(*) FROM driven", &[])
                .await
                .unwrap()
                .len(),
            1
        );
    });
}

#[test]
fn describe_of_a_statement_tells_its_parameters_and_columns() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        prepared(&mut raw, b"d", "SELECT $1::int8 AS number, 'x' AS letter").await;
        raw.send(|out| {
            frontend::describe(out, What::Statement, b"d");
            frontend::sync(out);
        })
        .await;
        let answer = raw.until_ready().await;
        assert_eq!(tags(&answer), "tTZ");
        assert_eq!(answer[0].body, [0, 1, 0, 0, 0, 20]);
        assert!(answer[1].body.windows(7).any(|part| part == b"number\0"));
        raw.send(|out| {
            frontend::describe(out, What::Statement, b"unknown");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "26000");
    });
}

#[test]
fn a_closed_statement_is_gone_and_its_name_is_free() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        prepared(&mut raw, b"c", "SELECT 'one' || $1").await;
        assert_eq!(executed(&mut raw, b"c", b"!").await, "one!");
        raw.send(|out| {
            frontend::close(out, What::Statement, b"c");
            frontend::close(out, What::Statement, b"never was");
            frontend::sync(out);
        })
        .await;
        assert_eq!(tags(&raw.until_ready().await), "33Z");
        raw.send(|out| {
            run(out, b"c", b"!");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "26000");
        prepared(&mut raw, b"c", "SELECT 'two' || $1").await;
        assert_eq!(executed(&mut raw, b"c", b"!").await, "two!");
    });
}

#[test]
fn the_unnamed_statement_lives_from_one_unit_to_the_next() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        for turn in 0..5 {
            let text = format!("SELECT 'turn {turn} ' || $1");
            prepared(&mut raw, b"", &text).await;
            for argument in ["a", "b"] {
                let expected = format!("turn {turn} {argument}");
                assert_eq!(executed(&mut raw, b"", argument.as_bytes()).await, expected);
            }
        }
        // A simple query destroys it, as in PostgreSQL.
        raw.query("SELECT 1").await;
        raw.send(|out| {
            run(out, b"", b"x");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "26000");
    });
}

#[test]
fn the_unnamed_statement_of_another_session_is_nobody_elses() {
    test(async {
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let mut theirs = router.raw().await;
        prepared(
            &mut theirs,
            b"",
            "/* pgherd: primary */ SELECT 'theirs ' || $1",
        )
        .await;
        assert_eq!(executed(&mut theirs, b"", b"a").await, "theirs a");
        prepared(
            &mut theirs,
            b"n",
            "/* pgherd: primary */ SELECT 'named ' || $1",
        )
        .await;
        assert_eq!(executed(&mut theirs, b"n", b"a").await, "named a");
        let mut ours = router.raw().await;
        ours.send(|out| {
            run(out, b"", b"b");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&ours.until_ready().await)[&'C'], "26000");
        ours.send(|out| {
            frontend::describe(out, What::Statement, b"");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&ours.until_ready().await)[&'C'], "26000");
        for number in 0..4 {
            let name = format!("pgherd_{number}");
            ours.send(|out| {
                run(out, name.as_bytes(), b"b");
                frontend::sync(out);
            })
            .await;
            assert_eq!(fields(&ours.until_ready().await)[&'C'], "26000");
        }
        // Who has one has it again, although the connection lost it.
        assert_eq!(executed(&mut theirs, b"", b"c").await, "theirs c");
    });
}

#[test]
fn an_error_in_a_pipeline_of_a_transaction_does_not_wait_for_the_sync() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("BEGIN").await;
        raw.query("CREATE TEMP TABLE once(n text PRIMARY KEY) ON COMMIT DROP")
            .await;
        prepared(&mut raw, b"i", "INSERT INTO once VALUES ($1)").await;
        raw.send(|out| {
            for value in [b"1", b"2", b"2", b"3"] {
                run(out, b"i", value);
            }
        })
        .await;
        assert_eq!(tags(&raw.until(b'E').await), "2C2C2E");
        raw.send(frontend::sync).await;
        assert_eq!(tags(&raw.until_ready().await), "Z");
        raw.query("ROLLBACK").await;
    });
}

#[test]
fn a_name_that_is_taken_is_refused() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        prepared(&mut raw, b"twice", "SELECT 'first' || $1").await;
        raw.send(|out| {
            frontend::parse(out, b"twice", b"SELECT 'second' || $1", NO_TYPES);
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "42P05");
        assert_eq!(executed(&mut raw, b"twice", b"").await, "first");
    });
}

#[test]
fn a_parse_that_fails_leaves_nothing() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.send(|out| {
            frontend::parse(
                out,
                b"bad",
                b"SELECT * FROM no_such_table WHERE x = $1",
                NO_TYPES,
            );
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "42P01");
        raw.send(|out| {
            run(out, b"bad", b"x");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "26000");
        prepared(&mut raw, b"bad", "SELECT 'good ' || $1").await;
        assert_eq!(executed(&mut raw, b"bad", b"now").await, "good now");
    });
}

#[test]
fn deallocate_all_and_discard_all_empty_the_names() {
    test(async {
        for text in ["DEALLOCATE ALL", "DISCARD ALL"] {
            let mut raw = shared().await.router.raw().await;
            prepared(&mut raw, b"gone", "SELECT 'x' || $1").await;
            executed(&mut raw, b"gone", b"").await;
            assert_eq!(tags(&raw.query(text).await), "CZ");
            raw.send(|out| {
                run(out, b"gone", b"x");
                frontend::sync(out);
            })
            .await;
            assert_eq!(fields(&raw.until_ready().await)[&'C'], "26000", "{text}");
            prepared(&mut raw, b"gone", "SELECT 'back' || $1").await;
            assert_eq!(executed(&mut raw, b"gone", b"").await, "back", "{text}");
        }
    });
}

#[test]
fn deallocate_of_one_name_frees_it() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        prepared(&mut raw, b"one", "SELECT 'x' || $1").await;
        assert_eq!(tags(&raw.query("DEALLOCATE one").await), "CZ");
        prepared(&mut raw, b"one", "SELECT 'y' || $1").await;
        assert_eq!(executed(&mut raw, b"one", b"").await, "y");
    });
}

#[test]
fn the_least_used_statements_are_really_closed_on_the_server() {
    test(async {
        let lab = shared().await;
        let settings = [
            ("cluster.test.pool.size", "1"),
            ("cluster.test.pool.prepared_statements", "5"),
            ("cluster.test.route.reads", "primary_only"),
        ];
        let router = Router::start(&lab.cluster, &settings).await;
        let mut raw = router.raw().await;
        for number in 0..40 {
            let name = format!("s{number}");
            prepared(
                &mut raw,
                name.as_bytes(),
                &format!("SELECT '{number}' || $1"),
            )
            .await;
            assert_eq!(
                executed(&mut raw, name.as_bytes(), b"").await,
                number.to_string()
            );
        }
        let answer = raw
            .query("SELECT count(*) FROM pg_prepared_statements")
            .await;
        let count: u32 = answer[1].columns()[0].parse().unwrap();
        assert!((1..=5).contains(&count), "{count} on the server");
        // The first was closed long ago, and the client need not know.
        assert_eq!(executed(&mut raw, b"s0", b"").await, "0");
    });
}

#[test]
fn sessions_share_a_connection_and_not_their_names() {
    test(async {
        let lab = shared().await;
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&lab.cluster, &settings).await;
        let (mut one, mut two) = (router.raw().await, router.raw().await);
        prepared(&mut one, b"same", "SELECT 'one' || $1").await;
        prepared(&mut two, b"same", "SELECT 'two' || $1").await;
        for _ in 0..10 {
            assert_eq!(executed(&mut one, b"same", b"").await, "one");
            assert_eq!(executed(&mut two, b"same", b"").await, "two");
        }
    });
}

#[test]
fn a_statement_whose_result_changed_fails_as_on_a_server_or_has_the_new_columns() {
    test(async {
        let lab = shared().await;
        let mut raw = lab.router.raw().await;
        let client = lab.router.connect().await;
        client
            .batch_execute("CREATE TABLE changing(a text)")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO changing VALUES ('a')")
            .await
            .unwrap();
        raw.query("SELECT 1").await;
        for node in [1, 2] {
            lab.cluster.wait_until_replayed(node, 0).await.unwrap();
        }
        prepared(&mut raw, b"star", "SELECT * FROM changing WHERE a <> $1").await;
        assert_eq!(executed(&mut raw, b"star", b"").await, "a");
        client
            .batch_execute("ALTER TABLE changing ADD b text")
            .await
            .unwrap();
        for node in [1, 2] {
            lab.cluster.wait_until_replayed(node, 0).await.unwrap();
        }
        raw.send(|out| {
            run(out, b"star", b"");
            frontend::sync(out);
        })
        .await;
        let answer = raw.until_ready().await;
        // As PostgreSQL says: the client knows one column. A connection that prepares it only now
        // has two.
        match tags(&answer).as_str() {
            "2DCZ" => assert_eq!(answer[1].columns().len(), 2),
            _ => assert_eq!(fields(&answer)[&'C'], "0A000"),
        }
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

/// Bind, Describe and Execute, as libpq sends them; the columns' count, or the SQLSTATE.
async fn described_and_run(raw: &mut Raw, name: &[u8]) -> String {
    raw.send(|out| {
        frontend::bind_for(out, name, b"", &[0, 0, 0, 0, 0, 0]);
        frontend::describe(out, What::Portal, b"");
        frontend::execute(out, b"", 0);
        frontend::sync(out);
    })
    .await;
    let answer = raw.until_ready().await;
    match tags(&answer).as_str() {
        "2TDCZ" => answer[2].columns().len().to_string(),
        _ => fields(&answer)[&'C'].clone(),
    }
}

#[test]
fn pgbouncer_1038_a_plan_whose_columns_changed_is_made_again_for_who_asks_for_them() {
    test(async {
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let client = router.connect().await;
        let create = "CREATE TABLE replanned AS SELECT 1 AS a";
        client.batch_execute(create).await.unwrap();
        let mut raw = router.raw().await;
        // FOR UPDATE keeps it on the primary.
        let text = "SELECT * FROM replanned FOR UPDATE";
        prepared(&mut raw, b"star", text).await;
        assert_eq!(described_and_run(&mut raw, b"star").await, "1");
        let alter = "ALTER TABLE replanned ADD b int";
        client.batch_execute(alter).await.unwrap();
        assert_eq!(described_and_run(&mut raw, b"star").await, "2");
        // In a transaction it is the client's to begin again, as it is with a server.
        client
            .batch_execute("ALTER TABLE replanned ADD c int")
            .await
            .unwrap();
        raw.query("BEGIN; SELECT 1").await;
        assert_eq!(described_and_run(&mut raw, b"star").await, "0A000");
        raw.query("ROLLBACK").await;
        assert_eq!(described_and_run(&mut raw, b"star").await, "3");
    });
}

#[test]
fn a_client_that_knows_the_columns_is_told_that_they_changed_and_can_prepare_again() {
    test(async {
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let client = router.connect().await;
        let create = "CREATE TABLE reshaped AS SELECT ''::text AS a";
        client.batch_execute(create).await.unwrap();
        let mut raw = router.raw().await;
        let text = "SELECT * FROM reshaped WHERE a <= $1 FOR UPDATE";
        prepared(&mut raw, b"one", text).await;
        executed(&mut raw, b"one", b"").await;
        let alter = "ALTER TABLE reshaped ADD b text";
        client.batch_execute(alter).await.unwrap();
        raw.send(|out| {
            run(out, b"one", b"");
            frontend::sync(out);
        })
        .await;
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "0A000");
        prepared(&mut raw, b"two", text).await;
        raw.send(|out| {
            run(out, b"two", b"");
            frontend::sync(out);
        })
        .await;
        let answer = raw.until_ready().await;
        assert_eq!(tags(&answer), "2DCZ");
        assert_eq!(answer[1].columns().len(), 2);
    });
}

#[test]
fn odyssey_477_a_new_client_is_not_told_of_a_plan_that_it_never_saw() {
    test(async {
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let client = router.connect().await;
        let create = "CREATE TABLE unseen_plan AS SELECT 1 AS a";
        client.batch_execute(create).await.unwrap();
        let text = "SELECT * FROM unseen_plan FOR UPDATE";
        assert_eq!(client.query(text, &[]).await.unwrap()[0].len(), 1);
        let mut old = router.raw().await;
        prepared(&mut old, b"old", text).await;
        let alter = "ALTER TABLE unseen_plan ADD b int";
        client.batch_execute(alter).await.unwrap();
        let new = router.connect().await;
        let statement = new.prepare(text).await.unwrap();
        assert_eq!(statement.columns().len(), 2);
        assert_eq!(new.query(&statement, &[]).await.unwrap()[0].len(), 2);
    });
}

#[test]
fn a_statement_that_the_connection_lost_is_prepared_again() {
    test(async {
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let mut raw = router.raw().await;
        prepared(&mut raw, b"s", "SELECT $1::text FOR UPDATE").await;
        assert_eq!(executed(&mut raw, b"s", b"before").await, "before");
        raw.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
            .await;
        assert_eq!(executed(&mut raw, b"s", b"after").await, "after");
    });
}

#[test]
fn a_statement_that_a_replica_cannot_prepare_yet_is_prepared_on_the_primary_and_kept() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        // The bounds are wide: the replicas serve although they do not replay.
        let settings = [
            ("cluster.test.lag.max_time", "1h"),
            ("cluster.test.lag.back_time", "1h"),
        ];
        let router = Router::start(&cluster, &settings).await;
        let mut raw = router.raw().await;
        raw.query("SELECT 1").await;
        for node in [1, 2] {
            cluster.pause_replay(node).await.unwrap();
        }
        let maker = router.connect().await;
        let create = "CREATE TABLE not_there_yet AS SELECT 'x'::text AS t";
        maker.batch_execute(create).await.unwrap();
        let explain = "EXPLAIN (ROUTE) SELECT t FROM not_there_yet WHERE t <> $1";
        wait_until("the catalog has it", Duration::from_secs(10), async || {
            let plan = raw.query(explain).await;
            let mut lines = plan.iter().filter(|line| line.tag == b'D');
            lines.any(|line| line.columns()[0].contains("reason    read_only"))
        })
        .await;
        raw.send(|out| {
            let text = b"SELECT t FROM not_there_yet WHERE t <> $1";
            frontend::parse(out, b"early", text, NO_TYPES);
            frontend::describe(out, What::Statement, b"early");
            frontend::sync(out);
        })
        .await;
        assert_eq!(tags(&raw.until_ready().await), "1tTZ");
        assert_eq!(executed(&mut raw, b"early", b"").await, "x");
        assert_eq!(node(&mut raw).await, "node1");
    });
}

#[test]
fn statements_of_sql_and_of_the_protocol_work_side_by_side() {
    test(async {
        let client = shared().await.router.connect().await;
        client
            .batch_execute("PREPARE by_sql AS SELECT 1")
            .await
            .unwrap();
        let found = client.simple_query("EXECUTE by_sql").await.unwrap();
        assert!(
            found
                .iter()
                .any(|it| matches!(it, SimpleQueryMessage::Row(_)))
        );
        let by_protocol = client.prepare("SELECT 2").await.unwrap();
        let row = client.query_one(&by_protocol, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 2);
        assert_eq!(
            value(&client, "SHOW pgherd.pinned").await,
            "prepared_statement"
        );
        assert_eq!(rows(&client, "EXECUTE by_sql").await.len(), 1);
    });
}
