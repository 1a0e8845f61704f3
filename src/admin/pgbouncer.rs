//! The tables that PgBouncer has, with its columns and meanings first and ours after them.
//!
//! Columns that we could only fill with a lie are left out.

use std::collections::BTreeSet;
use std::time::Duration;

use super::sources::ConsoleSources;
use super::table::{Integer, Table, Text, maybe, some};
use super::views::name_and_role;
use crate::telemetry::{ClientState, ClientView, PoolView, utc};

/// `SHOW POOLS`: one row for each user, database and server.
pub(super) fn pools(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("database", Text),
        ("user", Text),
        ("cl_active", Integer),
        ("cl_waiting", Integer),
        ("sv_active", Integer),
        ("sv_idle", Integer),
        ("maxwait", Integer),
        ("maxwait_us", Integer),
        ("pool_mode", Text),
        ("node", Text),
        ("role", Text),
        ("lag_ms", Integer),
        ("pool_size", Integer),
    ]);
    let snapshot = (sources.snapshot)();
    let now = (sources.clock)().now;
    let pool_mode = (sources.router)().pool_mode;
    let clients = sources.telemetry.directory().clients(now);
    let pools = sources.telemetry.directory().pools(now);
    table.rows = pools
        .iter()
        .map(|pool| {
            let [node, role] = name_and_role(&snapshot, pool.info.server);
            let lag = snapshot
                .server(pool.info.server)
                .and_then(|server| server.lag);
            vec![
                some(&pool.info.database),
                some(&pool.info.user),
                // An idle client belongs to no server; the ones that have a connection do.
                some(
                    clients
                        .iter()
                        .filter(|client| is_linked(client, pool))
                        .count(),
                ),
                some(pool.waiting),
                some(pool.in_use),
                some(pool.idle),
                some(pool.oldest_wait.as_secs()),
                some(pool.oldest_wait.subsec_micros()),
                some(pool_mode),
                node,
                role,
                maybe(lag.map(|lag| lag.time.as_millis())),
                some(pool.info.size),
            ]
        })
        .collect();
    table
}

fn is_linked(client: &ClientView, pool: &PoolView) -> bool {
    client.server == Some(pool.info.server)
        && client.info.user == pool.info.user
        && client.info.database == pool.info.database
}

/// `SHOW CLIENTS`.
pub(super) fn clients(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("type", Text),
        ("user", Text),
        ("database", Text),
        ("state", Text),
        ("addr", Text),
        ("port", Integer),
        ("connect_time", Text),
        ("wait", Integer),
        ("wait_us", Integer),
        ("application_name", Text),
        ("id", Integer),
        ("state_ms", Integer),
        ("node", Text),
        ("pinned_reason", Text),
        ("queries", Integer),
        ("transactions", Integer),
        ("received_bytes", Integer),
        ("sent_bytes", Integer),
    ]);
    let snapshot = (sources.snapshot)();
    let clients = sources.telemetry.directory().clients((sources.clock)().now);
    table.rows = clients
        .into_iter()
        .map(|client| {
            let waits = client.state == ClientState::Waiting;
            let wait = if waits {
                client.state_age
            } else {
                Duration::ZERO
            };
            let address = client.info.address;
            vec![
                some("C"),
                some(&client.info.user),
                some(&client.info.database),
                some(client.state.code()),
                some(address.map_or_else(|| "unix".to_owned(), |address| address.ip().to_string())),
                some(address.map_or(0, |address| address.port())),
                some(utc(client.info.connected_at)),
                some(wait.as_secs()),
                some(wait.subsec_micros()),
                some(&client.info.application_name),
                some(client.info.id),
                some(client.state_age.as_millis()),
                client.server.map(|server| snapshot.name(server).to_owned()),
                maybe(client.pinned_reason),
                some(client.totals.queries),
                some(client.totals.transactions),
                some(client.totals.received_bytes),
                some(client.totals.sent_bytes),
            ]
        })
        .collect();
    table
}

/// `SHOW SERVERS`: the connections to servers.
pub(super) fn servers(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("type", Text),
        ("user", Text),
        ("database", Text),
        ("state", Text),
        ("addr", Text),
        ("port", Integer),
        ("connect_time", Text),
        ("remote_pid", Integer),
        ("id", Integer),
        ("node", Text),
        ("role", Text),
        ("queries", Integer),
        ("leases", Integer),
    ]);
    let snapshot = (sources.snapshot)();
    let connections = sources.telemetry.directory().server_connections();
    table.rows = connections
        .into_iter()
        .map(|connection| {
            let info = connection.info;
            let [node, role] = name_and_role(&snapshot, info.server);
            let address = snapshot.server(info.server).map(|server| &server.address);
            vec![
                some("S"),
                some(info.user),
                some(info.database),
                some(connection.state.code()),
                maybe(address.map(|address| &address.host)),
                maybe(address.map(|address| address.port)),
                some(utc(info.connected_at)),
                maybe(info.backend_pid),
                some(connection.id),
                node,
                role,
                some(connection.queries),
                some(connection.leases),
            ]
        })
        .collect();
    table
}

