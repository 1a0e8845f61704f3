//! Joins the console to what it shows and to the sessions that ask it.

use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;

use super::reload::Reloader;
use crate::admin::{
    self, ChannelView, ColumnKind, ConfigRowView, Console, ConsoleSources, ConsoleUser,
    FailoverOrder, ListenerView, RouterView,
};
use crate::clock;
use crate::config::{Change, ConfigRow};
use crate::monitor::{CatalogStore, MonitorHandle};
use crate::policy::{self, LostBytes, Operator};
use crate::proxy::{Catalogs, ConsoleAnswer, Order, Proxy, Shutdown};
use crate::session::{ConsoleReply, Refusal};
use crate::statement::Catalog;
use crate::telemetry::{Moment, Telemetry};
use crate::wire::SqlState;
use crate::wire::backend::{Column, Kind, Table};

/// Where the console finds the proxy, which is built after it.
#[derive(Clone, Default)]
pub(super) struct ProxyCell(Arc<OnceLock<Weak<Proxy>>>);

impl ProxyCell {
    pub(super) fn fill(&self, proxy: &Arc<Proxy>) {
        let _filled_once = self.0.set(Arc::downgrade(proxy));
    }

    fn get(&self) -> Option<Arc<Proxy>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

/// The catalogs of the monitor, as the sessions see them.
pub(super) struct SharedCatalogs(pub(super) Arc<CatalogStore>);

impl Catalogs for SharedCatalogs {
    fn of(&self, database: &str) -> Arc<ArcSwapOption<Catalog>> {
        self.0.of(database)
    }

