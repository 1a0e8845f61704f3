//! The counters of the router, and the calls that feed them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::codes::{ErrorOrigin, LoginResult, RetryCause};
use super::counters::{ClassCounters, CounterTable};
use super::directory::Directory;
use super::events::{Event, Events, FailoverSummary};
use super::histogram::Histogram;
use super::rates::Rates;
use super::time::Moment;
use crate::cluster::{HoldCause, ProbeFailure, Role, ServerId};
use crate::policy::{Intent, Why};

/// Everything that is counted. Shared by all tasks; made once by the application.
#[derive(Debug)]
pub struct Telemetry {
    pub(super) cluster: Arc<str>,
    pub(super) started: Moment,
    pub(super) servers: usize,
    /// Row: server and role, the last for "no server"; column: the reason.
    pub(super) routed: CounterTable,
    pub(super) routed_rates: Rates,
    pub(super) misroutes: CounterTable,
    pub(super) retries: CounterTable,
    pub(super) logins: CounterTable,
    pub(super) transactions: CounterTable,
    pub(super) errors: ClassCounters,
    /// Errors of ours that told a client of a server that was lost or missing.
    losses: AtomicU64,
    /// Waits for a primary that ever began.
    holds: AtomicU64,
    pub(super) parse_cache_hits: AtomicU64,
    pub(super) parse_cache_misses: AtomicU64,
    pub(super) parse_failures: AtomicU64,
    pub(super) notifications: AtomicU64,
    pub(super) notifications_dropped: AtomicU64,
    pub(super) listeners_lost: AtomicU64,
    /// By role and intent.
    pub(super) statement_durations: Vec<Histogram>,
    /// By role.
    pub(super) pool_waits: Vec<Histogram>,
    /// By server.
    pub(super) probe_durations: Vec<Histogram>,
    /// Row: server; column: the failure.
    pub(super) probe_failures: CounterTable,
    /// By cause.
    pub(super) held: [AtomicI64; HOLD_CAUSES],
    /// By cause.
    pub(super) hold_durations: Vec<Histogram>,
    pub(super) failovers: Mutex<Failovers>,
    pub(super) reload: Mutex<Option<Reload>>,
    directory: Directory,
    events: Events,
}

/// How many failovers ended how, and the last of them.
#[derive(Debug, Default)]
pub(super) struct Failovers {
    pub(super) counts: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) last: Option<(SystemTime, Option<Duration>)>,
}

/// The last time that the configuration was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reload {
    pub(super) at: SystemTime,
    pub(super) succeeded: bool,
}

/// How often one server got statements for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutedCount {
    /// The server; `None` for what the router held, refused or answered itself.
    pub server: Option<ServerId>,
    /// What the server was at that time.
    pub role: Role,
    /// The reason.
    pub why: Why,
    /// Since the router started.
    pub total: u64,
    /// In the last minute.
    pub last_minute: u64,
}

/// A statement that waits for a primary. Dropping it without [`Hold::release`] says that the
/// client went away.
#[derive(Debug)]
pub struct Hold {
    telemetry: Arc<Telemetry>,
    cause: HoldCause,
    since: Instant,
}

/// What clients felt of lost servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suffered {
    /// Statements that waited for a primary.
    pub holds: u64,
    /// Errors about a connection, a transaction or a primary that was lost.
    pub errors: u64,
}

impl Suffered {
    /// What came after `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            holds: self.holds.saturating_sub(earlier.holds),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }
}

/// The errors of ours that a lost server brings: a connection failure, an outcome that is not known,
/// a transaction that is gone, no primary in time.
const LOSSES: [&str; 4] = ["08006", "08007", "40001", "57P03"];
/// The roles that traffic is counted by. A server of unknown role gets none.
pub(super) const ROLES: [Role; 2] = [Role::Primary, Role::Replica];
/// What a statement needed, with its word.
pub(super) const INTENTS: [(Intent, &str); 2] = [(Intent::Read, "read"), (Intent::Write, "write")];
/// The causes of a hold, with their words.
pub(super) const HOLDS: [(HoldCause, &str); HOLD_CAUSES] = [
    (HoldCause::NoPrimary, "no_primary"),
    (HoldCause::Failover, "failover"),
    (HoldCause::Paused, "paused"),
    (HoldCause::Promotion, "promotion"),
];
const HOLD_CAUSES: usize = 4;
/// The failures of a probe, in the order of [`probe_failure_number`].
pub(super) const PROBE_FAILURES: [&str; 8] = [
    "refused",
    "timed_out",
    "unreachable",
    "starting_up",
    "full",
    "login_refused",
    "other",
    "tls_failed",
];

