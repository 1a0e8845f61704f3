//! Cancel requests: they hit what they are meant for and nothing else.

use std::time::{Duration, Instant};

use pgherd::wire::{CancelKey, frontend};

use crate::support::{Raw, Router, fields, rows, shared, tags, test, wait_until};

/// Sends a cancel request and waits until the router has closed its connection.
async fn cancel(router: &Router, key: &CancelKey) {
    let mut raw = Raw::connect(router.address).await;
    raw.send(|out| frontend::cancel_request(out, key)).await;
    assert_eq!(raw.until_end().await, []);
}

#[test]
fn a_running_statement_is_cancelled_by_the_key_of_its_session() {
    test(async {
        let lab = shared().await;
        let mut raw = lab.router.raw().await;
        raw.send(|out| frontend::query(out, b"SELECT pg_sleep(60), 'cancel me'"))
            .await;
        let client = lab.cluster.connect(0).await.unwrap();
        let runs = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' \
                    AND query = 'SELECT pg_sleep(60), ''cancel me'''";
        let nodes = [
            client,
            lab.cluster.connect(1).await.unwrap(),
            lab.cluster.connect(2).await.unwrap(),
        ];
        wait_until("it runs somewhere", Duration::from_secs(10), async || {
            let mut found = 0;
            for node in &nodes {
                found += rows(node, runs).await.len();
            }
            found == 1
        })
        .await;
        let began = Instant::now();
        cancel(&lab.router, raw.key.as_ref().unwrap()).await;
        let answer = raw.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "57014");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn a_key_that_is_not_right_cancels_nothing() {
    test(async {
        let lab = shared().await;
        let mut raw = lab.router.raw().await;
        raw.send(|out| frontend::query(out, b"SELECT pg_sleep(0.7)"))
            .await;
        let mut key = raw.key.clone().unwrap();
        let mut secret = key.secret.to_vec();
        secret[0] ^= 1;
        key.secret = secret.into();
        cancel(&lab.router, &key).await;
        assert_eq!(tags(&raw.until_ready().await), "TDCZ");
    });
}

#[test]
fn a_cancel_never_hits_the_next_user_of_the_connection() {
    test(async {
        let lab = shared().await;
        // One connection for each server: the two sessions must take turns on it.
        let router = Router::start(&lab.cluster, &[("cluster.test.pool.size", "1")]).await;
        let mut first = router.raw().await;
        let mut second = router.raw().await;
        let key = first.key.clone().unwrap();
        for _ in 0..50 {
            first
                .send(|out| frontend::query(out, b"BEGIN; SELECT 1; COMMIT"))
                .await;
            second
                .send(|out| frontend::query(out, b"BEGIN; SELECT pg_sleep(0.005); COMMIT"))
                .await;
            let (mut one, mut two) = (
                Raw::connect(router.address).await,
                Raw::connect(router.address).await,
            );
            one.send(|out| frontend::cancel_request(out, &key)).await;
            two.send(|out| frontend::cancel_request(out, &key)).await;
            let end = first.until_ready().await.pop().unwrap();
            two.until_end().await;
            one.until_end().await;
            // A cancel that was quick enough leaves a failed transaction, which keeps the connection.
            if end.body == b"E" {
                first.query("ROLLBACK").await;
            }
            let answer = second.until_ready().await;
            assert_eq!(tags(&answer), "CTDCCZ", "{:?}", answer[0].fields());
        }
    });
}

#[test]
fn a_statement_that_runs_for_too_long_is_cancelled_on_its_server() {
    test(async {
        let lab = shared().await;
        let router = Router::start(&lab.cluster, &[("limits.query_timeout", "300ms")]).await;
        let mut raw = router.raw().await;
        let answer = raw.query("SELECT pg_sleep(60), 'too long'").await;
        assert_eq!(fields(&answer)[&'C'], "57014");
        let runs = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' \
                    AND query = 'SELECT pg_sleep(60), ''too long'''";
        for node in 0..3 {
            let client = lab.cluster.connect(node).await.unwrap();
            wait_until("it runs no more", Duration::from_secs(5), async || {
                rows(&client, runs).await.is_empty()
            })
            .await;
        }
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn a_cancel_for_a_session_that_waits_for_a_connection_ends_its_wait() {
    test(async {
        let lab = shared().await;
        let router = Router::start(&lab.cluster, &[("cluster.test.pool.size", "1")]).await;
        let mut holder = router.raw().await;
        holder.query("BEGIN").await;
        holder.query("CREATE TABLE never_there(n int)").await;
        let mut waiting = router.raw().await;
        waiting
            .send(|out| frontend::query(out, b"CREATE TABLE never_there(n int)"))
            .await;
        assert!(waiting.is_silent().await);
        cancel(&router, waiting.key.as_ref().unwrap()).await;
        let answer = waiting.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "57014");
        holder.query("ROLLBACK").await;
        assert_eq!(tags(&waiting.query("SELECT 1").await), "TDCZ");
    });
}
