//! The promotion machine: facts and results in, actions out, time as an argument.
//!
//! Its one promise: writes go to one server, and to another only after every replica that can be
//! reached was cut off from the first, the one with the most WAL was chosen, and the choice was
//! written down. From then on it goes forward with the same server or stands still and says why.
//! The moves are listed in `transitions`; the facts come from `supervisor`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::action::{Action, Alert, Order, Outcome, Promoted, Remembered};
use super::candidate::{self, Applicant, Assessment, Choice, Criteria};
use super::facts::{Admission, Member, Stream, World};
use super::health::Verdict;
use super::record::{Blocked, HaltReason, RecordKind, RecordPhase, RecordResult, Trigger};
use super::story::Story;
use super::transitions::Stage;
use super::{ConfirmBy, FailoverMode};
use crate::cluster::{Address, Epoch, HoldCause, Lineage, Lsn, Role, ServerId, Writes};

/// The proof that no reachable replica gets WAL of the old primary any more. Only the machine can
/// make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    cut_off: Vec<ServerId>,
}

impl Fenced {
    /// The replicas that were cut off, or had lost their receiver.
    pub fn servers(&self) -> &[ServerId] {
        &self.cut_off
    }
}

/// What a step is about.
#[derive(Clone, Debug)]
pub enum Input {
    /// Facts may have changed, or time has passed.
    Look,
    /// An action ended.
    Outcome(Outcome),
    /// An operator wants another primary.
    Order(Order),
    /// An operator, or new rules, want a halted machine to look again.
    LookAgain,
}

#[derive(Clone, Debug)]
enum State {
    Searching { since: Instant },
    Steady { primary: ServerId },
    Doubt(Doubt),
    Collecting(Collecting),
    Promoting(Promoting),
    Settling(Settling),
    Halted(Halted),
}

#[derive(Clone, Debug)]
struct Doubt {
    primary: ServerId,
    since: Instant,
    blocked: Option<Standing>,
}

/// Why a doubt goes nowhere.
#[derive(Clone, Copy, Debug)]
struct Standing {
    why: Blocked,
    since: Instant,
    is_told: bool,
}

#[derive(Clone, Debug)]
struct Collecting {
    primary: ServerId,
    held_since: Instant,
    since: Instant,
    /// Who was told, and what came of it.
    asked: BTreeMap<ServerId, Freezing>,
}

#[derive(Clone, Copy, Debug)]
enum Freezing {
    Asked,
    Frozen(Lsn),
    /// Not possible; its observations after this instant must show that the receiver is gone.
    Watched(Instant),
}

#[derive(Clone, Debug)]
struct Promoting {
    held_since: Instant,
    since: Instant,
    candidate: ServerId,
    proof: Fenced,
    step: PromotingStep,
}

#[derive(Clone, Copy, Debug)]
enum PromotingStep {
    Recording,
    Ordered,
    RetryAt(Instant),
}

#[derive(Clone, Debug)]
struct Settling {
    primary: ServerId,
    since: Instant,
    waiting: Vec<ServerId>,
}

#[derive(Clone, Debug)]
struct Halted {
    why: HaltReason,
    since: Instant,
    primary: Option<ServerId>,
    decision: Option<(ServerId, Fenced)>,
    /// Who answered when it halted; a change is a reason to look again.
    reachable: Vec<ServerId>,
}

/// One step: when, what is known, what is to be done.
#[derive(Debug)]
struct Cx<'a> {
    now: Instant,
    world: World<'a>,
    out: Vec<Action>,
}

/// The machine of one cluster.
#[derive(Clone, Debug)]
pub struct Failover {
    state: State,
    epoch: Epoch,
    lineage: Option<Lineage>,
    primary_known: Option<ServerId>,
    last_promotion: Option<Instant>,
    /// When the primary became it; `None` when it was found as one.
    crowned: Option<Instant>,
    order: Option<Order>,
    story: Option<Story>,
    stories: u64,
    told: BTreeMap<ServerId, Instant>,
}

