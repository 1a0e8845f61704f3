//! Probes on a schedule, and the actions of a failover.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod catalog;

pub use catalog::read_catalog;
