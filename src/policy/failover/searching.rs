//! Who is the primary: at the start, and when somebody else promoted another server.

use std::time::Instant;

use super::halted::Halted;
use super::machine::{Cx, Failover, State};
use super::promoting::PromotingStep;
use crate::cluster::{Lineage, Lsn};
use crate::policy::action::{Action, Alert};
use crate::policy::facts::{Member, World};
use crate::policy::record::{HaltReason, RecordKind, Trigger};

impl Failover {
    pub(super) fn search(&mut self, cx: &mut Cx<'_>, since: Instant) -> State {
        if !cx.world.everybody_asked {
            return State::Searching { since };
        }
        let system_id = self.lineage.map(|lineage| lineage.system_id);
        let newest = match system_id.or_else(|| cx.world.common_system_id()) {
            Some(system_id) => cx.world.newest_primaries(system_id),
            None => Vec::new(),
        };
        // Replicas of a newer timeline know of a primary that we do not see.
        let seen_timeline = cx
            .world
            .members
            .iter()
            .filter_map(|member| member.timeline)
            .max();
        let known = self.lineage.map(|lineage| lineage.timeline);
        let at_least = known.max(self.lineage.is_none().then_some(seen_timeline).flatten());
        let newest: Vec<_> = newest
            .into_iter()
            .filter(|member| member.timeline >= at_least)
            .collect();
        let remembered = newest
            .iter()
            .find(|member| member.timeline == known && Some(member.id) == self.primary_known);
        match (newest.as_slice(), remembered) {
            ([member], _) => self.found(cx, member),
            (_, Some(member)) => self.found(cx, member),
            ([], None) => match self.primary_known {
                Some(primary) if cx.world.is_lost(primary, self.crowned) => {
                    self.enter_doubt(cx, primary)
                }
                Some(_) | None => State::Searching { since },
            },
            (_, None) => {
                cx.out
                    .push(Action::Alert(Alert::Halted(HaltReason::Ambiguous)));
                State::Halted(Halted {
                    why: HaltReason::Ambiguous,
                    since: cx.now,
                    primary: None,
                    decision: None,
                    reachable: cx.world.reachable(),
                })
            }
        }
    }

    /// The primary at start.
    fn found(&mut self, cx: &mut Cx<'_>, member: &Member) -> State {
        let (Some(system_id), Some(timeline)) = (member.system_id, member.timeline) else {
            return State::Searching { since: cx.now };
        };
        let same = self.primary_known == Some(member.id)
            && self
                .lineage
                .is_some_and(|lineage| lineage.timeline == timeline);
        if !same {
            self.epoch = self.epoch.next();
            self.primary_known = Some(member.id);
            self.lineage = Some(Lineage {
                system_id,
                timeline,
                forked_at: Lsn::ZERO,
            });
            cx.out
                .extend(self.memory(cx.world.members, None).map(Action::Record));
        }
        cx.out.push(Action::ResumeWrites {
            server: member.id,
            epoch: self.epoch,
        });
        State::Steady { primary: member.id }
    }

    /// A server that somebody else promoted: primary of the same cluster, on a newer timeline than
    /// ours, alone there, and seen so twice.
    pub(super) fn newer_primary<'a>(&self, world: &World<'a>, state: &State) -> Option<&'a Member> {
        let lineage = self.lineage?;
        let ours = match state {
            State::Searching { .. } => return None,
            // What we promote ourselves is reported by the action, with the fork.
            State::Promoting(promoting) => match promoting.step {
                PromotingStep::Ordered | PromotingStep::Recording => Some(promoting.candidate),
                PromotingStep::RetryAt(_) => None,
            },
            State::Halted(halted) if halted.why == HaltReason::Ambiguous => return None,
            State::Steady { .. }
            | State::Doubt(_)
            | State::Collecting(_)
            | State::Settling(_)
            | State::Halted(_) => None,
        };
        let newest = world.newest_primaries(lineage.system_id);
        let [member] = newest.as_slice() else {
            return None;
        };
        let newer = member.timeline > Some(lineage.timeline) && member.times_primary >= 2;
        (newer && ours != Some(member.id)).then_some(member)
    }

    /// Follows what somebody else did.
    pub(super) fn adopt(&mut self, cx: &mut Cx<'_>, member: &Member) -> State {
        if self.story.is_none() {
            self.begin_story(cx.now, Trigger::NewerPrimary);
        }
        self.crown(cx, member, Lsn::ZERO, RecordKind::Followed)
    }
}
