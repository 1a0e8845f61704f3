//! A throw-away cluster from the PostgreSQL of this system: a primary and its streaming replicas.
//!
//! For `pgherd demo` and for the tests; no router is in here and nothing of what it decides. The
//! one thing to know: a watchdog process cleans up, whichever way we end, see [`LocalCluster`].
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod account;
mod binaries;
mod clone;
mod cluster;
mod error;
mod faults;
mod node;
mod options;
mod process;
mod settings;
mod sql;
mod template;
mod watchdog;

#[cfg(test)]
mod tests;

pub use binaries::{Environment, Programs, Tried};
pub use cluster::LocalCluster;
pub use error::LocalError;
pub use node::StopMode;
pub use options::{
    Auth, DATABASE, DEMO_PASSWORD, DEMO_ROLE, MONITOR_ROLE, Options, Role, SUPERUSER,
};
