//! The connections to one server as one identity, lent one at a time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use deadpool::Runtime;
use deadpool::managed::{self, Object, PoolError, QueueMode, TimeoutType, Timeouts};
use tokio::time::timeout;

use super::connection::Turn;
use super::gate::Shared;
use super::lease::Lease;
use super::opener::{Opener, is_good};
use super::queue::Queue;
use super::shelf::Shelf;
use super::{ConnectError, Full, GetError, Login};
use crate::clock;
use crate::cluster::{Epoch, Role, ServerId};
use crate::telemetry::{PoolEntry, PoolInfo};

/// A pool, to be kept by a session that uses it again and again: lending then looks nothing up.
pub struct PoolHandle<S: Default + Send + 'static>(pub(super) Arc<Pool<S>>);

pub(super) struct Pool<S: Default + Send + 'static> {
    server: ServerId,
    login: Arc<Login>,
    shared: Arc<Shared>,
    /// Swapped, never resized, when the limit changes: shrinking a pool of the crate in place
    /// lends more than the limit.
    inner: ArcSwap<Slots<S>>,
    queue: Arc<Queue>,
    turn: Turn,
    /// Its line in SHOW POOLS.
    entry: PoolEntry,
}

/// A pool of the crate with the limit that it was made for.
struct Slots<S: Default + Send + 'static> {
    pool: managed::Pool<Opener<S>>,
    shelf: Arc<Shelf<S>>,
    limit: usize,
}

/// A connection that was taken out of a pool.
struct Taken<S: Default + Send + 'static> {
    object: Object<Opener<S>>,
    /// Where it goes afterwards.
    shelf: Arc<Shelf<S>>,
    /// Whether it was opened for this loan.
    is_new: bool,
}

