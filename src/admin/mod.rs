//! Seen from outside: the console that speaks SQL, health checks, metrics and status by HTTP.
//!
//! Everything here reads: the snapshot, the telemetry, the configuration. The one thing that it
//! sets off is a reload, and that is a function that the application handed in.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod assets;
mod command;
mod console;
mod health;
mod http;
mod listen;
mod listening;
mod pgbouncer;
mod select;
mod sources;
mod summary;
mod table;
mod views;

pub use command::{Order, Shutdown, order};
pub use console::{Console, ConsoleReply};
pub use http::serve;
pub use sources::{
    ChannelView, ConfigRowView, ConsoleSources, ConsoleUser, FailoverOrder, ListenerView,
    RouterView,
};
pub use table::{ColumnKind, Table};

#[cfg(test)]
mod fixture;
