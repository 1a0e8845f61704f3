//! Timelines: which history of the WAL a position belongs to.

use std::fmt;

use super::Lsn;

/// The number of a timeline. A promotion begins a new one.
///
/// The number alone is no identity: two replicas promoted independently both begin the same
/// number. See [`Lineage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

/// The identifier that `initdb` gave to a cluster; replicas share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

/// What makes a history unique: cluster, timeline, and where that timeline began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline that is current on the primary.
    pub timeline: Timeline,
    /// Where it left the one before; [`Lsn::ZERO`] when we did not see it begin.
    pub forked_at: Lsn,
}

impl Timeline {
    /// The timeline in the name of a WAL segment file, such as `00000002000000000000000A`.
    ///
    /// Source: PostgreSQL 17, `XLogFileName` in `access/xlog_internal.h`.
    pub fn from_wal_file_name(name: &str) -> Option<Self> {
        let digits = name.get(..8).filter(|_| name.len() == 24)?;
        u32::from_str_radix(digits, 16)
            .ok()
            .filter(|number| *number > 0)
            .map(Self)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_file_name_begins_with_its_timeline() {
        let timeline = Timeline::from_wal_file_name("0000001F000000000000000A");
        assert_eq!(timeline, Some(Timeline(31)));
        assert_eq!(Timeline::from_wal_file_name("0000001F"), None);
        assert_eq!(
            Timeline::from_wal_file_name("000000000000000000000000"),
            None
        );
    }
}
