//! Keys from a terminal, one by one where it can be told so, else by lines.

use std::io::{self, IsTerminal, Read};
use std::process::{Command, Stdio};

use tokio::sync::mpsc;

/// Where keys come from. The terminal is as it was before when this is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    keys: mpsc::UnboundedReceiver<char>,
    /// How the terminal was set, in the words of stty.
    before: Option<String>,
}

impl Terminal {
    pub(super) fn open() -> Self {
        let (sender, keys) = mpsc::unbounded_channel();
        let before = take_keys_at_once();
        // A thread of its own, which ends with the process: a read from a terminal cannot be
        // called off, and the runtime would wait for it.
        std::thread::spawn(move || {
            for byte in io::stdin().lock().bytes() {
                let Ok(byte) = byte else { return };
                if !byte.is_ascii_whitespace() && sender.send(char::from(byte)).is_err() {
                    return;
                }
            }
        });
        Self { keys, before }
    }

    /// Whether Enter must be pressed after a key.
    pub(super) fn needs_enter(&self) -> bool {
        self.before.is_none()
    }

    /// The next key; waits for ever when there are none any more.
    pub(super) async fn key(&mut self) -> char {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            stty(&[before]);
        }
    }
}

/// Returns how the terminal was set, or `None` when it is none or has no stty.
fn take_keys_at_once() -> Option<String> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let before = stty(&["-g"])?;
    // Ctrl-C still is a signal.
    stty(&["-icanon", "-echo", "min", "1", "time", "0"])?;
    Some(before)
}

fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::inherit())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
