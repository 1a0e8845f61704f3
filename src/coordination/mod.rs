//! Who may decide, and what survives a restart.
//!
//! One router that is the only way to the data decides alone: it is itself the fence for its
//! clients. What it must not forget is in one small file.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod state_file;

pub use state_file::{StateError, StateFile};
