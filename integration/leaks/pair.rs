//! A session through the router, and its double on a direct connection.

use std::fmt;
use std::net::SocketAddr;

use pgherd::local::{LocalCluster, SUPERUSER};
use tokio_postgres::Client;

use super::script::{Split, Step, Who};
use crate::support::{Listener, Message, Raw, Router, eventually, value};

/// Two equal databases: one for the direct connections, one behind the router.
pub(super) struct Databases {
    direct: String,
    behind: String,
    primary: SocketAddr,
    pub(super) split: Split,
    /// Sessions in the databases, direct ones.
    controls: [Client; 2],
    /// Sessions on the replicas.
    replicas: Vec<Client>,
}

/// A session and its double.
pub(super) struct Pair {
    direct: Raw,
    through: Raw,
    status: u8,
}

/// Two answers that should be one.
pub(super) struct Mismatch {
    direct: Vec<String>,
    through: Vec<String>,
}

impl Databases {
    pub(super) async fn create(cluster: &LocalCluster, name: &str, split: Split) -> Self {
        let primary = cluster.address(0).unwrap();
        let names = ["direct", "behind"].map(|kind| format!("{name}_{kind}"));
        let maintenance = control(primary, "postgres").await;
        let role = "DO $$ BEGIN CREATE ROLE leaks_role; EXCEPTION WHEN OTHERS THEN END $$";
        maintenance.batch_execute(role).await.unwrap();
        for name in &names {
            let create = format!("CREATE DATABASE {name}");
            maintenance.batch_execute(&create).await.unwrap();
        }
        let controls = [
            control(primary, &names[0]).await,
            control(primary, &names[1]).await,
        ];
        for (client, name) in controls.iter().zip(&names) {
            // A connection never forgets that a name which only clients know was used on it: the
            // databases know these two from the start.
            for setting in ["my.setting", "my.other"] {
                let known = format!("ALTER DATABASE {name} SET {setting} = ''");
                client.batch_execute(&known).await.unwrap();
            }
            client.batch_execute(SCHEMA).await.unwrap();
        }
        let mut replicas = Vec::new();
        for index in 1..cluster.node_count() {
            replicas.push(control(cluster.address(index).unwrap(), "postgres").await);
        }
        let [direct, behind] = names;
        let databases = Self {
            direct,
            behind,
            primary,
            split,
            controls,
            replicas,
        };
        databases.wait_for_replicas().await;
        databases
    }

    /// Makes both as they were at first.
    pub(super) async fn empty(&self) {
        for client in &self.controls {
            client.batch_execute(EMPTY).await.unwrap();
        }
        self.wait_for_replicas().await;
    }

    /// Ends all connections of clients and of the router's pools.
    pub(super) async fn end_all_connections(&self) {
        let others = format!(
            "FROM pg_stat_activity WHERE datname IN ('{}', '{}') AND usename = '{SUPERUSER}' \
             AND pid <> pg_backend_pid() AND application_name <> 'test'",
            self.direct, self.behind
        );
        for client in self.controls.iter().take(1).chain(&self.replicas) {
            let end = format!("SELECT pg_terminate_backend(pid) {others}");
            client.simple_query(&end).await.unwrap();
            let left = format!("SELECT count(*) {others}");
            eventually("all connections end", LIMIT, async || {
                (value(client, &left).await == "0").then_some(())
            })
            .await;
        }
    }

    async fn wait_for_replicas(&self) {
        let position = value(&self.controls[1], "SELECT pg_current_wal_flush_lsn()").await;
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        for replica in &self.replicas {
            eventually("replicas have replayed it", LIMIT, async || {
                (value(replica, &replayed).await == "t").then_some(())
            })
            .await;
        }
    }
}

async fn control(address: SocketAddr, database: &str) -> Client {
    let connected = Listener::connect(address, SUPERUSER, "", database);
    connected.await.unwrap().client
}

impl Pair {
    /// Two new sessions.
    pub(super) async fn connect(
        databases: &Databases,
        router: &Router,
        who: Who,
        seed: u64,
    ) -> Self {
        // Now the names of the clients are different, now they are the same, now there are none.
        let name = match seed % 3 {
            0 => who.name(),
            1 => "both",
            _ => "",
        };
        Self {
            direct: start(databases.primary, &databases.direct, name).await,
            through: start(router.address, &databases.behind, name).await,
            status: b'I',
        }
    }

    /// What ReadyForQuery said last.
    pub(super) const fn status(&self) -> u8 {
        self.status
    }

