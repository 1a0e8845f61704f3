//! Who must not be used: another cluster, an old primary that came back, a second one, a replica
//! that went on where the current history does not.

use super::machine::Supervisor;
use super::tracked::Tracked;
use crate::cluster::{Lineage, Lsn, QuarantineReason, ServerId};
use crate::policy::action::{Action, Alert};
use crate::policy::facts::Stream;

impl Supervisor {
    pub(super) fn quarantined(&self) -> Vec<Option<QuarantineReason>> {
        self.servers
            .iter()
            .map(|tracked| tracked.quarantine)
            .collect()
    }

    pub(super) fn judge_quarantines(&mut self, actions: &mut Vec<Action>) {
        let Some(lineage) = self.failover.lineage() else {
            return;
        };
        let primary = self.failover.primary();
        for (tracked, number) in self.servers.iter_mut().zip(0..) {
            let id = ServerId(number);
            let before = tracked.quarantine;
            tracked.quarantine = tracked.judge(lineage, Some(id) == primary);
            if let (true, Some(reason)) = (before != tracked.quarantine, tracked.quarantine) {
                actions.push(Action::Alert(Alert::Quarantined(id, reason)));
            }
        }
    }
}

impl Tracked {
    /// Whether this server must not be used, from what it last said.
    fn judge(&self, lineage: Lineage, is_primary: bool) -> Option<QuarantineReason> {
        let Some(sighting) = self.sighting() else {
            return self.quarantine;
        };
        if sighting.system_id != lineage.system_id {
            return Some(QuarantineReason::OtherCluster);
        }
        if self.health.is_failing() {
            return self.quarantine;
        }
        if !sighting.in_recovery {
            return match self.timeline {
                Some(timeline) if timeline < lineage.timeline => Some(QuarantineReason::OldPrimary),
                Some(timeline) if timeline == lineage.timeline && !is_primary => {
                    Some(QuarantineReason::SecondPrimary)
                }
                Some(_) | None if is_primary => None,
                Some(_) | None => self.quarantine,
            };
        }
        let streams_current = matches!(
            &self.stream,
            Stream::Connected { timeline, .. } if *timeline == Some(lineage.timeline)
        );
        // Replayed, not received: the end of what was received may be half a record, which a
        // replica drops without harm.
        let went_on = lineage.forked_at != Lsn::ZERO
            && self.timeline < Some(lineage.timeline)
            && sighting.position > lineage.forked_at;
        match (streams_current, went_on) {
            (true, _) => None,
            (false, true) => Some(QuarantineReason::Diverged),
            (false, false) => self.quarantine,
        }
    }
}
