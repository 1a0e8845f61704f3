//! The table of settings: one row for each, and everything else is made from it.
//!
//! The reader, `pgherd check`, `SHOW CONFIG`, docs/configuration.md and pgherd.example.toml all
//! come from these rows. A row is only here when the program does something with it: a debug
//! assertion in `build.rs` compares the rows with what is read.

use std::time::Duration;

use crate::cluster::RouterId;

use super::settings::Applies::{self, Reload, Restart};
use super::settings::{Kind, Setting};
use super::table_cluster::CLUSTER;
use super::table_own::{DATABASE, USER};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const TIME: Kind = Kind::Duration {
    min: MS,
    off: false,
};
pub(super) const TIME_OR_OFF: Kind = Kind::Duration { min: MS, off: true };
pub(super) const SIZE: Kind = Kind::Size { min: 0, any: false };

pub(super) const fn row(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    applies: Applies,
    doc: &'static str,
) -> Setting {
    Setting {
        key,
        kind,
        default: Some(default),
        applies,
        doc,
    }
}

/// All settings, in the order of the docs.
pub static SETTINGS: &[Setting] =
    &joined::<{ CLIENTS.len() + CLUSTER.len() + USER.len() + DATABASE.len() + PROGRAM.len() }>();

/// Who comes in, and who we are.
const CLIENTS: &[Setting] = &[
    row(
        "listen.postgres",
        Kind::List,
        "127.0.0.1:6432",
        Restart,
        "Where clients connect: `host:port`, or a list of them.",
    ),
    row(
        "listen.unix_socket_dir",
        Kind::Text,
        "",
        Restart,
        "The directory where clients find a Unix socket, `.s.PGSQL.PORT` with the port of \
         `listen.postgres`. `\"\"` makes none.",
    ),
    row(
        "listen.unix_socket_mode",
        Kind::Text,
        "0777",
        Restart,
        "Who may connect by the Unix socket: its mode in octal digits, as of `chmod`.",
    ),
    row(
        "listen.http",
        Kind::Text,
        "127.0.0.1:8432",
        Restart,
        "Health, metrics and status by HTTP: `host:port`. `\"\"` turns it off.",
    ),
    row(
        "listen.tls.mode",
        Kind::Choice(&["disable", "allow", "require"]),
        "allow",
        Reload,
        "Whether clients may encrypt (`allow`, once there is a certificate), must (`require`), or \
         cannot.",
    ),
    row(
        "listen.tls.cert_file",
        Kind::Text,
        "",
        Reload,
        "Our certificate in PEM, followed by those that lead from it to the authority. A reload \
         reads this file and the ones below again; connections that are there keep what they have.",
    ),
    row(
        "listen.tls.key_file",
        Kind::Text,
        "",
        Reload,
        "The private key of the certificate, in PEM, without a passphrase.",
    ),
    row(
        "listen.tls.client_ca_file",
        Kind::Text,
        "",
        Reload,
        "Whose certificates of clients are believed, in PEM. When it is set, clients are asked for \
         one, and a bad one ends the connection.",
    ),
    row(
        "listen.tls.client_certs",
        Kind::Choice(&["ask", "require"]),
        "ask",
        Reload,
        "What becomes of a client without a certificate, when `client_ca_file` is set: it comes in \
         (`ask`), or not.",
    ),
    row(
        "listen.tls.min_version",
        Kind::Choice(&["1.2", "1.3"]),
        "1.2",
        Reload,
        "The oldest version of TLS that clients may use.",
    ),
    row(
        "peers.id",
        Kind::Count {
            min: 0,
            max: RouterId::MAX as u64,
        },
        "0",
        Reload,
        "The number of this router among those that clients reach by one address, from 1 on. It is a \
         part of the keys that clients cancel with. 0: this router is alone.",
    ),
    row(
        "peers.routers",
        Kind::List,
        "",
        Reload,
        "Where the others listen for clients: a list of `NUMBER=host:port`, in which this router may \
         stand as well. A cancel request that comes here for a session of another is passed on \
         there.",
    ),
    row(
        "monitor.user",
        Kind::Text,
        "pgherd",
        Restart,
        "The role that watches the servers. `pgherd setup-sql` prints the grants it needs.",
    ),
    row(
        "monitor.password",
        Kind::Secret,
        "",
        Restart,
        "Its password. Better kept out of this file: write `{ env = \"NAME\" }` or \
         `{ file = \"/run/secrets/x\" }`, set PGHERD_MONITOR_PASSWORD or \
         PGHERD_MONITOR_PASSWORD_FILE, or use libpq's `~/.pgpass`, which is read when nothing \
         else gives a password.",
    ),
    row(
        "monitor.password.env",
        Kind::Text,
        "",
        Restart,
        "Reads the password from this environment variable.",
    ),
    row(
        "monitor.password.file",
        Kind::Text,
        "",
        Restart,
        "Reads the password from this file; the line end is dropped.",
    ),
    row(
        "monitor.database",
        Kind::Text,
        "postgres",
        Restart,
        "The database that the monitor connects to. Grants and the lookup function live there.",
    ),
    row(
        "monitor.interval",
        Kind::Duration {
            min: Duration::from_millis(10),
            off: false,
        },
        "100ms",
        Reload,
        "How often each server is asked. Shorter finds a dead primary sooner and gives fresher \
         lag, and costs one small query for each server each time.",
    ),
    row(
        "monitor.timeout",
        TIME,
        "1s",
        Reload,
        "How long an answer may take before the probe counts as failed. A server whose last \
         answer is older than three times this (or three intervals, if longer) serves no reads.",
    ),
    row(
        "monitor.application_name",
        Kind::Text,
        "pgherd monitor",
        Restart,
        "What the servers show in `pg_stat_activity` for the monitor.",
    ),
    row(
        "auth.method",
        Kind::Choice(&["lookup", "file", "trust"]),
        "lookup",
        Reload,
        "How clients prove who they are. `lookup` checks the proof against the \
         verifier that `auth.query` reads from a server; `file` against `auth.file`. A stored md5 \
         hash is proved by md5, everything else by SCRAM-SHA-256. `trust` asks nothing and is \
         refused unless every listener is on loopback.",
    ),
    row(
        "auth.query",
        Kind::Text,
        "SELECT rolname, verifier FROM pgherd.lookup($1)",
        Reload,
        "The query of `lookup`: one parameter, the user; one row, the name and the verifier. \
         `pgherd setup-sql --lookup` prints the function that the default calls.",
    ),
    row(
        "auth.cache_ttl",
        TIME,
        "1s",
        Reload,
        "How long a verifier that was looked up is used before it is read again. Within this time \
         after a password was changed, the first login with the new one may fail; then the \
         verifier is read again.",
    ),
    row(
        "auth.stale_ttl",
        TIME,
        "1d",
        Reload,
        "How long a verifier is used while no server can be asked for it, so that logins go on \
         while all servers are down.",
    ),
    row(
        "auth.hba_file",
        Kind::Text,
        "",
        Reload,
        "Who may come in, by user, database and address: a file that is read as PostgreSQL reads its \
         `pg_hba.conf`. The first line that fits decides; without rules, everybody may try who can \
         prove a password by `auth.method`. Methods are `trust`, `reject`, `scram-sha-256`, `md5`, \
         `cert`, `peer`.",
    ),
    row(
        "auth.hba",
        Kind::List,
        "",
        Reload,
        "The same rules, written here: a list of lines of a `pg_hba.conf`.",
    ),
    row(
        "auth.remote_trust",
        Kind::Flag,
        "false",
        Reload,
        "Risky: lets `trust` admit clients from other machines without a proof.",
    ),
    row(
        "auth.file",
        Kind::Text,
        "",
        Reload,
        "The users of `file`, in the format of PgBouncer's userlist.txt: \
         `\"user\" \"SCRAM-SHA-256$...\"`, `\"md5...\"`, or a plain password.",
    ),
];

