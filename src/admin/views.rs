//! The tables about the cluster: nodes, routing, failovers, events, settings.

use std::time::Duration;

use super::sources::ConsoleSources;
use super::table::{Boolean, Float, Integer, Table, Text, maybe, some, truth};
use crate::cluster::{OutReason, ServerId, ServerState, ServerView, Snapshot};
use crate::telemetry::{FailoverSummary, Moment, RoutedCount, ServerConnectionView, rfc3339};

/// `SHOW NODES`.
pub(super) fn nodes(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("cluster", Text),
        ("node", Text),
        ("host", Text),
        ("port", Integer),
        ("role", Text),
        ("state", Text),
        ("state_reason", Text),
        ("detail", Text),
        ("since", Text),
        ("timeline", Integer),
        ("lsn", Text),
        ("lag_ms", Integer),
        ("lag_bytes", Integer),
        ("back_in_s", Float),
        ("weight", Integer),
        ("conns", Integer),
        ("statements_1m", Integer),
        ("last_check_at", Text),
        ("pg_version", Text),
    ]);
    let snapshot = (sources.snapshot)();
    let moment = (sources.clock)();
    let connections = sources.telemetry.directory().server_connections();
    let counts = sources.telemetry.routed_counts();
    let cluster = sources.telemetry.cluster();
    table.rows = snapshot
        .servers
        .iter()
        .map(|node| node_row(cluster, node, moment, &connections, &counts))
        .collect();
    table
}

fn node_row(
    cluster: &str,
    node: &ServerView,
    moment: Moment,
    connections: &[ServerConnectionView],
    counts: &[RoutedCount],
) -> Vec<Option<String>> {
    let mine = connections
        .iter()
        .filter(|connection| connection.info.server == node.id);
    let statements = counts.iter().filter(|count| count.server == Some(node.id));
    let statements: u64 = statements.map(|count| count.last_minute).sum();
    let reason = node.state.reason();
    vec![
        some(cluster),
        some(&node.name),
        some(&node.address.host),
        some(node.address.port),
        some(node.role),
        some(node.state.as_str()),
        (!reason.is_empty()).then(|| reason.to_owned()),
        some(node.state),
        some(rfc3339(moment.wall_of(node.since))),
        maybe(node.timeline),
        maybe(node.position),
        maybe(node.lag.map(|lag| lag.time.as_millis())),
        maybe(node.lag.map(|lag| lag.bytes.0)),
        maybe(back_in(node.state, moment).map(|wait| wait.as_secs_f64())),
        some(node.weight),
        some(mine.count()),
        some(statements),
        node.last_seen.map(|seen| rfc3339(moment.wall_of(seen))),
        node.version_num.map(version),
    ]
}

/// How long a replica must still behave before it serves again.
fn back_in(state: ServerState, moment: Moment) -> Option<Duration> {
    match state {
        ServerState::Out(OutReason::ComingBack { at }) => {
            Some(at.saturating_duration_since(moment.now))
        }
        _ => None,
    }
}

/// `150018` as people write it.
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

/// `SHOW ROUTING`.
pub(super) fn routing(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("cluster", Text),
        ("node", Text),
        ("role", Text),
        ("reason", Text),
        ("count_1m", Integer),
        ("count_total", Integer),
        ("share", Float),
        ("meaning", Text),
    ]);
    let snapshot = (sources.snapshot)();
    let counts = sources.telemetry.routed_counts();
    let all: u64 = counts.iter().map(|count| count.total).sum();
    table.rows = counts
        .iter()
        .map(|count| {
            vec![
                some(sources.telemetry.cluster()),
                count.server.map(|server| snapshot.name(server).to_owned()),
                count.server.map(|_| count.role.to_string()),
                some(count.why),
                some(count.last_minute),
                some(count.total),
                some(share(count.total, all)),
                some(count.why.sentence().trim()),
            ]
        })
        .collect();
    table
}

/// A part of a whole, between 0 and 1, with four digits.
fn share(part: u64, whole: u64) -> String {
    let ten_thousandths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!(
        "{}.{:04}",
        ten_thousandths / 10_000,
        ten_thousandths % 10_000
    )
}

