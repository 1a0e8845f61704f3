//! The process that cleans up when we are done, and also when we are killed.
//!
//! It waits on a pipe that only we hold. Whatever ends us closes the pipe: a return, a panic,
//! Ctrl-C, `kill -9`. There is one way of cleaning up, so it is tested each time.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::error::LocalError;

/// Whether the data directories outlive the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Remove,
}

/// The watchdog and our end of its pipe.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
}

impl Watchdog {
    /// Starts it; from here on nothing below these directories outlives us.
    pub(super) fn start(sockets: &Path, data: &Path, after: After) -> Result<Self, LocalError> {
        let child = Command::new("/bin/sh")
            .args(["-c", include_str!("watchdog.sh"), "pgherd-watchdog"])
            .args([sockets, data])
            .arg(match after {
                After::Keep => "keep",
                After::Remove => "remove",
            })
            // Ctrl-C in a terminal goes to the whole group; the watchdog must outlive it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(LocalError::system("start the watchdog /bin/sh"))?;
        Ok(Self { child })
    }
}

impl Drop for Watchdog {
    /// Tells it to begin and waits until it is done. The servers and the files are gone after that.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            // If it does not read any more, closing the pipe says the same a second later.
            pipe.write_all(b"done\n").ok();
        }
        // An error means that somebody else has waited for it: then there is nothing to wait for.
        self.child.wait().ok();
    }
}
