//! What an operator orders in the console: pauses, ends and reconnections, as PgBouncer has them.

use std::collections::BTreeMap;
use std::time::Duration;

use pgherd::local::SUPERUSER;
use tokio_postgres::error::SqlState;

use crate::support::{Listener, Router, rows, shared, test, value, wait_until};

async fn router(settings: &[(&str, &str)]) -> Router {
    Router::start(&shared().await.cluster, settings).await
}

async fn setting_of_state(router: &Router, key: &str) -> String {
    let rows = router.console("SHOW STATE").await;
    let row = rows.into_iter().find(|row| row["key"] == key);
    row.unwrap()["value"].clone()
}

async fn database(router: &Router) -> BTreeMap<String, String> {
    let command = "SHOW DATABASES WHERE name = 'app'";
    router.console(command).await.remove(0)
}

fn code(error: &tokio_postgres::Error) -> Option<&SqlState> {
    error.as_db_error().map(|error| error.code())
}

#[test]
fn pause_waits_for_a_transaction_holds_new_ones_and_closes_all_connections() {
    test(async {
        let router = router(&[]).await;
        let (busy, other) = (router.connect().await, router.connect().await);
        busy.batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let console = Listener::connect(router.address, SUPERUSER, "", "pgherd")
            .await
            .unwrap();
        let pause = rows(&console.client, "PAUSE app");
        let meanwhile = async {
            wait_until("the pause has begun", LIMIT, async || {
                database(&router).await["paused"] == "1"
            })
            .await;
            // A transaction that runs goes on to its end.
            busy.batch_execute("SELECT 1; COMMIT").await.unwrap();
        };
        let (done, ()) = tokio::join!(pause, meanwhile);
        assert_eq!(done[0]["command"], "PAUSE");
        assert_eq!(done[0]["database"], "app");
        assert_eq!(done[0]["server_connections"], "0");
        let notices = console.told();
        assert!(notices[0].contains("is paused after"), "{notices:?}");
        assert!(
            router
                .console("SHOW SERVERS WHERE database = 'app'")
                .await
                .is_empty()
        );
        assert_eq!(setting_of_state(&router, "paused_databases").await, "app");
        let held = async { value(&other, "SELECT 42").await };
        let resume = async {
            wait_until("the statement is held", LIMIT, async || {
                router.count_of("held_paused").await == 1
            })
            .await;
            router.console("RESUME app").await
        };
        let (answer, resumed) = tokio::join!(held, resume);
        assert_eq!(answer, "42");
        assert_eq!(resumed[0]["command"], "RESUME");
        assert_eq!(database(&router).await["paused"], "0");
    });
}

#[test]
fn a_pause_that_does_not_come_about_is_taken_back_and_says_who_was_in_its_way() {
    test(async {
        let router = router(&[("admin.wait_timeout", "300ms")]).await;
        let busy = router.connect().await;
        busy.batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let console = router.connect_as(SUPERUSER, "", "pgherd").await.unwrap();
        let error = console.simple_query("PAUSE").await.unwrap_err();
        assert_eq!(code(&error), Some(&SqlState::QUERY_CANCELED));
        let error = error.as_db_error().unwrap();
        assert!(
            error.message().contains("by 1 clients in transactions"),
            "{error:?}"
        );
        assert_eq!(setting_of_state(&router, "paused").await, "no");
        busy.batch_execute("COMMIT").await.unwrap();
        assert_eq!(value(&router.connect().await, "SELECT 1").await, "1");
    });
}

