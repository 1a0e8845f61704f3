//! Makes the connections of one pool, and looks whether a resting one is still good.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::BytesMut;
use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};

use super::connection::{Connection, Turn, hot_standby};
use super::gate::Shared;
use super::login::log_in;
use super::{ConnectError, Login};
use crate::clock;
use crate::cluster::ServerId;
use crate::net::Idle;
use crate::telemetry::{ServerConnectionInfo, ServerEntry};
use crate::wire::CancelKey;

/// What a pool of the crate asks for its connections.
pub(super) struct Opener<S> {
    shared: Arc<Shared>,
    server: ServerId,
    login: Arc<Login>,
    /// Of the whole pool.
    turn: Turn,
    user: Arc<str>,
    database: Arc<str>,
    /// What the last server connection reported: most report the same, and share one map.
    parameters: Mutex<Arc<BTreeMap<String, String>>>,
    state: PhantomData<fn() -> S>,
}

impl<S: Default + Send + 'static> Manager for Opener<S> {
    type Type = Box<Connection<S>>;
    type Error = ConnectError;

    async fn create(&self) -> Result<Box<Connection<S>>, ConnectError> {
        let Ok(gate) = self.shared.gate(self.server) else {
            return Err(ConnectError::Protocol("no such server"));
        };
        // Read before connecting: what happens meanwhile makes the connection an old one.
        let epoch = self.shared.epoch();
        let generation = gate.generation();
        let turn = self.turn.begin();
        let rules = self.shared.rules.load_full();
        let limit = rules.connect_timeout;
        let logged_in = log_in(&gate.address, &rules.tls, &self.login, limit).await?;
        let now = clock::now();
        Ok(Box::new(Connection {
            is_hot_standby: hot_standby(&logged_in.parameters),
            stream: logged_in.stream,
            input: BytesMut::new(),
            server: self.server,
            epoch,
            parameters: self.share(logged_in.parameters),
            entry: self.register(logged_in.cancel_key.as_ref()),
            cancel_key: logged_in.cancel_key,
            opened_at: now,
            last_used: now,
            state: S::default(),
            at_rest: true,
            generation,
            turn,
        }))
    }

    async fn recycle(
        &self,
        connection: &mut Box<Connection<S>>,
        _: &Metrics,
    ) -> RecycleResult<ConnectError> {
        // Its age was looked at when it was given back, and the surplus is closed by the reaper.
        match self.shared.is_current(connection) && connection.stream.check_idle() == Idle::Silent {
            true => Ok(()),
            false => Err(RecycleError::message("not good any more")),
        }
    }
}

impl<S> Opener<S> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        server: ServerId,
        login: &Arc<Login>,
        turn: &Turn,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            server,
            login: Arc::clone(login),
            turn: turn.clone(),
            user: login.user.as_str().into(),
            database: login.database.as_str().into(),
            parameters: Mutex::default(),
            state: PhantomData,
        }
    }

    fn register(&self, key: Option<&CancelKey>) -> ServerEntry {
        let directory = self.shared.telemetry.directory();
        directory.register_server_connection(ServerConnectionInfo {
            server: self.server,
            user: Arc::clone(&self.user),
            database: Arc::clone(&self.database),
            backend_pid: key.map(|key| key.pid.cast_signed()),
            connected_at: clock::wall(),
        })
    }

    fn share(&self, parameters: BTreeMap<String, String>) -> Arc<BTreeMap<String, String>> {
        let mut last = self
            .parameters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if **last != parameters {
            *last = Arc::new(parameters);
        }
        Arc::clone(&last)
    }
}

/// Whether a connection that rests may go on resting, or be lent.
///
/// A server has nothing to say to a connection that rests but its end, or a changed setting; in
/// both cases a new connection is the simplest answer. One that spoke is to be closed: looking
/// took a byte of what it said.
pub(super) fn is_good<S>(shared: &Shared, connection: &Connection<S>, now: Instant) -> bool {
    shared.may_rest(connection, now) && connection.stream.check_idle() == Idle::Silent
}
