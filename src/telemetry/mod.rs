//! What happened, as counters, log lines and lists.
//!
//! The hot path only adds to atomics whose place was resolved before: no lock, no label, no
//! allocation for each statement. What people ask for is put together when they ask.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod codes;
mod counters;
mod directory;
mod events;
mod histogram;
pub mod log;
mod meters;
mod process;
mod rates;
mod render;
mod time;

pub use codes::{ErrorOrigin, LoginResult, RetryCause};
pub use directory::{
    ClientEntry, ClientInfo, ClientState, ClientView, Directory, PoolEntry, PoolInfo, PoolView,
    PoolWait, ServerConnectionInfo, ServerConnectionState, ServerConnectionView, ServerEntry,
    Totals,
};
pub use events::{CandidateSummary, Event, Events, FailoverSummary, PhaseSummary, Severity};
pub use log::{LogError, LogFormat, LogHandle, init};
pub use meters::{Hold, RoutedCount, Suffered, Telemetry};
pub use render::CONTENT_TYPE;
pub use time::{Moment, rfc3339, utc};
