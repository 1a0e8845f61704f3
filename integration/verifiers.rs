//! What is remembered of passwords: it lets clients in while the servers are down, and does not
//! outlive a change.

use std::time::Duration;

use pgherd::local::{Auth, DATABASE, DEMO_PASSWORD, DEMO_ROLE, Options, StopMode};

use tokio_postgres::NoTls;

use crate::support::{Router, rows, shared, start, test, test_alone, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// A role of the shared cluster.
async fn make_role(name: &str, password: &str) {
    let primary = shared().await.cluster.connect(0).await.unwrap();
    let sql = format!(
        "DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD '{password}';
         GRANT CONNECT ON DATABASE {DATABASE} TO {name}"
    );
    primary.batch_execute(&sql).await.unwrap();
}

async fn change_password(name: &str, password: &str) {
    let primary = shared().await.cluster.connect(0).await.unwrap();
    let sql = format!("ALTER ROLE {name} PASSWORD '{password}'");
    primary.batch_execute(&sql).await.unwrap();
}

/// A router that believes what it knows for long, and has patience with clients that compute their
/// proofs on a busy machine.
async fn lookup() -> Router {
    let settings = [
        ("auth.method", "lookup"),
        ("auth.cache_ttl", "1h"),
        ("limits.login_timeout", "1m"),
    ];
    Router::start(&shared().await.cluster, &settings).await
}

/// The SQLSTATE of a login that fails, or what else it failed for.
async fn refusal(router: &Router, user: &str, password: &str) -> Option<String> {
    let error = router.connect_as(user, password, DATABASE).await.err()?;
    Some(
        error
            .code()
            .map_or_else(|| format!("{error:?}"), |state| state.code().to_owned()),
    )
}

#[test]
fn a_changed_password_is_taken_after_one_refusal() {
    test(async {
        make_role("changing", "old").await;
        let router = lookup().await;
        router
            .connect_as("changing", "old", DATABASE)
            .await
            .unwrap();
        change_password("changing", "new").await;
        // What is known is younger than a second, or it is not: the proof fails against it.
        assert_eq!(
            refusal(&router, "changing", "new").await.as_deref(),
            Some("28P01")
        );
        wait_until("the new password is taken", LIMIT, async || {
            refusal(&router, "changing", "new").await.is_none()
        })
        .await;
        assert_eq!(
            refusal(&router, "changing", "old").await.as_deref(),
            Some("28P01")
        );
    });
}

#[test]
fn a_verifier_that_a_server_refuses_is_forgotten() {
    test(async {
        make_role("refused", "old").await;
        let router = lookup().await;
        router.connect_as("refused", "old", DATABASE).await.unwrap();
        change_password("refused", "new").await;
        // Other start-up parameters make another pool: its first connection is a new one.
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(router.address.port());
        config
            .user("refused")
            .password("old")
            .dbname(DATABASE)
            .application_name("another");
        let refused = config.connect(NoTls).await.err().unwrap();
        assert_eq!(refused.code().unwrap().code(), "28P01");
        assert_eq!(refusal(&router, "refused", "new").await, None);
    });
}

#[test]
fn a_role_that_was_just_created_can_log_in() {
    test(async {
        let router = lookup().await;
        let primary = shared().await.cluster.connect(0).await.unwrap();
        primary
            .batch_execute("DROP ROLE IF EXISTS newcomer")
            .await
            .unwrap();
        assert_eq!(
            refusal(&router, "newcomer", "secret").await.as_deref(),
            Some("28P01")
        );
        make_role("newcomer", "secret").await;
        wait_until("the role is known", LIMIT, async || {
            refusal(&router, "newcomer", "secret").await.is_none()
        })
        .await;
    });
}

#[test]
fn many_users_are_looked_up_over_one_connection() {
    test(async {
        let router = lookup().await;
        let logins = (0..40).map(async |number| {
            let user = format!("nobody{}", number % 20);
            refusal(&router, &user, "secret").await
        });
        for refused in futures_util::future::join_all(logins).await {
            assert_eq!(refused.as_deref(), Some("28P01"));
        }
        let primary = shared().await.cluster.connect(0).await.unwrap();
        let query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgherd lookup'
                     AND query LIKE '%lookup%'";
        // Other tests have routers of their own in this process: one connection each.
        let routers = 8;
        assert!(rows(&primary, query).await.len() < routers);
    });
}

#[test]
fn logins_go_on_while_the_primary_is_down_and_while_all_servers_are() {
    test_alone(async {
        let options = Options {
            replicas: 1,
            auth: Auth::Scram,
            ..Options::for_tests()
        };
        let cluster = start(options).await;
        let router = Router::start(&cluster, &[("auth.method", "lookup")]).await;
        let login = async || router.connect_as(DEMO_ROLE, DEMO_PASSWORD, DATABASE).await;
        login().await.unwrap();
        cluster.stop(0, StopMode::Immediate).await.unwrap();
        // Nothing is known of this one: the replica is asked.
        assert_eq!(
            refusal(&router, "unheard_of", "x").await.as_deref(),
            Some("28P01")
        );
        login().await.unwrap();
        cluster.stop(1, StopMode::Immediate).await.unwrap();
        // What was known is too old to be used while somebody can be asked.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        wait_until("both are seen to be down", LIMIT, async || {
            router.serving_replicas() == 0
        })
        .await;
        login().await.unwrap();
        assert_eq!(
            refusal(&router, DEMO_ROLE, "wrong").await.as_deref(),
            Some("28P01")
        );
        login().await.expect("guessing locks nobody out");
    });
}