/// Limits, the console, the program.
const PROGRAM: &[Setting] = &[
    row(
        "limits.worker_threads",
        Kind::Count { min: 0, max: 1024 },
        "0",
        Restart,
        "How many threads move bytes; 0 is half as many as the machine has cores, and at least one. \
         One thread carries tens of thousands of statements a second; more threads than needed only \
         wake each other.",
    ),
    row(
        "limits.replication_connections",
        Kind::Count {
            min: 0,
            max: 10_000,
        },
        "10",
        Reload,
        "How many clients may replicate through pgherd, such as `pg_basebackup` or a logical \
         subscriber. Each has a connection of its own to a server, beside the pools; the server's \
         `max_wal_senders` bounds them as well. 0 lets none in.",
    ),
    row(
        "limits.login_timeout",
        TIME,
        "15s",
        Reload,
        "How long a client's login may take.",
    ),
    row(
        "limits.idle_timeout",
        TIME_OR_OFF,
        "off",
        Reload,
        "A client silent for this long outside a transaction is closed.",
    ),
    row(
        "limits.idle_in_transaction_timeout",
        TIME_OR_OFF,
        "off",
        Reload,
        "A client silent for this long inside a transaction is closed.",
    ),
    row(
        "limits.query_timeout",
        TIME_OR_OFF,
        "off",
        Reload,
        "A unit of work that runs for longer than this is cancelled.",
    ),
    row(
        "limits.transaction_timeout",
        TIME_OR_OFF,
        "off",
        Reload,
        "A client whose transaction lasts for longer than this is closed, whether it is silent or \
         not; what runs is cancelled first. It is for every transaction, those of a single \
         statement too.",
    ),
    row(
        "limits.gather",
        Kind::Size {
            min: 8192,
            any: false,
        },
        "1MB",
        Reload,
        "How much of a client's unfinished or waiting work is kept in memory. What is larger is \
         streamed to the primary without being read ahead.",
    ),
    row(
        "limits.prepared_statements",
        Kind::Count {
            min: 1,
            max: 1_000_000,
        },
        "10000",
        Reload,
        "How many prepared statements a client may hold.",
    ),
    row(
        "limits.prepared_bytes",
        Kind::Size {
            min: 8192,
            any: false,
        },
        "16MB",
        Reload,
        "How much statement text a client's prepared statements may hold.",
    ),
    row(
        "limits.channels",
        Kind::Count {
            min: 0,
            max: 1_000_000,
        },
        "1000",
        Reload,
        "How many channels a client may listen to without a server connection of its own.",
    ),
    row(
        "limits.notifications",
        Kind::Size {
            min: 16 << 10,
            any: false,
        },
        "1MB",
        Reload,
        "How much of what was notified may wait for a client that does not take it, or is in a \
         transaction. What comes beyond is dropped, and the client is told so by a WARNING.",
    ),
    row(
        "admin.users",
        Kind::List,
        "",
        Reload,
        "Users who may run commands in the console (`psql -d pgherd`).",
    ),
    row(
        "admin.stats_users",
        Kind::List,
        "",
        Reload,
        "Users who may only `SHOW` in the console.",
    ),
    row(
        "admin.connections",
        Kind::Count { min: 1, max: 1000 },
        "20",
        Reload,
        "How many sessions of the console there may be. They take no place of `pool.max_clients`, \
         so that somebody can look when all of those are taken.",
    ),
    row(
        "admin.wait_timeout",
        TIME,
        "1m",
        Reload,
        "How long the commands of the console that wait, such as `PAUSE`, wait. A `PAUSE` that has \
         not come about by then is taken back.",
    ),
    row(
        "shutdown.transactions",
        TIME,
        "30s",
        Reload,
        "How long statements and transactions that run may take to end when the router stops. Then \
         their clients get `57P01`.",
    ),
    row(
        "shutdown.clients",
        TIME,
        "1h",
        Reload,
        "How long a stop that waits for clients (`wait_for_clients`) leaves them connected. Then it \
         goes on as one that does not.",
    ),
    row(
        "shutdown.sigterm",
        Kind::Choice(&["wait_for_servers", "wait_for_clients"]),
        "wait_for_servers",
        Reload,
        "What SIGTERM does. `wait_for_servers` ends each client as soon as it is between two \
         transactions; `wait_for_clients`, as PgBouncer does, when it leaves by itself.",
    ),
    row(
        "restart.socket",
        Kind::Text,
        "",
        Restart,
        "The file of a Unix socket by which a new process takes over from this one with \
         `pgherd run --takeover`, without a connection being refused. Only our own user, and root, \
         may use it. `\"\"` makes none.",
    ),
    row(
        "log.format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto",
        Restart,
        "`auto` is text on a terminal and JSON elsewhere.",
    ),
    row(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "info",
        Reload,
        "The least important line that is written. `debug` is one line for each statement.",
    ),
    row(
        "state.dir",
        Kind::Text,
        "",
        Restart,
        "Where pgherd remembers what it decided in a failover. `\"\"` keeps nothing, which \
         `failover.mode` allows for `observe` only.",
    ),
];

/// The parts of the table one after another.
#[expect(
    clippy::indexing_slicing,
    reason = "done by the compiler, which checks the bounds"
)]
const fn joined<const N: usize>() -> [Setting; N] {
    let mut all = [CLIENTS[0]; N];
    let parts = [CLIENTS, CLUSTER, USER, DATABASE, PROGRAM];
    let (mut part, mut done) = (0, 0);
    while part < parts.len() {
        let mut row = 0;
        while row < parts[part].len() {
            all[done] = parts[part][row];
            done += 1;
            row += 1;
        }
        part += 1;
    }
    all
}
