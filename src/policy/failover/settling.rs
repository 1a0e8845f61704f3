//! A new primary reigns: writes flow to it, and the other replicas are told to follow.

use std::time::{Duration, Instant};

use super::machine::{Cx, Failover, Input, State};
use super::steady::may_repoint;
use crate::cluster::{Lineage, Lsn, ServerId};
use crate::policy::action::{Action, Alert, Outcome};
use crate::policy::facts::Member;
use crate::policy::record::{RecordKind, RecordPhase, RecordResult};

#[derive(Clone, Debug)]
pub(super) struct Settling {
    pub(super) primary: ServerId,
    pub(super) since: Instant,
    pub(super) waiting: Vec<ServerId>,
}

impl Failover {
    /// A new reign begins.
    pub(super) fn crown(
        &mut self,
        cx: &mut Cx<'_>,
        member: &Member,
        forked_at: Lsn,
        kind: RecordKind,
    ) -> State {
        let (Some(system_id), Some(timeline)) = (member.system_id, member.timeline) else {
            return State::Searching { since: cx.now };
        };
        if let Some(story) = &mut self.story {
            story.crowned(member.id, kind, timeline);
        }
        self.mark(cx.now, RecordPhase::ResumeWrites);
        self.epoch = self.epoch.next();
        self.lineage = Some(Lineage {
            system_id,
            timeline,
            forked_at,
        });
        self.primary_known = Some(member.id);
        self.crowned = Some(cx.now);
        self.order = None;
        self.told.clear();
        cx.out.push(Action::ResumeWrites {
            server: member.id,
            epoch: self.epoch,
        });
        cx.out
            .extend(self.memory(cx.world.members, None).map(Action::Record));
        let mut waiting = Vec::new();
        if may_repoint(&cx.world) {
            for other in cx.world.witnesses(member.id) {
                waiting.push(other.id);
                self.told.insert(other.id, cx.now);
                let leader = member.address.clone();
                cx.out.push(Action::Follow {
                    server: other.id,
                    leader,
                });
            }
        }
        State::Settling(Settling {
            primary: member.id,
            since: cx.now,
            waiting,
        })
    }

    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, mut state: Settling, input: &Input) -> State {
        match input {
            Input::Outcome(Outcome::Following(server)) => {
                state.waiting.retain(|waiting| waiting != server);
            }
            Input::Outcome(Outcome::NotFollowing(server, _)) => {
                state.waiting.retain(|waiting| waiting != server);
                cx.out.push(Action::Alert(Alert::NotFollowing(*server)));
            }
            Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain => {}
        }
        let late = cx.now.saturating_duration_since(state.since) >= SETTLE_MAX;
        let lost = cx.world.is_lost(state.primary, self.crowned);
        if !state.waiting.is_empty() && !late && !lost {
            return State::Settling(state);
        }
        self.mark(cx.now, RecordPhase::Repointed);
        self.publish(cx, RecordResult::Promoted);
        self.story = None;
        match lost {
            true => self.enter_doubt(cx, state.primary),
            false => State::Steady {
                primary: state.primary,
            },
        }
    }
}

/// How long the other replicas may take to be told before the state is called steady.
const SETTLE_MAX: Duration = Duration::from_secs(2);
