//! The decision is taken, and only goes forward: write it down, promote, check the result. The same
//! server is tried until the time is up.

use std::time::{Duration, Instant};

use super::collecting::{Fenced, unfreeze};
use super::machine::{Cx, Failover, Input, State};
use crate::cluster::{Role, ServerId};
use crate::policy::action::{Action, Outcome, Promoted};
use crate::policy::facts::Member;
use crate::policy::health::Verdict;
use crate::policy::record::{HaltReason, RecordKind, RecordPhase};

#[derive(Clone, Debug)]
pub(super) struct Promoting {
    pub(super) held_since: Instant,
    pub(super) since: Instant,
    pub(super) candidate: ServerId,
    pub(super) proof: Fenced,
    pub(super) step: PromotingStep,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PromotingStep {
    Recording,
    Ordered,
    RetryAt(Instant),
}

impl Failover {
    pub(super) fn promote(
        &mut self,
        cx: &mut Cx<'_>,
        mut state: Promoting,
        input: &Input,
    ) -> State {
        let candidate = state.candidate;
        match (input, state.step) {
            (Input::Outcome(Outcome::Recorded), PromotingStep::Recording) => {
                self.mark(cx.now, RecordPhase::Promote);
                return order_promotion(cx, state);
            }
            (Input::Outcome(Outcome::NotRecorded), PromotingStep::Recording) => {
                let others: Vec<_> = state.proof.cut_off.clone();
                if let Some(primary) = self.primary_known {
                    unfreeze(cx, primary, others.iter());
                }
                let why = HaltReason::NotRecorded;
                return self.halt(cx, why, self.primary_known, None);
            }
            (Input::Outcome(Outcome::Promoted(done)), _) if done.server == candidate => {
                return self.verify(cx, state, done);
            }
            (Input::Outcome(Outcome::NotPromoted(server, _)), _) if *server == candidate => {
                state.step = PromotingStep::RetryAt(cx.now + RETRY);
                cx.out.push(Action::Probe(candidate));
            }
            (Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain, _) => {}
        }
        let replica = cx
            .world
            .member(candidate)
            .is_some_and(|member| member.verdict == Verdict::Alive && member.role == Role::Replica);
        if matches!(state.step, PromotingStep::RetryAt(at) if cx.now >= at) && replica {
            return order_promotion(cx, state);
        }
        if cx.now.saturating_duration_since(state.since) >= cx.world.rules.promote_timeout {
            let decision = Some((candidate, state.proof));
            let why = HaltReason::PromotionStuck;
            return self.halt(cx, why, self.primary_known, decision);
        }
        State::Promoting(state)
    }

    /// The gate: out of recovery, same cluster, newer timeline. Nothing else opens writes.
    fn verify(&mut self, cx: &mut Cx<'_>, state: Promoting, done: &Promoted) -> State {
        let sighting = &done.sighting;
        let right = self.lineage.is_some_and(|old| {
            !sighting.in_recovery
                && sighting.system_id == old.system_id
                && sighting.timeline > Some(old.timeline)
        });
        let member = cx.world.member(done.server);
        let (true, Some(member)) = (right, member) else {
            let decision = Some((state.candidate, state.proof));
            let why = HaltReason::WrongResult;
            return self.halt(cx, why, self.primary_known, decision);
        };
        let member = Member {
            timeline: sighting.timeline,
            system_id: Some(sighting.system_id),
            role: Role::Primary,
            ..member.clone()
        };
        self.last_promotion = Some(cx.now);
        let kind = match self.order {
            Some(_) => RecordKind::Manual,
            None => RecordKind::Automatic,
        };
        self.crown(cx, &member, done.forked_at, kind)
    }
}

pub(super) fn order_promotion(cx: &mut Cx<'_>, mut state: Promoting) -> State {
    cx.out.push(Action::Promote {
        server: state.candidate,
        proof: state.proof.clone(),
    });
    state.step = PromotingStep::Ordered;
    State::Promoting(state)
}

/// Between two attempts to promote the same server.
const RETRY: Duration = Duration::from_millis(200);
