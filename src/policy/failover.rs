//! The promotion machine: facts and results in, actions out, time as an argument.
//!
//! Its one promise: writes go to one server, and to another only after every replica that can be
//! reached was cut off from the first, the one with the most WAL was chosen, and the choice was
//! written down. From then on it goes forward with the same server or stands still and says why.
//! The moves are listed in `transitions`; the facts come from `supervisor`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::candidate::{self, Applicant, Choice, Criteria, Standing};
use super::health::Verdict;
use super::record::{Blocked, HaltReason, RecordKind, RecordPhase, RecordResult, Trigger};
use super::story::Story;
use super::transitions::Stage;
use super::{ConfirmBy, FailoverMode, FailoverRecord, FailoverRules, LostBytes};
use crate::cluster::{
    Address, DownReason, Epoch, HoldCause, Lineage, Lsn, Role, ServerId, Sighting, SystemId,
    Timeline, Writes,
};

/// What the machine may know of one server.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub id: ServerId,
    /// Where it listens.
    pub address: Address,
    /// The configuration lets it be promoted.
    pub may_be_promoted: bool,
    /// What its probes add up to.
    pub verdict: Verdict,
    /// Failed probes in a row.
    pub failures: u32,
    /// It is quarantined.
    pub quarantined: bool,
    /// What it said that it is, when it last answered.
    pub role: Role,
    /// How often in a row it said that it is the primary of its timeline.
    pub times_primary: u32,
    /// The cluster that it belongs to.
    pub system_id: Option<SystemId>,
    /// The timeline that it is on.
    pub timeline: Option<Timeline>,
    /// The greatest of received and replayed.
    pub furthest: Option<Lsn>,
    /// Its replay is paused.
    pub replay_paused: bool,
    /// What its WAL receiver does.
    pub stream: Stream,
    /// When it was last asked and answered.
    pub asked_at: Option<Instant>,
}

/// What a WAL receiver does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// There is none, or it has no connection.
    Gone,
    /// It has a connection.
    Connected {
        /// When WAL or a message of the sender last came, as far as probes can tell.
        progress_at: Instant,
        /// Where from.
        sender: Option<Address>,
        /// The timeline that it gets.
        timeline: Option<Timeline>,
    },
}

/// Everything that a step may look at.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// One entry for each configured server.
    pub members: &'a [Member],
    /// The last flushed position that the current primary told.
    pub known_flushed: Option<Lsn>,
    /// Every server was asked at least once, or had its time.
    pub everybody_asked: bool,
    /// The rules.
    pub rules: &'a FailoverRules,
}

/// What is kept on disk over a restart of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The epoch that was current.
    pub epoch: Epoch,
    /// The newest history that was seen.
    pub lineage: Lineage,
    /// The primary of that history.
    pub primary: Option<Address>,
    /// The server that was chosen, when a promotion was under way.
    pub decision: Option<Address>,
    /// Servers that must not be used.
    pub quarantined: Vec<Address>,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask this server now instead of at the next interval.
    Probe(ServerId),
    /// Writes wait from now on. The snapshot says so already.
    HoldWrites(HoldCause),
    /// Cut this replica off from the primary, for good until it is told otherwise.
    Freeze(ServerId),
    /// Write this to disk. The result is reported when `decision` is set.
    Record(Remembered),
    /// Promote this server; the proof says that it is safe.
    Promote {
        /// The server.
        server: ServerId,
        /// What makes it safe.
        proof: Fenced,
    },
    /// Point this replica at the primary.
    Follow {
        /// The replica.
        server: ServerId,
        /// The primary.
        leader: Address,
    },
    /// Point this replica at the primary, if it was left cut off by us; otherwise leave it alone.
    Unfreeze {
        /// The replica.
        server: ServerId,
        /// The primary.
        leader: Address,
    },
    /// Writes go to this server from now on. The snapshot says so already.
    ResumeWrites {
        /// The server.
        server: ServerId,
        /// The reign that begins or goes on.
        epoch: Epoch,
    },
    /// Tell a person.
    Alert(Alert),
    /// Keep this story.
    Publish(FailoverRecord),
}

