//! The one reader of time and entropy. Everybody else is told.
#![allow(
    clippy::disallowed_methods,
    reason = "mechanism: this is where the clock is read"
)]

use std::time::{Instant, SystemTime};

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for what people read.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Random bytes from the operating system.
///
/// # Errors
///
/// When the operating system has none to give.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
