//! The connections to one server as one identity, lent one at a time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use deadpool::Runtime;
use deadpool::managed::{self, Object, PoolError, QueueMode, TimeoutType, Timeouts};
use tokio::time::timeout;

use super::gate::Shared;
use super::lease::Lease;
use super::opener::Opener;
use super::queue::Queue;
use super::{ConnectError, Full, GetError, Login};
use crate::clock;
use crate::cluster::{Epoch, ServerId};

/// A pool, to be kept by a session that uses it again and again: lending then looks nothing up.
pub struct PoolHandle<S: Default + Send + 'static>(pub(super) Arc<Pool<S>>);

/// The numbers of one pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// The server.
    pub server: ServerId,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// How many connections it may have.
    pub limit: usize,
    /// How many it has.
    pub size: usize,
    /// How many of them are lent.
    pub in_use: usize,
    /// How many of them rest.
    pub idle: usize,
    /// How many clients wait.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
}

pub(super) struct Pool<S: Default + Send + 'static> {
    server: ServerId,
    login: Arc<Login>,
    shared: Arc<Shared>,
    /// Swapped, never resized, when the limit changes: shrinking a pool of the crate in place
    /// lends more than the limit.
    inner: ArcSwap<Slots<S>>,
    queue: Queue,
}

/// A pool of the crate with the limit that it was made for.
struct Slots<S: Default + Send + 'static> {
    pool: managed::Pool<Opener<S>>,
    limit: usize,
}

impl<S: Default + Send + 'static> PoolHandle<S> {
    pub(super) fn new(shared: &Arc<Shared>, server: ServerId, login: &Arc<Login>) -> Self {
        let limit = shared.rules.load().size;
        Self(Arc::new(Pool {
            server,
            login: Arc::clone(login),
            shared: Arc::clone(shared),
            inner: ArcSwap::from_pointee(Slots::new(shared, server, login, limit)),
            queue: Queue::default(),
        }))
    }

    /// Lends a connection, until `deadline` at the latest.
    ///
    /// With an `epoch` the connection is wanted for writing, by a route of that epoch: it was begun
    /// under that epoch or a later one, and its server did not say that it is a hot standby.
    ///
    /// When the future is dropped, no connection is lost and no place in the queue kept.
    ///
    /// # Errors
    ///
    /// See [`GetError`]. Waiting for a place ends after `wait_timeout`, connecting after
    /// `connect_timeout`, and both at `deadline`.
    pub async fn get(&self, epoch: Option<Epoch>, deadline: Instant) -> Result<Lease<S>, GetError> {
        let pool = &*self.0;
        // Each turn closes one connection that was good for another time; there are no more of
        // them than the pool can hold, and the next one is new.
        let limit = pool.inner.load().limit;
        for _ in 0..=limit {
            if let Some(epoch) = epoch {
                pool.shared.admit(pool.server, epoch)?;
            }
            let object = pool.take(deadline).await?;
            let is_new = Object::metrics(&object).recycle_count == 0;
            let lease = Lease::new(object, &pool.shared);
            if let Some(epoch) = epoch {
                // The cluster may have changed while we waited or connected.
                pool.shared.admit(pool.server, epoch)?;
                if lease.is_hot_standby == Some(true) && is_new {
                    return Err(ConnectError::WrongRole.into());
                }
                if lease.is_hot_standby == Some(true) {
                    continue;
                }
            }
            if pool.shared.is_current(&lease) {
                return Ok(lease);
            }
        }
        Err(ConnectError::WrongRole.into())
    }

    /// The server whose connections these are.
    pub fn server(&self) -> ServerId {
        self.0.server
    }

    /// As whom they are logged in.
    pub fn login(&self) -> &Arc<Login> {
        &self.0.login
    }

    /// The numbers of this pool.
    pub fn status(&self, now: Instant) -> PoolStatus {
        let inner = self.0.inner.load();
        let status = inner.pool.status();
        let oldest = self.0.queue.oldest();
        PoolStatus {
            server: self.0.server,
            database: self.0.login.database.clone(),
            user: self.0.login.user.clone(),
            limit: inner.limit,
            size: status.size,
            in_use: status.size.saturating_sub(status.available),
            idle: status.available,
            waiting: self.0.queue.len(),
            oldest_wait: oldest
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        }
    }

    /// Closes the resting connections that may not rest any longer.
    pub(super) fn reap(&self, now: Instant) {
        let shared = &self.0.shared;
        let pool = &self.0.inner.load().pool;
        // The crate holds its lock during `retain`; the sockets are closed after it.
        drop(pool.retain(|connection, _| shared.may_rest(connection, now)));
    }

    /// Whether it has no connection, nobody waits, and nobody else has a handle.
    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.inner.load().pool.status().size == 0
    }

    /// Takes over the limit of new rules. Connections that are lent end with their loan, so for a
    /// while there may be as many as both limits together.
    pub(super) fn resize(&self, limit: usize) {
        let pool = &*self.0;
        if pool.inner.load().limit != limit {
            let slots = Slots::new(&pool.shared, pool.server, &pool.login, limit);
            pool.inner.store(Arc::new(slots));
        }
    }
}

