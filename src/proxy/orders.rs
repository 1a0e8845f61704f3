//! What an operator orders in the console, with the meanings that PgBouncer gave the words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::{info, warn};

use super::doorbell::{Doorbell, ring};
use super::lease::read_ahead;
use super::{Proxy, Shutdown, SwitchState, lock};
use crate::clock;
use crate::net::Stream;
use crate::session::{CONSOLE_DATABASES, ConsoleReply, Refusal};
use crate::telemetry::ClientState;
use crate::wire::SqlState;
use crate::wire::backend::{Column, Kind, Table};
use crate::wire::frame::{Cut, Frame};

/// A command. `None` for a database means all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lets what runs come to its end, begins nothing new, and closes the connections to servers.
    Pause(Option<String>),
    /// Ends a pause.
    Resume(Option<String>),
    /// Closes the connections to servers, each as soon as nobody has it.
    Reconnect(Option<String>),
    /// Waits until the connections that a `Reconnect` found are closed.
    WaitClose(Option<String>),
    /// Ends the clients and their connections to servers at once, and pauses.
    Kill(Option<String>),
    /// Ends one client, by its id in SHOW CLIENTS.
    KillClient(u64),
    /// Takes no new clients.
    Disable(String),
    /// Takes new clients again.
    Enable(String),
    /// Stops the router.
    Shutdown(Shutdown),
}

/// For each database that was reconnected, and for all under "": connections with a smaller id are
/// to be closed.
pub(super) type Reconnects = Mutex<BTreeMap<String, u64>>;

/// A message of an operator, and what could have the operator not wait any longer.
pub(super) struct Given<'a> {
    pub(super) cut: &'a Cut,
    pub(super) bell: &'a Doorbell,
    pub(super) client: &'a mut Stream,
    pub(super) input: &'a mut BytesMut,
}

/// What came of an order.
struct Outcome {
    clients: usize,
    connections: usize,
    told: String,
}

impl Order {
    /// The command tag.
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Reconnect(_) => "RECONNECT",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::Shutdown(_) => "SHUTDOWN",
        }
    }

    /// Whether it takes its time.
    pub(super) const fn waits(&self) -> bool {
        matches!(self, Self::Pause(_) | Self::WaitClose(_))
    }

    fn database(&self) -> Option<&str> {
        match self {
            Self::Pause(name)
            | Self::Resume(name)
            | Self::Reconnect(name)
            | Self::WaitClose(name)
            | Self::Kill(name) => name.as_deref(),
            Self::Disable(name) | Self::Enable(name) => Some(name),
            Self::KillClient(_) | Self::Shutdown(_) => None,
        }
    }

    /// Whether a database is meant. The console is none.
    fn means(&self, database: &str) -> bool {
        let is_console = CONSOLE_DATABASES.contains(&database);
        !is_console && self.database().is_none_or(|name| name == database)
    }

    /// `database "shop"`, or `every database`.
    fn whom(&self) -> String {
        match self.database() {
            Some(name) => format!("database \"{name}\""),
            None => "every database".to_owned(),
        }
    }
}

impl Proxy {
    /// What is paused and disabled.
    pub fn switches(&self) -> SwitchState {
        self.state.switches.state()
    }

    /// Does what is done at once, and says what it was.
    pub fn obey(&self, order: &Order) -> ConsoleReply {
        if order.waits() {
            let message = format!("{} waits, and must be sent as a simple query", order.tag());
            return refused(SqlState::FEATURE_NOT_SUPPORTED, message, None);
        }
        match self.check(order).and_then(|()| self.try_obey(order)) {
            Ok(outcome) => done(order, outcome),
            Err(refusal) => ConsoleReply::Refused(refusal),
        }
    }

    /// Carries out an order that takes its time, before the session is told of it; `None` when it
    /// is another message.
    pub(super) async fn take_order(&self, given: Given<'_>) -> Option<Box<ConsoleReply>> {
        let order = self.order_in(given.cut).filter(Order::waits)?;
        let limit = self.settings.load().console_wait;
        let called_off = async {
            tokio::select! {
                () = read_ahead(given.client, given.input) => {}
                () = given.bell.heard(ring::CANCEL | ring::KILL | ring::DRAIN) => {}
            }
        };
        let told = self.carry_out(&order, limit, called_off).await;
        given.bell.forget(ring::CANCEL);
        Some(Box::new(told))
    }

    /// The order in a simple query.
    fn order_in(&self, cut: &Cut) -> Option<Order> {
        match cut {
            Cut::Message(frame @ Frame { tag: b'Q', .. }) => {
                let text = frame.body().strip_suffix(b"\0")?;
                (self.order)(std::str::from_utf8(text).ok()?)
            }
            Cut::Message(_) | Cut::Run(_) | Cut::Head(_) | Cut::Rest { .. } => None,
        }
    }

