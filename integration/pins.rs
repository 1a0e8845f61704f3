//! State that a session leaves on its server connection: it stays there, and nobody else sees it.

use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_postgres::Client;

use crate::support::{Router, shared, test, value, wait_until};

/// A router with one connection for each server: the next session gets the same.
async fn one_connection() -> Router {
    let settings = [("cluster.test.pool.size", "1")];
    Router::start(&shared().await.cluster, &settings).await
}

/// A session pins itself, ends, and the next one on the same server connection finds nothing.
async fn pins(statement: &str, reason: &str, look: &str, own: &str, fresh: &str) {
    let router = one_connection().await;
    let client = router.connect().await;
    client
        .batch_execute(statement)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    assert_eq!(
        value(&client, "SHOW pgherd.pinned").await,
        reason,
        "{statement}"
    );
    for _ in 0..3 {
        assert_eq!(value(&client, look).await, own, "{statement}");
    }
    let clients = router.console("SHOW CLIENTS WHERE database = 'app'").await;
    assert!(
        clients.iter().any(|row| row["pinned_reason"] == reason),
        "{clients:?}"
    );
    drop(client);
    // The next session waits for the connection, which is the only one, and is cleaned.
    let next = router.connect().await;
    if reason == "advisory_lock" {
        // Where the connection was closed, the lock goes when the backend does, a moment later.
        wait_until("the lock is gone", Duration::from_secs(10), async || {
            value(&next, &format!("BEGIN; {look}; COMMIT")).await == fresh
        })
        .await;
    } else {
        let looked = value(&next, &format!("BEGIN; {look}; COMMIT")).await;
        assert_eq!(looked, fresh, "leaked by {statement}");
    }
    assert_eq!(value(&next, "SHOW pgherd.pinned").await, "");
}

#[test]
fn a_setting_pins_and_does_not_leak() {
    test(async {
        let path = "SET search_path = pg_catalog";
        let fresh = "\"$user\", public";
        pins(path, "setting", "SHOW search_path", "pg_catalog", fresh).await;
        let by_function = "SELECT set_config('work_mem', '9MB', false)";
        pins(by_function, "setting", "SHOW work_mem", "9MB", "4MB").await;
    });
}

#[test]
fn a_setting_that_is_known_is_taken_along() {
    test(async {
        let router = one_connection().await;
        let (ann, bob) = (router.connect().await, router.connect().await);
        ann.batch_execute("SET work_mem = '9MB'").await.unwrap();
        bob.batch_execute("SET lock_timeout = '7s'").await.unwrap();
        let look = "SELECT pg_backend_pid() || current_setting('work_mem') \
                    || current_setting('lock_timeout')";
        let pid = value(&ann, "SELECT pg_backend_pid()").await;
        for _ in 0..3 {
            assert_eq!(value(&ann, look).await, format!("{pid}9MB0"));
            assert_eq!(value(&bob, look).await, format!("{pid}4MB7s"));
        }
        ann.batch_execute("RESET ALL").await.unwrap();
        assert_eq!(value(&bob, look).await, format!("{pid}4MB7s"));
        assert_eq!(value(&ann, look).await, format!("{pid}4MB0"));
        assert_eq!(value(&ann, "SHOW pgherd.pinned").await, "");
    });
}

#[test]
fn a_role_that_was_set_pins_and_does_not_leak() {
    test(async {
        let look = "SELECT current_user::text";
        pins("SET ROLE demo", "authorization", look, "demo", "postgres").await;
    });
}

#[test]
fn a_temporary_table_pins_and_does_not_leak() {
    test(async {
        let look = "SELECT to_regclass('pg_temp.mine') IS NOT NULL";
        pins(
            "CREATE TEMP TABLE mine(n int)",
            "temp_object",
            look,
            "t",
            "f",
        )
        .await;
        pins(
            "SELECT 1 AS n INTO TEMP mine",
            "temp_object",
            look,
            "t",
            "f",
        )
        .await;
    });
}

#[test]
fn listen_among_other_statements_pins_and_does_not_leak() {
    test(async {
        let look = "SELECT count(*) FROM pg_listening_channels()";
        pins("SELECT 1; LISTEN news", "listen", look, "1", "0").await;
    });
}

#[test]
fn an_advisory_lock_pins_and_does_not_leak() {
    test(async {
        let look = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
        pins(
            "SELECT pg_advisory_lock(4711)",
            "advisory_lock",
            look,
            "1",
            "0",
        )
        .await;
    });
}

#[test]
fn a_cursor_with_hold_pins_and_does_not_leak() {
    test(async {
        let look = "SELECT count(*) FROM pg_cursors WHERE is_holdable";
        let declare = "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 9)";
        pins(declare, "hold_cursor", look, "1", "0").await;
    });
}

#[test]
fn a_statement_prepared_by_sql_pins_and_does_not_leak() {
    test(async {
        let look = "SELECT count(*) FROM pg_prepared_statements WHERE from_sql";
        pins(
            "PREPARE mine AS SELECT 1",
            "prepared_statement",
            look,
            "1",
            "0",
        )
        .await;
    });
}

