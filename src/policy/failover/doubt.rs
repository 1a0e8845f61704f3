//! The primary does not answer: writes wait until it is back, or until its death is confirmed and
//! a promotion is allowed. Nothing is changed on any server yet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::candidates::nobody;
use super::machine::{Cx, Failover, Input, State};
use crate::cluster::{HoldCause, Role, ServerId};
use crate::policy::action::{Action, Alert};
use crate::policy::facts::World;
use crate::policy::health::Verdict;
use crate::policy::record::{Blocked, RecordPhase, RecordResult, Trigger};
use crate::policy::{ConfirmBy, FailoverMode};

#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) primary: ServerId,
    pub(super) since: Instant,
    pub(super) blocked: Option<Standing>,
}

/// Why a doubt goes nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) why: Blocked,
    pub(super) since: Instant,
    pub(super) is_told: bool,
}

impl Failover {
    pub(super) fn enter_doubt(&mut self, cx: &mut Cx<'_>, primary: ServerId) -> State {
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

    pub(super) fn doubt(&mut self, cx: &mut Cx<'_>, mut doubt: Doubt, input: &Input) -> State {
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

    pub(super) fn recover(&mut self, cx: &mut Cx<'_>, primary: ServerId) -> State {
        self.mark(cx.now, RecordPhase::ResumeWrites);
        self.publish(cx, RecordResult::Recovered);
        self.story = None;
        cx.out.push(Action::ResumeWrites {
            server: primary,
            epoch: self.epoch,
        });
        State::Steady { primary }
    }
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

/// A reason not to promote is told when it has lasted for this long.
const BLOCKED_FOR: Duration = Duration::from_millis(300);
