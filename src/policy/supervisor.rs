//! The whole cluster as one machine: observations and results in, actions and a snapshot out.
//!
//! It keeps the books of each server (health, lag, timeline, quarantine) and lets `failover`
//! decide who the primary is. It owns no clock and no connection: a simulator plays it with the
//! same calls as the monitor does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::action::{Action, Alert, Order, Outcome, Remembered};
use super::facts::{Admission, Member, Stream, World};
use super::failover::{Failover, Input};
use super::freshness::{Gate, History, Reading, Streaming};
use super::health::{Health, Verdict};
use super::transitions::Stage;
use super::{HaltReason, Rules};
use crate::cluster::{
    Address, HoldCause, Lag, Lineage, Lsn, Observation, OutReason, PrimarySample, QuarantineReason,
    Receiver, ReceiverStatus, Role, ServerId, ServerState, ServerView, Sighting, Snapshot,
    Timeline, Writes,
};

/// A server of the configuration; its place in the list is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its name for people.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Its share of reads.
    pub weight: u32,
    /// Whether it may be promoted.
    pub candidate: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A probe ended.
    Observed(Observation),
    /// A client's connection to this server was refused or reset.
    ClientSawLoss {
        /// The server.
        server: ServerId,
        /// When.
        at: Instant,
    },
    /// An action ended.
    Done(Outcome),
    /// Time has passed.
    Tick,
    /// The configuration was read again.
    RulesChanged(Rules),
    /// An operator gave a command.
    Operator(Operator),
}

/// The commands of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Promote although the mode or the cooldown says no. The primary must be dead all the same.
    Failover(Order),
    /// A halted machine looks again.
    LookAgain,
    /// No more reads on this replica.
    Drain(ServerId),
    /// Reads again.
    Undrain(ServerId),
    /// Statements for the primary wait.
    Pause,
    /// They no longer do.
    Resume,
}

/// The books of one server.
#[derive(Clone, Debug)]
struct Tracked {
    configured: Configured,
    health: Health,
    gate: Gate,
    state: ServerState,
    since: Instant,
    lag: Option<Lag>,
    timeline: Option<Timeline>,
    stream: Stream,
    latest_end: Option<Lsn>,
    times_primary: u32,
    quarantine: Option<QuarantineReason>,
    is_drained: bool,
}

/// The machine of one cluster.
#[derive(Clone, Debug)]
pub struct Supervisor {
    servers: Vec<Tracked>,
    failover: Failover,
    history: History,
    sample: Option<PrimarySample>,
    rules: Rules,
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

