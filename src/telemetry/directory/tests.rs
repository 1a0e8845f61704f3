use std::time::{Duration, SystemTime};

use super::*;
use crate::cluster::ServerId;

fn client(id: u64) -> ClientInfo {
    ClientInfo {
        id,
        user: "app".into(),
        database: "shop".into(),
        application_name: "test".into(),
        address: None,
        connected_at: SystemTime::UNIX_EPOCH,
    }
}

fn connection(server: u16) -> ServerConnectionInfo {
    ServerConnectionInfo {
        server: ServerId(server),
        user: "app".into(),
        database: "shop".into(),
        backend_pid: Some(42),
        connected_at: SystemTime::UNIX_EPOCH,
    }
}

fn pool(server: u16) -> PoolInfo {
    PoolInfo {
        server: ServerId(server),
        user: "app".into(),
        database: "shop".into(),
        size: 20,
    }
}

#[test]
fn a_client_is_listed_until_its_entry_is_dropped() {
    let start = Instant::now();
    let directory = Directory::new(start);
    let entries: Vec<_> = (0..40)
        .map(|id| directory.register_client(client(id), start))
        .collect();
    let ids: Vec<_> = directory.clients(start).iter().map(|c| c.info.id).collect();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    drop(entries);
    assert_eq!(directory.clients(start), vec![]);
}

#[test]
fn two_clients_with_one_id_do_not_displace_each_other() {
    let start = Instant::now();
    let directory = Directory::new(start);
    let first = directory.register_client(client(7), start);
    let _second = directory.register_client(client(7), start);
    drop(first);
    assert_eq!(directory.clients(start).len(), 1);
}

#[test]
fn a_client_shows_what_its_owner_wrote() {
    let start = Instant::now();
    let directory = Directory::new(start);
    let entry = directory.register_client(client(1), start);
    entry.set_state(ClientState::Waiting, start + Duration::from_secs(1));
    entry.set_server(Some(ServerId(2)));
    entry.set_pin(Some("listen"));
    entry.count_query();
    entry.add_received(10);
    let expected = ClientView {
        info: client(1),
        state: ClientState::Waiting,
        state_age: Duration::from_secs(2),
        server: Some(ServerId(2)),
        pinned_reason: Some("listen"),
        totals: Totals {
            queries: 1,
            received_bytes: 10,
            ..Totals::default()
        },
    };
    let views = directory.clients(start + Duration::from_secs(3));
    assert_eq!(views, vec![expected]);
    entry.set_server(None);
    entry.set_pin(None);
    let view = directory.clients(start).remove(0);
    assert_eq!((view.server, view.pinned_reason), (None, None));
}

#[test]
fn the_work_of_a_client_is_counted_after_it_left() {
    let start = Instant::now();
    let directory = Directory::new(start);
    for _ in 0..2 {
        let entry = directory.register_client(client(1), start);
        entry.count_query();
        entry.count_transaction();
        entry.add_sent(100);
    }
    let living = directory.register_client(client(2), start);
    living.add_sent(1);
    let totals = directory.totals().remove("shop").unwrap();
    let expected = Totals {
        queries: 2,
        transactions: 2,
        received_bytes: 0,
        sent_bytes: 201,
    };
    assert_eq!(totals, expected);
}

#[test]
fn a_pool_counts_its_connections_and_its_queue() {
    let start = Instant::now();
    let directory = Directory::new(start);
    let entry = directory.register_pool(pool(1));
    let connections: Vec<_> = [1, 1, 1, 0]
        .iter()
        .map(|server| directory.register_server_connection(connection(*server)))
        .collect();
    connections[0].lend();
    let first = entry.begin_wait(start);
    let second = entry.begin_wait(start + Duration::from_secs(1));
    let later = start + Duration::from_secs(3);
    let view = directory.pools(later).remove(0);
    assert_eq!((view.in_use, view.idle, view.waiting), (1, 2, 2));
    assert_eq!(view.oldest_wait, Duration::from_secs(3));

    assert_eq!(first.end(later), Duration::from_secs(3));
    connections[0].give_back();
    let view = directory.pools(later).remove(0);
    assert_eq!((view.in_use, view.idle, view.waiting), (0, 3, 1));
    assert_eq!(view.oldest_wait, Duration::from_secs(2));

    drop(second);
    drop(entry);
    assert_eq!(directory.pools(later), vec![]);
    drop(connections);
    assert_eq!(directory.server_connections(), vec![]);
}

#[test]
fn a_pool_shows_its_new_size_after_a_reload() {
    let directory = Directory::new(Instant::now());
    let entry = directory.register_pool(pool(1));
    entry.set_size(5);
    assert_eq!(directory.pools(Instant::now()).remove(0).info.size, 5);
}

#[test]
fn pools_of_one_name_are_one_line() {
    let start = Instant::now();
    let directory = Directory::new(start);
    let [old, new, _other] = [1, 1, 0].map(|server| directory.register_pool(pool(server)));
    let _connections =
        [1, 1].map(|server| directory.register_server_connection(connection(server)));
    let _waits = [
        old.begin_wait(start),
        new.begin_wait(start + Duration::from_secs(1)),
    ];
    let expected = PoolView {
        info: PoolInfo {
            size: 40,
            ..pool(1)
        },
        in_use: 0,
        idle: 2,
        waiting: 2,
        oldest_wait: Duration::from_secs(2),
    };
    let pools = directory.pools(start + Duration::from_secs(2));
    assert_eq!(pools.len(), 2);
    assert_eq!(pools[1], expected);
}

#[test]
fn an_idle_client_costs_less_than_half_a_kilobyte() {
    let record = client::RECORD_BYTES + size_of::<ClientEntry>();
    assert!(record < 300, "{record} bytes");
}
