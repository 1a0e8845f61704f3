//! What to do about a statement, a lagging replica, a dead primary: functions and machines from
//! values to values. No clock, no socket, no lock.

#![deny(clippy::wildcard_enum_match_arm)]

mod choose;
mod classify;
mod route;
mod rules;

pub use choose::{Balance, Choice, choose, considered, resolve};
pub use classify::{Consistency, Port, Role, Standing, Transaction, classify};
pub use route::{Considered, Decision, Intent, Need, Refused, Route, Why};
pub use rules::{
    ConfirmBy, FailoverMode, FailoverRules, HealthRules, LagRules, LostBytes, ReadTargets,
    RouteRules, Rules, WhenAllLag,
};

#[cfg(test)]
mod cases;
