//! Replication connections are passed on byte for byte: the tools and servers that use them work
//! through the router, and none of them goes on following a server that is not the primary any more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgherd::local::{LocalCluster, MONITOR_ROLE, Options, SUPERUSER, StopMode};
use pgherd::wire::frontend;
use tokio::process::Command;
use tokio_postgres::Client;

use crate::support::{
    Message, Raw, Router, fields, rows, shared, start, tags, test, test_alone, value, wait_until,
};

const LIMIT: Duration = Duration::from_secs(40);

/// Runs one of PostgreSQL's own programs against the router, and expects it to succeed.
async fn run(cluster: &LocalCluster, router: &Router, program: &str, arguments: &[&str]) {
    let mut command = Command::new(cluster.programs().bin.join(program));
    command.args(arguments).kill_on_drop(true);
    command.env("PGHOST", router.address.ip().to_string());
    command.env("PGPORT", router.address.port().to_string());
    command.env("PGUSER", SUPERUSER);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn place(cluster: &LocalCluster, name: &str) -> PathBuf {
    let place = cluster.directory().join(name);
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// A subscriber to the table `t` of `app`: another database of the same servers, so its slot is made
/// beforehand.
async fn subscribe(cluster: &LocalCluster, router: &Router) -> Client {
    let client = router.connect().await;
    for order in [
        "CREATE PUBLICATION p FOR TABLE t",
        "CREATE DATABASE subscriber",
    ] {
        client.batch_execute(order).await.unwrap();
    }
    let slot = "SELECT pg_create_logical_replication_slot('s', 'pgoutput')";
    value(&client, slot).await;
    let subscriber = cluster.connect_as(0, SUPERUSER, None, "subscriber").await;
    let subscriber = subscriber.unwrap();
    let subscription = format!(
        "CREATE SUBSCRIPTION s CONNECTION 'host={} port={} user={SUPERUSER} dbname=app'
             PUBLICATION p WITH (create_slot = false)",
        router.address.ip(),
        router.address.port()
    );
    for order in ["CREATE TABLE t(n int PRIMARY KEY)", &subscription] {
        subscriber.batch_execute(order).await.unwrap();
    }
    subscriber
}

/// A replication connection of the superuser; what came of its login.
async fn log_in(router: &Router, parameters: &[(&str, &str)]) -> (Raw, Vec<Message>) {
    let mut raw = Raw::connect(router.address).await;
    let all = [&[("user", SUPERUSER), ("database", "app")], parameters].concat();
    raw.start(0, &all).await;
    let first = raw.next().await;
    if first.tag == b'E' {
        return (raw, vec![first]);
    }
    let mut answer = vec![first];
    while let Some(message) = raw.next_or_end().await {
        let last = matches!(message.tag, b'Z' | b'E');
        answer.push(message);
        if last {
            break;
        }
    }
    raw.keep_key(&answer);
    (raw, answer)
}

#[test]
fn a_base_backup_a_wal_receiver_and_a_standby_work_through_the_router() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let router = Router::start(&cluster, &[]).await;
        let client = router.connect().await;
        let fill = "CREATE TABLE t AS SELECT generate_series(1, 100000) AS n";
        client.batch_execute(fill).await.unwrap();

        let backup = place(&cluster, "backup");
        let arguments = ["-D", text(&backup), "-X", "stream", "-c", "fast"];
        run(&cluster, &router, "pg_basebackup", &arguments).await;
        run(&cluster, &router, "pg_verifybackup", &[text(&backup)]).await;

        let received = place(&cluster, "received");
        let end = value(&client, "SELECT pg_current_wal_flush_lsn()").await;
        let arguments = ["-D", text(&received), "-n", "--endpos", &end];
        run(&cluster, &router, "pg_receivewal", &arguments).await;
        assert!(received.read_dir().unwrap().next().is_some());

        let standby = cluster.connect(2).await.unwrap();
        let conninfo = format!(
            "host={} port={} user={MONITOR_ROLE} application_name=through_router",
            router.address.ip(),
            router.address.port()
        );
        let order = format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'");
        standby.batch_execute(&order).await.unwrap();
        standby
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
        let streams = "SELECT 1 FROM pg_stat_replication \
                       WHERE application_name = 'through_router' AND state = 'streaming'";
        let primary = cluster.connect(0).await.unwrap();
        wait_until("it streams", LIMIT, async || {
            !rows(&primary, streams).await.is_empty()
        })
        .await;
        client
            .batch_execute("CREATE TABLE later(n int)")
            .await
            .unwrap();
        wait_until("the standby has it", LIMIT, async || {
            let found = "SELECT 1 FROM pg_class WHERE relname = 'later'";
            !rows(&standby, found).await.is_empty()
        })
        .await;
        let shown = router
            .console("SHOW CLIENTS WHERE state = 'replication'")
            .await;
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert_eq!(shown[0]["node"], "node1");
        let shown = router
            .console("SHOW SERVERS WHERE state = 'replication'")
            .await;
        assert_eq!(shown.len(), 1, "{shown:?}");

        // Somebody else promotes: the standby follows, without being told of it.
        cluster.stop(0, StopMode::Immediate).await.unwrap();
        cluster.promote(1).await.unwrap();
        let primary = cluster.connect(1).await.unwrap();
        wait_until("it streams from the new primary", LIMIT, async || {
            !rows(&primary, streams).await.is_empty()
        })
        .await;
        router.app.shutdown(std::future::ready(())).await;
    });
}

