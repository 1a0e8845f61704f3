//! Lending across changes of the cluster: epochs, roles, servers that are taken away.

use std::time::Duration;

use super::pools::{SERVER, number, setup, small, soon};
use crate::clock;
use crate::cluster::Epoch;
use crate::upstream::{ConnectError, GetError, Rules};

#[tokio::test]
async fn a_fence_closes_old_connections_and_refuses_old_routes() {
    let setup = setup("off", Rules::default()).await;
    let lent = setup.write(1).await.unwrap();
    setup.write(1).await.unwrap().release(clock::now());
    setup.upstreams.fence(SERVER, Epoch(2));
    setup.fake.wait_for_closed(1).await;
    assert_eq!(
        setup.write(1).await.unwrap_err(),
        GetError::Fenced {
            server: SERVER,
            route: Epoch(1),
            fenced: Epoch(2)
        }
    );
    assert!(!lent.is_current());
    lent.release(clock::now());
    setup.fake.wait_for_closed(2).await;
    let lease = setup.write(2).await.unwrap();
    assert_eq!(lease.epoch, Epoch(2));
}

#[tokio::test]
async fn a_connection_of_an_older_reign_is_not_lent_for_writing() {
    let setup = setup("off", Rules::default()).await;
    setup.read().await.release(clock::now());
    let lease = setup.write(5).await.unwrap();
    assert_eq!((number(&lease), lease.epoch), (1, Epoch(5)));
}

#[tokio::test]
async fn a_route_that_is_fenced_while_it_waits_is_refused() {
    let setup = setup("off", small(1, Duration::from_secs(60), 5)).await;
    let held = setup.write(1).await.unwrap();
    let pool = setup.pool();
    let waiting = tokio::spawn(async move { pool.get(Some(Epoch(1)), soon(), clock::now()).await });
    while setup.shown().waiting == 0 {
        tokio::task::yield_now().await;
    }
    setup.upstreams.fence(SERVER, Epoch(2));
    held.release(clock::now());
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, GetError::Fenced { .. }), "{error:?}");
}

#[tokio::test]
async fn a_hot_standby_serves_reads_and_is_refused_for_writing() {
    let setup = setup("on", Rules::default()).await;
    let lease = setup.read().await;
    assert_eq!(lease.is_hot_standby, Some(true));
    lease.release(clock::now());
    let error = setup.write(1).await.unwrap_err();
    assert_eq!(error, GetError::Connect(ConnectError::WrongRole));
    assert!(error.retry());
}

#[tokio::test]
async fn a_connection_from_before_a_promotion_is_replaced_for_writing() {
    let setup = setup("off", Rules::default()).await;
    let mut lease = setup.write(1).await.unwrap();
    lease.set_parameter("in_hot_standby", "on");
    lease.release(clock::now());
    let lease = setup.write(1).await.unwrap();
    assert_eq!(number(&lease), 1);
}

#[tokio::test]
async fn a_retired_server_gets_new_connections_only() {
    let setup = setup("off", Rules::default()).await;
    let lent = setup.read().await;
    setup.read().await.release(clock::now());
    setup.upstreams.retire(SERVER);
    setup.fake.wait_for_closed(1).await;
    lent.release(clock::now());
    setup.fake.wait_for_closed(2).await;
    assert_eq!(number(&setup.read().await), 2);
}