/// `SHOW DATABASES`: those that somebody used, with the server that takes their writes.
pub(super) fn databases(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("name", Text),
        ("host", Text),
        ("port", Integer),
        ("database", Text),
        ("pool_mode", Text),
        ("current_connections", Integer),
        ("current_client_connections", Integer),
        ("paused", Integer),
        ("disabled", Integer),
    ]);
    let snapshot = (sources.snapshot)();
    let primary = snapshot
        .primary()
        .and_then(|primary| snapshot.server(primary));
    let router = (sources.router)();
    let totals = sources.telemetry.directory().totals();
    let used = totals.keys().map(|name| &**name);
    let switched = router.paused_databases.union(&router.disabled_databases);
    let names: BTreeSet<&str> = used.chain(switched.map(String::as_str)).collect();
    let clients = sources.telemetry.directory().clients((sources.clock)().now);
    let connections = sources.telemetry.directory().server_connections();
    table.rows = names
        .into_iter()
        .map(|name| {
            let connections = connections.iter().filter(|c| &*c.info.database == name);
            let clients = clients
                .iter()
                .filter(|client| &*client.info.database == name);
            let is_paused = router.paused || router.paused_databases.contains(name);
            vec![
                some(name),
                maybe(primary.map(|primary| &primary.address.host)),
                maybe(primary.map(|primary| primary.address.port)),
                some(name),
                some(router.pool_mode),
                some(connections.count()),
                some(clients.count()),
                some(u8::from(is_paused)),
                some(u8::from(router.disabled_databases.contains(name))),
            ]
        })
        .collect();
    table
}

/// `SHOW STATE`.
pub(super) fn state(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[("key", Text), ("value", Text)]);
    let router = (sources.router)();
    let yes = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    table.rows = [
        ("active", yes(!router.paused && !router.draining)),
        ("paused", yes(router.paused)),
        ("suspended", yes(false)),
        ("draining", yes(router.draining)),
        ("paused_databases", list(&router.paused_databases)),
        ("disabled_databases", list(&router.disabled_databases)),
    ]
    .map(|(key, value)| vec![some(key), some(value)])
    .into();
    table
}

/// `SHOW STATS`.
pub(super) fn stats(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("database", Text),
        ("total_xact_count", Integer),
        ("total_query_count", Integer),
        ("total_received", Integer),
        ("total_sent", Integer),
    ]);
    let totals = sources.telemetry.directory().totals();
    table.rows = totals
        .iter()
        .map(|(database, totals)| {
            vec![
                some(database),
                some(totals.transactions),
                some(totals.queries),
                some(totals.received_bytes),
                some(totals.sent_bytes),
            ]
        })
        .collect();
    table
}

/// `SHOW LISTS`.
pub(super) fn lists(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[("list", Text), ("items", Integer)]);
    let snapshot = (sources.snapshot)();
    let now = (sources.clock)().now;
    let directory = sources.telemetry.directory();
    let clients = directory.clients(now);
    let in_login = clients
        .iter()
        .filter(|client| client.state == ClientState::Login)
        .count();
    let users: BTreeSet<_> = clients.iter().map(|client| &client.info.user).collect();
    let items = [
        ("databases", directory.totals().len()),
        ("users", users.len()),
        ("pools", directory.pools(now).len()),
        ("used_clients", clients.len() - in_login),
        ("login_clients", in_login),
        ("used_servers", directory.server_connections().len()),
        ("nodes", snapshot.servers.len()),
        ("events", sources.telemetry.events().events().len()),
        ("failovers", sources.telemetry.events().failovers().len()),
    ];
    table.rows = items
        .iter()
        .map(|(list, items)| vec![some(list), some(items)])
        .collect();
    table
}

/// `SHOW VERSION`.
pub(super) fn version() -> Table {
    let mut table = Table::new(&[("version", Text)]);
    table.rows.push(vec![some(VERSION)]);
    table
}

/// Name and version, as the console says them.
pub(super) const VERSION: &str = concat!("pgherd ", env!("CARGO_PKG_VERSION"));
