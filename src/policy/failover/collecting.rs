//! The primary is dead: every reachable replica is cut off from it and says how much WAL it has.
//! Only then can the furthest be chosen, since no other can get further.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::candidates::nobody;
use super::doubt::Doubt;
use super::machine::{Cx, Failover, Input, State};
use super::promoting::{Promoting, PromotingStep};
use super::watching::{Watch, has_ended};
use crate::cluster::{Lsn, ServerId};
use crate::policy::action::{Action, FailedWhy, Outcome};
use crate::policy::candidate::Choice;
use crate::policy::facts::{Stream, World};
use crate::policy::health::Verdict;
use crate::policy::record::{Blocked, HaltReason, RecordPhase};

/// The proof that no reachable replica gets WAL of the old primary any more. Only the machine can
/// make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    pub(super) cut_off: Vec<ServerId>,
}

impl Fenced {
    /// The replicas that were cut off, or had lost their receiver.
    pub fn servers(&self) -> &[ServerId] {
        &self.cut_off
    }
}

#[derive(Clone, Debug)]
pub(super) struct Collecting {
    pub(super) primary: ServerId,
    pub(super) held_since: Instant,
    pub(super) since: Instant,
    /// Who was told, and what came of it.
    pub(super) asked: BTreeMap<ServerId, Freezing>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Freezing {
    Asked,
    Frozen(Lsn),
    /// Refused; its receiver must be seen to be gone.
    Watched(Watch),
}

impl Failover {
    pub(super) fn freeze(&mut self, cx: &mut Cx<'_>, doubt: &Doubt) -> State {
        self.mark(cx.now, RecordPhase::Freeze);
        let asked: BTreeMap<_, _> = cx
            .world
            .witnesses(doubt.primary)
            .map(|member| (member.id, Freezing::Asked))
            .collect();
        cx.out.extend(asked.keys().map(|id| Action::Freeze(*id)));
        State::Collecting(Collecting {
            primary: doubt.primary,
            held_since: doubt.since,
            since: cx.now,
            asked,
        })
    }

    pub(super) fn collect(
        &mut self,
        cx: &mut Cx<'_>,
        mut state: Collecting,
        input: &Input,
    ) -> State {
        match input {
            Input::Outcome(Outcome::Frozen(frozen)) => {
                state
                    .asked
                    .insert(frozen.server, Freezing::Frozen(frozen.furthest));
            }
            // It is asked again as soon as it answers: a receiver that is gone while its server
            // still points at the primary may be back a moment later.
            Input::Outcome(Outcome::NotFrozen(server, FailedWhy::NoAnswer)) => {
                state.asked.remove(server);
                cx.out.push(Action::Probe(*server));
            }
            Input::Outcome(Outcome::NotFrozen(
                server,
                FailedWhy::NotPermitted | FailedWhy::Refused,
            )) => {
                let watch = Watch::new(cx.now);
                state.asked.insert(*server, Freezing::Watched(watch));
            }
            Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain => {}
        }
        if cx.world.is_back(state.primary, self.lineage) {
            unfreeze(cx, state.primary, state.asked.keys());
            return self.recover(cx, state.primary);
        }
        // One that answers only now must be cut off as well.
        for member in cx.world.witnesses(state.primary) {
            state.asked.entry(member.id).or_insert_with(|| {
                cx.out.push(Action::Freeze(member.id));
                Freezing::Asked
            });
        }
        watch(cx, &mut state);
        let Some(lineage) = self.lineage else {
            return self.give_up(cx, &state, Blocked::NeverSeen);
        };
        let choice = self.choose(&cx.world, state.primary, lineage, &state.asked);
        // Whoever gives the order says that the primary is dead.
        let has_ended = self.order.is_some() || has_ended(&cx.world, state.primary, cx.now);
        let late = cx.now.saturating_duration_since(state.since) >= COLLECT_MAX;
        match check_fenced(cx, &state, choice.chosen, has_ended) {
            Ok(proof) => self.decide(cx, &state, choice, proof),
            Err(_) if !late => State::Collecting(state),
            Err(server) => {
                let why = why_not_fenced(&cx.world, &state, server);
                self.give_up(cx, &state, why)
            }
        }
    }

