//! The router in front of real servers: what only they can tell.
//!
//! One cluster is shared by all tests that do it no harm; the others take turns with one of their
//! own. Without PostgreSQL these fail, with the list of places; `PGHERD_TEST_PG=off` says that this
//! is wanted.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::large_futures,
    reason = "tests act, and fail by panicking"
)]

#[path = "sim/random.rs"]
mod random;
mod support;

/// In one module, so that `./dev test --quick` can leave all of them out by its name.
#[path = "."]
mod with_postgres {
    mod access;
    mod begun;
    mod cancel;
    mod console;
    mod copy;
    mod drivers;
    mod failover;
    mod freshness;
    mod hazards;
    mod hostile;
    mod leaks;
    mod limits;
    mod listen;
    mod login;
    mod metrics;
    mod orders;
    mod pins;
    mod places;
    mod prepared;
    mod protocol;
    mod reload;
    mod replication;
    mod routing;
    mod sisters;
    mod sockets;
    mod stop;
    mod takeover;
    mod tls;
    mod tls_servers;
    mod verifiers;
}