#[test]
fn a_sequence_value_pins_and_does_not_leak() {
    test(async {
        let client = shared().await.router.connect().await;
        client
            .batch_execute("CREATE SEQUENCE pinning")
            .await
            .unwrap();
        assert_eq!(value(&client, "SELECT nextval('pinning')").await, "1");
        assert_eq!(value(&client, "SELECT currval('pinning')").await, "1");
        assert_eq!(value(&client, "SELECT lastval()").await, "1");
        let other = shared().await.router.connect().await;
        let error = other
            .simple_query("SELECT currval('pinning')")
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "55000");
    });
}

#[test]
fn a_block_of_code_that_may_leave_anything_leaves_nothing_for_others() {
    test(async {
        let router = one_connection().await;
        let client = router.connect().await;
        let block = "DO $$ BEGIN PERFORM set_config('work_mem', '9MB', false); \
                     CREATE TEMP TABLE hidden(n int); PERFORM pg_advisory_lock(4712); END $$";
        client.batch_execute(block).await.unwrap();
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "not_understood");
        assert_eq!(value(&client, "SHOW work_mem").await, "9MB");
        assert_eq!(value(&client, "SELECT count(*) FROM hidden").await, "0");
        drop(client);
        let next = router.connect().await;
        let look = "BEGIN; SELECT current_setting('work_mem') || ' ' \
                    || (to_regclass('pg_temp.hidden') IS NULL)::text; COMMIT";
        assert_eq!(value(&next, look).await, "4MB true");
    });
}

/// The process that serves a session which then pins itself and ends, and the next session's.
async fn two_in_turn(router: &Router, statement: &str) -> (String, String) {
    let pid = "BEGIN; SELECT pg_backend_pid(); COMMIT";
    let client = router.connect().await;
    client.batch_execute(statement).await.unwrap();
    let first = value(&client, pid).await;
    drop(client);
    let next = router.connect().await;
    (first, value(&next, pid).await)
}

#[test]
fn the_connection_of_a_session_that_ends_is_used_again() {
    test(async {
        let router = one_connection().await;
        // Before the catalog is read, a call of any function costs the connection.
        wait_until("the catalog is read", Duration::from_secs(10), async || {
            let (first, next) = two_in_turn(&router, "SET search_path = pg_catalog").await;
            first == next
        })
        .await;
        for statement in [
            "SET ROLE demo",
            "CREATE TEMP TABLE mine(n int)",
            "LISTEN news",
            "SELECT pg_advisory_lock(4719)",
            "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
            "PREPARE mine AS SELECT 1",
        ] {
            let (first, next) = two_in_turn(&router, statement).await;
            assert_eq!(first, next, "{statement}");
        }
        let (first, next) = two_in_turn(&router, "SET seed = 0.5").await;
        assert_ne!(first, next, "nothing resets the seed");
    });
}

#[test]
fn a_library_that_was_loaded_is_in_nobody_elses_session() {
    test(async {
        let router = one_connection().await;
        let client = router.connect().await;
        client.batch_execute("LOAD 'auto_explain'").await.unwrap();
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "load");
        drop(client);
        let next = router.connect().await;
        let look = "BEGIN; SELECT coalesce(current_setting('auto_explain.log_nested_statements', \
                    true), 'not loaded'); COMMIT";
        assert_eq!(value(&next, look).await, "not loaded");
    });
}

#[test]
fn prepared_statements_work_on_a_connection_that_was_cleaned() {
    test(async {
        let router = one_connection().await;
        for turn in 0..3 {
            let client = router.connect().await;
            let text = "UPDATE pg_am SET amname = amname WHERE oid = $1::oid AND false";
            let update = client.prepare(text).await.unwrap();
            assert_eq!(
                client.execute(&update, &[&1_u32]).await.unwrap(),
                0,
                "{turn}"
            );
            client
                .batch_execute("SET search_path = pg_catalog")
                .await
                .unwrap();
            assert_eq!(
                client.execute(&update, &[&1_u32]).await.unwrap(),
                0,
                "{turn}"
            );
        }
    });
}

#[test]
fn what_a_function_leaves_behind_its_callers_back_does_not_leak() {
    test(async {
        let router = one_connection().await;
        let client = router.connect().await;
        client
            .batch_execute(
                "CREATE FUNCTION sly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM set_config('work_mem', '9MB', false); RETURN 1; END $$",
            )
            .await
            .unwrap();
        assert_eq!(value(&client, "SELECT sly()").await, "1");
        drop(client);
        let next = router.connect().await;
        assert_eq!(value(&next, "BEGIN; SHOW work_mem; COMMIT").await, "4MB");
    });
}

