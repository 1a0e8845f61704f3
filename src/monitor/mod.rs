//! Probes on a schedule, and the actions of a failover.
//!
//! One task for each server asks it on a connection of its own, never through the pools. One task,
//! the brain, owns the [`Supervisor`](crate::policy::Supervisor), gives it what was observed,
//! publishes its snapshot, and has its actions carried out. No rule lives here.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod catalog;
mod catalogs;

pub use catalog::read_catalog;
pub use catalogs::CatalogStore;
mod actions;
mod authority;
mod brain;
mod connect;
mod conninfo;
mod events;
mod handle;
mod probe;
mod prober;

use std::sync::Arc;
use std::time::Duration;

use crate::policy::{Configured, Remembered, Rules};
use crate::telemetry::Telemetry;
use crate::upstream::ControlTls;

pub use authority::AuthorityError;
pub use events::{MonitorEvent, Recorded};
pub use handle::{MonitorBusy, MonitorHandle, PlaceForRules};

/// Who we are when we look at the servers.
#[derive(Clone)]
pub struct MonitorSettings {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// The database; `EXECUTE` on `pg_promote` must have been granted in it.
    pub database: String,
    /// What the servers' activity views call us.
    pub application_name: String,
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
    /// How connections are encrypted.
    pub tls: ControlTls,
}

/// Writes what must survive a restart, durably. Called on a thread that may block.
pub type Keep = Arc<dyn Fn(&Remembered) -> std::io::Result<()> + Send + Sync>;

/// What the monitor is made of.
pub struct Deps {
    /// The servers; the place in the list is the number.
    pub servers: Vec<Configured>,
    /// Who we are.
    pub settings: MonitorSettings,
    /// The rules at the start.
    pub rules: Rules,
    /// What was kept by the last run.
    pub remembered: Option<Remembered>,
    /// How to keep it.
    pub keep: Keep,
    /// Where probes are counted.
    pub telemetry: Arc<Telemetry>,
}

/// Starts the monitor. It runs until [`MonitorHandle::shutdown`].
///
/// Must be called within a tokio runtime.
pub fn start(deps: Deps) -> MonitorHandle {
    brain::start(deps)
}

impl std::fmt::Debug for MonitorSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MonitorSettings")
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps")
            .field("servers", &self.servers)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            user: "pgherd_monitor".into(),
            password: None,
            database: "postgres".into(),
            application_name: "pgherd monitor".into(),
            connect_timeout: Duration::from_secs(1),
            tls: ControlTls::default(),
        }
    }
}
