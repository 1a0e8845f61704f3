//! What SHOW POOLS and SHOW SERVERS say of the pools and their connections.

use std::sync::Arc;
use std::time::Duration;

use super::fake::frame;
use super::pools::{SERVER, Setup, setup, small, soon};
use crate::clock;
use crate::cluster::{Epoch, Snapshot, Writes};
use crate::telemetry::{PoolInfo, ServerConnectionState, ServerConnectionView};
use crate::upstream::Rules;

fn connections(setup: &Setup) -> Vec<ServerConnectionView> {
    setup.telemetry.directory().server_connections()
}

#[tokio::test]
async fn a_connection_is_shown_from_its_login_to_its_end() {
    let setup = setup("off", Rules::default()).await;
    setup.read().await.release(clock::now());
    let lease = setup.read().await;
    lease.count_query();
    let view = connections(&setup).remove(0);
    assert_eq!(view.info.server, SERVER);
    assert_eq!(
        (
            &*view.info.user,
            &*view.info.database,
            view.info.backend_pid
        ),
        ("alice", "app", Some(0))
    );
    assert_eq!((view.leases, view.queries), (2, 1));
    assert_eq!(view.state, ServerConnectionState::Active);
    lease.release(clock::now());
    assert_eq!(connections(&setup)[0].state, ServerConnectionState::Idle);
    setup.upstreams.retire(SERVER);
    assert_eq!(connections(&setup), vec![]);
}

#[tokio::test]
async fn a_connection_that_is_not_given_back_is_not_shown_any_more() {
    let setup = setup("off", Rules::default()).await;
    drop(setup.read().await);
    setup.read().await.discard();
    assert_eq!(connections(&setup), vec![]);
}

#[tokio::test]
async fn a_pool_shows_its_connections_and_its_limit() {
    let setup = setup("off", small(3, Duration::from_millis(20), 5)).await;
    let (_lent, rests) = (setup.read().await, setup.read().await);
    rests.release(clock::now());
    let shown = setup.shown();
    let info = PoolInfo {
        server: SERVER,
        user: "alice".into(),
        database: "app".into(),
        size: 3,
    };
    assert_eq!(shown.info, info);
    assert_eq!((shown.in_use, shown.idle, shown.waiting), (1, 1, 0));
    let rules = small(7, Duration::from_millis(20), 5);
    setup.upstreams.set_rules(rules);
    assert_eq!(setup.shown().info.size, 7);
}

#[tokio::test]
async fn a_wait_is_shown_while_it_lasts() {
    let setup = setup("off", small(1, Duration::from_secs(60), 5)).await;
    let held = setup.read().await;
    let pool = setup.pool();
    let waiting = tokio::spawn(async move { pool.get(None, soon(), clock::now()).await });
    while setup.shown().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let later = clock::now() + Duration::from_secs(5);
    let shown = setup.telemetry.directory().pools(later).remove(0);
    assert!(shown.oldest_wait >= Duration::from_secs(5), "{shown:?}");
    held.release(clock::now());
    let _lease = waiting.await.unwrap().unwrap();
    let shown = setup.shown();
    assert_eq!((shown.in_use, shown.waiting), (1, 0));
    assert_eq!(shown.oldest_wait, Duration::ZERO);
}

#[tokio::test]
async fn waits_are_measured_for_the_role_that_was_wanted() {
    let setup = setup("off", small(1, Duration::from_millis(1), 5)).await;
    let lease = setup.write(1).await.unwrap();
    setup.write(1).await.unwrap_err();
    lease.release(clock::now());
    setup.read().await.release(clock::now());
    assert_eq!(waits(&setup, "primary"), 2);
    assert_eq!(waits(&setup, "replica"), 1);
}

/// How many waits for a server of a role the metrics show.
fn waits(setup: &Setup, role: &str) -> u64 {
    let snapshot = Snapshot {
        epoch: Epoch(1),
        servers: Vec::new(),
        writes: Writes::Open(SERVER),
        lineage: None,
        primary_sample: None,
    };
    let text = setup
        .telemetry
        .render(&Arc::new(snapshot), setup.telemetry.started());
    let name = format!("pgherd_pool_wait_seconds_count{{cluster=\"main\",role=\"{role}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&name));
    count.expect("the metric is there").parse().unwrap()
}

#[tokio::test]
async fn a_connection_that_died_at_rest_leaves_the_pool_before_anybody_asks_for_it() {
    let fatal = frame(b'E', b"SFATAL\0C57P01\0Mgoing down\0\0");
    for last_words in [&fatal[..], b""] {
        let setup = setup("off", Rules::default()).await;
        setup.read().await.release(clock::now());
        setup.upstreams.reap();
        assert_eq!(setup.shown().idle, 1, "silent, so it stays");
        let _handle = setup.pool();
        setup.fake.say(last_words);
        let deadline = soon();
        while setup.shown().idle > 0 {
            assert!(clock::now() < deadline, "still the dead connection");
            tokio::task::yield_now().await;
            setup.upstreams.reap();
        }
        assert_eq!(setup.pool().open(), 0);
    }
}