impl Failover {
    /// A machine that knows what was remembered, and nothing else.
    pub fn new(
        remembered: Option<&Remembered>,
        find: impl Fn(&Address) -> Option<ServerId>,
        now: Instant,
    ) -> Self {
        let mut machine = Self {
            state: State::Searching { since: now },
            epoch: remembered.map_or(Epoch(0), |memory| memory.epoch),
            lineage: remembered.map(|memory| memory.lineage),
            primary_known: remembered.and_then(|memory| memory.primary.as_ref().and_then(&find)),
            last_promotion: None,
            crowned: None,
            order: None,
            story: None,
            stories: 0,
            told: BTreeMap::new(),
        };
        let decision = remembered.and_then(|memory| memory.decision.as_ref().and_then(&find));
        if let Some(candidate) = decision {
            machine.begin_story(now, Trigger::Resumed);
            machine.state = State::Promoting(Promoting {
                held_since: now,
                since: now,
                candidate,
                // The decision was written down only after the proof was made.
                proof: Fenced {
                    cut_off: Vec::new(),
                },
                step: PromotingStep::RetryAt(now),
            });
        }
        machine
    }

    /// The state, for people and for the table of moves.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Searching { .. } => Stage::Searching,
            State::Steady { .. } => Stage::Steady,
            State::Doubt(_) => Stage::Doubt,
            State::Collecting(_) => Stage::Collecting,
            State::Promoting(_) => Stage::Promoting,
            State::Settling(_) => Stage::Settling,
            State::Halted(_) => Stage::Halted,
        }
    }

    /// Why nothing is done although the primary is gone.
    pub fn standstill(&self) -> Option<HaltReason> {
        match &self.state {
            State::Halted(halted) => Some(halted.why),
            State::Doubt(doubt) => doubt
                .blocked
                .map(|standing| HaltReason::Blocked(standing.why)),
            State::Searching { .. }
            | State::Steady { .. }
            | State::Collecting(_)
            | State::Promoting(_)
            | State::Settling(_) => None,
        }
    }

    /// Whether statements for the primary may be sent, and where.
    pub fn writes(&self) -> Writes {
        let held = |since, cause| Writes::Held { since, cause };
        match &self.state {
            State::Searching { since } => held(*since, HoldCause::NoPrimary),
            State::Steady { primary } => Writes::Open(*primary),
            State::Settling(settling) => Writes::Open(settling.primary),
            State::Doubt(doubt) => held(doubt.since, HoldCause::Failover),
            State::Collecting(collecting) => held(collecting.held_since, HoldCause::Failover),
            State::Promoting(promoting) => held(promoting.held_since, HoldCause::Failover),
            State::Halted(halted) => match halted.why {
                HaltReason::Ambiguous => held(halted.since, HoldCause::NoPrimary),
                HaltReason::Blocked(_)
                | HaltReason::PromotionStuck
                | HaltReason::WrongResult
                | HaltReason::NotRecorded => held(halted.since, HoldCause::Failover),
            },
        }
    }

    /// The server that is, or last was, the primary.
    pub fn primary(&self) -> Option<ServerId> {
        self.primary_known
    }

    /// The reign.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The history that is current.
    pub fn lineage(&self) -> Option<Lineage> {
        self.lineage
    }

    /// What is to be kept over a restart.
    fn memory(&self, members: &[Member], decision: Option<ServerId>) -> Option<Remembered> {
        let address = |id: ServerId| members.get(id.index()).map(|member| member.address.clone());
        Some(Remembered {
            epoch: self.epoch,
            lineage: self.lineage?,
            primary: self.primary_known.and_then(address),
            decision: decision.and_then(address),
            quarantined: members
                .iter()
                .filter(|member| member.admission == Admission::Quarantined)
                .map(|member| member.address.clone())
                .collect(),
        })
    }

    /// What is to be written down when a quarantine begins or ends; nothing while a decision is
    /// on disk, which must not be overwritten.
    pub fn memory_now(&self, members: &[Member]) -> Option<Remembered> {
        match &self.state {
            State::Promoting(_) => None,
            State::Halted(halted) if halted.decision.is_some() => None,
            State::Searching { .. }
            | State::Steady { .. }
            | State::Doubt(_)
            | State::Collecting(_)
            | State::Settling(_)
            | State::Halted(_) => self.memory(members, None),
        }
    }

    /// Moves on.
    pub fn step(&mut self, now: Instant, world: &World<'_>, input: &Input) -> Vec<Action> {
        if let Input::Order(order) = input {
            self.order = Some(*order);
        }
        let cx = &mut Cx {
            now,
            world: *world,
            out: Vec::new(),
        };
        let state = std::mem::replace(&mut self.state, State::Searching { since: now });
        self.state = match self.newer_primary(world, &state) {
            Some(member) => self.adopt(cx, member),
            None => match state {
                State::Searching { since } => self.search(cx, since),
                State::Steady { primary } => self.steady(cx, primary),
                State::Doubt(doubt) => self.doubt(cx, doubt, input),
                State::Collecting(state) => self.collect(cx, state, input),
                State::Promoting(state) => self.promote(cx, state, input),
                State::Settling(state) => self.settle(cx, state, input),
                State::Halted(state) => self.halted(cx, state, input),
            },
        };
        std::mem::take(&mut cx.out)
    }

    /// Follows what somebody else did.
    fn adopt(&mut self, cx: &mut Cx<'_>, member: &Member) -> State {
        if self.story.is_none() {
            self.begin_story(cx.now, Trigger::NewerPrimary);
        }
        self.crown(cx, member, Lsn::ZERO, RecordKind::Followed)
    }

    /// A server that somebody else promoted: primary of the same cluster, on a newer timeline than
    /// ours, alone there, and seen so twice.
    fn newer_primary<'a>(&self, world: &World<'a>, state: &State) -> Option<&'a Member> {
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

    fn search(&mut self, cx: &mut Cx<'_>, since: Instant) -> State {
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

    fn steady(&mut self, cx: &mut Cx<'_>, primary: ServerId) -> State {
        self.order = None;
        if cx.world.is_lost(primary, self.crowned) {
            return self.enter_doubt(cx, primary);
        }
        self.tell_stragglers(cx, primary);
        State::Steady { primary }
    }

    fn enter_doubt(&mut self, cx: &mut Cx<'_>, primary: ServerId) -> State {
        let member = cx.world.member(primary);
        let trigger = match member.and_then(|member| member.verdict.reason()) {
            Some(reason) => Trigger::Unreachable {
                reason,
                probes: member.map_or(0, |member| member.failures),
            },
            None => Trigger::Demoted,
        };
        let started = member.and_then(|member| member.failing_since);
        self.begin_story(started.unwrap_or(cx.now), trigger);
        self.mark(cx.now, RecordPhase::HoldWrites);
        cx.out.push(Action::HoldWrites(HoldCause::Failover));
        cx.out.extend(
            cx.world
                .members
                .iter()
                .map(|member| Action::Probe(member.id)),
        );
        State::Doubt(Doubt {
            primary,
            since: cx.now,
            blocked: None,
        })
    }

    fn doubt(&mut self, cx: &mut Cx<'_>, mut doubt: Doubt, input: &Input) -> State {
        if cx.world.is_back(doubt.primary, self.lineage) {
            return self.recover(cx, doubt.primary);
        }
        if matches!(input, Input::Order(_) | Input::LookAgain) {
            doubt.blocked = None;
        }
        let blocked = match self.check_confirmed(cx, doubt.primary) {
            Ok(()) => return self.freeze(cx, &doubt),
            Err(None) => return State::Doubt(doubt),
            Err(Some(blocked)) => blocked,
        };
        let mut standing = match doubt.blocked {
            Some(standing) if standing.why == blocked => standing,
            Some(_) | None => Standing {
                why: blocked,
                since: cx.now,
                is_told: false,
            },
        };
        // Two probes that cross are no story.
        let lasted = cx.now.saturating_duration_since(standing.since) >= BLOCKED_FOR;
        if lasted && !standing.is_told {
            standing.is_told = true;
            cx.out.push(Action::Alert(Alert::Blocked(blocked)));
            self.publish(cx, RecordResult::Blocked(blocked));
        }
        doubt.blocked = Some(standing);
        State::Doubt(doubt)
    }

    /// Whether to go on: `Err(None)` means not yet, `Err(Some)` not at all for now.
    fn check_confirmed(&self, cx: &mut Cx<'_>, primary: ServerId) -> Result<(), Option<Blocked>> {
        let member = cx.world.member(primary).ok_or(None)?;
        match member.verdict {
            Verdict::Dead(_) => {}
            Verdict::Alive if member.role == Role::Replica => {
                return Err(Some(Blocked::Demoted));
            }
            Verdict::Unknown
            | Verdict::Alive
            | Verdict::Impaired(_)
            | Verdict::Shaky(_)
            | Verdict::Doubt(_) => return Err(None),
        }
        match (cx.world.rules.mode, self.order) {
            (FailoverMode::Auto, _) | (FailoverMode::Manual, Some(_)) => {}
            (FailoverMode::Manual, None) => return Err(Some(Blocked::Manual)),
            (FailoverMode::Observe, _) => return Err(Some(Blocked::Observing)),
        }
        let lineage = self.lineage.ok_or(Some(Blocked::NeverSeen))?;
        match cx.world.rules.confirm_by {
            ConfirmBy::OwnProbes => {}
            ConfirmBy::Replicas => check_witnesses(&cx.world, primary)?,
        }
        let recent = |at: Instant| cx.now.saturating_duration_since(at) < cx.world.rules.cooldown;
        if self.order.is_none() && self.last_promotion.is_some_and(recent) {
            return Err(Some(Blocked::Cooldown));
        }
        let choice = self.choose(&cx.world, primary, lineage, &BTreeMap::new());
        match choice.chosen {
            Some(_) => Ok(()),
            None => Err(Some(nobody(&choice))),
        }
    }

    fn freeze(&mut self, cx: &mut Cx<'_>, doubt: &Doubt) -> State {
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

    fn collect(&mut self, cx: &mut Cx<'_>, mut state: Collecting, input: &Input) -> State {
        match input {
            Input::Outcome(Outcome::Frozen(frozen)) => {
                state
                    .asked
                    .insert(frozen.server, Freezing::Frozen(frozen.furthest));
            }
            Input::Outcome(Outcome::NotFrozen(server, _)) => {
                state.asked.insert(*server, Freezing::Watched(cx.now));
                cx.out.push(Action::Probe(*server));
            }
            Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain => {}
        }
        if cx.world.is_back(state.primary, self.lineage) {
            unfreeze(cx, state.primary, state.asked.keys());
            return self.recover(cx, state.primary);
        }
        // One that answers only cx.now must be cut off as well.
        for member in cx.world.witnesses(state.primary) {
            state.asked.entry(member.id).or_insert_with(|| {
                cx.out.push(Action::Freeze(member.id));
                Freezing::Asked
            });
        }
        let late = cx.now.saturating_duration_since(state.since) >= COLLECT_MAX;
        match check_fenced(&cx.world, &state) {
            Ok(proof) => self.decide(cx, &state, proof),
            Err(_) if !late => State::Collecting(state),
            Err(server) => {
                let why = match cx.world.member(server).map(|member| member.verdict) {
                    Some(Verdict::Alive) => Blocked::StillReceives(server),
                    Some(_) | None => Blocked::NoCandidate,
                };
                self.give_up(cx, &state, why)
            }
        }
    }

    fn decide(&mut self, cx: &mut Cx<'_>, state: &Collecting, proof: Fenced) -> State {
        let Some(lineage) = self.lineage else {
            return self.give_up(cx, state, Blocked::NeverSeen);
        };
        let choice = self.choose(&cx.world, state.primary, lineage, &state.asked);
        let candidate = choice.chosen;
        let why = nobody(&choice);
        if let Some(story) = &mut self.story {
            story.choice = choice;
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

    fn halt(
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

    fn promote(&mut self, cx: &mut Cx<'_>, mut state: Promoting, input: &Input) -> State {
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

    /// A new reign begins.
    fn crown(
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

    fn settle(&mut self, cx: &mut Cx<'_>, mut state: Settling, input: &Input) -> State {
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

    fn halted(&mut self, cx: &mut Cx<'_>, state: Halted, input: &Input) -> State {
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

    fn recover(&mut self, cx: &mut Cx<'_>, primary: ServerId) -> State {
        self.mark(cx.now, RecordPhase::ResumeWrites);
        self.publish(cx, RecordResult::Recovered);
        self.story = None;
        cx.out.push(Action::ResumeWrites {
            server: primary,
            epoch: self.epoch,
        });
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

    fn choose(
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

    fn begin_story(&mut self, started: Instant, trigger: Trigger) {
        self.stories += 1;
        let timeline = self.lineage.map(|lineage| lineage.timeline);
        let story = Story::new(self.stories, self.primary_known, timeline, started, trigger);
        self.story = Some(story);
    }

    fn mark(&mut self, now: Instant, phase: RecordPhase) {
        if let Some(story) = &mut self.story {
            story.mark(now, phase);
        }
    }

    fn publish(&mut self, cx: &mut Cx<'_>, result: RecordResult) {
        if let Some(story) = &self.story {
            cx.out.push(Action::Publish(story.tell(
                cx.now,
                result,
                cx.world.known_flushed,
            )));
        }
    }
}

fn order_promotion(cx: &mut Cx<'_>, mut state: Promoting) -> State {
    cx.out.push(Action::Promote {
        server: state.candidate,
        proof: state.proof.clone(),
    });
    state.step = PromotingStep::Ordered;
    State::Promoting(state)
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

/// Everybody who was cut off gets the primary back.
fn unfreeze<'a>(cx: &mut Cx<'_>, primary: ServerId, servers: impl Iterator<Item = &'a ServerId>) {
    let Some(leader) = cx.world.member(primary).map(|member| &member.address) else {
        return;
    };
    cx.out.extend(servers.map(|server| Action::Unfreeze {
        server: *server,
        leader: leader.clone(),
    }));
}

fn may_repoint(world: &World<'_>) -> bool {
    world.rules.repoint && world.rules.mode != FailoverMode::Observe
}

/// Whether the replicas agree that the primary is dead.
fn check_witnesses(world: &World<'_>, primary: ServerId) -> Result<(), Option<Blocked>> {
    let mut witnesses = world.witnesses(primary).peekable();
    if witnesses.peek().is_none() {
        return Err(Some(Blocked::NoWitness));
    }
    match witnesses.find(|member| member.receives(world.rules.confirm_silent)) {
        Some(member) => Err(Some(Blocked::StillReceives(member.id))),
        None => Ok(()),
    }
}

/// The proof, or the first server that stands in its way.
fn check_fenced(world: &World<'_>, state: &Collecting) -> Result<Fenced, ServerId> {
    let mut cut_off = Vec::new();
    for member in world.witnesses(state.primary) {
        let gone = match state.asked.get(&member.id) {
            Some(Freezing::Frozen(_)) => true,
            Some(Freezing::Watched(since)) => {
                member.stream == Stream::Gone && member.asked_at > Some(*since)
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

/// Why the choice is nobody.
fn nobody(choice: &Choice) -> Blocked {
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

/// A reason not to promote is told when it has lasted for this long.
const BLOCKED_FOR: Duration = Duration::from_millis(300);
/// How long replicas may take to report; a freeze takes 5 to 20 ms.
const COLLECT_MAX: Duration = Duration::from_secs(2);
/// How long the other replicas may take to be told before the state is called steady.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Between two attempts to promote the same server.
const RETRY: Duration = Duration::from_millis(200);
/// Between two attempts to tell a replica where the primary is.
const TELL_AGAIN: Duration = Duration::from_secs(5);
