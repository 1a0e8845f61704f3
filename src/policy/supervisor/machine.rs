//! The step: books first, then the promotion machine, then the state of each server.

use std::time::{Duration, Instant};

use super::event::{Configured, Event, Operator};
use super::tracked::Tracked;
use crate::cluster::{
    Address, HoldCause, Observation, PrimarySample, QuarantineReason, ServerId, Writes,
};
use crate::policy::action::{Action, Outcome, Remembered};
use crate::policy::facts::{Member, Stream, World};
use crate::policy::failover::{Failover, Input};
use crate::policy::freshness::History;
use crate::policy::transitions::Stage;
use crate::policy::{HaltReason, Rules};

/// The machine of one cluster.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(super) servers: Vec<Tracked>,
    pub(super) failover: Failover,
    pub(super) history: History,
    pub(super) sample: Option<PrimarySample>,
    pub(super) rules: Rules,
    started: Instant,
    stepped: Instant,
    paused_since: Option<Instant>,
}

impl Supervisor {
    /// A machine that has seen nothing yet.
    pub fn new(
        servers: &[Configured],
        rules: Rules,
        remembered: Option<&Remembered>,
        now: Instant,
    ) -> Self {
        let find = |address: &Address| {
            let place = servers
                .iter()
                .position(|server| server.address == *address)?;
            u16::try_from(place).ok().map(ServerId)
        };
        let failover = Failover::new(remembered, find, now);
        let is_quarantined = |server: &Configured| {
            remembered.is_some_and(|memory| memory.quarantined.contains(&server.address))
        };
        let servers = servers
            .iter()
            .map(|server| {
                let quarantine = is_quarantined(server).then_some(QuarantineReason::OldPrimary);
                Tracked::new(server.clone(), quarantine, now)
            })
            .collect();
        Self {
            servers,
            failover,
            history: History::default(),
            sample: None,
            rules,
            started: now,
            stepped: now,
            paused_since: None,
        }
    }

