//! Makes the connections of one pool, and looks whether a resting one is still good.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};

use super::connection::{Connection, hot_standby};
use super::gate::Shared;
use super::login::log_in;
use super::observer::Opened;
use super::{ConnectError, Login};
use crate::clock;
use crate::cluster::ServerId;
use crate::net::Idle;

/// What a pool of the crate asks for its connections.
pub(super) struct Opener<S> {
    shared: Arc<Shared>,
    server: ServerId,
    login: Arc<Login>,
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
        let limit = self.shared.rules.load().connect_timeout;
        let begun = clock::now();
        let logged_in = log_in(&gate.address, &self.login, limit).await?;
        let now = clock::now();
        let took = now.saturating_duration_since(begun);
        Ok(Box::new(Connection {
            is_hot_standby: hot_standby(&logged_in.parameters),
            stream: logged_in.stream,
            input: BytesMut::new(),
            server: self.server,
            epoch,
            parameters: self.share(logged_in.parameters),
            cancel_key: logged_in.cancel_key,
            opened_at: now,
            last_used: now,
            state: S::default(),
            at_rest: true,
            generation,
            _opened: Opened::new(&self.shared.observer, self.server, took),
        }))
    }

    async fn recycle(
        &self,
        connection: &mut Box<Connection<S>>,
        _: &Metrics,
    ) -> RecycleResult<ConnectError> {
        let rested_well = self.shared.may_rest(connection, clock::now());
        // A server has nothing to say to a connection that rests but its end, or a changed
        // setting; in both cases a new connection is the simplest answer.
        match rested_well && connection.stream.check_idle() == Idle::Silent {
            true => Ok(()),
            false => Err(RecycleError::message("not good any more")),
        }
    }
}

impl<S> Opener<S> {
    pub(super) fn new(shared: &Arc<Shared>, server: ServerId, login: &Arc<Login>) -> Self {
        Self {
            shared: Arc::clone(shared),
            server,
            login: Arc::clone(login),
            parameters: Mutex::default(),
            state: PhantomData,
        }
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
