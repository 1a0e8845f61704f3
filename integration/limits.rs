//! Limits for everybody, for one user and for one database.

use std::time::Duration;

use pgherd::local::{Auth, DATABASE, LocalCluster, Options, Role, SUPERUSER};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{
    Raw, Router, fields, rows, shared, start, tags, test, test_alone, value, wait_until,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A server with roles that log in without a password.
async fn with_roles(names: &[&str]) -> LocalCluster {
    let role = |name: &&str| Role {
        name: (*name).to_owned(),
        password: None,
    };
    let options = Options {
        replicas: 1,
        auth: Auth::Trust,
        roles: names.iter().map(role).collect(),
        ..Options::for_tests()
    };
    start(options).await
}

async fn enter(router: &Router, user: &str) -> Result<Client, tokio_postgres::Error> {
    router.connect_as(user, "", DATABASE).await
}

/// How often a pattern is found among what the primary runs or has open.
async fn seen_on_primary(pattern: &str) -> usize {
    let primary = shared().await.cluster.connect(0).await.unwrap();
    let sql = format!(
        "SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid()
         AND state <> 'idle' AND query LIKE '{pattern}'"
    );
    rows(&primary, &sql).await.len()
}

#[test]
fn a_transaction_that_lasts_too_long_ends_its_session_and_leaves_nothing() {
    test(async {
        let settings = [("limits.transaction_timeout", "700ms")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        // One that is silent.
        let mut silent = router.raw().await;
        assert_eq!(
            tags(&silent.query("BEGIN; SELECT 1, 'lasting'").await),
            "CTDCZ"
        );
        let told = fields(&silent.until_end().await);
        assert_eq!(
            (told[&'S'].as_str(), told[&'C'].as_str()),
            ("FATAL", "25P04")
        );
        assert_eq!(
            told[&'M'],
            "terminating connection due to transaction timeout"
        );
        // One that runs: it gets that error and no other, and what it ran is over.
        let mut busy = router.raw().await;
        busy.send(|out| {
            pgherd::wire::frontend::query(out, b"SELECT pg_sleep(60), txid_current(), 'lasting'");
        })
        .await;
        let told = fields(&busy.until_end().await);
        assert_eq!(told[&'C'], "25P04");
        wait_until("nothing is left of them", LIMIT, async || {
            seen_on_primary("%''lasting''%").await == 0
        })
        .await;
        // One that is short of it each time goes on.
        let client = router.connect().await;
        for _ in 0..3 {
            client.batch_execute("SELECT pg_sleep(0.3)").await.unwrap();
        }
    });
}

#[test]
fn a_user_has_the_last_word_on_how_long_things_may_take() {
    test_alone(async {
        let cluster = with_roles(&["quick", "patient"]).await;
        let settings = [
            ("limits.query_timeout", "1h"),
            ("database.app.query_timeout", "300ms"),
            ("user.patient.query_timeout", "off"),
            ("user.quick.idle_in_transaction_timeout", "300ms"),
            ("user.quick.idle_timeout", "5s"),
        ];
        let router = Router::start(&cluster, &settings).await;
        let quick = enter(&router, "quick").await.unwrap();
        let error = quick.batch_execute("SELECT pg_sleep(60)").await;
        assert_eq!(error.unwrap_err().code().unwrap().code(), "57014");
        let patient = enter(&router, "patient").await.unwrap();
        patient.batch_execute("SELECT pg_sleep(1)").await.unwrap();
        // Another database has its own.
        let elsewhere = router.connect_as("quick", "", "postgres").await.unwrap();
        elsewhere.batch_execute("SELECT pg_sleep(1)").await.unwrap();
        quick.batch_execute("BEGIN; SELECT 1").await.unwrap();
        patient.batch_execute("BEGIN; SELECT 1").await.unwrap();
        wait_until("the quick one is closed", LIMIT, async || quick.is_closed()).await;
        assert_eq!(value(&patient, "SELECT 2").await, "2");
        let shown = router.console("SHOW CONFIG WHERE key = 'user.quick.idle_timeout'");
        assert_eq!(shown.await[0]["value"], "5s");
    });
}

#[test]
fn a_silent_session_and_a_silent_transaction_are_told_apart() {
    test_alone(async {
        let cluster = with_roles(&["silent"]).await;
        let settings = [
            ("user.silent.idle_in_transaction_timeout", "200ms"),
            ("user.silent.idle_timeout", "600ms"),
        ];
        let router = Router::start(&cluster, &settings).await;
        for (sql, state) in [("SELECT 1", "57P05"), ("BEGIN; SELECT 1", "25P03")] {
            let mut raw = Raw::log_in(router.address, "silent", DATABASE).await;
            raw.query(sql).await;
            let told = fields(&raw.until_end().await);
            assert_eq!((told[&'S'].as_str(), told[&'C'].as_str()), ("FATAL", state));
        }
    });
}

#[test]
fn a_user_and_a_database_have_as_many_clients_as_they_may() {
    test_alone(async {
        let cluster = with_roles(&["few", "many"]).await;
        let settings = [
            ("user.few.max_clients", "2"),
            ("database.app.max_clients", "4"),
        ];
        let router = Router::start(&cluster, &settings).await;
        let first = enter(&router, "few").await.unwrap();
        let _second = enter(&router, "few").await.unwrap();
        let refused = |error: tokio_postgres::Error| {
            let said = error.as_db_error().unwrap();
            let texts = [said.code().code(), said.severity(), said.message()];
            texts.map(str::to_owned)
        };
        assert_eq!(
            refused(enter(&router, "few").await.err().unwrap()),
            ["53300", "FATAL", "too many connections for role \"few\""]
        );
        let _third = enter(&router, "many").await.unwrap();
        let _fourth = enter(&router, "many").await.unwrap();
        assert_eq!(
            refused(enter(&router, "many").await.err().unwrap()),
            [
                "53300",
                "FATAL",
                "too many connections for database \"app\""
            ]
        );
        let elsewhere = router.connect_as("many", "", "postgres").await.unwrap();
        assert_eq!(value(&elsewhere, "SELECT 1").await, "1");
        drop(first);
        wait_until("a place is free", LIMIT, async || {
            enter(&router, "few").await.is_ok()
        })
        .await;
    });
}

#[test]
fn a_pool_of_one_user_has_its_own_size_and_its_own_patience() {
    test_alone(async {
        let cluster = with_roles(&["narrow"]).await;
        let settings = [
            ("user.narrow.pool_size", "1"),
            ("user.narrow.wait_timeout", "300ms"),
        ];
        let router = Router::start(&cluster, &settings).await;
        let holder = enter(&router, "narrow").await.unwrap();
        let waits = enter(&router, "narrow").await.unwrap();
        holder
            .batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let error = waits.simple_query("SELECT txid_current()").await;
        let error = error.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "53300", "{error:?}");
        let pools = router.console("SHOW POOLS WHERE user = 'narrow'").await;
        assert!(!pools.is_empty());
        assert!(pools.iter().all(|pool| pool["pool_size"] == "1"));
        // Everybody else has what everybody has.
        let (one, other) = (router.connect().await, router.connect().await);
        one.batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        let answer = other.simple_query("SELECT txid_current()").await.unwrap();
        let is_row = |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
        assert_eq!(answer.iter().filter(is_row).count(), 1);
        let everybody = format!("SHOW POOLS WHERE user = '{SUPERUSER}'");
        let pools = router.console(&everybody).await;
        assert!(pools.iter().all(|pool| pool["pool_size"] == "20"));
    });
}
