//! Nothing goes on by itself: a person, or a change of the facts, is needed.

use std::time::Instant;

use super::collecting::Fenced;
use super::doubt::Doubt;
use super::machine::{Cx, Failover, Input, State};
use super::promoting::{Promoting, PromotingStep, order_promotion};
use crate::cluster::{Role, ServerId};
use crate::policy::action::{Action, Alert};
use crate::policy::health::Verdict;
use crate::policy::record::{HaltReason, RecordResult};

#[derive(Clone, Debug)]
pub(super) struct Halted {
    pub(super) why: HaltReason,
    pub(super) since: Instant,
    pub(super) primary: Option<ServerId>,
    pub(super) decision: Option<(ServerId, Fenced)>,
    /// Who answered when it halted; a change is a reason to look again.
    pub(super) reachable: Vec<ServerId>,
}

impl Failover {
    pub(super) fn halt(
        &mut self,
        cx: &mut Cx<'_>,
        why: HaltReason,
        primary: Option<ServerId>,
        decision: Option<(ServerId, Fenced)>,
    ) -> State {
        self.order = None;
        cx.out.push(Action::Alert(Alert::Halted(why)));
        self.publish(cx, RecordResult::Halted(why));
        State::Halted(Halted {
            why,
            since: cx.now,
            primary,
            decision,
            reachable: cx.world.reachable(),
        })
    }

    pub(super) fn halted(&mut self, cx: &mut Cx<'_>, state: Halted, input: &Input) -> State {
        let again = matches!(input, Input::LookAgain | Input::Order(_));
        if let Some((candidate, proof)) = &state.decision {
            return halted_after_decision(cx, &state, *candidate, proof, again);
        }
        let back = state
            .primary
            .filter(|primary| cx.world.is_back(*primary, self.lineage));
        if let Some(primary) = back {
            return self.recover(cx, primary);
        }
        let changed = again || cx.world.reachable() != state.reachable;
        match (state.why, state.primary) {
            (HaltReason::Ambiguous, _) | (_, None) if changed => State::Searching { since: cx.now },
            (_, Some(primary)) if changed => State::Doubt(Doubt {
                primary,
                since: state.since,
                blocked: None,
            }),
            _ => State::Halted(state),
        }
    }
}

/// A decision is never taken back: the same server, or a person.
fn halted_after_decision(
    cx: &mut Cx<'_>,
    state: &Halted,
    candidate: ServerId,
    proof: &Fenced,
    again: bool,
) -> State {
    let promising = cx
        .world
        .member(candidate)
        .is_some_and(|member| member.verdict == Verdict::Alive && member.role == Role::Replica);
    let was_away = !state.reachable.contains(&candidate);
    if promising && (was_away || again) {
        let promoting = Promoting {
            held_since: state.since,
            since: cx.now,
            candidate,
            proof: proof.clone(),
            step: PromotingStep::Ordered,
        };
        return order_promotion(cx, promoting);
    }
    let mut state = state.clone();
    if !promising {
        state.reachable.retain(|id| *id != candidate);
    }
    State::Halted(state)
}