    /// Takes one event and says what is to be done.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        self.stepped = now;
        let mut actions = Vec::new();
        let input = match event {
            Event::Observed(observation) => {
                self.observe(now, &observation, &mut actions);
                Input::Look
            }
            Event::ClientSawLoss { server, at } => {
                let asked = self
                    .tracked(server)
                    .and_then(|tracked| tracked.health.seen());
                if asked.is_some_and(|seen| seen.asked_at < at) {
                    actions.push(Action::Probe(server));
                }
                Input::Look
            }
            Event::Done(outcome) => {
                self.learn_promotion(now, &outcome);
                Input::Outcome(outcome)
            }
            Event::Tick => Input::Look,
            Event::RulesChanged(rules) => {
                self.rules = rules;
                Input::LookAgain
            }
            Event::Operator(operator) => self.operate(now, operator),
        };
        let quarantined_before = self.quarantined();
        self.judge_quarantines(&mut actions);
        let was = (self.failover.epoch(), self.failover.primary());
        let members = self.members(now);
        let world = World {
            members: &members,
            known_flushed: self.history.latest().map(|(_, flushed)| flushed),
            everybody_asked: self.is_everybody_asked(now),
            rules: &self.rules.failover,
        };
        actions.extend(self.failover.step(now, &world, &input));
        if was != (self.failover.epoch(), self.failover.primary()) {
            self.history.clear();
            self.sample = None;
            self.judge_quarantines(&mut actions);
        }
        if quarantined_before != self.quarantined() {
            let members = self.members(now);
            actions.extend(self.failover.memory_now(&members).map(Action::Record));
        }
        self.judge_states(now);
        self.name_servers(&mut actions);
        actions
    }

    /// When time alone may change something.
    pub fn next_deadline(&self) -> Instant {
        self.stepped + self.probe_interval()
    }

    /// How often servers are to be asked now: faster while the primary is in doubt.
    pub fn probe_interval(&self) -> Duration {
        let interval = self.rules.health.interval;
        match self.failover.stage() == Stage::Steady && !self.is_primary_failing() {
            true => interval,
            false => (interval / 4).clamp(FASTEST_PROBES, interval.max(FASTEST_PROBES)),
        }
    }

    /// The stage of the promotion machine.
    pub fn stage(&self) -> Stage {
        self.failover.stage()
    }

    /// Why nobody is promoted although the primary is gone.
    pub fn standstill(&self) -> Option<HaltReason> {
        self.failover.standstill()
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn writes(&self) -> Writes {
        match (self.failover.writes(), self.paused_since) {
            (Writes::Open(_), Some(since)) => Writes::Held {
                since,
                cause: HoldCause::Paused,
            },
            (writes, _) => writes,
        }
    }

    fn tracked(&self, id: ServerId) -> Option<&Tracked> {
        self.servers.get(id.index())
    }

    pub(super) fn is_primary_failing(&self) -> bool {
        let primary = self.failover.primary().and_then(|id| self.tracked(id));
        primary.is_some_and(|tracked| tracked.health.is_failing())
    }

    fn is_everybody_asked(&self, now: Instant) -> bool {
        let patience = self.rules.health.timeout + self.rules.health.interval;
        now.saturating_duration_since(self.started) >= patience
            || self
                .servers
                .iter()
                .all(|tracked| tracked.health.was_asked())
    }

    fn operate(&mut self, now: Instant, operator: Operator) -> Input {
        let mut drain = |server: ServerId, is_drained| {
            if let Some(tracked) = self.servers.get_mut(server.index()) {
                tracked.is_drained = is_drained;
            }
        };
        match operator {
            Operator::Failover(order) => return Input::Order(order),
            Operator::LookAgain => return Input::LookAgain,
            Operator::Drain(server) => drain(server, true),
            Operator::Undrain(server) => drain(server, false),
            Operator::Pause => self.paused_since = self.paused_since.or(Some(now)),
            Operator::Resume => self.paused_since = None,
        }
        Input::Look
    }

    fn observe(&mut self, now: Instant, observation: &Observation, actions: &mut Vec<Action>) {
        let primary = self.failover.primary();
        let lineage = self.failover.lineage();
        let Some(tracked) = self.servers.get_mut(observation.server.index()) else {
            return;
        };
        let had_stream = tracked.stream != Stream::Gone;
        let stale = |asked_at| observation.asked_at < asked_at;
        if tracked
            .health
            .seen()
            .is_some_and(|seen| stale(seen.asked_at))
        {
            return;
        }
        tracked.health.observe(observation);
        let Ok(sighting) = &observation.outcome else {
            return;
        };
        tracked.learn(observation, sighting);
        // The replicas of a dead primary notice before our own probe is due.
        if had_stream && tracked.stream == Stream::Gone {
            actions.extend(primary.map(Action::Probe));
        }
        let is_ours = Some(observation.server) == primary
            && !sighting.in_recovery
            && lineage.is_some_and(|lineage| {
                Some(lineage.timeline) == sighting.timeline
                    && lineage.system_id == sighting.system_id
            });
        let newer = self
            .sample
            .is_none_or(|sample| sample.asked_at < observation.asked_at);
        if let (true, true, Some(timeline)) = (is_ours, newer, sighting.timeline) {
            self.history.record(observation.asked_at, sighting.position);
            self.sample = Some(PrimarySample {
                asked_at: observation.asked_at,
                position: sighting.furthest,
                timeline,
            });
        }
        debug_assert!(now >= self.started, "time goes forward");
    }

    /// A probe that was asked before the promotion ended must not make the new primary a replica
    /// again.
    fn learn_promotion(&mut self, now: Instant, outcome: &Outcome) {
        let Outcome::Promoted(promoted) = outcome else {
            return;
        };
        let Some(tracked) = self.servers.get_mut(promoted.server.index()) else {
            return;
        };
        let observation = Observation {
            server: promoted.server,
            asked_at: now,
            answered_at: now,
            outcome: Ok(promoted.sighting.clone()),
        };
        tracked.health.observe(&observation);
        tracked.learn(&observation, &promoted.sighting);
    }

    fn members(&self, now: Instant) -> Vec<Member> {
        self.servers
            .iter()
            .zip(0..)
            .map(|(tracked, number)| {
                let verdict = tracked
                    .health
                    .verdict(now, &self.rules.health, &self.rules.failover);
                tracked.member(ServerId(number), verdict)
            })
            .collect()
    }

    /// A story names servers by number; people know them by name.
    fn name_servers(&self, actions: &mut [Action]) {
        for action in actions {
            if let Action::Publish(record) = action {
                for (tracked, number) in self.servers.iter().zip(0..) {
                    let number = format!("{{{}}}", ServerId(number));
                    record.sentence = record.sentence.replace(&number, &tracked.configured.name);
                }
            }
        }
    }
}

/// A probe costs a server about 10 µs; more often brings nothing.
const FASTEST_PROBES: Duration = Duration::from_millis(20);
