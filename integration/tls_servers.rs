//! Servers that encrypt: a real PostgreSQL with `ssl = on`, in every mode of ours.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Duration;

use pgherd::config::{Environment, load_text};
use pgherd::local::{Auth, DATABASE, DEMO_PASSWORD, DEMO_ROLE, LocalCluster, Options, SUPERUSER};
use tokio_postgres::Client;

use crate::support::{
    Authority, Files, Router, config_text, psql, rows, start, test_alone, value, wait_until,
};

/// A primary and a replica; TLS is not on yet.
async fn cluster() -> LocalCluster {
    let options = Options {
        replicas: 1,
        auth: Auth::Scram,
        ..Options::for_tests()
    };
    start(options).await
}

/// Has all servers speak TLS with this certificate, or with none.
async fn serve(cluster: &LocalCluster, files: Option<&Files>, authorities: &str) {
    for index in 0..cluster.node_count() {
        let node = cluster.connect(index).await.unwrap();
        let directory = value(&node, "SHOW data_directory").await;
        let mut settings = String::new();
        if let Some(files) = files {
            let here = Path::new(&directory);
            for (from, to) in [
                (files.certificate.as_str(), "server.crt"),
                (files.key.as_str(), "server.key"),
                (authorities, "clients.crt"),
            ] {
                give(from, &here.join(to), here);
            }
            settings.push_str("ssl_ca_file = 'clients.crt'\nssl = on\n");
        } else {
            settings.push_str("ssl = off\n");
        }
        let file = Path::new(&directory).join("postgresql.auto.conf");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{before}\n{settings}")).unwrap();
        value(&node, "SELECT pg_reload_conf()").await;
        let wanted = if files.is_some() { "on" } else { "off" };
        wait_until("it is in force", LIMIT, async || {
            let fresh = cluster.connect(index).await.unwrap();
            value(&fresh, "SHOW ssl").await == wanted
        })
        .await;
    }
}