/// Something that a person should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// The primary is gone, and this is why nobody is promoted.
    Blocked(Blocked),
    /// The machine stands still.
    Halted(HaltReason),
    /// A server is not to be used any more.
    Quarantined(ServerId, crate::cluster::QuarantineReason),
    /// A replica could not be told where the primary is.
    NotFollowing(ServerId),
}

/// The result of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A replica was cut off, and this is what it has.
    Frozen(Frozen),
    /// A replica could not be cut off.
    NotFrozen(ServerId, FailedWhy),
    /// What was to be remembered is on disk.
    Recorded,
    /// It is not.
    NotRecorded,
    /// The candidate left recovery.
    Promoted(Promoted),
    /// It did not, or not in time; it still may.
    NotPromoted(ServerId, FailedWhy),
    /// A replica was told.
    Following(ServerId),
    /// It was not.
    NotFollowing(ServerId, FailedWhy),
}

/// A replica whose WAL receiver is gone and will not come back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The replica.
    pub server: ServerId,
    /// The greatest of received and replayed, read after the receiver was gone.
    pub furthest: Lsn,
}

/// A server that left recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct Promoted {
    /// The server.
    pub server: ServerId,
    /// What it says of itself now.
    pub sighting: Sighting,
    /// Where its timeline began.
    pub forked_at: Lsn,
}

/// Why an action failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedWhy {
    /// Our role may not do it.
    NotPermitted,
    /// No answer.
    NoAnswer,
    /// Another error.
    Refused,
}

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

/// What an operator may ask of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The only server that may be chosen; `None` for the best.
    pub to: Option<ServerId>,
    /// How much may be lost.
    pub accept_loss: LostBytes,
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
    blocked: Option<Blocked>,
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