#[test]
fn a_logical_receiver_and_a_subscriber_work_through_the_router() {
    test_alone(async {
        let options = Options {
            settings: vec![("wal_level".to_owned(), "logical".to_owned())],
            replicas: 1,
            ..Options::for_tests()
        };
        let cluster = start(options).await;
        let router = Router::start(&cluster, &[]).await;
        let client = router.connect().await;
        let setup = "CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t VALUES (1)";
        client.batch_execute(setup).await.unwrap();

        let slot = ["-d", "app", "-S", "receiver", "-P", "test_decoding"];
        let create = [&slot[..], &["--create-slot"]].concat();
        run(&cluster, &router, "pg_recvlogical", &create).await;
        client
            .batch_execute("INSERT INTO t VALUES (2)")
            .await
            .unwrap();
        let end = value(&client, "SELECT pg_current_wal_flush_lsn()").await;
        let file = place(&cluster, "decoded").join("changes");
        let receive = ["--start", "--no-loop", "--endpos", &end, "-f", text(&file)];
        let receive = [&slot[..4], &receive].concat();
        run(&cluster, &router, "pg_recvlogical", &receive).await;
        let decoded = std::fs::read_to_string(&file).unwrap();
        assert!(
            decoded.contains("table public.t: INSERT: n[integer]:2"),
            "{decoded}"
        );

        let subscriber = subscribe(&cluster, &router).await;
        client
            .batch_execute("INSERT INTO t VALUES (3)")
            .await
            .unwrap();
        wait_until("the subscriber has all rows", LIMIT, async || {
            value(&subscriber, "SELECT count(*) FROM t").await == "3"
        })
        .await;
        let shown = router
            .console("SHOW CLIENTS WHERE state = 'replication'")
            .await;
        assert_eq!(shown[0]["database"], "app");
        subscriber
            .batch_execute("ALTER SUBSCRIPTION s DISABLE")
            .await
            .unwrap();
        router.app.shutdown(std::future::ready(())).await;
    });
}

