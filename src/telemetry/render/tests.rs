use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::cluster::{
    Address, ByteCount, DownReason, Epoch, HoldCause, Lag, Lsn, ProbeFailure, ServerId, Timeline,
    Writes,
};
use crate::policy::{Intent, Why};
use crate::telemetry::{
    ClientInfo, ClientState, ErrorOrigin, FailoverSummary, LoginResult, RetryCause,
};

const DOCUMENTATION: &str = include_str!("../../../docs/metrics.md");

fn server(number: u16, role: Role, state: ServerState, now: Instant) -> ServerView {
    ServerView {
        id: ServerId(number),
        name: format!("pg{}", number + 1).into(),
        address: Address {
            host: "127.0.0.1".into(),
            port: 5432,
        },
        weight: 100,
        role,
        state,
        since: now,
        timeline: Some(Timeline(3)),
        position: Some(Lsn::from_bytes(4096)),
        lag: (role == Role::Replica).then_some(Lag {
            time: Duration::from_millis(12),
            bytes: ByteCount(4100),
        }),
        last_seen: Some(now),
        version_num: Some(150_018),
    }
}

/// What `feed` returns lives until the scrape is done.
fn scrape<Kept>(feed: impl Fn(&Arc<Telemetry>, Instant) -> Kept) -> String {
    let now = Instant::now();
    let moment = Moment {
        now,
        wall: UNIX_EPOCH + Duration::from_secs(1_000),
    };
    let telemetry = Arc::new(Telemetry::new("main", 3, moment));
    let _kept = feed(&telemetry, now);
    let snapshot = Snapshot {
        epoch: Epoch(1),
        servers: vec![
            server(0, Role::Primary, ServerState::Primary, now),
            server(1, Role::Replica, ServerState::Serving, now),
            server(2, Role::Unknown, ServerState::Down(DownReason::Silent), now),
        ],
        writes: Writes::Open(ServerId(0)),
        lineage: None,
        primary_sample: None,
    };
    telemetry.render(&Arc::new(snapshot), moment)
}

fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
}

#[test]
fn every_sample_belongs_to_a_family_with_help_and_type() {
    let text = scrape(|_, _| {});
    let mut types = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let help = format!("# HELP {name} ");
            assert!(text.contains(&help), "{name} has no help");
            assert_eq!(types.insert(name, kind), None, "{name} is written twice");
        } else if !line.starts_with('#') {
            let sample = line.split(['{', ' ']).next().unwrap();
            let family = ["", "_total", "_sum", "_count", "_bucket", "_info"]
                .iter()
                .filter_map(|suffix| sample.strip_suffix(suffix))
                .any(|name| types.contains_key(name));
            assert!(family, "{line} has no family");
        }
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_families_are_the_documented_ones() {
    let text = scrape(|_, _| {});
    let written = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let written: BTreeSet<_> = written
        .map(|family| match family.split_once(' ').unwrap() {
            (name, "counter") => (format!("{name}_total"), "counter"),
            (name, "info") => (format!("{name}_info"), "info"),
            (name, kind) => (name.to_owned(), kind),
        })
        .collect();
    let rows = DOCUMENTATION
        .lines()
        .filter(|line| line.starts_with("| `pgherd_") || line.starts_with("| `process_"));
    let documented: BTreeSet<_> = rows
        .map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let name = cells.next().unwrap().trim_matches('`').to_owned();
            (name, cells.next().unwrap())
        })
        .collect();
    assert_eq!(written, documented);
}

#[test]
fn nodes_come_from_the_snapshot() {
    let text = scrape(|_, _| {});
    for line in [
        r#"pgherd_node_up{cluster="main",node="pg1"} 1.0"#,
        r#"pgherd_node_up{cluster="main",node="pg3"} 0.0"#,
        r#"pgherd_node_role{cluster="main",node="pg2",role="replica"} 1.0"#,
        r#"pgherd_node_state{cluster="main",node="pg3",state="down"} 1.0"#,
        r#"pgherd_node_eligible{cluster="main",node="pg2",kind="write"} 0.0"#,
        r#"pgherd_node_eligible{cluster="main",node="pg1",kind="write"} 1.0"#,
        r#"pgherd_replication_lag_seconds{cluster="main",node="pg2"} 0.012"#,
        r#"pgherd_last_probe_timestamp_seconds{cluster="main",node="pg1"} 1000.0"#,
    ] {
        assert_has(&text, line);
    }
}

