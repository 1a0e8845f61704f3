//! The primary answers: watch it, and tell replicas that went astray where it is.

use std::time::Duration;

use super::machine::{Cx, Failover, State};
use crate::cluster::{Lsn, ServerId};
use crate::policy::FailoverMode;
use crate::policy::action::Action;
use crate::policy::facts::World;

impl Failover {
    pub(super) fn steady(&mut self, cx: &mut Cx<'_>, primary: ServerId) -> State {
        self.order = None;
        if cx.world.is_lost(primary, self.crowned) {
            return self.enter_doubt(cx, primary);
        }
        self.tell_stragglers(cx, primary);
        State::Steady { primary }
    }

    /// Replicas that came back after the others were told, or were left cut off.
    fn tell_stragglers(&mut self, cx: &mut Cx<'_>, primary: ServerId) {
        if !may_repoint(&cx.world) {
            return;
        }
        let Some(leader) = cx.world.member(primary).map(|member| &member.address) else {
            return;
        };
        // A replica is only told where to go when we know that the primary moved.
        let moved = self
            .lineage
            .is_some_and(|lineage| lineage.forked_at != Lsn::ZERO);
        for member in cx.world.witnesses(primary) {
            let last = *self.told.entry(member.id).or_insert(cx.now);
            if member.streams(self.lineage) {
                self.told.insert(member.id, cx.now);
            } else if cx.now.saturating_duration_since(last) >= TELL_AGAIN {
                self.told.insert(member.id, cx.now);
                let (server, leader) = (member.id, leader.clone());
                cx.out.push(match moved {
                    true => Action::Follow { server, leader },
                    false => Action::Unfreeze { server, leader },
                });
            }
        }
    }
}

pub(super) fn may_repoint(world: &World<'_>) -> bool {
    world.rules.repoint && world.rules.mode != FailoverMode::Observe
}

/// Between two attempts to tell a replica where the primary is.
const TELL_AGAIN: Duration = Duration::from_secs(5);
