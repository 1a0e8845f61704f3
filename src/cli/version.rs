//! `pgherd version`.

use std::io::{self, Write};

use super::Outcome;

/// Prints the name and the version.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn version(out: &mut dyn Write) -> io::Result<Outcome> {
    writeln!(out, "pgherd {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Outcome::Fine)
}
