//! The demo from the outside: the program plays its story, and keeps its promise to clean up.
//!
//! Its ports are asked for far from those of a demo that somebody may be running meanwhile.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests act, and fail by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A demo that runs, and what it prints.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgherd"))
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until a line holds this.
    fn wait_for(&mut self, text: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.contains(text) {
                return line;
            }
        }
        panic!("the demo ended before it printed {text:?}")
    }

    /// The directory of its servers, from the arguments of its watchdog.
    fn directory(&self) -> PathBuf {
        let ours = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
            (parent == self.child.id().to_string()).then_some(())?;
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = command.split('\0').map(str::to_owned);
            words.find(|word| word.starts_with("/tmp/pgh."))
        };
        let processes = fs::read_dir("/proc").unwrap();
        let mut names = processes.map(|entry| entry.unwrap().file_name());
        let found = names.find_map(|name| ours(name.to_str()?));
        PathBuf::from(found.expect("the demo has a watchdog"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended, unless the test failed; its watchdog does the rest.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// No process has this directory among its arguments, and it is gone.
fn assert_nothing_is_left_of(directory: &Path) {
    let name = directory.to_str().unwrap().to_owned();
    let begun = Instant::now();
    loop {
        let left: Vec<String> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("cmdline")).ok())
            .filter(|command| command.contains(&name))
            .collect();
        if left.is_empty() && !directory.exists() {
            return;
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(20), "left: {left:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_script_needs_two_replicas() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .args(["demo", "--script", "--replicas", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// One at a time: the script measures.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In one module, so that `./dev test --quick` can leave them out by its name.
mod with_postgres {
    use super::*;

    #[test]
    fn the_script_passes_and_says_so_by_its_exit_code() {
        let _alone = alone();
        let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
            .args(["demo", "--script", "--port", "16432", "--http", "18432"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("\nPASS in "), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_left_behind_whichever_way_the_demo_ends() {
        let _alone = alone();
        for (signal, code) in [
            (Signal::INT, Some(0)),
            (Signal::TERM, Some(0)),
            (Signal::KILL, None),
        ] {
            let mut demo = Demo::start(&["--replicas", "1", "--port", "17432", "--http", "19432"]);
            demo.wait_for("break it");
            let directory = demo.directory();
            assert!(directory.exists());
            demo.signal(signal);
            assert_eq!(demo.child.wait().unwrap().code(), code);
            assert_nothing_is_left_of(&directory);
        }
    }
}
