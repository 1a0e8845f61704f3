use super::super::fixture::{Fixture, fixture};
use super::*;

fn ask(fixture: &Fixture, sql: &str) -> ConsoleReply {
    Console::new(fixture.sources.clone()).answer(sql, &ConsoleUser { is_admin: false })
}

/// The rows as `name=value` for the columns that are asked for.
fn columns(fixture: &Fixture, sql: &str, names: &[&str]) -> Vec<String> {
    let ConsoleReply::Table { columns, rows, tag } = ask(fixture, sql) else {
        panic!("{sql}: {:?}", ask(fixture, sql));
    };
    assert_eq!(tag, "SHOW");
    let place = |name: &&str| {
        let found = columns.iter().position(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{sql} has no {name}"))
    };
    let places: Vec<_> = names.iter().map(place).collect();
    let value = |row: &Vec<Option<String>>| {
        let values = places
            .iter()
            .map(|place| row[*place].clone().unwrap_or_else(|| "-".into()));
        values.collect::<Vec<_>>().join(" ")
    };
    rows.iter().map(value).collect()
}

fn error(reply: ConsoleReply) -> (&'static str, String, String) {
    match reply {
        ConsoleReply::Error {
            sqlstate,
            message,
            hint,
        } => (sqlstate, message, hint.unwrap_or_default()),
        other => panic!("expected an error, got {other:?}"),
    }
}

#[test]
fn nodes_are_shown_with_their_state_and_lag() {
    let names = [
        "node",
        "host",
        "role",
        "state",
        "lag_ms",
        "lsn",
        "pg_version",
    ];
    let expected = [
        "pg1 10.0.0.1 primary primary - 0/5000148 15.18",
        "pg2 10.0.0.2 replica serving 12 0/5000148 15.18",
        "pg3 10.0.0.3 replica serving 12 0/5000148 15.18",
    ];
    assert_eq!(columns(&fixture(), "SHOW NODES", &names), expected);
}

#[test]
fn rows_can_be_picked_and_sorted() {
    let sql = "SHOW NODES WHERE lag_ms >= 12 ORDER BY node DESC LIMIT 1";
    assert_eq!(columns(&fixture(), sql, &["node"]), ["pg3"]);
}

#[test]
fn routing_says_where_and_why() {
    let names = ["node", "role", "reason", "count_total", "share"];
    let expected = [
        "pg1 primary write 1 0.2500",
        "pg2 replica read_only 2 0.5000",
        "- - answered_here 1 0.2500",
    ];
    assert_eq!(columns(&fixture(), "show routing", &names), expected);
}

#[test]
fn pools_clients_and_servers_begin_with_the_columns_of_pgbouncer() {
    let fixture = fixture();
    for (sql, begin) in [
        (
            "SHOW POOLS",
            "database user cl_active cl_waiting sv_active sv_idle",
        ),
        (
            "SHOW CLIENTS",
            "type user database state addr port connect_time",
        ),
        (
            "SHOW SERVERS",
            "type user database state addr port connect_time",
        ),
    ] {
        let ConsoleReply::Table { columns, rows, .. } = ask(&fixture, sql) else {
            panic!("{sql} is no table");
        };
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        assert!(names.join(" ").starts_with(begin), "{sql}: {names:?}");
        assert!(rows.iter().all(|row| row.len() == names.len()), "{sql}");
    }
    let names = [
        "cl_active",
        "cl_waiting",
        "sv_active",
        "sv_idle",
        "node",
        "pool_size",
    ];
    assert_eq!(columns(&fixture, "SHOW POOLS", &names), ["1 0 1 0 pg2 20"]);
    let names = ["user", "state", "addr", "port", "id", "node", "queries"];
    let expected = ["app active 192.0.2.1 40000 7 pg2 1"];
    assert_eq!(columns(&fixture, "SHOW CLIENTS", &names), expected);
    let names = ["state", "addr", "remote_pid", "node", "leases"];
    let expected = ["active 10.0.0.2 4711 pg2 1"];
    assert_eq!(columns(&fixture, "SHOW SERVERS", &names), expected);
}

#[test]
fn who_listens_is_shown_by_listener_and_by_channel() {
    let names = ["database", "node", "sessions", "channels", "dropped"];
    let expected = ["shop pg1 2 1 1"];
    assert_eq!(columns(&fixture(), "SHOW LISTENERS", &names), expected);
    let names = ["database", "channel", "sessions", "subscribed"];
    let shown = columns(&fixture(), "SHOW CHANNELS", &names);
    assert_eq!(shown, ["shop orders 2 t"]);
}

#[test]
fn every_topic_has_as_many_values_as_columns() {
    let fixture = fixture();
    for (topic, ..) in TOPICS {
        let ConsoleReply::Table { columns, rows, .. } = ask(&fixture, &format!("SHOW {topic}"))
        else {
            panic!("{topic} is no table");
        };
        assert!(!rows.is_empty(), "{topic}");
        assert!(rows.iter().all(|row| row.len() == columns.len()), "{topic}");
    }
}

#[test]
fn a_failover_is_shown_with_its_phases_and_candidates() {
    let fixture = fixture();
    let names = ["id", "result", "total_ms", "promote_ms"];
    assert_eq!(
        columns(&fixture, "SHOW FAILOVERS", &names),
        ["01J promoted 2140 -"]
    );
    let names = ["part", "name", "at_ms", "verdict"];
    let expected = ["phase suspect 0 -", "candidate pg1 - chosen: most WAL"];
    assert_eq!(columns(&fixture, "SHOW FAILOVER '01J'", &names), expected);
}

#[test]
fn what_is_not_there_is_refused_with_a_hint() {
    let fixture = fixture();
    for (sql, sqlstate, message, hint) in [
        ("SHOW ME", "42704", "no topic \"me\"", "SHOW HELP"),
        ("SHOW NODES now", "42601", "near \"now\"", "SHOW HELP"),
        (
            "SHOW NODES WHERE lag = 1",
            "42703",
            "column \"lag\"",
            "lag_ms",
        ),
        ("SHOW FAILOVER", "42601", "needs an id", "SHOW FAILOVERS"),
        ("SHOW FAILOVER nope", "42704", "\"nope\"", "SHOW FAILOVERS"),
        ("SHOW NODES; RELOAD", "0A000", "one command", "SHOW HELP"),
        (
            "DROP TABLE x",
            "42601",
            "unrecognized command \"DROP\"",
            "SHOW HELP",
        ),
        (
            "SELECT c.relname FROM pg_catalog.pg_class c",
            "0A000",
            "no tables",
            "\\d",
        ),
    ] {
        let (got_sqlstate, got_message, got_hint) = error(ask(&fixture, sql));
        assert_eq!(got_sqlstate, sqlstate, "{sql}");
        assert!(got_message.contains(message), "{sql}: {got_message}");
        assert!(got_hint.contains(hint), "{sql}: {got_hint}");
    }
    let long = format!("SHOW {}", "x".repeat(9_000));
    assert_eq!(error(ask(&fixture, &long)).0, "54000");
}

#[test]
fn what_drivers_send_at_the_beginning_is_answered() {
    let fixture = fixture();
    assert_eq!(ask(&fixture, " ;"), ConsoleReply::Empty);
    let expected = ConsoleReply::Table {
        columns: vec![("?column?", Integer)],
        rows: vec![vec![Some("1".into())]],
        tag: "SELECT 1",
    };
    assert_eq!(ask(&fixture, "SELECT 1"), expected);
    let expected = ConsoleReply::Done {
        tag: "SET",
        notices: vec![],
    };
    assert_eq!(
        ask(&fixture, "SET client_min_messages TO warning"),
        expected
    );
    let encoding = columns(&fixture, "SHOW client_encoding", &["client_encoding"]);
    assert_eq!(encoding, ["UTF8"]);
}

#[test]
fn reload_is_for_administrators() {
    let fixture = fixture();
    assert_eq!(error(ask(&fixture, "RELOAD")).0, "42501");
    assert_eq!(error(ask(&fixture, "FAILOVER")).0, "42501");
}

#[test]
fn a_failover_is_asked_for_by_name_or_left_to_the_router() {
    let fixture = fixture();
    let console = Console::new(fixture.sources.clone());
    let ask = |text: &str| console.answer(text, &ConsoleUser { is_admin: true });
    let done = |notice: &str| ConsoleReply::Done {
        tag: "FAILOVER",
        notices: vec![notice.to_owned()],
    };
    assert_eq!(ask("FAILOVER"), done("asked for None"));
    assert_eq!(
        ask("failover to pg2 accept loss;"),
        done("asked for Some(\"pg2\")")
    );
    assert_eq!(error(ask("FAILOVER TO nobody")).0, "55000");
    assert_eq!(error(ask("FAILOVER TO")).0, "42601");
    assert_eq!(error(ask("FAILOVER ACCEPT")).0, "42601");
}

#[test]
fn reload_says_what_changed_or_what_is_wrong() {
    let fixture = fixture();
    let console = Console::new(fixture.sources.clone());
    let reload = || console.answer("RELOAD", &ConsoleUser { is_admin: true });
    let done = |notice: &str| ConsoleReply::Done {
        tag: "RELOAD",
        notices: vec![notice.to_owned()],
    };
    assert_eq!(reload(), done("nothing changed"));
    *fixture.reload.lock().unwrap() = Ok(vec!["lag.max_time: 1s -> 2s".to_owned()]);
    assert_eq!(reload(), done("lag.max_time: 1s -> 2s"));
    *fixture.reload.lock().unwrap() = Err(vec!["line 3: no unit".to_owned()]);
    let (sqlstate, message, _) = error(reload());
    assert_eq!(sqlstate, "F0000");
    assert!(message.ends_with("the old one stays: line 3: no unit"));
}