/// `SHOW FAILOVERS`.
pub(super) fn failovers(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("id", Text),
        ("kind", Text),
        ("started_at", Text),
        ("ended_at", Text),
        ("result", Text),
        ("from_node", Text),
        ("to_node", Text),
        ("old_tli", Integer),
        ("new_tli", Integer),
        ("trigger", Text),
        ("detect_ms", Integer),
        ("hold_ms", Integer),
        ("promote_ms", Integer),
        ("total_ms", Integer),
        ("clients_held", Integer),
        ("errors_returned", Integer),
        ("maybe_lost_bytes", Integer),
        ("sentence", Text),
    ]);
    let failovers = sources.telemetry.events().failovers();
    table.rows = failovers.iter().map(failover_row).collect();
    table
}

fn failover_row(failover: &FailoverSummary) -> Vec<Option<String>> {
    vec![
        some(&failover.id),
        some(failover.kind),
        some(rfc3339(failover.started_at)),
        failover.ended_at.map(rfc3339),
        some(failover.result),
        failover.from_node.clone(),
        failover.to_node.clone(),
        maybe(failover.old_tli),
        maybe(failover.new_tli),
        some(&failover.trigger),
        maybe(failover.detect_ms),
        maybe(failover.hold_ms),
        maybe(failover.promote_ms),
        maybe(failover.total_ms),
        some(failover.clients_held),
        some(failover.errors_returned),
        maybe(failover.maybe_lost_bytes),
        some(&failover.sentence),
    ]
}

/// `SHOW FAILOVER id`: its phases and its candidates. `None` when there is no such failover.
pub(super) fn failover(sources: &ConsoleSources, id: &str) -> Option<Table> {
    let failovers = sources.telemetry.events().failovers();
    let failover = failovers.iter().find(|failover| failover.id == id)?;
    let mut table = Table::new(&[
        ("part", Text),
        ("name", Text),
        ("at_ms", Integer),
        ("lsn", Text),
        ("timeline", Integer),
        ("verdict", Text),
    ]);
    let phases = failover.phases.iter().map(|phase| {
        vec![
            some("phase"),
            some(&phase.name),
            some(phase.at_ms),
            None,
            None,
            None,
        ]
    });
    let candidates = failover.candidates.iter().map(|candidate| {
        vec![
            some("candidate"),
            some(&candidate.node),
            None,
            candidate.lsn.clone(),
            maybe(candidate.timeline),
            some(&candidate.verdict),
        ]
    });
    table.rows = phases.chain(candidates).collect();
    Some(table)
}

/// `SHOW EVENTS`.
pub(super) fn events(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("at", Text),
        ("severity", Text),
        ("kind", Text),
        ("node", Text),
        ("sentence", Text),
    ]);
    let events = sources.telemetry.events().events();
    table.rows = events
        .into_iter()
        .map(|event| {
            vec![
                some(rfc3339(event.at)),
                some(event.severity.as_str()),
                some(event.kind),
                event.node,
                Some(event.sentence),
            ]
        })
        .collect();
    table
}

/// `SHOW CONFIG`.
pub(super) fn config(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("key", Text),
        ("value", Text),
        ("default", Text),
        ("changeable", Boolean),
        ("source", Text),
        ("file_line", Text),
        ("pending_restart", Boolean),
    ]);
    table.rows = (sources.config_rows)()
        .into_iter()
        .map(|row| {
            vec![
                Some(row.key),
                Some(row.value),
                Some(row.default),
                truth(row.changeable),
                Some(row.source),
                row.file_line,
                truth(row.pending_restart),
            ]
        })
        .collect();
    table
}

/// The name and the role of a server, for tables about its connections.
pub(super) fn name_and_role(snapshot: &Snapshot, server: ServerId) -> [Option<String>; 2] {
    let view = snapshot.server(server);
    [
        some(snapshot.name(server)),
        maybe(view.map(|view| view.role)),
    ]
}
