//! All pools of all servers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::cancel::cancel;
use super::direct::{Direct, Purpose};
use super::gate::Shared;
use super::lease::Lease;
use super::pool::PoolHandle;
use super::{GetError, Login, Rules};
use crate::clock;
use crate::cluster::{Address, Epoch, ServerId};
use crate::telemetry::Telemetry;
use crate::wire::CancelKey;

/// The connections to the servers of one cluster. `S` is what the session layer keeps with each.
pub struct Upstreams<S: Default + Send + 'static> {
    shared: Arc<Shared>,
    pools: RwLock<Pools<S>>,
}

type Pools<S> = BTreeMap<(ServerId, Arc<Login>), PoolHandle<S>>;

impl<S: Default + Send + 'static> Upstreams<S> {
    /// Pools for the servers at these addresses, in the order of their [`ServerId`]. They and their
    /// connections are shown in the directory of `telemetry`.
    pub fn new(addresses: Vec<Address>, rules: Rules, telemetry: Arc<Telemetry>) -> Self {
        Self {
            shared: Arc::new(Shared::new(addresses, rules, telemetry)),
            pools: RwLock::default(),
        }
    }

    /// The pool for one server and one identity; made when there is none.
    ///
    /// # Errors
    ///
    /// `UnknownServer`, and `TooManyPools` when there are [`POOLS_MAX`] and all are in use.
    pub fn pool(&self, server: ServerId, login: &Arc<Login>) -> Result<PoolHandle<S>, GetError> {
        let key = (server, Arc::clone(login));
        if let Some(pool) = self.read().get(&key) {
            return Ok(pool.clone());
        }
        self.shared.gate(server)?;
        let mut pools = self.write();
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        if pools.len() >= POOLS_MAX {
            pools.retain(|_, pool| !pool.is_unused());
        }
        if pools.len() >= POOLS_MAX {
            return Err(GetError::TooManyPools { limit: POOLS_MAX });
        }
        let pool = PoolHandle::new(&self.shared, server, login);
        pools.insert(key, pool.clone());
        Ok(pool)
    }

    /// Lends a connection; see [`PoolHandle::get`], which a session with a handle calls directly.
    ///
    /// # Errors
    ///
    /// Those of [`Upstreams::pool`] and of [`PoolHandle::get`].
    pub async fn get(
        &self,
        server: ServerId,
        login: &Arc<Login>,
        epoch: Option<Epoch>,
        deadline: Instant,
    ) -> Result<Lease<S>, GetError> {
        self.pool(server, login)?
            .get(epoch, deadline, clock::now())
            .await
    }

    /// Ends all epochs before `epoch` for a server: routes of an older one are refused, resting
    /// connections of an older one are closed now, and lent ones when they are given back.
    pub fn fence(&self, server: ServerId, epoch: Epoch) {
        self.shared.fence(server, epoch);
        self.sweep(server);
    }

    /// Closes the resting connections to a server now, and lent ones when they are given back.
    /// Connections that are asked for afterwards are new ones.
    pub fn retire(&self, server: ServerId) {
        self.shared.retire(server);
        self.sweep(server);
    }

    /// Closes the resting connections to some databases on all servers now, and lent ones when
    /// they are given back. Tells how many rested.
    pub fn renew(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let pools = self.handles();
        let meant = pools.iter().filter(|pool| is_meant(&pool.login().database));
        meant.map(PoolHandle::renew).sum()
    }

    /// How many connections to some databases there are: lent, at rest, and not open yet.
    pub fn open(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let pools = self.handles();
        let meant = pools.iter().filter(|pool| is_meant(&pool.login().database));
        meant.map(PoolHandle::open).sum()
    }

    /// Closes connections that rested or lived too long, or that their server closed, and forgets pools that nobody uses. To be
    /// called every few seconds.
    pub fn reap(&self) {
        let now = clock::now();
        for pool in self.handles() {
            pool.reap(now);
        }
        // With the lock held nobody can be given another handle of an unused pool.
        self.write().retain(|_, pool| !pool.is_unused());
    }

    /// Takes over new rules. Pools whose size changed begin anew: what is lent ends with its
    /// loan, so for a while there may be as many connections as both sizes together.
    pub fn set_rules(&self, rules: Rules) {
        let old = self.shared.rules.swap(Arc::new(rules));
        if old.tls != self.shared.rules.load().tls {
            // What is connected as it should not be any more ends with its loan.
            self.shared.retire_all();
            self.reap();
        }
        for pool in self.handles() {
            pool.resize();
        }
    }

    /// Opens a connection that belongs to no pool, for one client alone.
    ///
    /// # Errors
    ///
    /// `UnknownServer`, and `Connect` when the server cannot be reached or refuses the login.
    pub async fn open_direct(&self, server: ServerId, login: &Login) -> Result<Direct, GetError> {
        Direct::open(&self.shared, server, login, Purpose::Replication).await
    }

    /// Opens a connection that belongs to no pool, to listen on.
    ///
    /// # Errors
    ///
    /// Those of [`Upstreams::open_direct`].
    pub async fn open_listener(&self, server: ServerId, login: &Login) -> Result<Direct, GetError> {
        Direct::open(&self.shared, server, login, Purpose::Listening).await
    }

    /// Sends a cancel request, over a connection that is made as that of the query was, and waits
    /// until the server closed it.
    ///
    /// The signal is sent before that close. So the caller keeps the cancelled connection to itself
    /// until this returns: given back earlier, the signal could hit its next user. When this fails,
    /// it is unknown whether the signal is still to come, and the connection should be closed.
    ///
    /// # Errors
    ///
    /// When there is no such server, it could not be reached, or did not close within `limit`.
    pub async fn cancel(
        &self,
        server: ServerId,
        key: &CancelKey,
        limit: Duration,
    ) -> Result<(), GetError> {
        let gate = self.shared.gate(server)?;
        let rules = self.shared.rules.load_full();
        Ok(cancel(&gate.address, &rules.tls, key, limit).await?)
    }

    fn sweep(&self, server: ServerId) {
        let now = clock::now();
        for pool in self.handles() {
            if pool.server() == server {
                pool.reap(now);
            }
        }
    }

    /// Copied, so that closing sockets holds up nobody who asks for a pool.
    fn handles(&self) -> Vec<PoolHandle<S>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Pools<S>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pools<S>> {
        self.pools.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Default + Send + 'static> fmt::Debug for Upstreams<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("pools", &self.read().len())
            .finish_non_exhaustive()
    }
}

/// A pool costs about a kilobyte; more different identities than this are a mistake or an attack.
pub const POOLS_MAX: usize = 10_000;