    /// Whether the router has to keep a connection for this session.
    pub(super) async fn is_bound(&mut self) -> bool {
        if self.status != b'I' {
            return true;
        }
        let answer = self.through.query("SHOW pgherd.pinned").await;
        let row = answer.iter().find(|message| message.tag == b'D');
        !row.unwrap().columns()[0].is_empty()
    }

    /// Does a step twice and compares the answers.
    pub(super) async fn play(&mut self, step: &Step) -> Result<(), Mismatch> {
        let (direct, through) = tokio::join!(
            answer(&mut self.direct, step),
            answer(&mut self.through, step)
        );
        if let Some(status) = direct.iter().rev().find(|message| message.tag == b'Z') {
            self.status = status.body[0];
        }
        let mismatch = Mismatch {
            direct: direct.iter().map(comparable).collect(),
            through: through.iter().map(comparable).collect(),
        };
        match mismatch.direct == mismatch.through {
            true => Ok(()),
            false => Err(mismatch),
        }
    }
}

async fn start(address: SocketAddr, database: &str, name: &str) -> Raw {
    let mut raw = Raw::connect(address).await;
    let mut parameters = vec![("user", SUPERUSER), ("database", database)];
    if !name.is_empty() {
        parameters.push(("application_name", name));
    }
    raw.start(0, &parameters).await;
    let answer = raw.until_ready().await;
    let told = answer
        .iter()
        .find(|message| message.body.starts_with(b"application_name\0"));
    let told = told.map(|message| message.body.clone());
    assert_eq!(
        told,
        Some(format!("application_name\0{name}\0").into_bytes())
    );
    raw
}

/// What a step brings, up to ReadyForQuery, or to the end of the connection.
async fn answer(raw: &mut Raw, step: &Step) -> Vec<Message> {
    raw.send(|out| step.write(out)).await;
    let mut messages = Vec::new();
    while let Some(message) = raw.next_or_end().await {
        let last = message.tag == b'Z';
        messages.push(message);
        if last {
            break;
        }
    }
    messages
}

/// A message in words, without what is different in two equal databases.
fn comparable(message: &Message) -> String {
    let tag = char::from(message.tag);
    match message.tag {
        b'E' | b'N' => {
            let fields = message.fields().into_iter();
            // File, line and function of the server's source say nothing to a client.
            let fields = fields.filter(|(letter, _)| !matches!(letter, 'F' | 'L' | 'R'));
            let fields: Vec<_> = fields
                .map(|(letter, text)| format!("{letter}={text}"))
                .collect();
            format!("{tag} {}", fields.join(" "))
        }
        b'T' => format!(
            "{tag} {}",
            String::from_utf8_lossy(&without_oids(&message.body))
        ),
        _ => format!("{tag} {}", String::from_utf8_lossy(&message.body)),
    }
}

/// A RowDescription without the numbers of the tables that its columns come from.
fn without_oids(body: &[u8]) -> Vec<u8> {
    let mut out = body[..2].to_vec();
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..=end]);
        // The table, then the column's number, type, length, modifier and format.
        out.extend_from_slice(&rest[end + 5..end + 19]);
        rest = &rest[end + 19..];
    }
    out
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differs = |a: &[String], b: &[String]| {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            let from = same.saturating_sub(2);
            let to = (same + 4).min(a.len());
            a[from.min(a.len())..to].join("\n    ")
        };
        writeln!(f, "  direct:\n    {}", differs(&self.direct, &self.through))?;
        write!(
            f,
            "  through:\n    {}",
            differs(&self.through, &self.direct)
        )
    }
}

const SCHEMA: &str = "
    CREATE SCHEMA one; CREATE SCHEMA two;
    CREATE TABLE public.words AS SELECT 'public' AS what;
    CREATE TABLE one.words AS SELECT 'one' AS what;
    CREATE TABLE two.words AS SELECT 2 AS what;
    CREATE TABLE public.ann(n int); CREATE TABLE public.bob(n int);
    CREATE SEQUENCE public.ann_numbers; CREATE SEQUENCE public.bob_numbers;
    GRANT USAGE ON SCHEMA one, two TO leaks_role;
    GRANT ALL ON ALL TABLES IN SCHEMA public, one TO leaks_role;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO leaks_role;";
const EMPTY: &str = "
    TRUNCATE public.ann, public.bob;
    ALTER SEQUENCE public.ann_numbers RESTART; ALTER SEQUENCE public.bob_numbers RESTART;";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);
