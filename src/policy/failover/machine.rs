//! The machine itself: its states, what it remembers, what it says of itself, and the step.
//!
//! What a state does is in the file of its name: it takes the state, and returns the one that
//! follows.

use std::collections::BTreeMap;
use std::time::Instant;

use super::collecting::{Collecting, Fenced};
use super::doubt::Doubt;
use super::halted::Halted;
use super::promoting::{Promoting, PromotingStep};
use super::settling::Settling;
use crate::cluster::{Address, Epoch, HoldCause, Lineage, ServerId, Writes};
use crate::policy::action::{Action, Order, Outcome, Remembered};
use crate::policy::facts::{Admission, Member, World};
use crate::policy::record::{HaltReason, RecordPhase, RecordResult, Trigger};
use crate::policy::story::Story;
use crate::policy::transitions::Stage;

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
pub(super) enum State {
    Searching { since: Instant },
    Steady { primary: ServerId },
    Doubt(Doubt),
    Collecting(Collecting),
    Promoting(Promoting),
    Settling(Settling),
    Halted(Halted),
}

/// One step: when, what is known, what is to be done.
#[derive(Debug)]
pub(super) struct Cx<'a> {
    pub(super) now: Instant,
    pub(super) world: World<'a>,
    pub(super) out: Vec<Action>,
}

/// The machine of one cluster.
#[derive(Clone, Debug)]
pub struct Failover {
    state: State,
    pub(super) epoch: Epoch,
    pub(super) lineage: Option<Lineage>,
    pub(super) primary_known: Option<ServerId>,
    pub(super) last_promotion: Option<Instant>,
    /// When the primary became it; `None` when it was found as one.
    pub(super) crowned: Option<Instant>,
    pub(super) order: Option<Order>,
    pub(super) story: Option<Story>,
    stories: u64,
    pub(super) told: BTreeMap<ServerId, Instant>,
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
            // From here on the replicas get nothing more: what the old primary still acknowledges
            // would be lost.
            State::Collecting(collecting) => held(collecting.held_since, HoldCause::Promotion),
            State::Promoting(promoting) => held(promoting.held_since, HoldCause::Promotion),
            State::Halted(halted) => match halted.why {
                HaltReason::Ambiguous => held(halted.since, HoldCause::NoPrimary),
                HaltReason::PromotionStuck | HaltReason::WrongResult => {
                    held(halted.since, HoldCause::Promotion)
                }
                HaltReason::Blocked(_) | HaltReason::NotRecorded => {
                    held(halted.since, HoldCause::Failover)
                }
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
    pub(super) fn memory(
        &self,
        members: &[Member],
        decision: Option<ServerId>,
    ) -> Option<Remembered> {
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

    pub(super) fn begin_story(&mut self, started: Instant, trigger: Trigger) {
        self.stories += 1;
        let timeline = self.lineage.map(|lineage| lineage.timeline);
        let story = Story::new(self.stories, self.primary_known, timeline, started, trigger);
        self.story = Some(story);
    }

    pub(super) fn mark(&mut self, now: Instant, phase: RecordPhase) {
        if let Some(story) = &mut self.story {
            story.mark(now, phase);
        }
    }

    pub(super) fn publish(&mut self, cx: &mut Cx<'_>, result: RecordResult) {
        if let Some(story) = &self.story {
            cx.out.push(Action::Publish(story.tell(
                cx.now,
                result,
                cx.world.known_flushed,
            )));
        }
    }
}
