//! The whole cluster as one machine: observations and results in, actions and a snapshot out.
//!
//! It keeps the books of each server (health, lag, timeline, quarantine) and lets `failover`
//! decide who the primary is. It owns no clock and no connection: a simulator plays it with the
//! same calls as the monitor does.

mod event;
mod machine;
mod quarantine;
mod tracked;
mod view;

pub use event::{Configured, Event, Operator};
pub use machine::Supervisor;
