//! The table of settings: one row for each, and everything else is made from it.
//!
//! The reader, `pgherd check`, `SHOW CONFIG`, docs/configuration.md and pgherd.example.toml all
//! come from these rows. A row is only here when the program does something with it: a debug
//! assertion in `build.rs` compares the rows with what is read.

use std::time::Duration;

use super::settings::Applies::{self, Reload, Restart};
use super::settings::{Kind, Setting};

const MS: Duration = Duration::from_millis(1);
const TIME: Kind = Kind::Duration {
    min: MS,
    off: false,
};
const TIME_OR_OFF: Kind = Kind::Duration { min: MS, off: true };
const SIZE: Kind = Kind::Size { min: 0, any: false };

const fn row(
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
pub static SETTINGS: &[Setting] = &[
    row(
        "listen.postgres",
        Kind::List,
        "127.0.0.1:6432",
        Restart,
        "Where clients connect: `host:port`, or a list of them.",
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
        "How clients prove who they are. `lookup` checks SCRAM against the verifier that \
         `auth.query` reads from a server; `file` against `auth.file`; `trust` asks nothing and is \
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
        "auth.file",
        Kind::Text,
        "",
        Reload,
        "The users of `file`, in the format of PgBouncer's userlist.txt: \
         `\"user\" \"SCRAM-SHA-256$...\"`, or a plain password.",
    ),
    Setting {
        key: "cluster.*.hosts",
        kind: Kind::List,
        default: None,
        applies: Restart,
        doc: "The servers of the cluster: `host`, `host:port`, or `name=host:port`. Roles are \
              discovered, not declared. Without a name a server is called by its host, or by \
              `host:port` where two share a host.",
    },
    row(
        "cluster.*.databases",
        Kind::List,
        "*",
        Restart,
        "The database names that clients may connect to; `\"*\"` is all that the servers have.",
    ),
    row(
        "cluster.*.connect_timeout",
        TIME,
        "3s",
        Reload,
        "How long connecting and logging in to a server may take.",
    ),
    row(
        "cluster.*.node.*.weight",
        Kind::Count { min: 0, max: 1000 },
        "100",
        Restart,
        "The share of reads of one server; 100 is normal, 0 means none.",
    ),
    row(
        "cluster.*.node.*.candidate",
        Kind::Flag,
        "true",
        Restart,
        "Whether this server may be promoted.",
    ),
    row(
        "cluster.*.route.reads",
        Kind::Choice(&[
            "replicas_then_primary",
            "replicas_and_primary",
            "primary_only",
        ]),
        "replicas_then_primary",
        Reload,
        "Which servers answer reads: replicas, and the primary only when no replica can; \
         replicas and the primary alike; or only the primary.",
    ),
    row(
        "cluster.*.route.consistency",
        Kind::Choice(&["session", "eventual", "strong"]),
        "session",
        Reload,
        "`session`: a session always sees its own writes. `eventual`: a read may come before the \
         replica has the session's own write. `strong`: every read goes to the primary.",
    ),
    row(
        "cluster.*.route.unknown_function",
        Kind::Choice(&["primary", "replica"]),
        "primary",
        Reload,
        "Where a read goes that calls a function which the catalog does not know. `replica` is \
         risky: such a function may write.",
    ),
    row(
        "cluster.*.route.read_only_functions",
        Kind::List,
        "",
        Reload,
        "Functions that you vouch for, with or without schema: calling one does not send a read \
         to the primary although it is declared VOLATILE.",
    ),
    row(
        "cluster.*.lag.max_time",
        TIME,
        "1s",
        Reload,
        "A replica serves no reads when its data is older than this.",
    ),
    row(
        "cluster.*.lag.max_bytes",
        SIZE,
        "16MB",
        Reload,
        "A replica serves no reads when it is further behind than this.",
    ),
    row(
        "cluster.*.lag.back_time",
        TIME,
        "500ms",
        Reload,
        "A replica that was out serves reads again when its data is not older than this ...",
    ),
    row(
        "cluster.*.lag.back_bytes",
        SIZE,
        "8MB",
        Reload,
        "... and it is not further behind than this ...",
    ),
    row(
        "cluster.*.lag.back_for",
        TIME_OR_OFF,
        "3s",
        Reload,
        "... for this long without a break.",
    ),
    row(
        "cluster.*.lag.require_streaming",
        Kind::Flag,
        "true",
        Reload,
        "Whether a replica whose WAL receiver does not stream serves no reads. Turn it off only \
         for replicas that live from an archive.",
    ),
    row(
        "cluster.*.lag.when_all_lag",
        Kind::Choice(&["primary", "least_lag", "error"]),
        "primary",
        Reload,
        "What happens to a read when no replica is within these bounds: the primary answers, the \
         replica that lags least answers, or the client gets an error.",
    ),
    row(
        "cluster.*.pool.size",
        Kind::Count {
            min: 1,
            max: 10_000,
        },
        "20",
        Reload,
        "Connections for each server, user and database. Keep the sum below the server's \
         `max_connections`.",
    ),
    row(
        "cluster.*.pool.queue",
        Kind::Count {
            min: 0,
            max: 1_000_000,
        },
        "1000",
        Reload,
        "How many clients may wait for a connection of one pool; more are refused at once.",
    ),
    row(
        "cluster.*.pool.max_clients",
        Kind::Count {
            min: 1,
            max: 1_000_000,
        },
        "1000",
        Reload,
        "How many clients may be connected; one more is refused with `53300`. As many again may be \
         on their way in: connected, and not logged in yet.",
    ),
    row(
        "cluster.*.pool.wait_timeout",
        TIME,
        "10s",
        Reload,
        "How long a client waits for a connection before it gets an error.",
    ),
    row(
        "cluster.*.pool.idle_timeout",
        TIME,
        "10m",
        Reload,
        "An unused server connection is closed after this long.",
    ),
    row(
        "cluster.*.pool.lifetime",
        TIME,
        "1h",
        Reload,
        "A server connection is closed at its first rest after this long.",
    ),
    row(
        "cluster.*.pool.prepared_statements",
        Kind::Count {
            min: 1,
            max: 100_000,
        },
        "500",
        Reload,
        "Prepared statements kept on each server connection; beyond it the least used is closed.",
    ),
    row(
        "cluster.*.failover.mode",
        Kind::Choice(&["observe", "manual", "auto"]),
        "observe",
        Restart,
        "Who promotes. `observe`: somebody else does, pgherd follows. `manual`: pgherd does, on \
         command. `auto`: pgherd does, by itself. The last two need `state.dir`, and must not be \
         used where Patroni, repmgr or an operator promotes too.",
    ),
    row(
        "cluster.*.failover.probes",
        Kind::Count { min: 1, max: 100 },
        "3",
        Reload,
        "This many failed probes in a row make a doubt.",
    ),
    row(
        "cluster.*.failover.confirm_refused",
        TIME,
        "500ms",
        Reload,
        "A primary that refuses connections is confirmed dead after this long without a sign of \
         life.",
    ),
    row(
        "cluster.*.failover.confirm_silent",
        TIME,
        "3s",
        Reload,
        "A primary that does not answer at all is confirmed dead after this long without a sign of \
         life, and without progress of any replica's WAL receiver.",
    ),
    row(
        "cluster.*.failover.crash_grace",
        TIME_OR_OFF,
        "10s",
        Reload,
        "A primary that says that it is starting up gets this long to come back: a restart loses \
         nothing, a failover may.",
    ),
    row(
        "cluster.*.failover.confirm_by",
        Kind::Choice(&["replicas", "self"]),
        "replicas",
        Reload,
        "Whose word confirms that the primary is dead. `replicas`: at least one must be reachable, \
         and none of the reachable may still get WAL from it. `self` is risky: a broken link of the \
         router alone is enough.",
    ),
    row(
        "cluster.*.failover.max_lost_bytes",
        Kind::Size { min: 0, any: true },
        "0B",
        Reload,
        "No promotion when more than this of the primary's known WAL is missing on the candidate. \
         `\"any\"` is risky: it takes whatever is left.",
    ),
    row(
        "cluster.*.failover.promote_timeout",
        TIME,
        "1m",
        Reload,
        "How long a promotion may take without progress before a person is called.",
    ),
    row(
        "cluster.*.failover.hold_clients",
        TIME_OR_OFF,
        "10s",
        Reload,
        "How long a statement that needs the primary waits for one before it is refused.",
    ),
    row(
        "cluster.*.failover.repoint",
        Kind::Flag,
        "true",
        Reload,
        "Whether the other replicas are told where the new primary is. Needs PostgreSQL 15 or \
         later, or a superuser.",
    ),
    row(
        "cluster.*.failover.cooldown",
        TIME_OR_OFF,
        "5m",
        Reload,
        "At most one automatic promotion in this time.",
    ),
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
