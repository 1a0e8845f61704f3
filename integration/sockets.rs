//! Unix sockets: clients that come by one, and servers that are behind one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgherd::local::{DATABASE, SUPERUSER};
use tokio_postgres::{Client, Config, NoTls};

use crate::support::{Router, rows, shared, test, value, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// A directory for a socket. Paths of sockets are short, and others have to get there.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pgh.{}.{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn router(directory: &Path, settings: &[(&str, &str)]) -> Router {
    let mut all = vec![("listen.unix_socket_dir", directory.to_str().unwrap())];
    all.extend(settings);
    Router::start(&shared().await.cluster, &all).await
}

/// What psql prints, or its error.
async fn psql(
    router: &Router,
    directory: &Path,
    options: &str,
    sql: &str,
) -> Result<String, String> {
    let port = router.address.port();
    let connection = format!("host={} port={port} {options}", directory.display());
    let mut command = tokio::process::Command::new("psql");
    command.args(["-XAt", "-d", &connection, "-c", sql]);
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

async fn connect(router: &Router, directory: &Path) -> Client {
    let mut config = Config::new();
    config.host_path(directory).port(router.address.port());
    config.user(SUPERUSER).dbname(DATABASE);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
}

#[test]
fn psql_works_over_the_socket_and_the_file_goes_with_the_router() {
    test(async {
        let directory = directory("psql");
        let file = |router: &Router| {
            let port = router.address.port();
            directory.join(format!(".s.PGSQL.{port}"))
        };
        let router = router(&directory, &[("listen.unix_socket_mode", "0700")]).await;
        assert_eq!(
            router.app.unix_socket.as_deref(),
            Some(file(&router).as_path())
        );
        let mode = std::fs::metadata(file(&router))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let root = format!("user={SUPERUSER} dbname={DATABASE}");
        let said = psql(&router, &directory, &root, "SELECT session_user").await;
        assert_eq!(said.as_deref(), Ok(SUPERUSER));
        let client = connect(&router, &directory).await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
        let shown = router.console("SHOW CLIENTS WHERE database = 'app'").await;
        assert_eq!(shown[0]["addr"], "unix");
        drop(client);
        let path = file(&router);
        router.app.shutdown(std::future::ready(())).await;
        assert!(!path.exists());
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn our_own_user_needs_no_password_for_the_console() {
    test(async {
        let directory = directory("console");
        let settings = [("auth.method", "lookup"), ("admin.users", "")];
        let router = router(&directory, &settings).await;
        for name in ["pgherd", "pgbouncer"] {
            let who = format!("user={name} dbname={name}");
            let shown = psql(&router, &directory, &who, "SHOW VERSION").await;
            assert!(shown.is_ok(), "{shown:?}");
            let reloaded = psql(&router, &directory, &who, "RELOAD").await;
            let error = reloaded.unwrap_err();
            assert!(
                error.contains("comes from no file"),
                "it may run commands: {error}"
            );
        }
        let who = "user=pgherd dbname=app password=x";
        let error = psql(&router, &directory, who, "SELECT 1")
            .await
            .unwrap_err();
        assert!(error.contains("password authentication failed"), "{error}");
        // By TCP the same user is asked.
        let tcp = router.connect_as("pgherd", "x", "pgherd").await;
        assert_eq!(tcp.err().unwrap().code().unwrap().code(), "28P01");
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn peer_lets_in_the_user_of_the_system() {
    test(async {
        let uid = std::fs::metadata("/proc/self").unwrap();
        let uid = std::os::unix::fs::MetadataExt::uid(&uid);
        let Some(name) = pgherd::net::user_name(uid) else {
            return;
        };
        let primary = shared().await.cluster.connect(0).await.unwrap();
        let made =
            format!("DROP ROLE IF EXISTS \"{name}\"; CREATE ROLE \"{name}\" LOGIN PASSWORD 'own'");
        primary.batch_execute(&made).await.unwrap();
        let directory = directory("peer");
        // The servers ask for a password: it stands in the file.
        let list = directory.join("users");
        std::fs::write(&list, format!("\"{name}\" \"own\"\n")).unwrap();
        let settings = [
            ("auth.method", "file"),
            ("auth.file", list.to_str().unwrap()),
            (
                "auth.hba",
                "local all all peer, host all all 127.0.0.1/32 trust",
            ),
        ];
        let router = router(&directory, &settings).await;
        let own = format!("user={name} dbname={DATABASE}");
        let said = psql(&router, &directory, &own, "SELECT session_user").await;
        assert_eq!(said, Ok(name));
        let other = format!("user={SUPERUSER} dbname={DATABASE}");
        let error = psql(&router, &directory, &other, "SELECT 1")
            .await
            .unwrap_err();
        let words = format!("Peer authentication failed for user \"{SUPERUSER}\"");
        assert!(error.contains(&words), "{error}");
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn a_cancel_comes_by_the_socket_too() {
    test(async {
        let directory = directory("cancel");
        let router = router(&directory, &[]).await;
        let client = connect(&router, &directory).await;
        let token = client.cancel_token();
        let running = client.batch_execute("SELECT pg_sleep(60)");
        let cancelling = async {
            loop {
                token.cancel_query(NoTls).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ended = running => {
                assert_eq!(ended.unwrap_err().code().unwrap().code(), "57014");
            }
            () = cancelling => {}
        }
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn servers_may_be_behind_a_socket() {
    test(async {
        let cluster = &shared().await.cluster;
        let mut hosts = Vec::new();
        for index in 0..cluster.node_count() {
            let server = cluster.connect(index).await.unwrap();
            let folder = value(&server, "SHOW unix_socket_directories").await;
            let port = cluster.address(index).unwrap().port();
            hosts.push(format!("{}={folder}:{port}", cluster.name(index).unwrap()));
        }
        let settings = [("cluster.test.hosts", hosts.join(","))];
        let settings = [(settings[0].0, settings[0].1.as_str())];
        let router = Router::start(cluster, &settings).await;
        let client = router.connect().await;
        assert_eq!(
            value(
                &client,
                "SELECT coalesce(host(inet_server_addr()), 'socket')"
            )
            .await,
            "socket"
        );
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS by_socket(n int)")
            .await
            .unwrap();
        wait_until("a replica answers", LIMIT, async || {
            value(&client, "SELECT count(*) FROM by_socket").await;
            value(&client, "SHOW pgherd.node").await != "node1"
        })
        .await;
        let token = client.cancel_token();
        let cancelled = client.batch_execute("BEGIN; SELECT pg_sleep(60)");
        let cancelling = async {
            loop {
                token.cancel_query(NoTls).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ended = cancelled => {
                assert_eq!(ended.unwrap_err().code().unwrap().code(), "57014");
            }
            () = cancelling => {}
        }
        let nodes = rows(
            &router.connect_as(SUPERUSER, "", "pgherd").await.unwrap(),
            "SHOW NODES",
        )
        .await;
        assert_eq!(nodes.len(), cluster.node_count());
    });
}
