//! Processes by their number: signals, children, and whether they are still there.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Sends a signal; that the process has gone meanwhile is no error.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = to_pid(pid) {
        // The process may have ended since we read its number: then the aim is reached.
        kill_process(pid, signal).ok();
    }
}

/// Whether the process still runs; one that has ended and was not yet waited for does not.
pub(super) fn is_running(pid: u32) -> bool {
    let exists = to_pid(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    exists && stat(pid).is_none_or(|stat| stat.state != 'Z')
}

/// The direct children of a process. All of a server's processes are children of its postmaster.
pub(super) fn children(parent: u32) -> Vec<u32> {
    if !Path::new("/proc/self/stat").exists() {
        return children_by_ps(parent);
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// The two fields that we need of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Source: proc_pid_stat(5). The name in parentheses may itself hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// Where there is no `/proc`, as on macOS.
fn children_by_ps(parent: u32) -> Vec<u32> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else {
        return Vec::new();
    };
    parse_ps(&String::from_utf8_lossy(&output.stdout), parent)
}

fn parse_ps(text: &str, parent: u32) -> Vec<u32> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse::<u32>);
            let pid = fields.next()?.ok()?;
            (fields.next()?.ok()? == parent).then_some(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_behind_a_name_with_spaces_and_parentheses() {
        let stat = parse_stat("4711 (a) b (c) S 42 4711 4711 0").unwrap();
        assert_eq!((stat.state, stat.parent), ('S', 42));
    }

    #[test]
    fn ps_lists_children_only() {
        assert_eq!(parse_ps("  1  0\n 10  1\n 11 10\n 12  1\n", 1), [10, 12]);
    }

    #[test]
    fn a_child_is_listed_and_a_process_that_was_not_waited_for_is_not_running() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        assert!(is_running(child.id()));
        signal(child.id(), Signal::KILL);
        while is_running(child.id()) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
