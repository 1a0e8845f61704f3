//! What an operator may tune of a session. Built by `config`.

use std::time::Duration;

use crate::cluster::{ByteCount, Own};

/// The limits of one client session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a login may take, from the first byte to `ReadyForQuery`.
    pub login_timeout: Duration,
    /// How long a statement waits for a primary before it is refused.
    pub hold_clients: Duration,
    /// How long a statement waits while an operator pauses its database, before it is refused.
    pub hold_paused: Duration,
    /// How many bytes of a client's unfinished or waiting work are kept in memory. What is larger
    /// is streamed to the primary without being read ahead.
    pub gather_max: ByteCount,
    /// A client silent for this long outside a transaction is closed; zero means never.
    pub idle_timeout: Duration,
    /// A client silent for this long inside a transaction is closed; zero means never.
    pub idle_in_transaction_timeout: Duration,
    /// A unit of work that runs for longer than this is cancelled; zero means never.
    pub query_timeout: Duration,
    /// A client whose transaction lasts for longer than this is closed; zero means never.
    pub transaction_timeout: Duration,
    /// What single users and databases have instead.
    pub own: Own<OwnRules>,
    /// How many prepared statements a client may hold.
    pub prepared_statements_max: usize,
    /// How many bytes of statement text the prepared statements of a client may hold.
    pub prepared_bytes_max: ByteCount,
    /// How many channels a client may listen to.
    pub channels_max: usize,
    /// How many bytes of notifications wait for a client that does not take them.
    pub notifications_max: ByteCount,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(15),
            hold_clients: Duration::from_secs(10),
            hold_paused: Duration::from_secs(120),
            gather_max: ByteCount(1 << 20),
            idle_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
            query_timeout: Duration::ZERO,
            transaction_timeout: Duration::ZERO,
            own: Own::default(),
            prepared_statements_max: 10_000,
            prepared_bytes_max: ByteCount(16 << 20),
            channels_max: 1000,
            notifications_max: ByteCount(1 << 20),
        }
    }
}

/// What a user or a database has instead of what everybody has; `None` is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRules {
    /// See [`Rules::idle_timeout`].
    pub idle_timeout: Option<Duration>,
    /// See [`Rules::idle_in_transaction_timeout`].
    pub idle_in_transaction_timeout: Option<Duration>,
    /// See [`Rules::query_timeout`].
    pub query_timeout: Option<Duration>,
    /// See [`Rules::transaction_timeout`].
    pub transaction_timeout: Option<Duration>,
}

impl Rules {
    /// The rules for a user in a database, when they are not everybody's.
    pub fn own_of(&self, user: &str, database: &str) -> Option<Self> {
        self.own.of(user, database).next()?;
        let last = |value: fn(&OwnRules) -> Option<Duration>, all| {
            self.own.last(user, database, value).unwrap_or(all)
        };
        Some(Self {
            idle_timeout: last(|own| own.idle_timeout, self.idle_timeout),
            idle_in_transaction_timeout: last(
                |own| own.idle_in_transaction_timeout,
                self.idle_in_transaction_timeout,
            ),
            query_timeout: last(|own| own.query_timeout, self.query_timeout),
            transaction_timeout: last(|own| own.transaction_timeout, self.transaction_timeout),
            own: Own::default(),
            ..*self
        })
    }

    /// Whether what runs has a limit of time.
    pub(super) const fn has_limit_of_running(&self) -> bool {
        !self.query_timeout.is_zero() || !self.transaction_timeout.is_zero()
    }
}
