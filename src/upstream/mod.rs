//! Connections to the servers: connect, authenticate, pool, lend, cancel.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod rules;

pub use rules::Rules;
