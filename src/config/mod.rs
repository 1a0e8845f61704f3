//! Settings: one table, the layers that fill it, the checks, and what the program is built from.
//!
//! This module builds the `Rules` of other modules; they do not know it.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism: files and the environment are read here"
)]

mod build;
mod build_access;
mod build_own;
mod build_peers;
mod build_tls;
mod check;
mod cross;
#[cfg(test)]
mod docs;
mod hba;
#[cfg(test)]
mod hba_cases;
mod load;
mod model;
mod names;
mod passfile;
mod problem;
mod secret;
mod settings;
mod show;
mod source;
mod table;
mod table_cluster;
mod table_own;
#[cfg(test)]
mod tests;
pub mod userlist;
mod value;

pub use load::{load, load_text};
pub use model::{
    AdminConfig, AuthConfig, AuthMethod, ClientCertificates, ClusterConfig, Config, Host, Limits,
    Listen, ListenTls, ListenTlsMode, LogConfig, LogFormat, MonitorConfig, ShutdownConfig,
};
pub use problem::{Code, Place, Problem, Problems, Severity};
pub use secret::Secret;
pub use settings::{Applies, Kind, Setting};
pub use show::{Change, ConfigRow, diff};
pub use source::Environment;
pub use table::SETTINGS;
