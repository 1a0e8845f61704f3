//! One connection to a server, logged in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::BytesMut;

use crate::cluster::{Epoch, ServerId};
use crate::net::Stream;
use crate::telemetry::ServerEntry;
use crate::wire::CancelKey;

/// A connection to a server. `S` is what the session layer keeps with it, such as the prepared
/// statements that the server has; nothing here looks into it.
#[derive(Debug)]
pub struct Connection<S> {
    /// The socket.
    pub stream: Stream,
    /// What was read from the server and not handled yet. Empty whenever nobody has the
    /// connection: a connection that is given back with bytes in here is closed.
    pub input: BytesMut,
    /// The server at the other end.
    pub server: ServerId,
    /// The newest epoch that was known when the connection was begun.
    pub epoch: Epoch,
    /// The settings that the server reported. Connections of one pool share the map until one
    /// of them changes.
    pub parameters: Arc<BTreeMap<String, String>>,
    /// The server's `in_hot_standby` when it was last reported; `None` before PostgreSQL 14.
    pub is_hot_standby: Option<bool>,
    /// For cancelling what runs on this connection; `None` when the server gave no key.
    pub cancel_key: Option<CancelKey>,
    /// When it was logged in.
    pub opened_at: Instant,
    /// When it was last given back; when it was logged in before that.
    pub last_used: Instant,
    /// The session layer's own.
    pub state: S,
    /// Whether nobody has it: then a message boundary was reached in both directions.
    pub(super) at_rest: bool,
    /// The server's generation when the connection was begun; see `retire`.
    pub(super) generation: u64,
    /// The generation of its pool when it was begun, and now; see `renew`.
    pub(super) turn: Turn,
    /// Its line in SHOW SERVERS, which ends with it.
    pub(super) entry: ServerEntry,
}

/// Which generation of a pool a connection belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    begun: u64,
    now: Arc<AtomicU64>,
}

impl Turn {
    /// For a connection that is begun now.
    pub(super) fn begin(&self) -> Self {
        Self {
            begun: self.now.load(Ordering::Acquire),
            now: Arc::clone(&self.now),
        }
    }

    /// Ends all that was begun.
    pub(super) fn next(&self) {
        self.now.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn is_current(&self) -> bool {
        self.begun == self.now.load(Ordering::Acquire)
    }
}

impl<S> Connection<S> {
    /// Counts a statement that is sent on it.
    pub fn count_query(&self) {
        self.entry.count_query();
    }

    /// Takes note of a `ParameterStatus` that came during a session.
    pub fn set_parameter(&mut self, name: &str, value: &str) {
        if name == IN_HOT_STANDBY {
            self.is_hot_standby = Some(value == "on");
        }
        if self.parameters.get(name).is_none_or(|old| old != value) {
            Arc::make_mut(&mut self.parameters).insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Says goodbye if nobody has the connection and the socket takes it at once. Somebody who had it
/// may have sent a part of a message, which the goodbye would complete.
impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if self.at_rest {
            let _closed_already = self.stream.try_write(TERMINATE);
        }
    }
}

/// What the server's parameters say of its role.
pub(super) fn hot_standby(parameters: &BTreeMap<String, String>) -> Option<bool> {
    parameters.get(IN_HOT_STANDBY).map(|value| value == "on")
}

/// Reported since PostgreSQL 14.
const IN_HOT_STANDBY: &str = "in_hot_standby";
const TERMINATE: &[u8] = b"X\0\0\0\x04";
