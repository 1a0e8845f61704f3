//! What the machine knows, as the question that `candidate` answers: who is to be promoted?

use std::collections::BTreeMap;

use super::collecting::Freezing;
use super::machine::Failover;
use crate::cluster::{Lineage, ServerId};
use crate::policy::candidate::{self, Applicant, Assessment, Choice, Criteria};
use crate::policy::facts::World;
use crate::policy::record::Blocked;

impl Failover {
    pub(super) fn choose(
        &self,
        world: &World<'_>,
        primary: ServerId,
        lineage: Lineage,
        frozen: &BTreeMap<ServerId, Freezing>,
    ) -> Choice {
        let criteria = Criteria {
            lineage,
            known_flushed: world.known_flushed,
            max_lost: self
                .order
                .map_or(world.rules.max_lost, |order| order.accept_loss),
            only: self.order.and_then(|order| order.to),
        };
        let applicants: Vec<_> = world
            .members
            .iter()
            .map(|member| {
                let furthest = match frozen.get(&member.id) {
                    Some(Freezing::Frozen(furthest)) => member.furthest.max(Some(*furthest)),
                    Some(Freezing::Asked | Freezing::Watched(_)) | None => member.furthest,
                };
                Applicant {
                    server: member.id,
                    standing: member.standing(primary),
                    system_id: member.system_id,
                    timeline: member.timeline,
                    furthest,
                    replay_paused: member.replay_paused,
                }
            })
            .collect();
        candidate::choose(&criteria, &applicants)
    }
}

/// Why the choice is nobody.
pub(super) fn nobody(choice: &Choice) -> Blocked {
    let lost = choice.assessed.iter().any(|assessed| {
        matches!(
            assessed.assessment,
            Assessment::TooMuchLost(_) | Assessment::LossUnknown
        )
    });
    match lost {
        true => Blocked::TooMuchLost,
        false => Blocked::NoCandidate,
    }
}