#[test]
fn what_is_local_to_a_transaction_pins_nothing() {
    test(async {
        let client = shared().await.router.connect().await;
        client
            .batch_execute("BEGIN; SET LOCAL work_mem = '9MB'; COMMIT")
            .await
            .unwrap();
        let locked = "BEGIN; SELECT pg_advisory_xact_lock(4713); COMMIT";
        client.batch_execute(locked).await.unwrap();
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "");
        assert_eq!(value(&client, "SHOW work_mem").await, "4MB");
    });
}

#[test]
fn what_failed_or_was_rolled_back_pins_nothing_and_is_not_there() {
    test(async {
        let router = one_connection().await;
        let client = router.connect().await;
        for failing in [
            "SET work_mem = 'much'",
            "SET ROLE nobody_of_that_name",
            "PREPARE mine AS SELECT * FROM not_there",
            "CREATE TEMP TABLE mine AS SELECT 1 / 0",
            "this is not SQL",
            "SELECT 'not ended",
        ] {
            client.batch_execute(failing).await.unwrap_err();
            let pinned = value(&client, "SHOW pgherd.pinned").await;
            assert_eq!(pinned, "", "by {failing}");
        }
        client.batch_execute("BEGIN").await.unwrap();
        for undone in [
            "SET work_mem = '9MB'",
            "SET ROLE demo",
            "CREATE TEMP TABLE mine(n int)",
            "LISTEN news",
            "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
        ] {
            client.batch_execute(undone).await.unwrap();
        }
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "");
        // The next session has the same connection, and nobody cleaned it.
        let other = router.connect().await;
        let look = "BEGIN; SELECT concat_ws(' ', current_setting('work_mem'), current_user, \
                    to_regclass('pg_temp.mine'), (SELECT count(*) FROM pg_listening_channels()), \
                    (SELECT count(*) FROM pg_cursors WHERE is_holdable)); COMMIT";
        assert_eq!(value(&other, look).await, "4MB postgres 0 0");
    });
}

#[test]
fn a_lock_that_outlived_its_rollback_is_not_forgotten() {
    test(async {
        let router = one_connection().await;
        let client = router.connect().await;
        client.batch_execute("BEGIN").await.unwrap();
        let lock = "SELECT pg_advisory_lock(4720)";
        client.batch_execute(lock).await.unwrap();
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "advisory_lock");
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4720";
        assert_eq!(value(&client, locks).await, "1");
    });
}

#[test]
fn discard_all_frees_a_session() {
    test(async {
        let router = one_connection().await;
        let client = router.connect().await;
        client
            .batch_execute("SET search_path = pg_catalog")
            .await
            .unwrap();
        client
            .batch_execute("CREATE TEMP TABLE mine(n int)")
            .await
            .unwrap();
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "setting");
        // It has the only connection: nobody else can use it.
        let other = router.connect().await;
        let mut blocked = std::pin::pin!(value(&other, "BEGIN; SHOW search_path; COMMIT"));
        let early = tokio::time::timeout(Duration::from_millis(200), &mut blocked).await;
        assert!(early.is_err(), "{early:?}");
        client.batch_execute("DISCARD ALL").await.unwrap();
        assert_eq!(blocked.await, "\"$user\", public");
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "");
        assert_eq!(
            value(&client, "SHOW search_path").await,
            "\"$user\", public"
        );
    });
}

#[test]
fn notifications_reach_the_session_that_listens() {
    test(async {
        let router = &shared().await.router;
        let listener = router.listener().await;
        listener
            .client
            .batch_execute("LISTEN tidings")
            .await
            .unwrap();
        let client = router.connect().await;
        client
            .batch_execute("NOTIFY tidings, 'arrived'")
            .await
            .unwrap();
        let mut told = Vec::new();
        wait_until(
            "it was told, without asking",
            Duration::from_secs(10),
            async || {
                told.extend(listener.told());
                !told.is_empty()
            },
        )
        .await;
        assert_eq!(told, ["tidings=arrived"]);
    });
}

#[test]
fn many_sessions_share_few_connections_and_never_see_each_others_state() {
    test(async {
        static ROUTER: OnceCell<Router> = OnceCell::const_new();
        let settings = [("cluster.test.pool.size", "2")];
        let cluster = &shared().await.cluster;
        let router = ROUTER
            .get_or_init(async || Router::start(cluster, &settings).await)
            .await;
        let mut sessions = Vec::new();
        for number in 0..8 {
            sessions.push(tokio::spawn(async move {
                for turn in 0..10 {
                    let client: Client = router.connect().await;
                    let name = format!("app {number} {turn}");
                    assert_eq!(value(&client, "SHOW application_name").await, "test");
                    let set = format!("SET application_name = '{name}'");
                    client.batch_execute(&set).await.unwrap();
                    assert_eq!(value(&client, "SHOW application_name").await, name);
                    if turn % 2 == 0 {
                        client.batch_execute("DISCARD ALL").await.unwrap();
                        assert_eq!(value(&client, "SHOW application_name").await, "test");
                    }
                }
            }));
        }
        for session in sessions {
            session.await.unwrap();
        }
    });
}
