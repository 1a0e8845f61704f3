//! Connections to the servers: connect, authenticate, pool, lend, cancel.
//!
//! What runs on a connection is the session's business. What is decided here is only whether a
//! connection may be lent at all: it must be alive, not too old, and of an epoch that has not
//! ended for its server.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod auth;
mod cancel;
mod clean;
mod connection;
mod control;
mod direct;
mod error;
mod flights;
mod frame;
mod gate;
mod identity;
mod lease;
mod links;
mod login;
mod lookup;
mod open;
mod opener;
mod pool;
mod queue;
mod rules;
mod shelf;
mod upstreams;
mod verifiers;

#[cfg(test)]
mod tests;

pub use cancel::{cancel_at, cancel_by};
pub use connection::Connection;
pub use control::{ControlConnection, ControlStream, ControlTls, InForce, tls_failure};
pub use direct::Direct;
pub use error::{AuthMethod, ConnectError, Fault, Full, GetError, ServerError};
pub use identity::{Login, Secret};
pub use lease::Lease;
pub use lookup::{LookupError, LookupRules, VerifierSource};
pub use pool::PoolHandle;
pub use rules::{OwnRules, Rules};
pub use upstreams::{POOLS_MAX, Upstreams};
