//! The servers, and the runtime on which everything of a test runs.

use std::future::Future;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pgherd::local::{Auth, LocalCluster, Options};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use super::Router;

/// A cluster with a router in front of it.
pub(crate) struct Lab {
    /// The servers: node 0 is the primary, 1 and 2 are replicas.
    pub(crate) cluster: LocalCluster,
    /// A router that lets the superuser in without a password.
    pub(crate) router: Router,
}

/// Runs a test, unless tests with servers are switched off.
pub(crate) fn test(body: impl Future<Output = ()>) {
    test_within(TEST_LIMIT, body);
}

/// The same for a test that may take longer than most.
pub(crate) fn test_within(limit: Duration, body: impl Future<Output = ()>) {
    if std::env::var_os("PGHERD_TEST_PG").is_some_and(|value| value == "off") {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        let mut terminal = std::io::stderr();
        writeln!(terminal, "not run, PGHERD_TEST_PG=off: {name}").unwrap();
        return;
    }
    let limited = async { tokio::time::timeout(limit, body).await };
    let ended = runtime().block_on(limited);
    assert!(ended.is_ok(), "the test hangs: not done after {limit:?}");
}

/// The same for a test with a cluster of its own: at most one exists beside the shared one.
pub(crate) fn test_alone(body: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    test(body);
}

/// The cluster of all tests that change nothing but their own tables.
pub(crate) async fn shared() -> &'static Lab {
    static LAB: OnceCell<Lab> = OnceCell::const_new();
    LAB.get_or_init(|| async {
        let options = Options {
            auth: Auth::Scram,
            ..Options::for_tests()
        };
        let cluster = start(options).await;
        let router = Router::start(&cluster, &[]).await;
        Lab { cluster, router }
    })
    .await
}

/// Starts a cluster; for [`test_alone`] only.
pub(crate) async fn start(options: Options) -> LocalCluster {
    let cluster = LocalCluster::start(options).await;
    let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
    for index in 1..cluster.node_count() {
        cluster.wait_until_streaming(index).await.unwrap();
    }
    cluster
}

/// One runtime for all tests: the shared router lives longer than any of them.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(4)
            .thread_stack_size(8 << 20)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

/// A test that hangs ends here.
const TEST_LIMIT: Duration = Duration::from_secs(60);