#[test]
fn traffic_is_counted_by_server_role_and_reason() {
    let text = scrape(|telemetry, _| {
        telemetry.routed(ServerId(1), Role::Replica, Why::ReadOnly);
        telemetry.routed(ServerId(1), Role::Replica, Why::ReadOnly);
        telemetry.routed(ServerId(0), Role::Primary, Why::VolatileFunction);
        telemetry.routed(ServerId(9), Role::Primary, Why::Write);
        telemetry.not_routed(Why::AnsweredHere);
        telemetry.misrouted(Why::ReadOnly);
        telemetry.retried(RetryCause::RefusedByReplica);
        telemetry.transaction_ended(Role::Replica);
        telemetry.statement_ended(Role::Replica, Intent::Read, Duration::from_millis(2));
        telemetry.error_returned(ErrorOrigin::Server, "42P01");
        telemetry.parse_cache_hit();
    });
    let routed = text
        .lines()
        .filter(|line| line.starts_with("pgherd_routed_statements_total"));
    assert_eq!(routed.count(), 3);
    for line in [
        r#"pgherd_routed_statements_total{cluster="main",node="pg2",role="replica",reason="read_only"} 2"#,
        r#"pgherd_routed_statements_total{cluster="main",node="pg1",role="primary",reason="volatile_function"} 1"#,
        r#"pgherd_routed_statements_total{cluster="main",node="",role="none",reason="answered_here"} 1"#,
        r#"pgherd_misroutes_total{cluster="main",reason="read_only"} 1"#,
        r#"pgherd_retries_total{cluster="main",reason="refused_by_replica"} 1"#,
        r#"pgherd_transactions_total{cluster="main",role="replica"} 1"#,
        r#"pgherd_statement_duration_seconds_count{cluster="main",role="replica",kind="read"} 1"#,
        r#"pgherd_statement_duration_seconds_bucket{le="+Inf",cluster="main",role="replica",kind="read"} 1"#,
        r#"pgherd_errors_total{cluster="main",sqlstate_class="42",origin="server"} 1"#,
        "pgherd_parse_cache_hits_total 1",
    ] {
        assert_has(&text, line);
    }
}

#[test]
fn clients_pins_and_holds_are_gauges_of_this_moment() {
    let text = scrape(|telemetry, now| {
        let client = telemetry.directory().register_client(
            ClientInfo {
                id: 1,
                user: "app".into(),
                database: "shop".into(),
                application_name: "".into(),
                address: None,
                connected_at: UNIX_EPOCH,
            },
            now,
        );
        client.set_state(ClientState::Active, now);
        client.set_pin(Some("listen"));
        client.add_sent(5);
        telemetry.hold(HoldCause::Failover, now).release(now);
        let still = telemetry.hold(HoldCause::Failover, now);
        telemetry.login_ended(LoginResult::Succeeded);
        telemetry.probed(ServerId(2), Duration::ZERO, Some(&ProbeFailure::TimedOut));
        telemetry.reloaded(UNIX_EPOCH, false);
        (client, still)
    });
    for line in [
        r#"pgherd_client_connections{state="active"} 1.0"#,
        r#"pgherd_client_connections{state="idle"} 0.0"#,
        r#"pgherd_sessions_pinned{cluster="main",cause="listen"} 1.0"#,
        "pgherd_client_sent_bytes_total 5",
        r#"pgherd_clients_held{cluster="main",cause="failover"} 1.0"#,
        r#"pgherd_hold_duration_seconds_count{cluster="main",cause="failover"} 1"#,
        r#"pgherd_client_logins_total{result="succeeded"} 1"#,
        r#"pgherd_probe_failures_total{cluster="main",node="pg3",cause="timed_out"} 1"#,
        "pgherd_config_last_reload_successful 0.0",
    ] {
        assert_has(&text, line);
    }
}

#[test]
fn a_failover_is_counted_once_when_it_has_ended() {
    let text = scrape(|telemetry, _| {
        let mut failover = FailoverSummary {
            id: "1".into(),
            kind: "automatic",
            started_at: UNIX_EPOCH,
            ended_at: None,
            result: "running",
            from_node: Some("pg1".into()),
            to_node: None,
            old_tli: Some(1),
            new_tli: None,
            trigger: "primary_unreachable".into(),
            detect_ms: Some(500),
            hold_ms: None,
            promote_ms: None,
            total_ms: None,
            clients_held: 0,
            errors_returned: 0,
            maybe_lost_bytes: None,
            sentence: String::new(),
            phases: vec![],
            candidates: vec![],
        };
        telemetry.failover(failover.clone());
        failover.ended_at = Some(UNIX_EPOCH + Duration::from_secs(7));
        failover.result = "promoted";
        failover.total_ms = Some(2_140);
        telemetry.failover(failover.clone());
        // A sentence that is corrected later is not a second failover.
        telemetry.failover(failover);
        assert_eq!(telemetry.events().failovers().len(), 1);
    });
    for line in [
        r#"pgherd_failovers_total{cluster="main",kind="automatic",result="promoted"} 1"#,
        r#"pgherd_failover_last_duration_seconds{cluster="main"} 2.14"#,
        r#"pgherd_failover_last_timestamp_seconds{cluster="main"} 7.0"#,
    ] {
        assert_has(&text, line);
    }
}