    /// Does what takes its time, until it is done, `limit` has passed or `called_off` resolves.
    async fn carry_out(
        &self,
        order: &Order,
        limit: Duration,
        called_off: impl Future<Output = ()>,
    ) -> ConsoleReply {
        let begun = clock::now();
        if let Err(refusal) = self.check(order).and_then(|()| self.begin(order)) {
            return ConsoleReply::Refused(refusal);
        }
        let clients = self.clients_of(order).len();
        let waited = tokio::select! {
            () = self.settled(order) => None,
            () = tokio::time::sleep(limit) => Some(limit),
            () = called_off => Some(clock::now().saturating_duration_since(begun)),
        };
        match waited {
            None => done(order, self.settled_outcome(order, clients, begun)),
            Some(waited) => self.give_up(order, waited),
        }
    }

    /// A name that no client can use is a mistake.
    fn check(&self, order: &Order) -> Result<(), Refusal> {
        let Some(name) = order.database() else {
            return Ok(());
        };
        let is_console = CONSOLE_DATABASES.contains(&name);
        let settings = self.settings.load();
        let mut served = settings.databases.iter();
        match !is_console && served.any(|served| served == "*" || served == name) {
            true => Ok(()),
            false => Err(bad(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{name}\" is not served here"),
                Some("SHOW DATABASES lists those that were used."),
            )),
        }
    }

    fn try_obey(&self, order: &Order) -> Result<Outcome, Refusal> {
        let switches = &self.state.switches;
        let whom = order.whom();
        let mut outcome = Outcome {
            clients: self.clients_of(order).len(),
            connections: 0,
            told: String::new(),
        };
        outcome.told = match order {
            Order::Resume(name) => {
                expect(
                    switches.resume(name.as_deref()),
                    &format!("{whom} is not paused"),
                )?;
                self.cluster_changed();
                let paused = self.switches().paused;
                match paused.is_empty() || name.is_some() {
                    true => format!("{whom} goes on"),
                    false => format!(
                        "{whom} goes on, but for those paused by name: {}",
                        list(&paused)
                    ),
                }
            }
            Order::Reconnect(_) => {
                outcome.connections = self.reconnect(order);
                let later = self.lent_of(order);
                let closed = outcome.connections;
                format!(
                    "{whom}: {closed} server connections closed, {later} will be when they are free"
                )
            }
            Order::Kill(name) => {
                switches.pause(name.as_deref());
                self.kill_clients(order, &mut outcome);
                let (clients, closed) = (outcome.clients, outcome.connections);
                format!(
                    "{whom} is paused: {clients} clients ended, {closed} server connections closed"
                )
            }
            Order::KillClient(id) => {
                expect(
                    self.state.bells.ring_one(*id, ring::KILL),
                    &format!("there is no client {id}"),
                )?;
                outcome.clients = 1;
                format!("client {id} ends")
            }
            Order::Disable(name) => {
                expect(
                    switches.disable(name),
                    &format!("{whom} is disabled already"),
                )?;
                format!("{whom} takes no new clients")
            }
            Order::Enable(name) => {
                expect(switches.enable(name), &format!("{whom} is not disabled"))?;
                format!("{whom} takes new clients again")
            }
            Order::Shutdown(how) => {
                outcome.connections = self.open_of(order);
                self.state.shutdown.ask(*how);
                how.told().to_owned()
            }
            Order::Pause(_) | Order::WaitClose(_) => String::new(),
        };
        Ok(outcome)
    }

    fn begin(&self, order: &Order) -> Result<(), Refusal> {
        match order {
            Order::Pause(name) => {
                let paused = self.state.switches.pause(name.as_deref());
                expect(paused, &format!("{} is paused already", order.whom()))
            }
            _ => Ok(()),
        }
    }

    /// Resolves when a waiting order is fulfilled. Looked at twice: a connection that was lent
    /// in the very moment of the pause is seen by the second look.
    async fn settled(&self, order: &Order) {
        let mut quiet = 0;
        while quiet < 2 {
            quiet = match self.is_settled(order) {
                true => quiet + 1,
                false => 0,
            };
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    fn is_settled(&self, order: &Order) -> bool {
        match order {
            Order::Pause(_) => {
                // Each time: one may have been opened since for a client that waited before.
                self.upstreams.renew(|name| order.means(name));
                self.upstreams.open(|name| order.means(name)) == 0 && self.open_of(order) == 0
            }
            Order::WaitClose(_) => self.unclosed(order) == 0,
            _ => true,
        }
    }

    fn settled_outcome(&self, order: &Order, clients: usize, begun: Instant) -> Outcome {
        let waited = clock::now().saturating_duration_since(begun).as_millis();
        let whom = order.whom();
        let told = match order {
            Order::Pause(_) => format!(
                "{whom} is paused after {waited} ms: {clients} clients wait for RESUME, no server connection is open"
            ),
            _ => format!(
                "{whom}: the server connections that RECONNECT found are closed, after {waited} ms"
            ),
        };
        Outcome {
            clients,
            connections: self.open_of(order),
            told,
        }
    }

    /// A pause that does not come about is taken back: it would hold everybody for nothing.
    fn give_up(&self, order: &Order, waited: Duration) -> ConsoleReply {
        let clients = self.clients_of(order);
        let pinned = clients.iter().filter(|client| client.is_pinned).count();
        let busy = clients.iter().filter(|client| client.is_busy).count();
        let mut hint = "SHOW CLIENTS tells who holds them; KILL_CLIENT ends one.";
        if let Order::Pause(name) = order {
            self.state.switches.resume(name.as_deref());
            self.cluster_changed();
            hint = "The pause was taken back. SHOW CLIENTS tells who holds the connections; \
                    KILL_CLIENT ends one.";
        }
        let message = format!(
            "{} gave up after {} ms: {} server connections are in use, by {busy} clients in \
             transactions or statements and {pinned} pinned ones",
            order.tag(),
            waited.as_millis(),
            self.open_of(order)
        );
        warn!(order = order.tag(), "{message}");
        refused(SqlState::QUERY_CANCELED, message, Some(hint))
    }

    fn reconnect(&self, order: &Order) -> usize {
        let mark = self.telemetry.directory().mark();
        let name = order.database().unwrap_or_default().to_owned();
        lock(&self.state.reconnects).insert(name, mark);
        self.upstreams.renew(|name| order.means(name))
    }

    fn kill_clients(&self, order: &Order, outcome: &mut Outcome) {
        for client in self.clients_of(order) {
            self.state.bells.ring_one(client.id, ring::KILL);
        }
        outcome.connections = self.open_of(order);
        self.upstreams.renew(|name| order.means(name));
    }

    fn clients_of(&self, order: &Order) -> Vec<Met> {
        let clients = self.telemetry.directory().clients(clock::now());
        let meant = clients
            .into_iter()
            .filter(|client| order.means(&client.info.database));
        let met = meant.map(|client| Met {
            id: client.info.id,
            is_pinned: client.pinned_reason.is_some(),
            is_busy: client.pinned_reason.is_none()
                && matches!(
                    client.state,
                    ClientState::Active | ClientState::InTransaction
                ),
        });
        met.collect()
    }

    /// How many connections to servers the pools have.
    fn open_of(&self, order: &Order) -> usize {
        let pools = self.telemetry.directory().pools(clock::now());
        let meant = pools.iter().filter(|pool| order.means(&pool.info.database));
        meant.map(|pool| (pool.in_use + pool.idle) as usize).sum()
    }

    /// How many of them somebody has.
    fn lent_of(&self, order: &Order) -> usize {
        let pools = self.telemetry.directory().pools(clock::now());
        let meant = pools.iter().filter(|pool| order.means(&pool.info.database));
        meant.map(|pool| pool.in_use as usize).sum()
    }

    /// How many connections that a reconnect found are still there.
    fn unclosed(&self, order: &Order) -> usize {
        let marks = lock(&self.state.reconnects).clone();
        let all = marks.get("").copied().unwrap_or_default();
        let connections = self.telemetry.directory().server_connections();
        let is_old =
            |name: &str, id: u64| id < all.max(marks.get(name).copied().unwrap_or_default());
        connections
            .iter()
            .filter(|connection| order.means(&connection.info.database))
            .filter(|connection| is_old(&connection.info.database, connection.id))
            .count()
    }
}

/// A client as far as an order is concerned.
struct Met {
    id: u64,
    is_pinned: bool,
    is_busy: bool,
}

fn list(names: &BTreeSet<String>) -> String {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

fn expect(holds: bool, otherwise: &str) -> Result<(), Refusal> {
    match holds {
        true => Ok(()),
        false => Err(bad(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            otherwise.to_owned(),
            None,
        )),
    }
}

fn bad(sqlstate: SqlState, message: String, hint: Option<&str>) -> Refusal {
    Refusal::BadCommand {
        sqlstate,
        message,
        hint: hint.map(str::to_owned),
    }
}

fn refused(sqlstate: SqlState, message: String, hint: Option<&str>) -> ConsoleReply {
    ConsoleReply::Refused(bad(sqlstate, message, hint))
}

/// A NOTICE for people and a row for programs.
fn done(order: &Order, outcome: Outcome) -> ConsoleReply {
    info!(order = order.tag(), "{}", outcome.told);
    let columns = [
        ("command", Kind::Text),
        ("database", Kind::Text),
        ("clients", Kind::Int8),
        ("server_connections", Kind::Int8),
    ];
    ConsoleReply::Table {
        table: Table {
            columns: columns.map(|(name, kind)| Column::new(name, kind)).into(),
            rows: vec![vec![
                Some(order.tag().to_owned()),
                order.database().map(str::to_owned),
                Some(outcome.clients.to_string()),
                Some(outcome.connections.to_string()),
            ]],
        },
        tag: order.tag().to_owned(),
        notices: vec![outcome.told],
    }
}

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