    fn decide(
        &mut self,
        cx: &mut Cx<'_>,
        state: &Collecting,
        choice: Choice,
        proof: Fenced,
    ) -> State {
        let candidate = choice.chosen;
        let why = nobody(&choice);
        if let Some(story) = &mut self.story {
            story.decided(choice, cx.world.known_flushed);
        }
        let memory = self.memory(cx.world.members, candidate);
        let (Some(candidate), Some(memory)) = (candidate, memory) else {
            return self.give_up(cx, state, why);
        };
        self.mark(cx.now, RecordPhase::Decide);
        cx.out.push(Action::Record(memory));
        State::Promoting(Promoting {
            held_since: state.held_since,
            since: cx.now,
            candidate,
            proof,
            step: PromotingStep::Recording,
        })
    }

    fn give_up(&mut self, cx: &mut Cx<'_>, state: &Collecting, why: Blocked) -> State {
        unfreeze(cx, state.primary, state.asked.keys());
        let why = HaltReason::Blocked(why);
        self.halt(cx, why, Some(state.primary), None)
    }
}

/// Takes in what is new of those that refused, and has them and the primary looked at again.
fn watch(cx: &mut Cx<'_>, state: &mut Collecting) {
    let mut is_due = false;
    for (server, freezing) in &mut state.asked {
        if let Freezing::Watched(watch) = freezing
            && let Some(member) = cx.world.member(*server)
        {
            watch.look(member);
            if watch.is_due(cx.now) {
                is_due = true;
                cx.out.push(Action::Probe(*server));
            }
        }
    }
    if is_due {
        cx.out.push(Action::Probe(state.primary));
    }
}

/// The proof, or the first server that stands in its way. The `candidate` cuts itself off when it
/// is promoted; another that refuses does not find a primary that `has_ended`.
fn check_fenced(
    cx: &Cx<'_>,
    state: &Collecting,
    candidate: Option<ServerId>,
    has_ended: bool,
) -> Result<Fenced, ServerId> {
    let mut cut_off = Vec::new();
    for member in cx.world.witnesses(state.primary) {
        let gone = match state.asked.get(&member.id) {
            Some(Freezing::Frozen(_)) => true,
            Some(Freezing::Watched(watch)) => {
                watch.is_without_receiver(cx.now) && (has_ended || candidate == Some(member.id))
            }
            Some(Freezing::Asked) | None => false,
        };
        if !gone {
            return Err(member.id);
        }
        cut_off.push(member.id);
    }
    match cut_off.is_empty() {
        true => Err(state.primary),
        false => Ok(Fenced { cut_off }),
    }
}

fn why_not_fenced(world: &World<'_>, state: &Collecting, server: ServerId) -> Blocked {
    let refused = matches!(state.asked.get(&server), Some(Freezing::Watched(_)));
    match world.member(server) {
        Some(member) if refused && member.stream == Stream::Gone => Blocked::NotCutOff(server),
        Some(member) if member.verdict == Verdict::Alive => Blocked::StillReceives(server),
        Some(_) | None => Blocked::NoCandidate,
    }
}

/// Everybody who was cut off gets the primary back.
pub(super) fn unfreeze<'a>(
    cx: &mut Cx<'_>,
    primary: ServerId,
    servers: impl Iterator<Item = &'a ServerId>,
) {
    let Some(leader) = cx.world.member(primary).map(|member| &member.address) else {
        return;
    };
    cx.out.extend(servers.map(|server| Action::Unfreeze {
        server: *server,
        leader: leader.clone(),
    }));
}

/// How long replicas may take to report; a freeze takes 5 to 20 ms.
const COLLECT_MAX: Duration = Duration::from_secs(2);
