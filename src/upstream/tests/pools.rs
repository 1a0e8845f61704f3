//! Lending: who gets a connection, which one, and what ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::fake::{Fake, Script, frame, login, welcome};
use crate::clock;
use crate::cluster::{Epoch, ServerId};
use crate::telemetry::{PoolView, Telemetry};
use crate::upstream::tests::telemetry;
use crate::upstream::{ConnectError, GetError, Lease, PoolHandle, Rules, Secret, Upstreams};

pub(super) const SERVER: ServerId = ServerId(0);

pub(super) struct Setup {
    pub(super) fake: Fake,
    pub(super) upstreams: Upstreams<()>,
    pub(super) telemetry: Arc<Telemetry>,
}

pub(super) async fn setup(in_hot_standby: &str, rules: Rules) -> Setup {
    let fake = Fake::start(Script::Say(welcome(in_hot_standby))).await;
    let telemetry = telemetry();
    let upstreams = Upstreams::new(vec![fake.address.clone()], rules, Arc::clone(&telemetry));
    Setup {
        fake,
        upstreams,
        telemetry,
    }
}

impl Setup {
    pub(super) fn pool(&self) -> PoolHandle<()> {
        self.upstreams.pool(SERVER, &login(Secret::None)).unwrap()
    }

    pub(super) async fn read(&self) -> Lease<()> {
        self.pool().get(None, soon(), clock::now()).await.unwrap()
    }

    pub(super) async fn write(&self, epoch: u64) -> Result<Lease<()>, GetError> {
        self.pool()
            .get(Some(Epoch(epoch)), soon(), clock::now())
            .await
    }

    /// The lines of SHOW POOLS.
    pub(super) fn pools(&self) -> Vec<PoolView> {
        self.telemetry.directory().pools(clock::now())
    }

    /// The line of the one pool.
    pub(super) fn shown(&self) -> PoolView {
        self.pools().remove(0)
    }
}

/// Which connection to the fake server this is, from zero.
pub(super) fn number(lease: &Lease<()>) -> u32 {
    lease.cancel_key.as_ref().unwrap().pid
}

pub(super) fn soon() -> Instant {
    clock::now() + Duration::from_secs(10)
}

pub(super) fn small(size: usize, wait: Duration, queue_max: usize) -> Rules {
    Rules {
        size,
        queue_max,
        wait_timeout: wait,
        ..Rules::default()
    }
}

#[tokio::test]
async fn a_released_connection_is_lent_again() {
    let setup = setup("off", Rules::default()).await;
    setup.read().await.release(clock::now());
    setup.read().await.release(clock::now());
    assert_eq!(setup.fake.accepted(), 1);
}

#[tokio::test]
async fn a_dropped_or_discarded_lease_closes_its_connection() {
    let setup = setup("off", Rules::default()).await;
    drop(setup.read().await);
    setup.read().await.discard();
    setup.fake.wait_for_closed(2).await;
    assert_eq!(setup.pool().open(), 0);
}