#[test]
fn a_cancelled_pause_is_taken_back() {
    test(async {
        let router = router(&[]).await;
        let busy = router.connect().await;
        busy.batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let console = router.connect_as(SUPERUSER, "", "pgherd").await.unwrap();
        let pause = console.simple_query("PAUSE");
        let cancel = async {
            wait_until("the pause has begun", LIMIT, async || {
                setting_of_state(&router, "paused").await == "yes"
            })
            .await;
            let token = console.cancel_token();
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (paused, ()) = tokio::join!(pause, cancel);
        assert_eq!(code(&paused.unwrap_err()), Some(&SqlState::QUERY_CANCELED));
        assert_eq!(setting_of_state(&router, "paused").await, "no");
        assert_eq!(value(&console, "SELECT 1").await, "1");
    });
}

#[test]
fn a_statement_that_a_pause_holds_for_too_long_is_refused_and_was_not_run() {
    test(async {
        let router = router(&[("cluster.test.pool.hold_paused", "200ms")]).await;
        let client = router.connect().await;
        router.console("PAUSE").await;
        let error = client.simple_query("SELECT 1").await.unwrap_err();
        assert_eq!(code(&error), Some(&SqlState::CANNOT_CONNECT_NOW));
        assert!(error.as_db_error().unwrap().message().contains("paused"));
        router.console("RESUME").await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
    });
}

#[test]
fn reconnect_closes_what_rests_at_once_and_what_is_lent_when_it_is_free() {
    test(async {
        let router = router(&[]).await;
        let client = router.connect().await;
        let pid = "SELECT pg_backend_pid() FROM txid_current()";
        client.batch_execute("BEGIN").await.unwrap();
        let before = value(&client, pid).await;
        router.console("RECONNECT app").await;
        assert_eq!(value(&client, pid).await, before, "the transaction goes on");
        let wait_close = router.console("WAIT_CLOSE app");
        let commit = client.batch_execute("COMMIT");
        let (closed, committed) = tokio::join!(wait_close, commit);
        committed.unwrap();
        assert_eq!(closed[0]["command"], "WAIT_CLOSE");
        assert_ne!(value(&client, pid).await, before);
    });
}

#[test]
fn kill_ends_the_clients_of_a_database_and_holds_new_ones_until_resume() {
    test(async {
        let router = router(&[]).await;
        let client = router.connect().await;
        client.batch_execute("BEGIN").await.unwrap();
        router.console("KILL app").await;
        let error = client.simple_query("SELECT 1").await.unwrap_err();
        let is_killed = code(&error).is_none_or(|code| *code == SqlState::ADMIN_SHUTDOWN);
        assert!(is_killed, "{error:?}");
        let newcomer = async { value(&router.connect().await, "SELECT 1").await };
        let resume = async {
            wait_until("the newcomer waits", LIMIT, async || {
                router.count_of("held_paused").await == 1
            })
            .await;
            router.console("RESUME app").await;
        };
        assert_eq!(tokio::join!(newcomer, resume).0, "1");
    });
}

#[test]
fn kill_client_ends_one_client_and_no_other() {
    test(async {
        let router = router(&[]).await;
        let (one, other) = (router.connect().await, router.connect().await);
        let clients = router
            .console("SHOW CLIENTS WHERE database = 'app' ORDER BY id LIMIT 1")
            .await;
        router
            .console(&format!("KILL_CLIENT {}", clients[0]["id"]))
            .await;
        wait_until("the client is gone", LIMIT, async || one.is_closed()).await;
        assert_eq!(value(&other, "SELECT 1").await, "1");
        let console = router.connect_as(SUPERUSER, "", "pgherd").await.unwrap();
        let error = console
            .simple_query("KILL_CLIENT 987654")
            .await
            .unwrap_err();
        assert_eq!(
            code(&error),
            Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
        );
    });
}

#[test]
fn a_disabled_database_takes_no_new_clients_and_keeps_those_it_has() {
    test(async {
        let router = router(&[]).await;
        let client = router.connect().await;
        router.console("DISABLE app").await;
        assert_eq!(database(&router).await["disabled"], "1");
        let refused = router.connect_as(SUPERUSER, "", "app").await.err().unwrap();
        assert_eq!(
            code(&refused),
            Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
        );
        assert_eq!(value(&client, "SELECT 1").await, "1");
        router.console("ENABLE app").await;
        assert_eq!(value(&router.connect().await, "SELECT 1").await, "1");
    });
}

const LIMIT: Duration = Duration::from_secs(20);