/// The machine of one cluster.
#[derive(Clone, Debug)]
pub struct Failover {
    state: State,
    epoch: Epoch,
    lineage: Option<Lineage>,
    primary_known: Option<ServerId>,
    last_promotion: Option<Instant>,
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
            order: None,
            story: None,
            stories: 0,
            told: BTreeMap::new(),
        };
        let decision = remembered.and_then(|memory| memory.decision.as_ref().and_then(&find));
        if let Some(candidate) = decision {
            machine.begin_story(now, now, Trigger::Resumed);
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
            State::Doubt(doubt) => doubt.blocked.map(HaltReason::Blocked),
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
                .filter(|member| member.quarantined)
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
    pub fn step(&mut self, now: Instant, world: &World<'_>, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        if let Input::Order(order) = &input {
            self.order = Some(*order);
        }
        let state = std::mem::replace(&mut self.state, State::Searching { since: now });
        self.state = match self.newer_primary(world, &state) {
            Some(member) => {
                if self.story.is_none() {
                    self.begin_story(now, now, Trigger::NewerPrimary);
                }
                let forked_at = Lsn::ZERO;
                self.crown(
                    now,
                    world,
                    member,
                    forked_at,
                    RecordKind::Followed,
                    &mut out,
                )
            }
            None => match state {
                State::Searching { since } => self.search(now, world, since, &mut out),
                State::Steady { primary } => self.steady(now, world, primary, &mut out),
                State::Doubt(doubt) => self.doubt(now, world, doubt, &input, &mut out),
                State::Collecting(state) => self.collect(now, world, state, &input, &mut out),
                State::Promoting(state) => self.promote(now, world, state, &input, &mut out),
                State::Settling(state) => self.settle(now, world, state, &input, &mut out),
                State::Halted(state) => self.halted(now, world, state, &input, &mut out),
            },
        };
        out
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

    fn search(
        &mut self,
        now: Instant,
        world: &World<'_>,
        since: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        if !world.everybody_asked {
            return State::Searching { since };
        }
        let system_id = self.lineage.map(|lineage| lineage.system_id);
        let newest = match system_id.or_else(|| world.common_system_id()) {
            Some(system_id) => world.newest_primaries(system_id),
            None => Vec::new(),
        };
        // Replicas of a newer timeline know of a primary that we do not see.
        let seen_timeline = world
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
            ([member], _) => self.found(now, world, member, out),
            (_, Some(member)) => self.found(now, world, member, out),
            ([], None) => match self.primary_known {
                Some(primary) if world.is_lost(primary) => {
                    self.enter_doubt(now, world, primary, out)
                }
                Some(_) | None => State::Searching { since },
            },
            (_, None) => {
                out.push(Action::Alert(Alert::Halted(HaltReason::Ambiguous)));
                State::Halted(Halted {
                    why: HaltReason::Ambiguous,
                    since: now,
                    primary: None,
                    decision: None,
                    reachable: world.reachable(),
                })
            }
        }
    }

    /// The primary at start.
    fn found(
        &mut self,
        now: Instant,
        world: &World<'_>,
        member: &Member,
        out: &mut Vec<Action>,
    ) -> State {
        let (Some(system_id), Some(timeline)) = (member.system_id, member.timeline) else {
            return State::Searching { since: now };
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
            out.extend(self.memory(world.members, None).map(Action::Record));
        }
        out.push(Action::ResumeWrites {
            server: member.id,
            epoch: self.epoch,
        });
        State::Steady { primary: member.id }
    }

    fn steady(
        &mut self,
        now: Instant,
        world: &World<'_>,
        primary: ServerId,
        out: &mut Vec<Action>,
    ) -> State {
        self.order = None;
        if world.is_lost(primary) {
            return self.enter_doubt(now, world, primary, out);
        }
        self.tell_stragglers(now, world, primary, out);
        State::Steady { primary }
    }

    fn enter_doubt(
        &mut self,
        now: Instant,
        world: &World<'_>,
        primary: ServerId,
        out: &mut Vec<Action>,
    ) -> State {
        let member = world.member(primary);
        let trigger = match member.and_then(|member| member.verdict.reason()) {
            Some(reason) => Trigger::Unreachable {
                reason,
                probes: member.map_or(0, |member| member.failures),
            },
            None => Trigger::Demoted,
        };
        self.begin_story(now, now, trigger);
        self.mark(now, RecordPhase::HoldWrites);
        out.push(Action::HoldWrites(HoldCause::Failover));
        out.extend(world.members.iter().map(|member| Action::Probe(member.id)));
        State::Doubt(Doubt {
            primary,
            since: now,
            blocked: None,
        })
    }

    fn doubt(
        &mut self,
        now: Instant,
        world: &World<'_>,
        mut doubt: Doubt,
        input: &Input,
        out: &mut Vec<Action>,
    ) -> State {
        if world.is_back(doubt.primary, self.lineage) {
            return self.recover(now, world, doubt.primary, out);
        }
        if matches!(input, Input::Order(_) | Input::LookAgain) {
            doubt.blocked = None;
        }
        let blocked = match self.check_confirmed(now, world, doubt.primary) {
            Ok(()) => return self.freeze(now, world, &doubt, out),
            Err(None) => return State::Doubt(doubt),
            Err(Some(blocked)) => blocked,
        };
        if doubt.blocked != Some(blocked) {
            doubt.blocked = Some(blocked);
            out.push(Action::Alert(Alert::Blocked(blocked)));
            self.publish(now, world, RecordResult::Blocked(blocked), out);
        }
        State::Doubt(doubt)
    }

    /// Whether to go on: `Err(None)` means not yet, `Err(Some)` not at all for now.
    fn check_confirmed(
        &self,
        now: Instant,
        world: &World<'_>,
        primary: ServerId,
    ) -> Result<(), Option<Blocked>> {
        let member = world.member(primary).ok_or(None)?;
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
        match (world.rules.mode, self.order) {
            (FailoverMode::Auto, _) | (FailoverMode::Manual, Some(_)) => {}
            (FailoverMode::Manual, None) => return Err(Some(Blocked::Manual)),
            (FailoverMode::Observe, _) => return Err(Some(Blocked::Observing)),
        }
        let lineage = self.lineage.ok_or(Some(Blocked::NeverSeen))?;
        match world.rules.confirm_by {
            ConfirmBy::OwnProbes => {}
            ConfirmBy::Replicas => check_witnesses(world, primary, member.verdict)?,
        }
        let recent = |at: Instant| now.saturating_duration_since(at) < world.rules.cooldown;
        if self.order.is_none() && self.last_promotion.is_some_and(recent) {
            return Err(Some(Blocked::Cooldown));
        }
        let choice = self.choose(world, primary, lineage, &BTreeMap::new());
        match choice.chosen {
            Some(_) => Ok(()),
            None => Err(Some(nobody(&choice))),
        }
    }

    fn freeze(
        &mut self,
        now: Instant,
        world: &World<'_>,
        doubt: &Doubt,
        out: &mut Vec<Action>,
    ) -> State {
        self.mark(now, RecordPhase::Freeze);
        let asked: BTreeMap<_, _> = world
            .witnesses(doubt.primary)
            .map(|member| (member.id, Freezing::Asked))
            .collect();
        out.extend(asked.keys().map(|id| Action::Freeze(*id)));
        State::Collecting(Collecting {
            primary: doubt.primary,
            held_since: doubt.since,
            since: now,
            asked,
        })
    }

    fn collect(
        &mut self,
        now: Instant,
        world: &World<'_>,
        mut state: Collecting,
        input: &Input,
        out: &mut Vec<Action>,
    ) -> State {
        match input {
            Input::Outcome(Outcome::Frozen(frozen)) => {
                state
                    .asked
                    .insert(frozen.server, Freezing::Frozen(frozen.furthest));
            }
            Input::Outcome(Outcome::NotFrozen(server, _)) => {
                state.asked.insert(*server, Freezing::Watched(now));
                out.push(Action::Probe(*server));
            }
            Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain => {}
        }
        if world.is_back(state.primary, self.lineage) {
            self.unfreeze(world, state.primary, state.asked.keys(), out);
            return self.recover(now, world, state.primary, out);
        }
        // One that answers only now must be cut off as well.
        for member in world.witnesses(state.primary) {
            if !state.asked.contains_key(&member.id) {
                state.asked.insert(member.id, Freezing::Asked);
                out.push(Action::Freeze(member.id));
            }
        }
        let late = now.saturating_duration_since(state.since) >= COLLECT_MAX;
        match check_fenced(world, &state) {
            Ok(proof) => self.decide(now, world, &state, proof, out),
            Err(_) if !late => State::Collecting(state),
            Err(server) => {
                let why = match world.member(server).map(|member| member.verdict) {
                    Some(Verdict::Alive) => Blocked::StillReceives(server),
                    Some(_) | None => Blocked::NoCandidate,
                };
                self.give_up(now, world, &state, why, out)
            }
        }
    }

    fn decide(
        &mut self,
        now: Instant,
        world: &World<'_>,
        state: &Collecting,
        proof: Fenced,
        out: &mut Vec<Action>,
    ) -> State {
        let Some(lineage) = self.lineage else {
            return self.give_up(now, world, state, Blocked::NeverSeen, out);
        };
        let choice = self.choose(world, state.primary, lineage, &state.asked);
        let candidate = choice.chosen;
        let why = nobody(&choice);
        if let Some(story) = &mut self.story {
            story.choice = choice;
        }
        let memory = self.memory(world.members, candidate);
        let (Some(candidate), Some(memory)) = (candidate, memory) else {
            return self.give_up(now, world, state, why, out);
        };
        self.mark(now, RecordPhase::Decide);
        out.push(Action::Record(memory));
        State::Promoting(Promoting {
            held_since: state.held_since,
            since: now,
            candidate,
            proof,
            step: PromotingStep::Recording,
        })
    }

    fn give_up(
        &mut self,
        now: Instant,
        world: &World<'_>,
        state: &Collecting,
        why: Blocked,
        out: &mut Vec<Action>,
    ) -> State {
        self.unfreeze(world, state.primary, state.asked.keys(), out);
        let why = HaltReason::Blocked(why);
        self.halt(now, world, why, Some(state.primary), None, out)
    }

    fn halt(
        &mut self,
        now: Instant,
        world: &World<'_>,
        why: HaltReason,
        primary: Option<ServerId>,
        decision: Option<(ServerId, Fenced)>,
        out: &mut Vec<Action>,
    ) -> State {
        self.order = None;
        out.push(Action::Alert(Alert::Halted(why)));
        self.publish(now, world, RecordResult::Halted(why), out);
        State::Halted(Halted {
            why,
            since: now,
            primary,
            decision,
            reachable: world.reachable(),
        })
    }

    fn promote(
        &mut self,
        now: Instant,
        world: &World<'_>,
        mut state: Promoting,
        input: &Input,
        out: &mut Vec<Action>,
    ) -> State {
        let candidate = state.candidate;
        match (input, state.step) {
            (Input::Outcome(Outcome::Recorded), PromotingStep::Recording) => {
                self.mark(now, RecordPhase::Promote);
                return self.order_promotion(state, out);
            }
            (Input::Outcome(Outcome::NotRecorded), PromotingStep::Recording) => {
                let others: Vec<_> = state.proof.cut_off.clone();
                if let Some(primary) = self.primary_known {
                    self.unfreeze(world, primary, others.iter(), out);
                }
                let why = HaltReason::NotRecorded;
                return self.halt(now, world, why, self.primary_known, None, out);
            }
            (Input::Outcome(Outcome::Promoted(done)), _) if done.server == candidate => {
                return self.verify(now, world, state, done, out);
            }
            (Input::Outcome(Outcome::NotPromoted(server, _)), _) if *server == candidate => {
                state.step = PromotingStep::RetryAt(now + RETRY);
                out.push(Action::Probe(candidate));
            }
            (Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain, _) => {}
        }
        let replica = world
            .member(candidate)
            .is_some_and(|member| member.verdict == Verdict::Alive && member.role == Role::Replica);
        if matches!(state.step, PromotingStep::RetryAt(at) if now >= at) && replica {
            return self.order_promotion(state, out);
        }
        if now.saturating_duration_since(state.since) >= world.rules.promote_timeout {
            let decision = Some((candidate, state.proof));
            let why = HaltReason::PromotionStuck;
            return self.halt(now, world, why, self.primary_known, decision, out);
        }
        State::Promoting(state)
    }

    fn order_promotion(&mut self, mut state: Promoting, out: &mut Vec<Action>) -> State {
        out.push(Action::Promote {
            server: state.candidate,
            proof: state.proof.clone(),
        });
        state.step = PromotingStep::Ordered;
        State::Promoting(state)
    }

    /// The gate: out of recovery, same cluster, newer timeline. Nothing else opens writes.
    fn verify(
        &mut self,
        now: Instant,
        world: &World<'_>,
        state: Promoting,
        done: &Promoted,
        out: &mut Vec<Action>,
    ) -> State {
        let sighting = &done.sighting;
        let right = self.lineage.is_some_and(|old| {
            !sighting.in_recovery
                && sighting.system_id == old.system_id
                && sighting.timeline > Some(old.timeline)
        });
        let member = world.member(done.server);
        let (true, Some(member)) = (right, member) else {
            let decision = Some((state.candidate, state.proof));
            let why = HaltReason::WrongResult;
            return self.halt(now, world, why, self.primary_known, decision, out);
        };
        let member = Member {
            timeline: sighting.timeline,
            system_id: Some(sighting.system_id),
            role: Role::Primary,
            ..member.clone()
        };
        self.last_promotion = Some(now);
        let kind = match self.order {
            Some(_) => RecordKind::Manual,
            None => RecordKind::Automatic,
        };
        self.crown(now, world, &member, done.forked_at, kind, out)
    }

    /// A new reign begins.
    fn crown(
        &mut self,
        now: Instant,
        world: &World<'_>,
        member: &Member,
        forked_at: Lsn,
        kind: RecordKind,
        out: &mut Vec<Action>,
    ) -> State {
        let (Some(system_id), Some(timeline)) = (member.system_id, member.timeline) else {
            return State::Searching { since: now };
        };
        if let Some(story) = &mut self.story {
            story.crowned(member.id, kind, timeline);
        }
        self.mark(now, RecordPhase::ResumeWrites);
        self.epoch = self.epoch.next();
        self.lineage = Some(Lineage {
            system_id,
            timeline,
            forked_at,
        });
        self.primary_known = Some(member.id);
        self.order = None;
        self.told.clear();
        out.push(Action::ResumeWrites {
            server: member.id,
            epoch: self.epoch,
        });
        out.extend(self.memory(world.members, None).map(Action::Record));
        let mut waiting = Vec::new();
        if self.may_repoint(world) {
            for other in world.witnesses(member.id) {
                waiting.push(other.id);
                self.told.insert(other.id, now);
                let leader = member.address.clone();
                out.push(Action::Follow {
                    server: other.id,
                    leader,
                });
            }
        }
        State::Settling(Settling {
            primary: member.id,
            since: now,
            waiting,
        })
    }

    fn settle(
        &mut self,
        now: Instant,
        world: &World<'_>,
        mut state: Settling,
        input: &Input,
        out: &mut Vec<Action>,
    ) -> State {
        match input {
            Input::Outcome(Outcome::Following(server)) => {
                state.waiting.retain(|waiting| waiting != server);
            }
            Input::Outcome(Outcome::NotFollowing(server, _)) => {
                state.waiting.retain(|waiting| waiting != server);
                out.push(Action::Alert(Alert::NotFollowing(*server)));
            }
            Input::Outcome(_) | Input::Look | Input::Order(_) | Input::LookAgain => {}
        }
        let late = now.saturating_duration_since(state.since) >= SETTLE_MAX;
        let lost = world.is_lost(state.primary);
        if !state.waiting.is_empty() && !late && !lost {
            return State::Settling(state);
        }
        self.mark(now, RecordPhase::Repointed);
        self.publish(now, world, RecordResult::Promoted, out);
        self.story = None;
        match lost {
            true => self.enter_doubt(now, world, state.primary, out),
            false => State::Steady {
                primary: state.primary,
            },
        }
    }

    fn halted(
        &mut self,
        now: Instant,
        world: &World<'_>,
        state: Halted,
        input: &Input,
        out: &mut Vec<Action>,
    ) -> State {
        let again = matches!(input, Input::LookAgain | Input::Order(_));
        if let Some((candidate, proof)) = &state.decision {
            return self.halted_after_decision(now, world, &state, *candidate, proof, again, out);
        }
        let back = state
            .primary
            .filter(|primary| world.is_back(*primary, self.lineage));
        if let Some(primary) = back {
            return self.recover(now, world, primary, out);
        }
        let changed = again || world.reachable() != state.reachable;
        match (state.why, state.primary) {
            (HaltReason::Ambiguous, _) | (_, None) if changed => State::Searching { since: now },
            (_, Some(primary)) if changed => State::Doubt(Doubt {
                primary,
                since: state.since,
                blocked: None,
            }),
            _ => State::Halted(state),
        }
    }

    /// A decision is never taken back: the same server, or a person.
    fn halted_after_decision(
        &mut self,
        now: Instant,
        world: &World<'_>,
        state: &Halted,
        candidate: ServerId,
        proof: &Fenced,
        again: bool,
        out: &mut Vec<Action>,
    ) -> State {
        let promising = world
            .member(candidate)
            .is_some_and(|member| member.verdict == Verdict::Alive && member.role == Role::Replica);
        let was_away = !state.reachable.contains(&candidate);
        if promising && (was_away || again) {
            let promoting = Promoting {
                held_since: state.since,
                since: now,
                candidate,
                proof: proof.clone(),
                step: PromotingStep::Ordered,
            };
            return self.order_promotion(promoting, out);
        }
        let mut state = state.clone();
        if !promising {
            state.reachable.retain(|id| *id != candidate);
        }
        State::Halted(state)
    }

    fn recover(
        &mut self,
        now: Instant,
        world: &World<'_>,
        primary: ServerId,
        out: &mut Vec<Action>,
    ) -> State {
        self.mark(now, RecordPhase::ResumeWrites);
        self.publish(now, world, RecordResult::Recovered, out);
        self.story = None;
        out.push(Action::ResumeWrites {
            server: primary,
            epoch: self.epoch,
        });
        State::Steady { primary }
    }

    /// Everybody who was cut off gets the primary back.
    fn unfreeze<'a>(
        &self,
        world: &World<'_>,
        primary: ServerId,
        servers: impl Iterator<Item = &'a ServerId>,
        out: &mut Vec<Action>,
    ) {
        let Some(leader) = world.member(primary).map(|member| &member.address) else {
            return;
        };
        out.extend(servers.map(|server| Action::Unfreeze {
            server: *server,
            leader: leader.clone(),
        }));
    }

    /// Replicas that came back after the others were told, or were left cut off.
    fn tell_stragglers(
        &mut self,
        now: Instant,
        world: &World<'_>,
        primary: ServerId,
        out: &mut Vec<Action>,
    ) {
        if !self.may_repoint(world) {
            return;
        }
        let Some(leader) = world.member(primary).map(|member| &member.address) else {
            return;
        };
        // A replica is only told where to go when we know that the primary moved.
        let moved = self
            .lineage
            .is_some_and(|lineage| lineage.forked_at != Lsn::ZERO);
        for member in world.witnesses(primary) {
            let last = *self.told.entry(member.id).or_insert(now);
            if member.streams(self.lineage) {
                self.told.insert(member.id, now);
            } else if now.saturating_duration_since(last) >= TELL_AGAIN {
                self.told.insert(member.id, now);
                let (server, leader) = (member.id, leader.clone());
                out.push(match moved {
                    true => Action::Follow { server, leader },
                    false => Action::Unfreeze { server, leader },
                });
            }
        }
    }

    fn may_repoint(&self, world: &World<'_>) -> bool {
        world.rules.repoint && world.rules.mode != FailoverMode::Observe
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

    fn begin_story(&mut self, now: Instant, started: Instant, trigger: Trigger) {
        self.stories += 1;
        let timeline = self.lineage.map(|lineage| lineage.timeline);
        let story = Story::new(self.stories, self.primary_known, timeline, started, trigger);
        self.story = Some(story);
        let _ = now;
    }

    fn mark(&mut self, now: Instant, phase: RecordPhase) {
        if let Some(story) = &mut self.story {
            story.mark(now, phase);
        }
    }

    fn publish(
        &mut self,
        now: Instant,
        world: &World<'_>,
        result: RecordResult,
        out: &mut Vec<Action>,
    ) {
        if let Some(story) = &self.story {
            out.push(Action::Publish(story.tell(
                now,
                result,
                world.known_flushed,
            )));
        }
    }
}

