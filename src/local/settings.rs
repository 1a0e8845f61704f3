//! The text of the files that make a data directory one of ours.

use std::fmt::Write;
use std::net::SocketAddr;

use super::options::{Auth, MONITOR_ROLE, Options, SUPERUSER};

/// What differs from `initdb`'s `postgresql.conf`. Address, port and sockets stand on the command
/// line instead, so that a data directory can be copied to another node as it is.
const OURS: &[(&str, &str)] = &[
    ("max_connections", "300"),
    ("shared_buffers", "16MB"),
    ("max_wal_senders", "16"),
    ("max_replication_slots", "16"),
    ("max_prepared_transactions", "16"),
    ("max_wal_size", "256MB"),
    // A replica that was cut off for a while finds what it missed.
    ("wal_keep_size", "256MB"),
    // So that pg_rewind works.
    ("wal_log_hints", "on"),
    // In the data directory, so that a server that was killed leaves nothing in /dev/shm.
    ("dynamic_shared_memory_type", "mmap"),
    // The data is thrown away.
    ("fsync", "off"),
    ("hot_standby_feedback", "on"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "100ms"),
    // Version 13 would choose md5.
    ("password_encryption", "scram-sha-256"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// Lines to append to `postgresql.conf`. The last of two lines wins, so the caller's come last.
pub(super) fn postgresql_conf(options: &Options) -> String {
    let ours = OURS.iter().map(|(name, value)| (*name, *value));
    let wished = options
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    ours.chain(wished)
        .fold(String::new(), |mut text, (name, value)| {
            text.push_str(&line(name, value));
            text
        })
}

/// One line of a configuration file.
pub(super) fn line(name: &str, value: &str) -> String {
    format!(
        "{name} = '{}'\n",
        value.replace('\\', "\\\\").replace('\'', "''")
    )
}

/// The whole `pg_hba.conf`. The directory of the sockets is closed to other users.
pub(super) fn pg_hba_conf(auth: Auth) -> String {
    let mut text = String::from("local all all trust\nlocal replication all trust\n");
    let (others, method) = match auth {
        Auth::Trust => (String::from("all"), "trust"),
        Auth::Scram => (format!("{SUPERUSER},{MONITOR_ROLE}"), "md5"),
    };
    for database in ["all", "replication"] {
        // Writing to a String cannot fail.
        writeln!(text, "host {database} {others} 127.0.0.1/32 trust").ok();
    }
    if auth == Auth::Scram {
        writeln!(text, "host all all 127.0.0.1/32 {method}").ok();
    }
    text
}

/// Where a replica streams from, and under which name the primary lists it.
pub(super) fn primary_conninfo(node: &str, upstream: SocketAddr) -> String {
    format!(
        "host={} port={} user={MONITOR_ROLE} application_name={node} connect_timeout=2",
        upstream.ip(),
        upstream.port()
    )
}

/// The `postgresql.auto.conf` of a new replica: what ALTER SYSTEM wrote at its origin, without what
/// belongs to the origin's own role.
pub(super) fn replica_auto_conf(origin: &str, conninfo: &str) -> String {
    const OWN: [&str; 3] = [
        "primary_conninfo",
        "primary_slot_name",
        "recovery_min_apply_delay",
    ];
    let mut text: String = origin
        .split_inclusive('\n')
        .filter(|line| !OWN.iter().any(|name| line.trim_start().starts_with(name)))
        .collect();
    text.push_str(&line("primary_conninfo", conninfo));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_settings_come_last_and_are_quoted() {
        let options = Options {
            settings: vec![("cluster_name".to_owned(), "it's".to_owned())],
            ..Options::default()
        };
        let text = postgresql_conf(&options);
        assert!(text.starts_with("max_connections = '300'\n"), "{text}");
        assert!(text.ends_with("cluster_name = 'it''s'\n"), "{text}");
    }

    #[test]
    fn scram_asks_everybody_but_the_superuser_and_the_monitor() {
        let text = pg_hba_conf(Auth::Scram);
        let hosts: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("host"))
            .collect();
        assert_eq!(
            hosts,
            [
                "host all postgres,pgherd 127.0.0.1/32 trust",
                "host replication postgres,pgherd 127.0.0.1/32 trust",
                "host all all 127.0.0.1/32 md5",
            ]
        );
    }

    #[test]
    fn a_new_replica_keeps_its_origins_settings_but_not_its_upstream() {
        let origin = "# comment\nwork_mem = '8MB'\nprimary_conninfo = 'host=old'\n\
                      recovery_min_apply_delay = '5000'\n";
        assert_eq!(
            replica_auto_conf(origin, "host=new"),
            "# comment\nwork_mem = '8MB'\nprimary_conninfo = 'host=new'\n"
        );
    }
}
