//! One client's conversation as a machine: messages in, messages out, no socket and no clock.

#![deny(clippy::wildcard_enum_match_arm)]

mod rules;

pub use rules::{PoolMode, Rules};
