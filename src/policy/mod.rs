//! What to do about a statement, a lagging replica, a dead primary: functions and machines from
//! values to values. No clock, no socket, no lock.

#![deny(clippy::wildcard_enum_match_arm)]

mod access;
mod action;
pub mod candidate;
mod choose;
mod classify;
pub mod facts;
pub mod failover;
pub mod freshness;
pub mod health;
mod record;
mod route;
mod rules;
mod story;
mod supervisor;
pub mod transitions;

pub use access::{
    AccessMethod, AccessRule, AccessRules, CertificateNeed, DatabaseName, Door, Network, Origin,
    UserName, Visit,
};
pub use action::{Action, Alert, FailedWhy, Frozen, Order, Outcome, Promoted, Remembered};
pub use choose::{Balance, Choice, choose, considered, resolve};
pub use classify::{
    CalledCode, Consistency, Port, Role, Standing, Transaction, called_code, classify,
};
pub use record::{
    Blocked, FailoverRecord, HaltReason, RecordKind, RecordPhase, RecordResult, Trigger,
};
pub use route::{Considered, Decision, Intent, Need, Refused, Route, Why};
pub use rules::{
    ConfirmBy, FailoverMode, FailoverRules, HealthRules, LagRules, LostBytes, ReadTargets,
    RouteRules, Rules, WhenAllLag,
};
pub use supervisor::{Configured, Event, Operator, Supervisor};

#[cfg(test)]
mod cases;