impl<S: Default + Send + 'static> Clone for PoolHandle<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Default + Send + 'static> fmt::Debug for PoolHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolHandle")
            .field("server", &self.0.server)
            .field("login", &self.0.login)
            .finish_non_exhaustive()
    }
}

impl<S: Default + Send + 'static> Pool<S> {
    async fn take(&self, deadline: Instant) -> Result<Object<Opener<S>>, GetError> {
        let now = clock::now();
        let left = deadline.saturating_duration_since(now);
        let (wait, queue_max, connect) = {
            let rules = self.shared.rules.load();
            (rules.wait_timeout, rules.queue_max, rules.connect_timeout)
        };
        let mut timeouts = Timeouts {
            wait: Some(Duration::ZERO),
            create: Some(connect.min(left)),
            recycle: None,
        };
        let inner = self.inner.load_full();
        // First without a timer and a place in the queue: nearly always that is all.
        match inner.pool.timeout_get(&timeouts).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => {}
            result => return result.map_err(|error| self.explain(error)),
        }
        let Some(place) = self.queue.enter(now, queue_max) else {
            let full = self.full(&inner, Duration::ZERO, "pool.queue_max");
            return Err(GetError::QueueFull(full));
        };
        timeouts.wait = Some(wait.min(left));
        let all = left.saturating_add(TIMER_SLACK);
        let result = timeout(all, inner.pool.timeout_get(&timeouts)).await;
        drop(place);
        let waited = clock::now().saturating_duration_since(now);
        self.shared.observer.waited(self.server, waited);
        match result {
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => Err(GetError::WaitTimedOut(
                self.full(&inner, waited, "pool.size"),
            )),
            Ok(result) => result.map_err(|error| self.explain(error)),
            // The wait ended by itself before that: what took longer was connecting.
            Err(_elapsed) => Err(self.explain(PoolError::Timeout(TimeoutType::Create))),
        }
    }

    fn explain(&self, error: PoolError<ConnectError>) -> GetError {
        let error = match error {
            PoolError::Backend(error) => error,
            // We never close a pool, and have no hooks; all that is left is the limit of time.
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => ConnectError::TimedOut,
        };
        self.shared.observer.failed(self.server, &error);
        GetError::Connect(error)
    }

    fn full(&self, slots: &Slots<S>, waited: Duration, setting: &'static str) -> Box<Full> {
        Box::new(Full {
            server: self.server,
            database: self.login.database.clone(),
            user: self.login.user.clone(),
            size: slots.limit,
            open: slots.pool.status().size,
            waiting: self.queue.len(),
            waited,
            setting,
        })
    }
}

impl<S: Default + Send + 'static> Slots<S> {
    #[expect(
        clippy::expect_used,
        reason = "building fails only with time-outs and no runtime for them"
    )]
    fn new(shared: &Arc<Shared>, server: ServerId, login: &Arc<Login>, limit: usize) -> Self {
        let opener = Opener::new(shared, server, login);
        // Last in, first out: warm connections are used, and the surplus ages out.
        let pool = managed::Pool::builder(opener)
            .max_size(limit)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("the runtime is named");
        Self { pool, limit }
    }
}

/// Timers count in milliseconds: two that should end together may end in any order.
const TIMER_SLACK: Duration = Duration::from_millis(5);
