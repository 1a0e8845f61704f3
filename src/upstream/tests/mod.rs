//! A server that says what a script says, and what our side makes of it.

mod directory;
mod fake;
mod fences;
mod logins;
mod pools;
mod with_postgres;

use std::sync::Arc;

use crate::clock;
use crate::telemetry::{Moment, Telemetry};

/// The counters of a cluster of one server.
pub(super) fn telemetry() -> Arc<Telemetry> {
    let started = Moment {
        now: clock::now(),
        wall: clock::wall(),
    };
    Arc::new(Telemetry::new("main", 1, started))
}