/// Whether the replicas agree that the primary is dead.
fn check_witnesses(
    world: &World<'_>,
    primary: ServerId,
    verdict: Verdict,
) -> Result<(), Option<Blocked>> {
    let mut witnesses = world.witnesses(primary).peekable();
    if witnesses.peek().is_none() {
        return Err(Some(Blocked::NoWitness));
    }
    // A server that is starting up has no walsender either: nothing more to ask for.
    let _ = verdict;
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
    use super::candidate::Assessment;
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

impl<'a> World<'a> {
    /// One server.
    pub fn member(&self, id: ServerId) -> Option<&'a Member> {
        self.members.get(id.index())
    }

    /// Replicas that answer and belong to us.
    fn witnesses(&self, primary: ServerId) -> impl Iterator<Item = &'a Member> + use<'a> {
        self.members.iter().filter(move |member| {
            member.id != primary
                && member.role == Role::Replica
                && member.verdict == Verdict::Alive
                && !member.quarantined
        })
    }

    fn reachable(&self) -> Vec<ServerId> {
        let alive = |member: &&Member| member.verdict == Verdict::Alive;
        self.members
            .iter()
            .filter(alive)
            .map(|member| member.id)
            .collect()
    }

    /// The primary does not answer, or is none any more.
    fn is_lost(&self, primary: ServerId) -> bool {
        self.member(primary)
            .is_some_and(|member| match member.verdict {
                Verdict::Doubt(_) | Verdict::Dead(_) => true,
                Verdict::Alive => member.role != Role::Primary,
                Verdict::Unknown | Verdict::Impaired(_) | Verdict::Shaky(_) => false,
            })
    }

    /// The primary answers as the primary of the history that we know.
    fn is_back(&self, primary: ServerId, lineage: Option<Lineage>) -> bool {
        self.member(primary).is_some_and(|member| {
            let alive = match member.verdict {
                Verdict::Alive => true,
                // It answers, only not what we asked: it is not dead, and writes may try.
                Verdict::Impaired(reason) => reason == DownReason::Failing,
                Verdict::Unknown | Verdict::Shaky(_) | Verdict::Doubt(_) | Verdict::Dead(_) => {
                    false
                }
            };
            alive
                && member.role == Role::Primary
                && member.timeline == lineage.map(|lineage| lineage.timeline)
                && member.system_id == lineage.map(|lineage| lineage.system_id)
        })
    }

    /// The servers that say that they are the primary of the newest timeline of this cluster.
    fn newest_primaries(&self, system_id: SystemId) -> Vec<&'a Member> {
        let primaries: Vec<_> = self
            .members
            .iter()
            .filter(|member| {
                member.role == Role::Primary
                    && member.verdict == Verdict::Alive
                    && member.system_id == Some(system_id)
            })
            .collect();
        let newest = primaries.iter().map(|member| member.timeline).max();
        primaries
            .into_iter()
            .filter(|member| Some(member.timeline) == newest && member.timeline.is_some())
            .collect()
    }

    /// The cluster that all servers that answer belong to.
    fn common_system_id(&self) -> Option<SystemId> {
        let mut ids = self.members.iter().filter_map(|member| member.system_id);
        let first = ids.next()?;
        ids.all(|id| id == first).then_some(first)
    }
}

