//! Whether the promises were kept: what was acknowledged against what is there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::load::Ledger;
use super::stage::DemoError;
use crate::local::LocalCluster;

/// The death of a primary.
#[derive(Clone, Debug)]
pub(super) struct Crash {
    pub(super) at: Instant,
    /// Who died.
    pub(super) old: String,
    /// Who took over.
    pub(super) new: String,
    pub(super) new_node: usize,
}

/// What became of the acknowledged rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    acknowledged: usize,
    /// More than once.
    doubled: usize,
    /// Acknowledged by the old primary just before it died, and not received by the new one. With
    /// asynchronous replication PostgreSQL promises no more.
    not_received: usize,
    /// Missing without such an excuse.
    lost: usize,
    /// There, and yet not seen by the session that wrote it.
    stale: usize,
}

/// How often each row is there.
pub(super) async fn rows(
    cluster: &LocalCluster,
    node: usize,
) -> Result<BTreeMap<i64, i64>, DemoError> {
    let client = cluster.connect(node).await?;
    let rows = client
        .query("SELECT id, count(*) FROM load GROUP BY id", &[])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Compares the two.
pub(super) fn judge(ledger: &Ledger, rows: &BTreeMap<i64, i64>, crash: &Crash) -> Kept {
    let mut kept = Kept {
        acknowledged: ledger.acknowledged.len(),
        doubled: rows.values().filter(|count| **count > 1).count(),
        ..Kept::default()
    };
    for row in &ledger.acknowledged {
        if rows.contains_key(&row.id) {
            continue;
        }
        let before_the_end = row.at + UNSENT >= crash.at;
        if row.node == crash.old && before_the_end {
            kept.not_received += 1;
        } else {
            kept.lost += 1;
        }
    }
    let is_there = |id: &&i64| rows.contains_key(id);
    kept.stale = ledger.not_seen.iter().filter(is_there).count();
    kept
}

impl Kept {
    pub(super) fn is_well(&self) -> bool {
        self.acknowledged > 0 && self.doubled == 0 && self.lost == 0 && self.stale == 0
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = self.acknowledged - self.not_received - self.lost;
        write!(
            f,
            "{} acknowledged: {there} are there, {} twice, {} lost; {} not received by the promoted \
             replica before the crash; {} not seen by their own session",
            self.acknowledged, self.doubled, self.lost, self.not_received, self.stale
        )
    }
}

/// A write that was under way on a connection to the dead primary may or may not have happened,
/// and no router can know. All other statements wait or are sent again.
pub(super) fn are_expected(errors: &BTreeMap<String, u64>) -> bool {
    let is_unknown_end = |code: &String| UNKNOWN_END.contains(&code.as_str());
    errors.keys().all(is_unknown_end)
        && errors.values().sum::<u64>() <= super::load::WRITERS.unsigned_abs()
}

/// `transaction_resolution_unknown`, `statement_completion_unknown`.
const UNKNOWN_END: [&str; 2] = ["08007", "40003"];
/// How long before the crash a row may have been acknowledged and still not have been sent to a
/// replica that streams.
const UNSENT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::load::Acknowledged;
    use super::*;

    fn crash() -> Crash {
        Crash {
            at: crate::clock::now(),
            old: "node1".to_owned(),
            new: "node2".to_owned(),
            new_node: 1,
        }
    }

    /// A row with the id 7, acknowledged so long before the crash.
    fn ledger(crash: &Crash, node: &str, before: Duration) -> Ledger {
        Ledger {
            acknowledged: vec![Acknowledged {
                id: 7,
                at: crash.at.checked_sub(before).unwrap(),
                node: node.to_owned(),
            }],
            not_seen: Vec::new(),
        }
    }

    #[test]
    fn a_row_that_the_dead_primary_acknowledged_last_may_not_have_been_received() {
        let crash = crash();
        let ledger = ledger(&crash, "node1", Duration::from_millis(5));
        let kept = judge(&ledger, &BTreeMap::new(), &crash);
        assert!(kept.is_well() && kept.not_received == 1, "{kept}");
    }

    #[test]
    fn a_row_that_was_acknowledged_long_before_or_by_the_new_primary_must_be_there() {
        let crash = crash();
        for (node, before) in [("node1", 5), ("node2", 0)] {
            let ledger = ledger(&crash, node, Duration::from_secs(before));
            assert!(!judge(&ledger, &BTreeMap::new(), &crash).is_well());
            assert!(judge(&ledger, &BTreeMap::from([(7, 1)]), &crash).is_well());
        }
    }

    #[test]
    fn a_row_twice_and_a_row_that_its_writer_did_not_see_are_failures() {
        let crash = crash();
        let mut ledger = ledger(&crash, "node2", Duration::ZERO);
        assert!(!judge(&ledger, &BTreeMap::from([(7, 2)]), &crash).is_well());
        ledger.not_seen.push(7);
        assert!(!judge(&ledger, &BTreeMap::from([(7, 1)]), &crash).is_well());
    }

    #[test]
    fn only_writes_under_way_may_end_with_an_error() {
        let errors = |code: &str, count| BTreeMap::from([(code.to_owned(), count)]);
        assert!(are_expected(&BTreeMap::new()) && are_expected(&errors("08007", 3)));
        assert!(!are_expected(&errors("08007", 4)));
        assert!(!are_expected(&errors("57P01", 1)));
    }
}
