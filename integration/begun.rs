//! A transaction that was begun and is on no server yet.

use pgherd::wire::frontend::{self, NO_TYPES, What};

use crate::support::{Router, fields, shared, tags, test, value};

/// A router with one connection for each server: who holds it keeps all others waiting.
async fn one_connection() -> Router {
    let settings = [("cluster.test.pool.size", "1")];
    Router::start(&shared().await.cluster, &settings).await
}

#[test]
fn begin_by_itself_holds_no_server_connection() {
    test(async {
        let router = one_connection().await;
        let (mut ann, bob) = (router.raw().await, router.connect().await);
        let begun = ann.query("BEGIN").await;
        assert_eq!(tags(&begun), "CZ");
        assert_eq!(begun[1].body, b"T");
        // There is one connection to the primary, and it is not Ann's.
        value(&bob, "SELECT txid_current()").await;
        let first = ann.query("SELECT txid_current()").await;
        assert_eq!(tags(&first), "TDCZ");
        assert_eq!(first[3].body, b"T");
        let second = ann.query("SELECT txid_current()").await;
        assert_eq!(first[1], second[1], "it is one transaction");
        assert_eq!(tags(&ann.query("COMMIT").await), "CZ");
        let third = ann.query("SELECT txid_current()").await;
        assert_ne!(first[1], third[1]);
    });
}

#[test]
fn a_transaction_with_nothing_in_it_asks_no_server() {
    test(async {
        let router = one_connection().await;
        let (holder, mut other) = (router.connect().await, router.raw().await);
        holder
            .batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        for end in ["COMMIT", "ROLLBACK", "END"] {
            assert_eq!(tags(&other.query("START TRANSACTION").await), "CZ");
            let ended = other.query(end).await;
            assert_eq!(tags(&ended), "CZ");
            assert_eq!(ended[1].body, b"I", "{end}");
        }
        holder.batch_execute("COMMIT").await.unwrap();
    });
}

#[test]
fn the_modes_of_a_transaction_decide_where_it_runs() {
    test(async {
        let client = shared().await.router.connect().await;
        for (begin, on_replica) in [
            (&["BEGIN"][..], "off"),
            (&["BEGIN READ ONLY"], "on"),
            (&["BEGIN", "SET TRANSACTION READ ONLY"], "on"),
            (&["BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ"], "on"),
            (&["BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE"], "off"),
        ] {
            for text in begin {
                client.batch_execute(text).await.unwrap();
            }
            let ran = value(&client, "SELECT current_setting('in_hot_standby')").await;
            client.batch_execute("COMMIT").await.unwrap();
            assert_eq!(ran, on_replica, "{begin:?}");
        }
        for level in ["repeatable read", "serializable"] {
            let begin = format!("BEGIN ISOLATION LEVEL {level}");
            client.batch_execute(&begin).await.unwrap();
            let shown = value(&client, "SHOW transaction_isolation").await;
            client.batch_execute("COMMIT").await.unwrap();
            assert_eq!(shown, level);
        }
    });
}

#[test]
fn a_first_statement_that_fails_fails_the_transaction() {
    test(async {
        let router = &shared().await.router;
        let mut raw = router.raw().await;
        raw.query("BEGIN").await;
        let failed = raw.query("SELECT 1/0").await;
        assert_eq!(fields(&failed)[&'C'], "22012");
        assert_eq!(failed[1].body, b"E");
        assert_eq!(fields(&raw.query("SELECT 1").await)[&'C'], "25P02");
        assert_eq!(raw.query("COMMIT").await[0].body, b"ROLLBACK\0");
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn nothing_runs_when_the_server_refuses_to_begin() {
    test(async {
        let router = &shared().await.router;
        let mut raw = router.raw().await;
        raw.query("CREATE TABLE not_outside(n int)").await;
        raw.query("BEGIN").await;
        raw.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .await;
        raw.query("SET TRANSACTION SNAPSHOT 'nonsense'").await;
        let written = raw.query("INSERT INTO not_outside VALUES (1)").await;
        assert_eq!(fields(&written)[&'C'], "25P02");
        raw.query("ROLLBACK").await;
        let count = raw.query("SELECT count(*) FROM not_outside").await;
        assert_eq!(count[1].columns(), ["0"]);
    });
}

#[test]
fn a_prepared_begin_is_held_as_well() {
    test(async {
        let router = one_connection().await;
        let (mut ann, bob) = (router.raw().await, router.connect().await);
        ann.send(|to| {
            frontend::parse(to, b"b", b"BEGIN", NO_TYPES);
            frontend::describe(to, What::Statement, b"b");
            frontend::sync(to);
        })
        .await;
        assert_eq!(tags(&ann.until_ready().await), "1tnZ");
        for _ in 0..2 {
            ann.send(|to| {
                frontend::bind_for(to, b"b", b"", &[0; 6]);
                frontend::execute(to, b"", 0);
                frontend::sync(to);
            })
            .await;
            let begun = ann.until_ready().await;
            assert_eq!(tags(&begun), "2CZ");
            assert_eq!(begun[2].body, b"T");
            value(&bob, "SELECT txid_current()").await;
            let first = ann.query("SELECT txid_current()").await;
            let second = ann.query("SELECT txid_current()").await;
            assert_eq!(first[1], second[1], "it is one transaction");
            assert_eq!(tags(&ann.query("ROLLBACK").await), "CZ");
        }
    });
}
