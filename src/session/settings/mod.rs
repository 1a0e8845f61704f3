//! Settings that a session takes along from one server connection to the next, instead of staying on
//! one because of them.
//!
//! What the session wants is followed through its transactions and savepoints as a server follows
//! it. What a connection holds travels with the connection. Where the two differ, the connection is
//! told before it gets the session's next unit. What is not known exactly is not carried: it pins.

mod carried;
mod frames;
mod values;

#[cfg(test)]
mod tests;

pub(super) use carried::changes_of;
pub(super) use frames::{Done, Doubt, Settings};
pub use values::Values;
