//! A server connection between two users: what has to happen before somebody else may have it.
//!
//! Nearly always that is nothing. A cancel that is on its way to it must land first, and what its
//! session left on it must be dropped; what cannot be shown to be clean is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::cancel::Flights;
use crate::clock;
use crate::session::{Condition, ServerSide};
use crate::upstream::Lease;

/// A connection that its session needs no more.
pub(super) struct Parting {
    pub(super) lease: Lease<Option<Box<ServerSide>>>,
    pub(super) side: Box<ServerSide>,
    pub(super) condition: Condition,
    /// The cancels that were sent to it while the session had it, if there were any.
    pub(super) flights: Option<Arc<Flights>>,
}

impl Parting {
    /// Gives the connection back to its pool, as soon as it may have another user.
    pub(super) fn begin(self, now: Instant) {
        match (self.condition, &self.flights) {
            (Condition::Clean, None) => self.end(now),
            (Condition::Clean, Some(_)) | (Condition::Reset, _) => {
                // It keeps its place in the pool meanwhile. The task ends by itself: cancels and
                // cleaning have their limits.
                tokio::spawn(self.prepare());
            }
            (Condition::Discard, _) => self.lease.discard(),
        }
    }

    async fn prepare(mut self) {
        let server = self.lease.server;
        if let Some(flights) = self.flights.take()
            && !flights.all_landed().await
        {
            debug!(server = %server, "server connection closed: a cancel may still reach it");
            return self.lease.discard();
        }
        if self.condition == Condition::Reset {
            if let Err(error) = self.lease.clean(CLEAN_LIMIT).await {
                debug!(server = %server, error = %error, "server connection closed: not cleaned");
                return self.lease.discard();
            }
            self.side.clear();
        }
        self.end(clock::now());
    }

    fn end(mut self, now: Instant) {
        self.lease.state = Some(self.side);
        self.lease.release(now);
    }
}

/// How long a server may take to forget a session. Dropping many temporary tables takes a while,
/// and nobody waits for a server that hangs.
const CLEAN_LIMIT: Duration = Duration::from_secs(10);