    /// What sessions may know. Pure, and cheap: a copy of the books.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            epoch: self.failover.epoch(),
            servers: self
                .servers
                .iter()
                .zip(0..)
                .map(|(tracked, number)| tracked.view(ServerId(number)))
                .collect(),
            writes: self.writes(),
            lineage: self.failover.lineage(),
            primary_sample: self.sample,
        }
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

    fn writes(&self) -> Writes {
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

    fn is_primary_failing(&self) -> bool {
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

    fn quarantined(&self) -> Vec<Option<QuarantineReason>> {
        self.servers
            .iter()
            .map(|tracked| tracked.quarantine)
            .collect()
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

    fn judge_quarantines(&mut self, actions: &mut Vec<Action>) {
        let Some(lineage) = self.failover.lineage() else {
            return;
        };
        let primary = self.failover.primary();
        for (tracked, number) in self.servers.iter_mut().zip(0..) {
            let id = ServerId(number);
            let before = tracked.quarantine;
            tracked.quarantine = tracked.judge(lineage, Some(id) == primary);
            if let (true, Some(reason)) = (before != tracked.quarantine, tracked.quarantine) {
                actions.push(Action::Alert(Alert::Quarantined(id, reason)));
            }
        }
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

    fn judge_states(&mut self, now: Instant) {
        let writes = self.writes();
        let primary = self.failover.primary();
        let lineage = self.failover.lineage();
        let in_doubt = self.is_primary_failing()
            || !matches!(self.failover.stage(), Stage::Steady | Stage::Settling);
        // While writes wait nobody's write is acknowledged, so nothing gets older.
        let as_of = match self.failover.writes() {
            Writes::Held {
                since,
                cause: HoldCause::Failover,
            } => since.min(now),
            Writes::Held { .. } | Writes::Open(_) => now,
        };
        for (tracked, number) in self.servers.iter_mut().zip(0..) {
            let id = ServerId(number);
            let verdict = tracked
                .health
                .verdict(now, &self.rules.health, &self.rules.failover);
            tracked.lag = tracked.lag_at(&self.history, lineage, as_of);
            let state = if Some(id) == primary {
                tracked.state_of_primary(verdict, writes)
            } else {
                let reading = tracked.reading(lineage, in_doubt);
                tracked.state_of_other(now, verdict, &reading, &self.rules)
            };
            if std::mem::discriminant(&state) != std::mem::discriminant(&tracked.state) {
                tracked.since = now;
            }
            tracked.state = state;
        }
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

impl Tracked {
    fn new(configured: Configured, quarantine: Option<QuarantineReason>, now: Instant) -> Self {
        Self {
            configured,
            health: Health::default(),
            gate: Gate::default(),
            state: ServerState::Unknown,
            since: now,
            lag: None,
            timeline: None,
            stream: Stream::Gone,
            latest_end: None,
            times_primary: 0,
            quarantine,
            is_drained: false,
        }
    }

    fn sighting(&self) -> Option<&Sighting> {
        self.health.seen().map(|seen| &seen.sighting)
    }

    fn role(&self) -> Role {
        match self.sighting() {
            None => Role::Unknown,
            Some(sighting) if sighting.in_recovery => Role::Replica,
            Some(_) => Role::Primary,
        }
    }

    fn learn(&mut self, observation: &Observation, sighting: &Sighting) {
        let received = sighting
            .receiver
            .as_ref()
            .and_then(|receiver| receiver.timeline);
        let timeline = match received {
            Some(timeline) => Some(timeline),
            // Without a receiver a replica can only tell what it last wrote to its control file,
            // which may be late.
            None if sighting.in_recovery => self.timeline.max(sighting.timeline),
            None => sighting.timeline,
        };
        self.times_primary = match sighting.in_recovery {
            true => 0,
            false if timeline == self.timeline => self.times_primary.saturating_add(1),
            false => 1,
        };
        self.timeline = timeline;
        // A receiver whose state is hidden from our role may well stream.
        let streaming = sighting.receiver.as_ref().filter(|receiver| {
            receiver.status == ReceiverStatus::Streaming || receiver.timeline.is_none()
        });
        self.stream = match streaming {
            None => Stream::Gone,
            Some(receiver) => self.connected(observation, receiver),
        };
        self.latest_end = streaming.and_then(|receiver| receiver.latest_end);
    }

    /// Progress is a position that moved, or a message that came; what cannot be told counts as
    /// progress, since a living primary must not be replaced.
    fn connected(&self, observation: &Observation, receiver: &Receiver) -> Stream {
        let message = match receiver.last_message_age {
            Some(age) => observation.answered_at.checked_sub(age),
            None => None,
        };
        let before = match &self.stream {
            Stream::Connected { progress_at, .. } => Some(*progress_at),
            Stream::Gone => None,
        };
        let hidden = receiver.latest_end.is_none() && receiver.last_message_age.is_none();
        let moved = receiver.latest_end > self.latest_end && before.is_some();
        let progress_at = match hidden || moved {
            true => observation.answered_at,
            false => message.max(before).unwrap_or(observation.answered_at),
        };
        Stream::Connected {
            progress_at,
            sender: receiver.sender.clone(),
            timeline: receiver.timeline,
        }
    }

    /// Whether this server must not be used, from what it last said.
    fn judge(&self, lineage: Lineage, is_primary: bool) -> Option<QuarantineReason> {
        let Some(sighting) = self.sighting() else {
            return self.quarantine;
        };
        if sighting.system_id != lineage.system_id {
            return Some(QuarantineReason::OtherCluster);
        }
        if self.health.is_failing() {
            return self.quarantine;
        }
        if !sighting.in_recovery {
            return match self.timeline {
                Some(timeline) if timeline < lineage.timeline => Some(QuarantineReason::OldPrimary),
                Some(timeline) if timeline == lineage.timeline && !is_primary => {
                    Some(QuarantineReason::SecondPrimary)
                }
                Some(_) | None if is_primary => None,
                Some(_) | None => self.quarantine,
            };
        }
        let streams_current = matches!(
            &self.stream,
            Stream::Connected { timeline, .. } if *timeline == Some(lineage.timeline)
        );
        // Replayed, not received: the end of what was received may be half a record, which a
        // replica drops without harm.
        let went_on = lineage.forked_at != Lsn::ZERO
            && self.timeline < Some(lineage.timeline)
            && sighting.position > lineage.forked_at;
        match (streams_current, went_on) {
            (true, _) => None,
            (false, true) => Some(QuarantineReason::Diverged),
            (false, false) => self.quarantine,
        }
    }

    fn member(&self, id: ServerId, verdict: Verdict) -> Member {
        let sighting = self.sighting();
        Member {
            id,
            address: self.configured.address.clone(),
            admission: match (self.quarantine, self.configured.candidate) {
                (Some(_), _) => Admission::Quarantined,
                (None, true) => Admission::Candidate,
                (None, false) => Admission::ReplicaOnly,
            },
            verdict,
            failures: self.health.failures(),
            failing_since: self.health.failing_since(),
            role: self.role(),
            times_primary: self.times_primary,
            system_id: sighting.map(|sighting| sighting.system_id),
            timeline: self.timeline,
            furthest: sighting.map(|sighting| sighting.furthest),
            replay_paused: sighting.is_some_and(|sighting| sighting.replay_paused),
            stream: self.stream.clone(),
            asked_at: self.health.seen().map(|seen| seen.asked_at),
        }
    }

    fn lag_at(&self, history: &History, lineage: Option<Lineage>, as_of: Instant) -> Option<Lag> {
        let sighting = self.sighting().filter(|sighting| sighting.in_recovery)?;
        if self.timeline != lineage.map(|lineage| lineage.timeline) {
            return None;
        }
        let (_, newest) = history.latest()?;
        Some(Lag {
            time: history.staleness(sighting.position, as_of)?,
            bytes: sighting.position.behind(newest),
        })
    }

    fn reading(&self, lineage: Option<Lineage>, in_doubt: bool) -> Reading {
        Reading {
            stream: match self.stream {
                Stream::Connected { .. } => Streaming::Yes,
                Stream::Gone if in_doubt => Streaming::Excused,
                Stream::Gone => Streaming::No,
            },
            // Before a primary was found there is no right timeline, and no lag either.
            right_timeline: lineage.is_none_or(|lineage| self.timeline == Some(lineage.timeline)),
            lag: self.lag,
        }
    }

    fn state_of_primary(&self, verdict: Verdict, writes: Writes) -> ServerState {
        match (verdict, self.quarantine) {
            (Verdict::Unknown, _) => ServerState::Unknown,
            (_, Some(reason)) => ServerState::Quarantined(reason),
            // It was just promoted, and the next probe will say so.
            (Verdict::Alive, None) if self.role() == Role::Replica => match writes {
                Writes::Open(_) => ServerState::Primary,
                Writes::Held { .. } => ServerState::Out(OutReason::WrongTimeline),
            },
            (Verdict::Alive, None) => ServerState::Primary,
            (Verdict::Impaired(reason) | Verdict::Shaky(reason), None) => match writes {
                Writes::Open(_) => ServerState::Primary,
                Writes::Held { .. } => ServerState::Down(reason),
            },
            (Verdict::Doubt(reason) | Verdict::Dead(reason), None) => ServerState::Down(reason),
        }
    }

    fn state_of_other(
        &mut self,
        now: Instant,
        verdict: Verdict,
        reading: &Reading,
        rules: &Rules,
    ) -> ServerState {
        if let Some(reason) = self.quarantine {
            return ServerState::Quarantined(reason);
        }
        match verdict {
            Verdict::Unknown => ServerState::Unknown,
            // It is being promoted, or was by somebody else; not yet believed.
            Verdict::Alive if self.role() == Role::Primary => {
                ServerState::Out(OutReason::WrongTimeline)
            }
            Verdict::Alive if self.is_drained => ServerState::Out(OutReason::Drained),
            Verdict::Alive => self.gate.step(now, reading, &rules.lag),
            Verdict::Impaired(reason)
            | Verdict::Shaky(reason)
            | Verdict::Doubt(reason)
            | Verdict::Dead(reason) => ServerState::Down(reason),
        }
    }

    fn view(&self, id: ServerId) -> ServerView {
        let sighting = self.sighting();
        ServerView {
            id,
            name: Arc::clone(&self.configured.name),
            address: self.configured.address.clone(),
            weight: self.configured.weight,
            role: self.role(),
            state: self.state,
            since: self.since,
            timeline: self.timeline,
            position: sighting.map(|sighting| sighting.position),
            lag: self.lag,
            last_seen: self.health.seen().map(|seen| seen.asked_at),
            version_num: sighting.map(|sighting| sighting.version_num),
        }
    }
}

/// A probe costs a server about 10 µs; more often brings nothing.
const FASTEST_PROBES: Duration = Duration::from_millis(20);
