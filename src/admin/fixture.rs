//! A small cluster with some traffic, for the tests of this module.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::sources::{ChannelView, ConfigRowView, ConsoleSources, ListenerView, RouterView};
use crate::cluster::{
    Address, ByteCount, Epoch, Lag, Lsn, Role, ServerId, ServerState, ServerView, Snapshot,
    Timeline, Writes,
};
use crate::policy::Why;
use crate::telemetry::{
    CandidateSummary, ClientEntry, ClientInfo, ClientState, Event, FailoverSummary, Moment,
    PhaseSummary, PoolEntry, PoolInfo, ServerConnectionInfo, ServerEntry, Severity, Telemetry,
};

/// The sources, what can be changed of them, and what must live as long.
pub(super) struct Fixture {
    pub(super) sources: ConsoleSources,
    pub(super) snapshot: Arc<Mutex<Snapshot>>,
    pub(super) router: Arc<Mutex<RouterView>>,
    pub(super) reload: Arc<Mutex<Result<Vec<String>, Vec<String>>>>,
    _client: ClientEntry,
    _pool: PoolEntry,
    _connection: ServerEntry,
}

/// One primary and two replicas, all well.
pub(super) fn snapshot() -> Snapshot {
    let now = Instant::now();
    let server = |number: u16, role: Role, state: ServerState| ServerView {
        id: ServerId(number),
        name: format!("pg{}", number + 1).into(),
        address: Address {
            host: format!("10.0.0.{}", number + 1),
            port: 5432,
        },
        weight: 100,
        role,
        state,
        since: now,
        timeline: Some(Timeline(1)),
        position: Some(Lsn::from_bytes(0x0500_0148)),
        lag: (role == Role::Replica).then_some(Lag {
            time: Duration::from_millis(12),
            bytes: ByteCount(4100),
        }),
        last_seen: Some(now),
        version_num: Some(150_018),
    };
    Snapshot {
        epoch: Epoch(1),
        servers: vec![
            server(0, Role::Primary, ServerState::Primary),
            server(1, Role::Replica, ServerState::Serving),
            server(2, Role::Replica, ServerState::Serving),
        ],
        writes: Writes::Open(ServerId(0)),
        lineage: None,
        primary_sample: None,
    }
}

fn failover() -> FailoverSummary {
    FailoverSummary {
        id: "01J".into(),
        kind: "automatic",
        started_at: UNIX_EPOCH,
        ended_at: Some(UNIX_EPOCH),
        result: "promoted",
        from_node: Some("pg3".into()),
        to_node: Some("pg1".into()),
        old_tli: Some(1),
        new_tli: Some(2),
        trigger: "primary_unreachable".into(),
        detect_ms: Some(900),
        hold_ms: Some(600),
        promote_ms: None,
        total_ms: Some(2_140),
        clients_held: 41,
        errors_returned: 3,
        maybe_lost_bytes: Some(0),
        sentence: "pg3 stopped answering; pg1 was promoted.".into(),
        phases: vec![PhaseSummary {
            name: "suspect".into(),
            at_ms: 0,
        }],
        candidates: vec![CandidateSummary {
            node: "pg1".into(),
            lsn: Some("0/5000148".into()),
            timeline: Some(1),
            verdict: "chosen: most WAL".into(),
        }],
    }
}

/// A client with a connection to pg2, a pool, a failover, an event, a setting.
pub(super) fn fixture() -> Fixture {
    let moment = Moment {
        now: Instant::now(),
        wall: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
    };
    let telemetry = Arc::new(Telemetry::new("main", 3, moment));
    telemetry.routed(ServerId(1), Role::Replica, Why::ReadOnly);
    telemetry.routed(ServerId(1), Role::Replica, Why::ReadOnly);
    telemetry.routed(ServerId(0), Role::Primary, Why::Write);
    telemetry.not_routed(Why::AnsweredHere);
    telemetry.failover(failover());
    telemetry.event(Event {
        at: moment.wall,
        severity: Severity::Warning,
        kind: "node_out",
        node: Some("pg3".into()),
        sentence: "pg3 is out: lag 1800 ms > 1000 ms".into(),
    });
    let (client, pool, connection) = guests(&telemetry, moment);
    let snapshot = Arc::new(Mutex::new(snapshot()));
    let router = Arc::new(Mutex::new(RouterView {
        draining: false,
        pool_mode: "auto",
        max_clients: 1000,
        paused: false,
        paused_databases: ["bank".to_owned()].into(),
        disabled_databases: ["shop".to_owned()].into(),
    }));
    let reload = Arc::new(Mutex::new(Ok(Vec::new())));
    let sources = ConsoleSources {
        snapshot: {
            let snapshot = Arc::clone(&snapshot);
            Arc::new(move || Arc::new(snapshot.lock().unwrap().clone()))
        },
        telemetry,
        config_rows: Arc::new(|| {
            vec![ConfigRowView {
                key: "cluster.main.lag.max_time".into(),
                value: "2s".into(),
                default: "1s".into(),
                changeable: true,
                pending_restart: false,
                source: "file".into(),
                file_line: Some("pgherd.toml:31".into()),
            }]
        }),
        failover: Arc::new(|to, _any| match to {
            Some("nobody") => Err("there is no server nobody".to_owned()),
            to => Ok(format!("asked for {to:?}")),
        }),
        reload: {
            let reload = Arc::clone(&reload);
            Arc::new(move || reload.lock().unwrap().clone())
        },
        router: {
            let router = Arc::clone(&router);
            Arc::new(move || router.lock().unwrap().clone())
        },
        listeners: Arc::new(listeners),
        clock: Arc::new(move || moment),
    };
    Fixture {
        sources,
        snapshot,
        router,
        reload,
        _client: client,
        _pool: pool,
        _connection: connection,
    }
}

fn listeners() -> Vec<ListenerView> {
    vec![ListenerView {
        database: "shop".into(),
        encoding: "UTF8".into(),
        server: Some(ServerId(0)),
        sessions: 2,
        notifications: 9,
        dropped: 1,
        lost: 0,
        channels: vec![ChannelView {
            name: "orders".into(),
            sessions: 2,
            is_subscribed: true,
        }],
    }]
}

fn guests(telemetry: &Telemetry, moment: Moment) -> (ClientEntry, PoolEntry, ServerEntry) {
    let client = telemetry.directory().register_client(
        ClientInfo {
            id: 7,
            user: "app".into(),
            database: "shop".into(),
            application_name: "web".into(),
            address: Some("192.0.2.1:40000".parse().unwrap()),
            connected_at: UNIX_EPOCH,
        },
        moment.now,
    );
    client.set_state(ClientState::Active, moment.now);
    client.set_server(Some(ServerId(1)));
    client.count_query();
    let pool = telemetry.directory().register_pool(PoolInfo {
        server: ServerId(1),
        user: "app".into(),
        database: "shop".into(),
        size: 20,
    });
    let connection = telemetry
        .directory()
        .register_server_connection(ServerConnectionInfo {
            server: ServerId(1),
            user: "app".into(),
            database: "shop".into(),
            backend_pid: Some(4711),
            connected_at: UNIX_EPOCH,
        });
    connection.lend();
    (client, pool, connection)
}