#[test]
fn a_replication_connection_to_the_primary_ends_when_another_is_the_primary() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let router = Router::start(&cluster, &[]).await;
        let (mut stream, _) = log_in(&router, &[("replication", "true")]).await;
        let (mut named, answer) = log_in(
            &router,
            &[("replication", "true"), ("options", "-c pgherd.node=node3")],
        )
        .await;
        assert!(tags(&answer).ends_with("KZ"), "{}", tags(&answer));
        let system = stream.query("IDENTIFY_SYSTEM").await;
        let position = system[1].columns()[2].clone();
        let order = format!("START_REPLICATION PHYSICAL {position}");
        stream
            .send(|out| frontend::query(out, order.as_bytes()))
            .await;
        assert_eq!(stream.next().await.tag, b'W');

        // The old primary is alive: nobody but the router ends the connection to it.
        cluster.promote(1).await.unwrap();
        let end = stream.until_end().await;
        let last = end.last().unwrap();
        assert_eq!((last.tag, last.fields()[&'C'].as_str()), (b'E', "57P01"));
        let system = named.query("IDENTIFY_SYSTEM").await;
        assert_eq!(
            system[1].columns()[0].len(),
            19,
            "the node that was named is still there"
        );

        let (mut stream, _) = log_in(&router, &[("replication", "true")]).await;
        let system = stream.query("IDENTIFY_SYSTEM").await;
        assert_eq!(
            system[1].columns()[1],
            "2",
            "the timeline of the new primary"
        );
        router.app.shutdown(std::future::ready(())).await;
    });
}

#[test]
fn what_cannot_be_replicated_is_refused_in_postgresqls_words() {
    test(async {
        let lab = shared().await;
        let settings = [("limits.replication_connections", "1")];
        let router = Router::start(&lab.cluster, &settings).await;
        for (parameters, state) in [
            (&[("replication", "maybe")][..], "22023"),
            (
                &[("replication", "1"), ("options", "-c pgherd.node=x")],
                "22023",
            ),
            (
                &[("replication", "database"), ("database", "pgherd")],
                "0A000",
            ),
            (
                &[("replication", "database"), ("database", "nowhere")],
                "3D000",
            ),
            (&[("replication", "true"), ("user", "nobody")], "28000"),
        ] {
            let (_, answer) = log_in(&router, parameters).await;
            assert_eq!(fields(&answer)[&'C'], state, "{parameters:?}");
        }
        let (first, answer) = log_in(&router, &[("replication", "on")]).await;
        assert!(tags(&answer).ends_with("KZ"), "{}", tags(&answer));
        let (_, answer) = log_in(&router, &[("replication", "on")]).await;
        assert_eq!(fields(&answer)[&'C'], "53300");
        drop(first);
        wait_until("the place is free again", LIMIT, async || {
            let (_, answer) = log_in(&router, &[("replication", "off")]).await;
            let (_, again) = log_in(&router, &[("replication", "on")]).await;
            tags(&answer).ends_with('Z') && tags(&again).ends_with('Z')
        })
        .await;
    });
}

#[test]
fn a_statement_on_a_replication_connection_is_cancelled_by_a_key_of_ours() {
    test(async {
        let router = &shared().await.router;
        let (mut raw, answer) = log_in(router, &[("replication", "database")]).await;
        assert!(tags(&answer).ends_with("KZ"), "{}", tags(&answer));
        raw.send(|out| frontend::query(out, b"SELECT pg_sleep(60)"))
            .await;
        let shown = "SHOW SERVERS WHERE state = 'replication' AND database = 'app'";
        assert_eq!(router.console(shown).await.len(), 1);
        let primary = shared().await.cluster.connect(0).await.unwrap();
        let runs = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'walsender' \
                    AND state = 'active' AND query = 'SELECT pg_sleep(60)'";
        wait_until("it runs", LIMIT, async || {
            !rows(&primary, runs).await.is_empty()
        })
        .await;
        let mut other = Raw::connect(router.address).await;
        let key = raw.key.clone().unwrap();
        other.send(|out| frontend::cancel_request(out, &key)).await;
        assert_eq!(other.until_end().await, []);
        assert_eq!(fields(&raw.until_ready().await)[&'C'], "57014");
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}