impl<S: Default + Send + 'static> PoolHandle<S> {
    pub(super) fn new(shared: &Arc<Shared>, server: ServerId, login: &Arc<Login>) -> Self {
        let limit = shared.rules.load().size_for(login);
        let entry = shared.telemetry.directory().register_pool(PoolInfo {
            server,
            user: login.user.as_str().into(),
            database: login.database.as_str().into(),
            size: shown(limit),
        });
        let turn = Turn::default();
        let queue = Arc::new(Queue::default());
        let opener = Opener::new(shared, server, login, &turn);
        let shelf = Shelf::new(shared, &queue);
        Self(Arc::new(Pool {
            server,
            login: Arc::clone(login),
            shared: Arc::clone(shared),
            inner: ArcSwap::from_pointee(Slots::new(opener, shelf, limit)),
            turn,
            queue,
            entry,
        }))
    }

    /// Lends a connection, until `deadline` at the latest. It is `now` when it is asked for.
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
    pub async fn get(
        &self,
        epoch: Option<Epoch>,
        deadline: Instant,
        now: Instant,
    ) -> Result<Lease<S>, GetError> {
        let pool = &*self.0;
        let role = match epoch {
            Some(_) => Role::Primary,
            None => Role::Replica,
        };
        // Each turn closes one connection that was good for another time; there are no more of
        // them than the pool can hold, and the next one is new.
        let mut turns = 0;
        loop {
            if let Some(epoch) = epoch {
                pool.shared.admit(pool.server, epoch)?;
            }
            let taken = pool.take(role, deadline, now).await?;
            let is_new = taken.is_new;
            let lease = Lease::new(taken.object, taken.shelf);
            if let Some(epoch) = epoch {
                // The cluster may have changed while we waited or connected.
                pool.shared.admit(pool.server, epoch)?;
            }
            let is_unfit = epoch.is_some() && lease.is_hot_standby == Some(true);
            if is_unfit && is_new {
                return Err(ConnectError::WrongRole.into());
            }
            if !is_unfit && pool.shared.is_current(&lease) {
                return Ok(lease);
            }
            turns += 1;
            if turns > pool.inner.load().limit {
                return Err(ConnectError::WrongRole.into());
            }
        }
    }

    /// The server whose connections these are.
    pub fn server(&self) -> ServerId {
        self.0.server
    }

    /// As whom they are logged in.
    pub fn login(&self) -> &Arc<Login> {
        &self.0.login
    }

    /// Closes the resting connections that may not rest any longer, or are dead.
    pub(super) fn reap(&self, now: Instant) {
        let shared = &self.0.shared;
        let slots = self.0.inner.load();
        slots
            .shelf
            .weed(|connection| is_good(shared, connection, now));
        // The crate holds its lock during `retain`; the sockets are closed after it.
        drop(
            slots
                .pool
                .retain(|connection, _| is_good(shared, connection, now)),
        );
    }

    /// Closes the resting connections now, and lent ones when they are given back. Tells how many
    /// rested.
    pub(super) fn renew(&self) -> usize {
        self.0.turn.next();
        let slots = self.0.inner.load();
        let closed = slots.pool.retain(|_, _| false);
        slots.shelf.weed(|_| false) + closed.removed.len()
    }

    /// Whether it has no connection, nobody waits, and nobody else has a handle.
    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.open() == 0
    }

    /// How many connections it has.
    pub(super) fn open(&self) -> usize {
        self.0.inner.load().pool.status().size
    }

    /// Takes over the limit of new rules. Connections that are lent end with their loan, so for a
    /// while there may be as many as both limits together.
    pub(super) fn resize(&self) {
        let pool = &*self.0;
        let limit = pool.shared.rules.load().size_for(&pool.login);
        if pool.inner.load().limit != limit {
            let opener = Opener::new(&pool.shared, pool.server, &pool.login, &pool.turn);
            let shelf = Shelf::new(&pool.shared, &pool.queue);
            pool.inner.store(Arc::new(Slots::new(opener, shelf, limit)));
            pool.entry.set_size(shown(limit));
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
    /// `role` is what the client wants of the server, for the measure of its wait.
    async fn take(
        &self,
        role: Role,
        deadline: Instant,
        begun: Instant,
    ) -> Result<Taken<S>, GetError> {
        // Nearly always one is at hand: no look at the clock.
        if let Some(taken) = self.inner.load().at_hand() {
            self.shared.telemetry.pool_waited(role, Duration::ZERO);
            return Ok(taken);
        }
        let left = deadline.saturating_duration_since(begun);
        let mut timeouts = Timeouts {
            wait: Some(Duration::ZERO),
            // The opener has a limit of its own, which may be shorter.
            create: Some(left),
            recycle: None,
        };
        let inner = self.inner.load_full();
        // First without a timer and a place in the queue.
        match inner.pool.timeout_get(&timeouts).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => {}
            result => {
                let waited = clock::now().saturating_duration_since(begun);
                self.shared.telemetry.pool_waited(role, waited);
                return result.map(|object| inner.taken(object)).map_err(explain);
            }
        }
        let (wait, queue_max) = {
            let rules = self.shared.rules.load();
            (
                rules.wait_timeout_for(&self.login),
                rules.queue_max_for(&self.login),
            )
        };
        let Some(place) = self.queue.enter(queue_max) else {
            let full = self.full(&inner, Duration::ZERO, "queue");
            return Err(GetError::QueueFull(full));
        };
        // What was laid down before we entered the queue is ours.
        if let Some(taken) = inner.at_hand() {
            self.shared.telemetry.pool_waited(role, Duration::ZERO);
            return Ok(taken);
        }
        let wait_entry = self.entry.begin_wait(begun);
        timeouts.wait = Some(wait.min(left));
        let all = left.saturating_add(TIMER_SLACK);
        let result = timeout(all, inner.pool.timeout_get(&timeouts)).await;
        drop(place);
        let waited = wait_entry.end(clock::now());
        self.shared.telemetry.pool_waited(role, waited);
        match result {
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => {
                Err(GetError::WaitTimedOut(self.full(&inner, waited, "size")))
            }
            Ok(result) => result.map(|object| inner.taken(object)).map_err(explain),
            // The wait ended by itself before that: what took longer was connecting.
            Err(_elapsed) => Err(explain(PoolError::Timeout(TimeoutType::Create))),
        }
    }

    /// `setting` is the last part of the name of the setting that an operator would change.
    fn full(&self, slots: &Slots<S>, waited: Duration, setting: &str) -> Box<Full> {
        Box::new(Full {
            server: self.server,
            database: self.login.database.clone(),
            user: self.login.user.clone(),
            size: slots.limit,
            open: slots.pool.status().size,
            waiting: self.queue.len(),
            waited,
            setting: format!("cluster.{}.pool.{setting}", self.shared.telemetry.cluster()),
        })
    }
}

impl<S: Default + Send + 'static> Slots<S> {
    #[expect(
        clippy::expect_used,
        reason = "building fails only with time-outs and no runtime for them"
    )]
    fn new(opener: Opener<S>, shelf: Shelf<S>, limit: usize) -> Self {
        // Last in, first out: warm connections are used, and the surplus ages out.
        let pool = managed::Pool::builder(opener)
            .max_size(limit)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("the runtime is named");
        Self {
            pool,
            shelf: Arc::new(shelf),
            limit,
        }
    }

    /// A connection that rests on the shelf.
    fn at_hand(&self) -> Option<Taken<S>> {
        let object = self.shelf.take()?;
        Some(Taken {
            object,
            shelf: Arc::clone(&self.shelf),
            is_new: false,
        })
    }

    fn taken(&self, object: Object<Opener<S>>) -> Taken<S> {
        Taken {
            is_new: Object::metrics(&object).recycle_count == 0,
            object,
            shelf: Arc::clone(&self.shelf),
        }
    }
}

impl<S: Default + Send + 'static> Drop for Slots<S> {
    fn drop(&mut self) {
        self.shelf.close();
    }
}

fn explain(error: PoolError<ConnectError>) -> GetError {
    GetError::Connect(match error {
        PoolError::Backend(error) => error,
        // We never close a pool, and have no hooks; all that is left is the limit of time.
        PoolError::Timeout(_)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_) => ConnectError::TimedOut,
    })
}

/// A limit as the directory counts.
fn shown(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// Timers count in milliseconds: two that should end together may end in any order.
const TIMER_SLACK: Duration = Duration::from_millis(5);
