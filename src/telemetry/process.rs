//! What the operating system says of this process. Read from /proc, so only on Linux; elsewhere
//! the metrics are left out.

/// Standard process metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessUse {
    /// Resident memory, in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub(super) open_files: Option<u64>,
}

/// Reads them now.
pub(super) fn read() -> ProcessUse {
    let status = std::fs::read_to_string("/proc/self/status").ok();
    ProcessUse {
        resident_bytes: status.as_deref().and_then(resident_bytes),
        open_files: std::fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|files| u64::try_from(files.count()).ok()),
    }
}

/// `VmRSS` of /proc/self/status, which is in units of 1024 bytes whatever the page size.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tpgherd\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes(status), Some(2048 * 1024));
        assert_eq!(resident_bytes("Name:\tpgherd\n"), None);
    }
}