impl Telemetry {
    /// Counters for a cluster of so many servers; the number of a server is its place.
    pub fn new(cluster: &str, servers: usize, started: Moment) -> Self {
        let histograms = |count: usize| (0..count).map(|_| Histogram::new()).collect();
        let whys = Why::ALL.len();
        Self {
            cluster: cluster.into(),
            started,
            servers,
            routed: CounterTable::new(servers * ROLES.len() + 1, whys),
            routed_rates: Rates::default(),
            misroutes: CounterTable::new(1, whys),
            retries: CounterTable::new(1, RetryCause::ALL.len()),
            logins: CounterTable::new(1, LoginResult::ALL.len()),
            transactions: CounterTable::new(1, ROLES.len()),
            errors: ClassCounters::new(ErrorOrigin::ALL.len()),
            losses: AtomicU64::new(0),
            holds: AtomicU64::new(0),
            parse_cache_hits: AtomicU64::new(0),
            parse_cache_misses: AtomicU64::new(0),
            parse_failures: AtomicU64::new(0),
            notifications: AtomicU64::new(0),
            notifications_dropped: AtomicU64::new(0),
            listeners_lost: AtomicU64::new(0),
            statement_durations: histograms(ROLES.len() * INTENTS.len()),
            pool_waits: histograms(ROLES.len()),
            probe_durations: histograms(servers),
            probe_failures: CounterTable::new(servers, PROBE_FAILURES.len()),
            held: [const { AtomicI64::new(0) }; HOLD_CAUSES],
            hold_durations: histograms(HOLD_CAUSES),
            failovers: Mutex::default(),
            reload: Mutex::new(None),
            directory: Directory::new(started.now),
            events: Events::default(),
        }
    }

    /// The clients, server connections and pools of this moment.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The last events and failovers.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// When the router started.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// Counts a unit of work that was sent to a server of this role.
    pub fn routed(&self, server: ServerId, role: Role, why: Why) {
        if let Some(role) = role_number(role)
            && server.index() < self.servers
        {
            let row = server.index() * ROLES.len() + role;
            self.routed.increment(row, why as usize);
        }
    }

    /// Counts a unit of work that went to no server: held, refused, or answered by the router.
    pub fn not_routed(&self, why: Why) {
        self.routed
            .increment(self.servers * ROLES.len(), why as usize);
    }

    /// Counts what a replica refused as a write (25006) although it was routed there, and why it
    /// was.
    pub fn misrouted(&self, why: Why) {
        self.misroutes.increment(0, why as usize);
    }

    /// Counts a unit of work that was sent again.
    pub fn retried(&self, cause: RetryCause) {
        self.retries.increment(0, cause as usize);
    }

    /// Counts the end of a login.
    pub fn login_ended(&self, result: LoginResult) {
        self.logins.increment(0, result as usize);
    }

    /// Counts a transaction that ended on a server of this role.
    pub fn transaction_ended(&self, role: Role) {
        if let Some(role) = role_number(role) {
            self.transactions.increment(0, role);
        }
    }

    /// Counts how long a client waited for a unit of work that a server answered.
    pub fn statement_ended(&self, role: Role, intent: Intent, duration: Duration) {
        let intent = match intent {
            Intent::Read => 0,
            Intent::Write => 1,
        };
        if let Some(role) = role_number(role)
            && let Some(histogram) = self.statement_durations.get(role * INTENTS.len() + intent)
        {
            histogram.observe(duration);
        }
    }

