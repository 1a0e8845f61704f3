//! The task that owns the supervisor: events in, snapshot and actions out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::actions::{self, Site};
use super::authority::{self, Ask, Authority};
use super::events::{Journal, MonitorEvent, Recorded};
use super::handle::MonitorHandle;
use super::prober::{self, Pace, Prober};
use super::{Deps, Keep, MonitorSettings};
use crate::clock;
use crate::cluster::{ServerId, ServerState, Snapshot};
use crate::policy::{Action, Alert, Configured, Event, Outcome, Remembered, Rules, Supervisor};
use crate::telemetry::Severity;

struct Brain {
    supervisor: Supervisor,
    servers: Vec<Configured>,
    settings: Arc<MonitorSettings>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    version: watch::Sender<u64>,
    pace: watch::Sender<Pace>,
    ask_now: Arc<Vec<Arc<Notify>>>,
    events: mpsc::Sender<Event>,
    keeper: mpsc::Sender<Remembered>,
    /// Memories that are not on disk yet.
    unwritten: Arc<AtomicUsize>,
    authority: Authority,
    journal: Arc<Journal>,
    tasks: JoinSet<()>,
}

pub(super) fn start(deps: Deps) -> MonitorHandle {
    let Deps {
        servers,
        settings,
        rules,
        remembered,
        keep,
        telemetry,
    } = deps;
    let settings = Arc::new(settings);
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let pace = watch::Sender::new(pace_of(&rules));
    let ask_now: Arc<Vec<_>> = Arc::new(servers.iter().map(|_| Arc::new(Notify::new())).collect());
    let mut tasks = JoinSet::new();
    for ((server, number), ask_now) in servers.iter().zip(0..).zip(ask_now.iter()) {
        tasks.spawn(prober::run(Prober {
            server: ServerId(number),
            address: server.address.clone(),
            settings: Arc::clone(&settings),
            pace: pace.subscribe(),
            ask_now: Arc::clone(ask_now),
            events: events.clone(),
            telemetry: Arc::clone(&telemetry),
        }));
    }
    let (keeper, memories) = mpsc::channel(MEMORIES_MAX);
    let unwritten = Arc::<AtomicUsize>::default();
    let written = Arc::clone(&unwritten);
    tasks.spawn(run_keeper(keep, memories, written, events.clone()));
    let supervisor = Supervisor::new(&servers, rules, remembered.as_ref(), clock::now());
    let snapshot = Arc::new(ArcSwap::from_pointee(supervisor.snapshot()));
    let (version, changes) = watch::channel(0);
    let journal = Arc::new(Journal::default());
    let stop = Arc::new(Notify::new());
    let brain = Brain {
        supervisor,
        servers,
        settings,
        snapshot: Arc::clone(&snapshot),
        version,
        pace,
        ask_now: Arc::clone(&ask_now),
        events: events.clone(),
        keeper,
        unwritten,
        authority: Authority::Ours,
        journal: Arc::clone(&journal),
        tasks,
    };
    let (asks, asked) = mpsc::channel(authority::ASKS_MAX);
    let task = tokio::spawn(brain.run(inbox, asked, Arc::clone(&stop)));
    MonitorHandle {
        snapshot,
        changes,
        events,
        ask_now,
        journal,
        asks,
        stop,
        brain: Arc::new(Mutex::new(Some(task))),
    }
}

/// One writer, so that an older memory never overwrites a newer one.
async fn run_keeper(
    keep: Keep,
    mut memories: mpsc::Receiver<Remembered>,
    unwritten: Arc<AtomicUsize>,
    events: mpsc::Sender<Event>,
) {
    while let Some(memory) = memories.recv().await {
        let is_decision = memory.decision.is_some();
        let keep = Arc::clone(&keep);
        let kept = tokio::task::spawn_blocking(move || keep(&memory)).await;
        unwritten.fetch_sub(1, Ordering::AcqRel);
        let kept = match kept {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the state file could not be written");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the state file's writer ended badly");
                false
            }
        };
        let outcome = if kept {
            Outcome::Recorded
        } else {
            Outcome::NotRecorded
        };
        if is_decision && events.send(Event::Done(outcome)).await.is_err() {
            return;
        }
    }
}

