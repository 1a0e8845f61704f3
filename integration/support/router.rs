//! A router in this process, and ordinary clients of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::poll_fn;
use pgherd::app::{App, ConfigSource};
use pgherd::cluster::ServerState;
use pgherd::config::{Environment, load_text};
use pgherd::local::{DATABASE, LocalCluster, MONITOR_ROLE, SUPERUSER};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

use super::{Raw, wait_until};

/// A router in this process.
pub(crate) struct Router {
    pub(crate) app: App,
    /// Where clients come in.
    pub(crate) address: SocketAddr,
    /// Where health, metrics and status are.
    pub(crate) http: SocketAddr,
}

/// A row of a simple query, by the names of its columns.
pub(crate) type Row = BTreeMap<String, String>;

/// A client, and what the server told it without being asked.
pub(crate) struct Listener {
    pub(crate) client: Client,
    told: Arc<Mutex<Vec<String>>>,
}

impl Router {
    /// A router that lets everybody in, with these settings on top, and that has seen all servers.
    pub(crate) async fn start(cluster: &LocalCluster, settings: &[(&str, &str)]) -> Self {
        let replicas = cluster.node_count() - 1;
        let router = Self::start_blind(cluster, settings).await;
        wait_until("all servers serve", LIMIT, async || {
            router.serving_replicas() == replicas
        })
        .await;
        router
    }

    /// The same, and what the router has seen is not waited for.
    pub(crate) async fn start_blind(cluster: &LocalCluster, settings: &[(&str, &str)]) -> Self {
        let text = config_text(cluster);
        let variables = settings.iter().map(|(key, value)| {
            let name = key.to_ascii_uppercase().replace('.', "__");
            (format!("PGHERD_{name}"), (*value).to_owned())
        });
        let environment = Environment::from_pairs(variables);
        let (config, _warnings) =
            load_text("test.toml", &text, &environment).unwrap_or_else(|bad| panic!("{bad:?}"));
        Self::from(App::start(config, ConfigSource::Fixed).await.unwrap())
    }

    /// How many replicas may serve reads now.
    pub(crate) fn serving_replicas(&self) -> usize {
        let snapshot = self.app.monitor.snapshot.load();
        let servers = snapshot.servers.iter();
        servers
            .filter(|server| server.state == ServerState::Serving)
            .count()
    }

    /// A session of the superuser in the database `app`.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_as(SUPERUSER, "", DATABASE).await.unwrap()
    }

    /// A session of any role.
    pub(crate) async fn connect_as(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        Ok(Listener::connect(self.address, user, password, database)
            .await?
            .client)
    }

    /// A session whose notices are kept.
    pub(crate) async fn listener(&self) -> Listener {
        let connected = Listener::connect(self.address, SUPERUSER, "", DATABASE);
        connected.await.unwrap()
    }

    /// A session of the superuser that chooses its bytes.
    pub(crate) async fn raw(&self) -> Raw {
        Raw::log_in(self.address, SUPERUSER, DATABASE).await
    }

    /// What a command of the console answers.
    pub(crate) async fn console(&self, command: &str) -> Vec<Row> {
        let client = self.connect_as(SUPERUSER, "", "pgherd").await.unwrap();
        rows(&client, command).await
    }

    /// How often a reason decided, on all servers together.
    pub(crate) async fn count_of(&self, why: &str) -> u64 {
        let counted = self.console("SHOW ROUTING").await;
        let counted = counted.iter().filter(|row| row["reason"] == why);
        counted
            .map(|row| row["count_total"].parse::<u64>().unwrap())
            .sum()
    }

    /// What HTTP answers: the status and the body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.http, path).await
    }
}

/// What HTTP answers there: the status and the body.
pub(crate) async fn get(http: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

impl From<App> for Router {
    fn from(app: App) -> Self {
        Self {
            address: app.addresses[0],
            http: app.http.unwrap(),
            app,
        }
    }
}

impl Listener {
    /// Logs in anywhere.
    pub(crate) async fn connect(
        address: SocketAddr,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host(address.ip().to_string()).port(address.port());
        config.user(user).dbname(database).application_name("test");
        if !password.is_empty() {
            config.password(password);
        }
        let (client, mut connection) = config.connect(NoTls).await?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                let text = match message {
                    AsyncMessage::Notice(notice) => notice.message().to_owned(),
                    AsyncMessage::Notification(it) => format!("{}={}", it.channel(), it.payload()),
                    _ => continue,
                };
                heard.lock().unwrap().push(text);
            }
        });
        Ok(Self { client, told })
    }

    /// What was told since the last call.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

/// All rows of a simple query. NULL is the empty text.
pub(crate) async fn rows(client: &Client, query: &str) -> Vec<Row> {
    let answer = client.simple_query(query).await;
    let answer = answer.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let columns = row.columns().iter().enumerate();
        columns
            .map(|(at, column)| {
                let value = row.get(at).unwrap_or_default();
                (column.name().to_owned(), value.to_owned())
            })
            .collect()
    })
    .collect()
}

/// The only value of a simple query.
pub(crate) async fn value(client: &Client, query: &str) -> String {
    let rows = rows(client, query).await;
    assert_eq!(rows.len(), 1, "{query}: {rows:?}");
    rows[0].values().next().unwrap().clone()
}

/// The configuration of a router in front of a cluster.
pub(crate) fn config_text(cluster: &LocalCluster) -> String {
    let hosts: Vec<String> = (0..cluster.node_count())
        .map(|index| {
            let name = cluster.name(index).unwrap();
            format!("\"{name}={}\"", cluster.address(index).unwrap())
        })
        .collect();
    format!(
        "[listen]\npostgres = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
         [monitor]\nuser = \"{MONITOR_ROLE}\"\ndatabase = \"{DATABASE}\"\n\
         [auth]\nmethod = \"trust\"\n\
         [admin]\nusers = [\"{SUPERUSER}\"]\n\
         [cluster.test]\nhosts = [{}]\n",
        hosts.join(", ")
    )
}

/// How much memory this process holds, in kB.
pub(crate) fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// For what takes a second at most; machines are busy.
const LIMIT: Duration = Duration::from_secs(30);
