//! Rules of access: the same lines let the same clients in here and at a server, in the same words.

use std::net::SocketAddr;

use pgherd::local::{Auth, DATABASE, Options, Role, SUPERUSER};

use crate::support::{Authority, Router, psql, shared, start, test, test_alone};

/// What both, the server and the router, read.
const RULES: &str = "\
# The monitor and the tests.
local  all         all                 trust
host   all         postgres,pgherd     127.0.0.1/32                  trust
host   replication rep                 127.0.0.1 255.255.255.255     scram-sha-256
host   app         ann                 127.0.0.1/32                  scram-sha-256
host   app         carl                127.0.0.1/32                  reject
host   replication carl                127.0.0.1/32                  reject
host   sameuser,\\
  app              \"bob\"             127.0.0.0/8                   md5
hostssl all        dora                all                           md5
host   all         eve                 10.0.0.0/8                    md5
";

/// What psql is told: the answer, or the error without where it came from.
async fn told(address: SocketAddr, options: &str) -> String {
    let answer = psql(
        address,
        &format!("sslmode=disable {options}"),
        "SELECT 'in'",
    )
    .await;
    match answer {
        Ok(answer) => answer,
        Err(error) => match error.find("FATAL:") {
            Some(start) => error[start..].to_owned(),
            None => error,
        },
    }
}

#[test]
fn the_router_lets_in_and_refuses_as_a_server_with_the_same_rules() {
    test_alone(async {
        let role = |name: &str| Role {
            name: name.to_owned(),
            password: Some("secret".to_owned()),
        };
        let options = Options {
            replicas: 0,
            auth: Auth::Scram,
            roles: ["ann", "bob", "carl", "dora", "eve"].map(role).into(),
            ..Options::for_tests()
        };
        let cluster = start(options).await;
        let primary = cluster.connect(0).await.unwrap();
        let made = "CREATE DATABASE bob; CREATE ROLE rep REPLICATION LOGIN PASSWORD 'secret'";
        for statement in made.split(';') {
            primary.batch_execute(statement).await.unwrap();
        }
        let shown = crate::support::value(&primary, "SHOW hba_file").await;
        std::fs::write(&shown, RULES).unwrap();
        primary
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
        let copy = cluster.directory().join("router_hba.conf");
        std::fs::write(&copy, RULES).unwrap();
        let settings = [
            ("auth.method", "lookup"),
            ("auth.hba_file", copy.to_str().unwrap()),
        ];
        let router = Router::start(&cluster, &settings).await;
        let server = cluster.address(0).unwrap();
        let mut answers = Vec::new();
        for options in [
            "user=ann password=secret dbname=app",
            "user=ann password=wrong dbname=app",
            "user=ann password=secret dbname=postgres",
            "user=bob password=secret dbname=app",
            "user=bob password=secret dbname=bob",
            "user=bob password=secret dbname=postgres",
            "user=carl password=secret dbname=app",
            "user=carl password=secret dbname=app replication=database",
            "user=carl password=secret dbname=app replication=true",
            "user=dora password=secret dbname=app",
            "user=eve password=secret dbname=app",
            "user=nobody password=secret dbname=app",
            "user=ann password=secret dbname=app replication=true",
        ] {
            let direct = told(server, options).await;
            assert_eq!(told(router.address, options).await, direct, "{options}");
            answers.push(direct == "in");
        }
        assert_eq!(answers.iter().filter(|is_in| **is_in).count(), 3);
        let replicates = "user=rep password=secret dbname=app replication=true";
        let identified = psql(router.address, replicates, "IDENTIFY_SYSTEM").await;
        assert!(identified.is_ok(), "{identified:?}");
    });
}

#[test]
fn a_certificate_lets_in_whom_it_names() {
    test(async {
        let directory = shared().await.cluster.directory().join("cert_rule");
        std::fs::create_dir_all(&directory).unwrap();
        let servers = Authority::new(&directory, "servers");
        let clients = Authority::new(&directory, "clients");
        let files = servers.sign(&["localhost"], "localhost");
        let ca = clients.file();
        let rules = "hostssl all postgres 127.0.0.1/32 cert, hostssl all demo 127.0.0.1/32 \
                     scram-sha-256 clientcert=verify-full";
        let settings = [
            ("auth.method", "lookup"),
            ("auth.hba", rules),
            ("listen.tls.cert_file", &files.certificate),
            ("listen.tls.key_file", &files.key),
            ("listen.tls.client_ca_file", &ca),
        ];
        let router = Router::start_blind(&shared().await.cluster, &settings).await;
        router
            .app
            .wait_ready(std::time::Duration::from_secs(30))
            .await;
        let own = clients.sign(&[], SUPERUSER);
        let other = clients.sign(&[], "demo");
        let ask = async |user: &str, files: Option<&crate::support::Files>| {
            let shown = files.map_or_else(
                || "sslcert=/nonexistent".to_owned(),
                |files| format!("sslcert={} sslkey={}", files.certificate, files.key),
            );
            let options =
                format!("user={user} password=demo dbname={DATABASE} sslmode=require {shown}");
            psql(router.address, &options, "SELECT session_user").await
        };
        assert_eq!(ask(SUPERUSER, Some(&own)).await.as_deref(), Ok(SUPERUSER));
        let error = ask(SUPERUSER, Some(&other)).await.unwrap_err();
        assert!(
            error.contains("certificate authentication failed for user \"postgres\""),
            "{error}"
        );
        let error = ask(SUPERUSER, None).await.unwrap_err();
        assert!(
            error.contains("connection requires a valid client certificate"),
            "{error}"
        );
        // A certificate and a password: both of the right user.
        assert_eq!(ask("demo", Some(&other)).await.as_deref(), Ok("demo"));
        assert!(ask("demo", Some(&own)).await.is_err());
        let plain = format!("user={SUPERUSER} dbname={DATABASE} sslmode=disable");
        let error = psql(router.address, &plain, "SELECT 1").await.unwrap_err();
        assert!(
            error.contains(
                "no pg_hba.conf entry for host \"127.0.0.1\", user \"postgres\", database \
                 \"app\", no encryption"
            ),
            "{error}"
        );
    });
}