impl Brain {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut asked: mpsc::Receiver<Ask>,
        stop: Arc<Notify>,
    ) {
        loop {
            let deadline = self.supervisor.next_deadline();
            let event = tokio::select! {
                () = stop.notified() => break,
                Some(ask) = asked.recv() => {
                    self.answer(ask);
                    continue;
                }
                event = inbox.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
                () = sleep_until(deadline.into()) => Event::Tick,
            };
            self.step(event);
            while self.tasks.try_join_next().is_some() {}
        }
        self.tasks.shutdown().await;
    }

    fn step(&mut self, event: Event) {
        let event = match event {
            Event::RulesChanged(rules) => Event::RulesChanged(self.authority.limit(rules)),
            other => other,
        };
        let before = self.supervisor.stage();
        let actions = self.supervisor.step(clock::now(), event);
        let after = self.supervisor.stage();
        if before != after {
            tracing::info!(from = %before, to = %after, "failover machine moved");
        }
        self.publish();
        let pace = Pace {
            interval: self.supervisor.probe_interval(),
            ..pace_of(self.supervisor.rules())
        };
        self.pace
            .send_if_modified(|old| std::mem::replace(old, pace) != pace);
        for action in actions {
            self.act(action);
        }
    }

    /// Gives the right to promote away, or takes it back. Between two steps: nothing is decided
    /// meanwhile.
    fn answer(&mut self, ask: Ask) {
        let rules = self.supervisor.rules().clone();
        let told = match ask.wanted {
            Authority::Given(_) => {
                let idle = self.unwritten.load(Ordering::Acquire) == 0;
                authority::may_give(self.supervisor.stage(), idle)
            }
            Authority::Ours => Ok(()),
        };
        if told.is_ok() {
            let rules = self.authority.change(ask.wanted, rules);
            self.step(Event::RulesChanged(rules));
        }
        if ask.answer.send(told).is_err() {
            tracing::debug!("nobody waits for who may promote");
        }
    }

    fn publish(&self) {
        let old = self.snapshot.load();
        let new = self.supervisor.snapshot();
        if **old == new {
            return;
        }
        self.note_changes(&old, &new);
        self.snapshot.store(Arc::new(new));
        self.version.send_modify(|version| *version += 1);
    }

    fn note_changes(&self, old: &Snapshot, new: &Snapshot) {
        for (old, new) in old.servers.iter().zip(&new.servers) {
            let changed = std::mem::discriminant(&old.state) != std::mem::discriminant(&new.state);
            if changed {
                let lag_bytes = new.lag.map(|lag| lag.bytes.0);
                let severity = match new.state {
                    ServerState::Down(_) | ServerState::Quarantined(_) => {
                        tracing::warn!(server = %new.name, why = %new.state, "server changed");
                        Severity::Warning
                    }
                    ServerState::Unknown
                    | ServerState::Primary
                    | ServerState::Serving
                    | ServerState::Out(_) => {
                        tracing::info!(
                            server = %new.name, why = %new.state, lag_bytes, "server changed"
                        );
                        Severity::Info
                    }
                };
                let sentence = format!("{} is {}, was {}", new.name, new.state, old.state);
                self.note(severity, "server_state", Some(new.id), sentence);
            }
        }
    }

    fn note(
        &self,
        severity: Severity,
        kind: &'static str,
        server: Option<ServerId>,
        sentence: String,
    ) {
        self.journal.note(MonitorEvent {
            at: clock::wall(),
            severity,
            kind,
            server,
            sentence,
        });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Probe(server) => {
                if let Some(ask_now) = self.ask_now.get(server.index()) {
                    ask_now.notify_one();
                }
            }
            Action::HoldWrites(cause) => {
                tracing::warn!(why = ?cause, "writes are held");
                self.note(
                    Severity::Warning,
                    "hold_writes",
                    None,
                    "writes are held".into(),
                );
            }
            Action::ResumeWrites { server, epoch } => {
                let name = self.name(server);
                tracing::info!(server = %name, %epoch, "writes go to this server");
                let sentence = format!("writes go to {name} in epoch {epoch}");
                self.note(Severity::Info, "resume_writes", Some(server), sentence);
            }
            Action::Freeze(server) => self.spawn(server, "freeze", actions::freeze),
            Action::Promote { server, proof } => {
                let cut_off = proof.servers().len();
                tracing::warn!(server = %self.name(server), cut_off, "promoting");
                self.spawn(server, "promote", actions::promote);
            }
            Action::Follow { server, leader } => {
                self.spawn(server, "follow", |site| {
                    actions::follow(site, leader, false)
                });
            }
            Action::Unfreeze { server, leader } => {
                self.spawn(server, "unfreeze", |site| {
                    actions::follow(site, leader, true)
                });
            }
            Action::Record(memory) => self.record(memory),
            Action::Alert(alert) => self.alert(alert),
            Action::Publish(record) => {
                let age = clock::now().saturating_duration_since(record.started);
                let started = clock::wall().checked_sub(age).unwrap_or_else(clock::wall);
                tracing::warn!(why = record.result.as_str(), "{}", record.sentence);
                self.journal.record(Recorded { started, record });
            }
        }
    }

    /// A disk so slow that memories pile up counts as one that cannot write.
    fn record(&self, memory: Remembered) {
        if matches!(self.authority, Authority::Given(_)) {
            // The file is another's now.
            return;
        }
        let is_decision = memory.decision.is_some();
        self.unwritten.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = self.keeper.try_send(memory) {
            self.unwritten.fetch_sub(1, Ordering::AcqRel);
            tracing::error!(%error, "the state file's writer does not keep up");
            let failed = Event::Done(Outcome::NotRecorded);
            if is_decision && self.events.try_send(failed).is_err() {
                tracing::error!("and nobody can be told");
            }
        }
    }

    fn alert(&self, alert: Alert) {
        let (severity, kind, server, sentence) = match alert {
            Alert::Blocked(why) => (
                Severity::Warning,
                "failover_blocked",
                None,
                format!("no promotion: {why}"),
            ),
            Alert::Halted(why) => (
                Severity::Error,
                "failover_halted",
                None,
                format!("standing still: {why}"),
            ),
            Alert::Quarantined(server, reason) => {
                let sentence = format!("{} is quarantined: {reason:?}", self.name(server));
                (Severity::Error, "quarantined", Some(server), sentence)
            }
            Alert::NotFollowing(server) => {
                let sentence = format!("{} could not be repointed", self.name(server));
                (Severity::Warning, "not_following", Some(server), sentence)
            }
        };
        tracing::warn!(server = server.map(|id| self.name(id)), why = %sentence, "{kind}");
        self.note(severity, kind, server, sentence);
    }

    fn spawn<F>(&mut self, server: ServerId, what: &'static str, make: impl FnOnce(Site) -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Some(configured) = self.servers.get(server.index()) else {
            return;
        };
        let work = make(Site {
            server,
            address: configured.address.clone(),
            settings: Arc::clone(&self.settings),
        });
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let outcome = work.await;
            tracing::info!(%server, why = what, outcome = ?outcome, "action ended");
            if events.send(Event::Done(outcome)).await.is_err() {
                tracing::debug!("the monitor stopped before an action ended");
            }
        });
    }

    fn name(&self, server: ServerId) -> &str {
        self.servers
            .get(server.index())
            .map_or("?", |server| &server.name)
    }
}

fn pace_of(rules: &Rules) -> Pace {
    Pace {
        interval: rules.health.interval,
        timeout: rules.health.timeout,
    }
}

/// A probe of each of a hundred servers, ten times over.
const EVENTS_MAX: usize = 1024;
/// Memories are written in milliseconds and made once in a failover.
const MEMORIES_MAX: usize = 64;