    /// Counts an error that a client got. What is not an SQLSTATE is counted as `XX`.
    pub fn error_returned(&self, origin: ErrorOrigin, sqlstate: &str) {
        self.errors.increment(origin as usize, sqlstate);
        if matches!(origin, ErrorOrigin::Router) && LOSSES.contains(&sqlstate) {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What clients have felt of lost servers since the router started.
    pub fn suffered(&self) -> Suffered {
        Suffered {
            holds: self.holds.load(Ordering::Relaxed),
            errors: self.losses.load(Ordering::Relaxed),
        }
    }

    /// Counts a text whose facts were known.
    pub fn parse_cache_hit(&self) {
        self.parse_cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a text that had to be parsed.
    pub fn parse_cache_missed(&self) {
        self.parse_cache_misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a text that was parsed and not understood, and so counts as a write.
    pub fn parse_failed(&self) {
        self.parse_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a notification that a listener heard, and how many sessions had no room for it.
    pub fn notified(&self, dropped: u64) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
        self.notifications_dropped
            .fetch_add(dropped, Ordering::Relaxed);
    }

    /// Counts a connection that listened and was lost.
    pub fn listener_lost(&self) {
        self.listeners_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts how long a client waited for a connection to a server of this role; zero counts.
    pub fn pool_waited(&self, role: Role, duration: Duration) {
        if let Some(histogram) = role_number(role).and_then(|role| self.pool_waits.get(role)) {
            histogram.observe(duration);
        }
    }

    /// Counts a probe, how long it took, and why it failed if it did.
    pub fn probed(&self, server: ServerId, duration: Duration, failure: Option<&ProbeFailure>) {
        if let Some(histogram) = self.probe_durations.get(server.index()) {
            histogram.observe(duration);
        }
        if let Some(failure) = failure {
            let column = probe_failure_number(failure);
            self.probe_failures.increment(server.index(), column);
        }
    }

    /// Says that a client's statement waits from now on.
    pub fn hold(self: &Arc<Self>, cause: HoldCause, now: Instant) -> Hold {
        if let Some(held) = self.held.get(hold_number(cause)) {
            held.fetch_add(1, Ordering::Relaxed);
        }
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold {
            telemetry: Arc::clone(self),
            cause,
            since: now,
        }
    }

    /// How many statements wait now.
    pub fn clients_held(&self) -> u64 {
        let held = self.held.iter().map(|held| held.load(Ordering::Relaxed));
        u64::try_from(held.sum::<i64>()).unwrap_or(0)
    }

    /// Adds an event.
    pub fn event(&self, event: Event) {
        self.events.push(event);
    }

    /// Adds the record of a failover, or replaces the one with the same id. It is counted once,
    /// when it has ended.
    pub fn failover(&self, failover: FailoverSummary) {
        let key = (failover.kind, failover.result);
        let ended_at = failover.ended_at;
        let duration = failover.total_ms.map(Duration::from_millis);
        if self.events.record_failover(failover)
            && let Some(ended_at) = ended_at
        {
            let mut failovers = self
                .failovers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *failovers.counts.entry(key).or_default() += 1;
            failovers.last = Some((ended_at, duration));
        }
    }

    /// Says how reading the configuration again went.
    pub fn reloaded(&self, at: SystemTime, succeeded: bool) {
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        *reload = Some(Reload { at, succeeded });
    }

    /// Remembers the traffic counters, for the counts of the last minute. Call it every few
    /// seconds.
    pub fn sample(&self, now: Instant) {
        self.routed_rates.sample(now, self.routed.values());
    }

    /// What was routed where and why, without what never happened.
    pub fn routed_counts(&self) -> Vec<RoutedCount> {
        let totals = self.routed.values();
        let recent = self.routed_rates.growth(totals.clone());
        let whys = Why::ALL.len();
        let counts = totals.into_iter().zip(recent).enumerate();
        counts
            .filter(|(_, (total, _))| *total > 0)
            .filter_map(|(place, (total, last_minute))| {
                let row = place / whys;
                let server = row / ROLES.len();
                let somewhere = server < self.servers;
                Some(RoutedCount {
                    server: u16::try_from(server)
                        .ok()
                        .filter(|_| somewhere)
                        .map(ServerId),
                    role: if somewhere {
                        *ROLES.get(row % ROLES.len())?
                    } else {
                        Role::Unknown
                    },
                    why: *Why::ALL.get(place % whys)?,
                    total,
                    last_minute,
                })
            })
            .collect()
    }
}

impl Hold {
    /// Ends the wait: the statement goes on, or is refused.
    pub fn release(self, now: Instant) {
        let waited = now.saturating_duration_since(self.since);
        if let Some(histogram) = self.telemetry.hold_durations.get(hold_number(self.cause)) {
            histogram.observe(waited);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(held) = self.telemetry.held.get(hold_number(self.cause)) {
            held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

const fn role_number(role: Role) -> Option<usize> {
    match role {
        Role::Primary => Some(0),
        Role::Replica => Some(1),
        Role::Unknown => None,
    }
}

const fn hold_number(cause: HoldCause) -> usize {
    match cause {
        HoldCause::NoPrimary => 0,
        HoldCause::Failover => 1,
        HoldCause::Paused => 2,
        HoldCause::Promotion => 3,
    }
}

const fn probe_failure_number(failure: &ProbeFailure) -> usize {
    match failure {
        ProbeFailure::Refused => 0,
        ProbeFailure::TimedOut => 1,
        ProbeFailure::Unreachable => 2,
        ProbeFailure::StartingUp => 3,
        ProbeFailure::Full => 4,
        ProbeFailure::LoginRefused { .. } => 5,
        ProbeFailure::Other { .. } => 6,
        ProbeFailure::TlsFailed { .. } => 7,
    }
}