/// Copies a file for the account of the server, which takes no key that others may read.
fn give(from: &str, to: &Path, owner: &Path) {
    std::fs::copy(from, to).unwrap();
    let owner = std::fs::metadata(owner).unwrap();
    chown(to, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// A router that does not have to see anything.
async fn router(cluster: &LocalCluster, mode: &str, ca: &str) -> Router {
    let mut settings = vec![("cluster.test.tls", mode)];
    if mode.starts_with("verify") {
        settings.push(("cluster.test.tls_ca_file", ca));
    }
    Router::start_blind(cluster, &settings).await
}

/// Whether the session's own connection to its server is encrypted.
async fn is_encrypted(client: &Client) -> bool {
    let query = "BEGIN; SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let answer = value(client, query).await;
    client.batch_execute("COMMIT").await.unwrap();
    answer == "t"
}

/// Waits until the primary is seen, and gives a session.
async fn session(router: &Router) -> Client {
    assert!(
        router.app.wait_ready(LIMIT).await,
        "the primary is not seen"
    );
    router.connect().await
}

/// Waits until the primary is down for this reason.
async fn wait_for_down(router: &Router, reason: &str) {
    wait_until(reason, LIMIT, async || {
        let nodes = router.console("SHOW NODES").await;
        nodes.iter().all(|node| node["state_reason"] == reason)
    })
    .await;
}

#[test]
fn every_mode_does_what_it_says_with_servers_that_encrypt_and_with_plain_ones() {
    test_alone(async {
        let cluster = cluster().await;
        if !has_tls(&cluster).await {
            return;
        }
        let good = Authority::new(cluster.directory(), "good");
        let other = Authority::new(cluster.directory(), "other");
        let ca = good.file();
        // Plain servers.
        for (mode, works) in [("prefer", true), ("require", false), ("verify-full", false)] {
            let router = router(&cluster, mode, &ca).await;
            if works {
                assert!(!is_encrypted(&session(&router).await).await, "{mode}");
            } else {
                wait_for_down(&router, "tls_failed").await;
            }
            router.app.shutdown(std::future::ready(())).await;
        }
        // A certificate for the address.
        serve(&cluster, Some(&good.sign(&["127.0.0.1"], "right")), &ca).await;
        for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            let router = router(&cluster, mode, &ca).await;
            let encrypted = is_encrypted(&session(&router).await).await;
            assert_eq!(encrypted, mode != "disable", "{mode}");
            monitor_is_encrypted(&cluster, mode != "disable").await;
            router.app.shutdown(std::future::ready(())).await;
        }
        let foreign = router(&cluster, "verify-ca", &other.file()).await;
        wait_for_down(&foreign, "tls_failed").await;
        // One for another name.
        serve(&cluster, Some(&good.sign(&["pg1"], "wrong")), &ca).await;
        let by_chain = router(&cluster, "verify-ca", &ca).await;
        assert!(is_encrypted(&session(&by_chain).await).await);
        let by_name = router(&cluster, "verify-full", &ca).await;
        wait_for_down(&by_name, "tls_failed").await;
    });
}

/// Whether the only router's connections of the monitor to the primary are encrypted.
async fn monitor_is_encrypted(cluster: &LocalCluster, wanted: bool) {
    let node = cluster.connect(0).await.unwrap();
    let query = "SELECT bool_and(ssl) AS all FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE application_name = 'pgherd monitor'";
    let wanted = if wanted { "t" } else { "f" };
    // Those of the router before go away a little later.
    wait_until("its connections are as they should be", LIMIT, async || {
        value(&node, query).await == wanted
    })
    .await;
}

#[test]
fn a_server_that_can_is_not_asked_first() {
    test_alone(async {
        let cluster = cluster().await;
        let node = cluster.connect(0).await.unwrap();
        let version: u32 = value(&node, "SHOW server_version_num")
            .await
            .parse()
            .unwrap();
        if version < 170_000 || !has_tls(&cluster).await {
            return;
        }
        let authority = Authority::new(cluster.directory(), "authority");
        let ca = authority.file();
        let server = authority.sign(&["127.0.0.1"], "server");
        serve(&cluster, Some(&server), &ca).await;
        let settings = [
            ("cluster.test.tls", "verify-full"),
            ("cluster.test.tls_ca_file", &ca),
            ("cluster.test.tls_negotiation", "direct"),
        ];
        let router = Router::start_blind(&cluster, &settings).await;
        assert!(is_encrypted(&session(&router).await).await);
        monitor_is_encrypted(&cluster, true).await;
    });
}

/// Whether this build of PostgreSQL can encrypt.
async fn has_tls(cluster: &LocalCluster) -> bool {
    let node = cluster.connect(0).await.unwrap();
    !value(&node, "SHOW ssl_library").await.is_empty()
}

#[test]
fn keys_of_clients_cancels_and_large_results_pass_to_servers_that_insist() {
    test_alone(async {
        let cluster = cluster().await;
        if !has_tls(&cluster).await {
            return;
        }
        let authority = Authority::new(cluster.directory(), "authority");
        let ca = authority.file();
        let server = authority.sign(&["127.0.0.1"], "server");
        serve(&cluster, Some(&server), &ca).await;
        insist(&cluster).await;
        let own = authority.sign(&[], "router");
        let listen = authority.sign(&["localhost"], "localhost");
        let settings = [
            ("auth.method", "lookup"),
            ("cluster.test.tls", "verify-full"),
            ("cluster.test.tls_ca_file", &ca),
            ("cluster.test.tls_cert_file", &own.certificate),
            ("cluster.test.tls_key_file", &own.key),
            ("listen.tls.cert_file", &listen.certificate),
            ("listen.tls.key_file", &listen.key),
        ];
        let router = Router::start_blind(&cluster, &settings).await;
        assert!(router.app.wait_ready(LIMIT).await);
        let client = router
            .connect_as(DEMO_ROLE, DEMO_PASSWORD, DATABASE)
            .await
            .unwrap();
        assert!(is_encrypted(&client).await);
        let options = format!(
            "user={DEMO_ROLE} password={DEMO_PASSWORD} dbname={DATABASE} sslmode=verify-full \
             sslrootcert={ca}"
        );
        let large = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
        let result = psql(router.address, &options, large).await.unwrap();
        assert_eq!(result.len(), 20_000 * 1001 - 1);
        let token = client.cancel_token();
        let running = client.batch_execute("SELECT pg_sleep(50)");
        let cancelled = async {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(50)%' \
                         AND state = 'active' AND pid <> pg_backend_pid()";
            wait_until("it sleeps", LIMIT, async || {
                let (first, second) = (cluster.connect(0).await, cluster.connect(1).await);
                value(&first.unwrap(), query).await == "1"
                    || value(&second.unwrap(), query).await == "1"
            })
            .await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (ended, ()) = tokio::join!(running, cancelled);
        assert_eq!(ended.unwrap_err().code().unwrap().code(), "57014");
    });
}

/// Lets nobody in without TLS and a certificate but the superuser.
async fn insist(cluster: &LocalCluster) {
    for index in 0..cluster.node_count() {
        let node = cluster.connect(index).await.unwrap();
        let file = value(&node, "SHOW hba_file").await;
        let lines = format!(
            "host replication all all trust\n\
             host all {SUPERUSER} all trust\n\
             hostssl all pgherd all trust clientcert=verify-ca\n\
             hostssl all all all scram-sha-256 clientcert=verify-ca\n"
        );
        std::fs::write(file, lines).unwrap();
        value(&node, "SELECT pg_reload_conf()").await;
        let bad = "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL";
        assert_eq!(value(&node, bad).await, "0");
    }
}

#[test]
fn a_reload_that_changes_tls_reaches_resting_connections_and_the_monitor() {
    test_alone(async {
        let cluster = cluster().await;
        if !has_tls(&cluster).await {
            return;
        }
        let authority = Authority::new(cluster.directory(), "authority");
        let ca = authority.file();
        let server = authority.sign(&["127.0.0.1"], "server");
        serve(&cluster, Some(&server), &ca).await;
        let path = cluster.directory().join("tls.toml");
        let text = |mode: &str| {
            config_text(&cluster).replace(
                "[cluster.test]\n",
                &format!("[cluster.test]\ntls = \"{mode}\"\ntls_ca_file = {ca:?}\n"),
            )
        };
        std::fs::write(&path, text("disable")).unwrap();
        let environment = Environment::from_pairs([]);
        let (config, _) = load_text("tls.toml", &text("disable"), &environment).unwrap();
        let source = pgherd::app::ConfigSource::File {
            path: Some(path.clone()),
            environment,
        };
        let app = pgherd::app::App::start(config, source).await.unwrap();
        let router = Router::from(app);
        let client = session(&router).await;
        assert!(!is_encrypted(&client).await);
        monitor_is_encrypted(&cluster, false).await;
        std::fs::write(&path, text("verify-full")).unwrap();
        let changes = router.app.reloader.reload().unwrap().concat();
        assert!(
            changes.contains("cluster.test.tls: disable -> verify-full"),
            "{changes}"
        );
        assert!(
            is_encrypted(&client).await,
            "the same session, a new connection"
        );
        monitor_is_encrypted(&cluster, true).await;
        assert_eq!(rows(&client, "SELECT 1").await.len(), 1);
    });
}

const LIMIT: Duration = Duration::from_secs(30);
