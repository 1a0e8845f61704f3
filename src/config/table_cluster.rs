//! The rows of the table that stand below `[cluster.NAME]`.

use super::settings::Applies::{Reload, Restart};
use super::settings::{Kind, Setting};
use super::table::{SIZE, TIME, TIME_OR_OFF, row};

/// A cluster: its servers, where statements go, pools, failover.
pub(super) const CLUSTER: &[Setting] = &[
    Setting {
        key: "cluster.*.hosts",
        kind: Kind::List,
        default: None,
        applies: Restart,
        doc: "The servers of the cluster: `host`, `host:port`, or `name=host:port`; a host that \
              begins with a slash is the directory of a Unix socket. \
              Roles are discovered, not declared. Without a name a server is called by its host, \
              or by `host:port` where two share a host.",
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
        "cluster.*.tls",
        Kind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
        "prefer",
        Reload,
        "How connections to the servers are encrypted, all of them: those of clients, cancel \
         requests, and those of the monitor. The words are libpq's: `prefer` encrypts when the \
         server can; `verify-ca` wants a certificate that leads to `tls_ca_file`, `verify-full` \
         one that names the host as well. `prefer` and `require` look at no certificate, so they \
         do not protect from somebody who sits between. A Unix socket is never encrypted.",
    ),
    row(
        "cluster.*.tls_negotiation",
        Kind::Choice(&["postgres", "direct"]),
        "postgres",
        Reload,
        "How TLS begins: the server is asked first (`postgres`), or not (`direct`), which saves a \
         round trip for each new connection and needs PostgreSQL 17 or later on all servers, and \
         `require` or more.",
    ),
    row(
        "cluster.*.tls_ca_file",
        Kind::Text,
        "",
        Reload,
        "Whose certificates of servers are believed, in PEM; `verify-ca` and `verify-full` need \
         it. A reload reads this file and the two below again; when one of them changed, resting \
         connections are closed, and those on loan end with their loan.",
    ),
    row(
        "cluster.*.tls_cert_file",
        Kind::Text,
        "",
        Reload,
        "Our certificate for servers that ask for one, in PEM. It is one for all clients: a line \
         with `clientcert=verify-ca` in `pg_hba.conf` is content with that, method `cert` is not.",
    ),
    row(
        "cluster.*.tls_key_file",
        Kind::Text,
        "",
        Reload,
        "The private key of that certificate, in PEM, without a passphrase.",
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
        "cluster.*.pool.hold_paused",
        TIME,
        "2m",
        Reload,
        "How long a statement waits while its database is paused (`PAUSE`) before it is refused.",
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
        "How long a statement that needs the primary waits for one before it is refused. So long, \
         and at least 5 s, a statement that runs on a primary that hangs and is not replaced is \
         waited for; then its client is told that its outcome is not known.",
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
];
