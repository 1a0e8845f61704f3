//! The tables about LISTEN: the connections that listen for sessions, and their channels.

use super::sources::ConsoleSources;
use super::table::{Boolean, Integer, Table, Text, some, truth};

/// `SHOW LISTENERS`.
pub(super) fn listeners(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("database", Text),
        ("encoding", Text),
        ("node", Text),
        ("sessions", Integer),
        ("channels", Integer),
        ("notifications", Integer),
        ("dropped", Integer),
        ("lost", Integer),
    ]);
    let snapshot = (sources.snapshot)();
    let listeners = (sources.listeners)();
    table.rows = listeners
        .into_iter()
        .map(|one| {
            vec![
                some(one.database),
                some(one.encoding),
                one.server.map(|server| snapshot.name(server).to_owned()),
                some(one.sessions),
                some(one.channels.len()),
                some(one.notifications),
                some(one.dropped),
                some(one.lost),
            ]
        })
        .collect();
    table
}

/// `SHOW CHANNELS`.
pub(super) fn channels(sources: &ConsoleSources) -> Table {
    let mut table = Table::new(&[
        ("database", Text),
        ("encoding", Text),
        ("channel", Text),
        ("sessions", Integer),
        ("subscribed", Boolean),
    ]);
    for one in (sources.listeners)() {
        let rows = one.channels.iter().map(|channel| {
            vec![
                some(&one.database),
                some(&one.encoding),
                some(&channel.name),
                some(channel.sessions),
                truth(channel.is_subscribed),
            ]
        });
        table.rows.extend(rows);
    }
    table
}
