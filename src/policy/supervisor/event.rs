//! What the whole machine is told: its servers, and what happens to them.

use std::sync::Arc;
use std::time::Instant;

use crate::cluster::{Address, Observation, ServerId};
use crate::policy::Rules;
use crate::policy::action::{Order, Outcome};

/// A server of the configuration; its place in the list is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its name for people.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Its share of reads.
    pub weight: u32,
    /// Whether it may be promoted.
    pub candidate: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A probe ended.
    Observed(Observation),
    /// A client's connection to this server was refused or reset.
    ClientSawLoss {
        /// The server.
        server: ServerId,
        /// When.
        at: Instant,
    },
    /// An action ended.
    Done(Outcome),
    /// Time has passed.
    Tick,
    /// The configuration was read again.
    RulesChanged(Rules),
    /// An operator gave a command.
    Operator(Operator),
}

/// The commands of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Promote although the mode or the cooldown says no. The primary must be dead all the same.
    Failover(Order),
    /// A halted machine looks again.
    LookAgain,
    /// No more reads on this replica.
    Drain(ServerId),
    /// Reads again.
    Undrain(ServerId),
    /// Statements for the primary wait.
    Pause,
    /// They no longer do.
    Resume,
}