#[tokio::test]
async fn a_goodbye_is_said_at_rest_and_never_inside_a_message() {
    let setup = setup("off", Rules::default()).await;
    let mut lease = setup.read().await;
    lease.stream.write_all(b"Q\0\0\0\x0Aselect").await.unwrap();
    lease.discard();
    setup.fake.wait_for_closed(1).await;
    assert_eq!(setup.fake.goodbyes.load(Ordering::SeqCst), 0);
    setup.read().await.release(clock::now());
    setup.upstreams.retire(SERVER);
    setup.fake.wait_for_closed(2).await;
    assert_eq!(setup.fake.goodbyes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_with_bytes_left_is_not_given_to_the_next() {
    let setup = setup("off", Rules::default()).await;
    let mut lease = setup.read().await;
    lease.input.extend_from_slice(b"C");
    lease.release(clock::now());
    setup.fake.wait_for_closed(1).await;
    assert_eq!(number(&setup.read().await), 1);
}

#[tokio::test]
async fn a_connection_that_died_at_rest_is_replaced() {
    let fatal = frame(b'E', b"SFATAL\0C57P01\0Mgoing down\0\0");
    for last_words in [&fatal[..], b""] {
        let setup = setup("off", Rules::default()).await;
        setup.read().await.release(clock::now());
        setup.fake.say(last_words);
        let lease = wait_for_another(&setup).await;
        assert_eq!(number(&lease), 1);
    }
}

/// Lends until the pool has noticed that its first connection is not good any more.
async fn wait_for_another(setup: &Setup) -> Lease<()> {
    let deadline = soon();
    loop {
        let lease = setup.read().await;
        if number(&lease) > 0 {
            return lease;
        }
        assert!(clock::now() < deadline, "still the dead connection");
        lease.release(clock::now());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_pool_says_so_and_not_that_the_server_is_down() {
    let setup = setup("off", small(1, Duration::from_millis(20), 5)).await;
    let held = setup.read().await;
    let error = setup
        .pool()
        .get(None, soon(), clock::now())
        .await
        .unwrap_err();
    let GetError::WaitTimedOut(full) = error else {
        panic!("{error:?}");
    };
    assert_eq!((full.size, full.open, full.waiting), (1, 1, 0));
    assert_eq!(full.setting, "cluster.main.pool.size");
    assert!(full.waited >= Duration::from_millis(20));
    held.release(clock::now());
    setup.read().await.release(clock::now());
    assert_eq!(setup.fake.accepted(), 1);
}

#[tokio::test]
async fn a_wait_ends_at_the_deadline_of_the_client() {
    let setup = setup("off", small(1, Duration::from_secs(60), 5)).await;
    let _held = setup.read().await;
    let deadline = clock::now() + Duration::from_millis(20);
    let error = setup
        .pool()
        .get(None, deadline, clock::now())
        .await
        .unwrap_err();
    assert!(matches!(error, GetError::WaitTimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let setup = setup("off", small(1, Duration::from_secs(60), 1)).await;
    let held = setup.read().await;
    let pool = setup.pool();
    let waiting = tokio::spawn(async move { pool.get(None, soon(), clock::now()).await });
    while setup.shown().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let error = setup
        .pool()
        .get(None, soon(), clock::now())
        .await
        .unwrap_err();
    let GetError::QueueFull(full) = error else {
        panic!("{error:?}");
    };
    assert_eq!(full.waiting, 1);
    assert_eq!(full.setting, "cluster.main.pool.queue");
    held.release(clock::now());
    waiting.await.unwrap().unwrap().release(clock::now());
    assert_eq!(setup.shown().waiting, 0);
}

#[tokio::test]
async fn a_client_that_gives_up_leaves_its_place() {
    let setup = setup("off", small(1, Duration::from_secs(60), 5)).await;
    let held = setup.read().await;
    let pool = setup.pool();
    let waiting = tokio::spawn(async move { pool.get(None, soon(), clock::now()).await });
    while setup.shown().waiting == 0 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(setup.shown().waiting, 0);
    held.release(clock::now());
    setup.read().await.release(clock::now());
}

#[tokio::test]
async fn what_rested_too_long_is_reaped_and_an_empty_pool_forgotten() {
    let rules = Rules {
        idle_timeout: Duration::from_millis(1),
        ..Rules::default()
    };
    let setup = setup("off", rules).await;
    setup.read().await.release(clock::now());
    let deadline = soon();
    while !setup.pools().is_empty() {
        assert!(clock::now() < deadline, "the pool is still there");
        tokio::task::yield_now().await;
        setup.upstreams.reap();
    }
    setup.fake.wait_for_closed(1).await;
}

#[tokio::test]
async fn a_pool_that_somebody_holds_is_not_forgotten() {
    let setup = setup("off", Rules::default()).await;
    let pool = setup.pool();
    setup.upstreams.reap();
    assert_eq!(setup.pools().len(), 1);
    drop(pool);
    setup.upstreams.reap();
    assert_eq!(setup.pools(), vec![]);
}

#[tokio::test]
async fn a_changed_secret_is_another_pool() {
    let setup = setup("off", Rules::default()).await;
    setup.read().await.release(clock::now());
    let other = login(Secret::Password("new".into()));
    let lease = setup.upstreams.get(SERVER, &other, None, soon()).await;
    lease.unwrap().release(clock::now());
    assert_eq!(setup.fake.accepted(), 2);
}

#[tokio::test]
async fn a_smaller_size_holds_for_all_that_comes() {
    let setup = setup("off", small(3, Duration::from_millis(20), 5)).await;
    let held = [setup.read().await, setup.read().await, setup.read().await];
    setup
        .upstreams
        .set_rules(small(1, Duration::from_millis(20), 5));
    held.into_iter()
        .for_each(|lease| lease.release(clock::now()));
    setup.fake.wait_for_closed(3).await;
    let _one = setup.read().await;
    let error = setup
        .pool()
        .get(None, soon(), clock::now())
        .await
        .unwrap_err();
    assert!(matches!(error, GetError::WaitTimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn connections_with_the_same_settings_share_one_map() {
    let setup = setup("off", Rules::default()).await;
    let (one, mut two) = (setup.read().await, setup.read().await);
    assert!(Arc::ptr_eq(&one.parameters, &two.parameters));
    two.set_parameter("TimeZone", "UTC");
    assert_eq!(one.parameters.get("TimeZone"), None);
}

#[tokio::test]
async fn a_server_that_is_not_configured_has_no_pool() {
    let setup = setup("off", Rules::default()).await;
    let error = setup.upstreams.pool(ServerId(9), &login(Secret::None));
    assert_eq!(error.unwrap_err(), GetError::UnknownServer(ServerId(9)));
}

#[tokio::test]
async fn a_failed_connection_leaves_the_pool_as_it_was() {
    let fake = Fake::start(Script::SayAndClose(Vec::new())).await;
    let rules = small(1, Duration::ZERO, 1);
    let upstreams: Upstreams<()> = Upstreams::new(vec![fake.address.clone()], rules, telemetry());
    for _ in 0..3 {
        let error = upstreams
            .get(SERVER, &login(Secret::None), None, soon())
            .await
            .unwrap_err();
        assert_eq!(error, GetError::Connect(ConnectError::Reset));
    }
    let pool = upstreams.pool(SERVER, &login(Secret::None)).unwrap();
    assert_eq!(pool.open(), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_is_told_apart_from_a_full_pool() {
    let fake = Fake::start(Script::Say(Vec::new())).await;
    let rules = small(1, Duration::from_secs(60), 5);
    let upstreams: Upstreams<()> = Upstreams::new(vec![fake.address.clone()], rules, telemetry());
    let pool = upstreams.pool(SERVER, &login(Secret::None)).unwrap();
    let deadline = clock::now() + Duration::from_millis(60);
    let (first, second) = tokio::join!(
        pool.get(None, deadline, clock::now()),
        pool.get(None, deadline, clock::now())
    );
    let timed_out = GetError::Connect(ConnectError::TimedOut);
    assert_eq!(first.unwrap_err(), timed_out);
    match second.unwrap_err() {
        GetError::WaitTimedOut(full) => assert_eq!(full.open, 0),
        error => assert_eq!(error, timed_out),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_connections_are_lent_than_the_pool_has() {
    let setup = Arc::new(setup("off", small(4, Duration::from_secs(10), 100)).await);
    let lent = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..32_u64 {
        let (setup, lent) = (Arc::clone(&setup), Arc::clone(&lent));
        clients.push(tokio::spawn(async move {
            for round in 0..50 {
                let lease = setup.read().await;
                assert!(lent.fetch_add(1, Ordering::SeqCst) < 4, "more than four");
                tokio::task::yield_now().await;
                lent.fetch_sub(1, Ordering::SeqCst);
                match (client + round) % 17 {
                    0 => lease.discard(),
                    1 => setup.upstreams.retire(SERVER),
                    2 => setup.upstreams.reap(),
                    _ => lease.release(clock::now()),
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let shown = setup.shown();
    assert_eq!((shown.in_use, shown.waiting), (0, 0), "{shown:?}");
    assert_eq!(
        usize::try_from(shown.idle).unwrap(),
        setup.pool().open(),
        "{shown:?}"
    );
}
