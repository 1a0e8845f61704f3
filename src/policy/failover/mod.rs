//! The promotion machine: facts and results in, actions out, time as an argument.
//!
//! Its one promise: writes go to one server, and to another only after every replica that can be
//! reached was cut off from the first, the one with the most WAL was chosen, and the choice was
//! written down. From then on it goes forward with the same server or stands still and says why.
//! The moves are listed in `transitions`; the facts come from `supervisor`.

mod candidates;
mod collecting;
mod doubt;
mod halted;
mod machine;
mod promoting;
mod searching;
mod settling;
mod steady;
mod watching;

pub use collecting::Fenced;
pub use machine::{Failover, Input};