impl Member {
    /// Whether WAL, or a sign of life of the sender, came within `limit` of the last answer.
    fn receives(&self, limit: Duration) -> bool {
        match (&self.stream, self.asked_at) {
            (Stream::Gone, _) => false,
            (Stream::Connected { .. }, None) => true,
            (Stream::Connected { progress_at, .. }, Some(asked_at)) => {
                asked_at.saturating_duration_since(*progress_at) < limit
            }
        }
    }

    /// Whether it streams the current timeline.
    fn streams(&self, lineage: Option<Lineage>) -> bool {
        match &self.stream {
            Stream::Gone => false,
            Stream::Connected { timeline, .. } => {
                *timeline == lineage.map(|lineage| lineage.timeline)
            }
        }
    }

    fn standing(&self, primary: ServerId) -> Standing {
        match self.verdict {
            _ if self.id == primary => Standing::OldPrimary,
            _ if self.quarantined => Standing::Quarantined,
            Verdict::Alive if self.role != Role::Replica => Standing::Quarantined,
            Verdict::Alive if !self.may_be_promoted => Standing::NotAllowed,
            Verdict::Alive => Standing::Ready,
            Verdict::Unknown
            | Verdict::Impaired(_)
            | Verdict::Shaky(_)
            | Verdict::Doubt(_)
            | Verdict::Dead(_) => Standing::NoAnswer,
        }
    }
}

/// How long replicas may take to report; a freeze takes 5 to 20 ms.
const COLLECT_MAX: Duration = Duration::from_secs(2);
/// How long the other replicas may take to be told before the state is called steady.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Between two attempts to promote the same server.
const RETRY: Duration = Duration::from_millis(200);
/// Between two attempts to tell a replica where the primary is.
const TELL_AGAIN: Duration = Duration::from_secs(5);