    fn changed(&self, database: &str) {
        self.0.changed(database);
    }
}

/// What the console and the HTTP server show.
pub(super) fn sources(
    reloader: &Arc<Reloader>,
    monitor: &MonitorHandle,
    telemetry: &Arc<Telemetry>,
    proxy: &ProxyCell,
) -> ConsoleSources {
    let snapshot = Arc::clone(&monitor.snapshot);
    let rows = Arc::clone(reloader);
    let reload = Arc::clone(reloader);
    let limits = Arc::clone(reloader);
    let listening_in = proxy.clone();
    let proxy = proxy.clone();
    ConsoleSources {
        snapshot: Arc::new(move || snapshot.load_full()),
        telemetry: Arc::clone(telemetry),
        config_rows: Arc::new(move || {
            let pending = rows.pending();
            let view = |row| row_view(row, &pending);
            rows.config().rows().into_iter().map(view).collect()
        }),
        reload: Arc::new(move || reload.reload()),
        failover: failover_order(monitor, reloader),
        router: Arc::new(move || {
            let proxy = proxy.get();
            let switches = proxy.as_ref().map(|proxy| proxy.switches());
            let switches = switches.unwrap_or_default();
            RouterView {
                draining: proxy.is_none_or(|proxy| proxy.is_leaving()),
                pool_mode: "auto",
                max_clients: limits.config().limits.max_client_connections as u64,
                paused: switches.all_paused,
                paused_databases: switches.paused,
                disabled_databases: switches.disabled,
            }
        }),
        listeners: Arc::new(move || listening(&listening_in)),
        clock: Arc::new(|| Moment {
            now: clock::now(),
            wall: clock::wall(),
        }),
    }
}

/// The listeners, in the console's words.
fn listening(proxy: &ProxyCell) -> Vec<ListenerView> {
    let listeners = proxy.get().map(|proxy| proxy.listeners());
    let views = listeners.unwrap_or_default().into_iter().map(|one| {
        let channels = one.channels.into_iter().map(|channel| ChannelView {
            name: channel.name,
            sessions: channel.sessions,
            is_subscribed: channel.is_subscribed,
        });
        ListenerView {
            database: one.database,
            encoding: one.encoding,
            server: one.server,
            sessions: one.sessions,
            notifications: one.heard,
            dropped: one.dropped,
            lost: one.lost,
            channels: channels.collect(),
        }
    });
    views.collect()
}

/// Hands an operator's order to the monitor. What comes of it is in the record of the failover.
fn failover_order(monitor: &MonitorHandle, reloader: &Arc<Reloader>) -> Arc<FailoverOrder> {
    let monitor = monitor.clone();
    let reloader = Arc::clone(reloader);
    Arc::new(move |name, accept_loss| {
        let snapshot = monitor.snapshot.load_full();
        let to = match name {
            Some(name) => match snapshot.servers.iter().find(|server| &*server.name == name) {
                Some(server) => Some(server.id),
                None => return Err(format!("there is no server {name}")),
            },
            None => None,
        };
        if let Some(primary) = snapshot.primary() {
            let primary = snapshot.name(primary);
            return Err(format!(
                "{primary} is the primary and alive: nothing to fail over from"
            ));
        }
        let accept_loss = match accept_loss {
            true => LostBytes::Any,
            false => reloader.config().policy.failover.max_lost,
        };
        let order = Operator::Failover(policy::Order { to, accept_loss });
        monitor
            .operate(order)
            .map_err(|busy| format!("{busy}: try again"))?;
        Ok("asked for a failover: SHOW FAILOVERS tells what came of it".to_owned())
    })
}

fn row_view(row: ConfigRow, pending: &[Change]) -> ConfigRowView {
    ConfigRowView {
        pending_restart: pending.iter().any(|change| change.key == row.key),
        key: row.key,
        value: row.value,
        default: row.default,
        changeable: row.changeable == "reload",
        source: row.source.to_owned(),
        file_line: Some(row.origin).filter(|origin| !origin.is_empty()),
    }
}

/// Answers the statements of console sessions.
pub(super) fn answerer(sources: &ConsoleSources, proxy: &ProxyCell) -> ConsoleAnswer {
    let console = Console::new(sources.clone());
    let proxy = proxy.clone();
    Box::new(
        move |text, is_admin| match console.answer(text, &ConsoleUser { is_admin }) {
            admin::ConsoleReply::Order(order) => match proxy.get() {
                Some(proxy) => proxy.obey(&to_proxy(order)),
                None => ConsoleReply::Refused(Refusal::ShuttingDown),
            },
            reply => to_session(reply),
        },
    )
}

/// The order in a text of the console, in the proxy's words.
pub(super) fn order(text: &str) -> Option<Order> {
    admin::order(text).map(to_proxy)
}

fn to_proxy(order: admin::Order) -> Order {
    match order {
        admin::Order::Pause(name) => Order::Pause(name),
        admin::Order::Resume(name) => Order::Resume(name),
        admin::Order::Reconnect(name) => Order::Reconnect(name),
        admin::Order::WaitClose(name) => Order::WaitClose(name),
        admin::Order::Kill(name) => Order::Kill(name),
        admin::Order::KillClient(id) => Order::KillClient(id),
        admin::Order::Disable(name) => Order::Disable(name),
        admin::Order::Enable(name) => Order::Enable(name),
        admin::Order::Shutdown(how) => Order::Shutdown(match how {
            admin::Shutdown::WaitForClients => Shutdown::WaitForClients,
            admin::Shutdown::WaitForServers => Shutdown::WaitForServers,
            admin::Shutdown::Now => Shutdown::Now,
        }),
    }
}

fn to_session(reply: admin::ConsoleReply) -> ConsoleReply {
    match reply {
        admin::ConsoleReply::Table { columns, rows, tag } => ConsoleReply::Table {
            table: Table {
                columns: columns
                    .into_iter()
                    .map(|(name, kind)| Column::new(name, kind_of(kind)))
                    .collect(),
                rows,
            },
            tag: tag.to_owned(),
            notices: Vec::new(),
        },
        admin::ConsoleReply::Done { tag, notices } => ConsoleReply::Done {
            tag: tag.to_owned(),
            notices,
        },
        admin::ConsoleReply::Order(_) | admin::ConsoleReply::Empty => ConsoleReply::Empty,
        admin::ConsoleReply::Error {
            sqlstate,
            message,
            hint,
        } => ConsoleReply::Refused(Refusal::BadCommand {
            sqlstate: SqlState(sqlstate),
            message,
            hint,
        }),
    }
}

const fn kind_of(kind: ColumnKind) -> Kind {
    match kind {
        ColumnKind::Text => Kind::Text,
        ColumnKind::Integer => Kind::Int8,
        ColumnKind::Float => Kind::Float8,
        ColumnKind::Boolean => Kind::Bool,
    }
}
