//! What the rest of the program holds of the monitor.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::authority::{Ask, Authority, AuthorityError};
use super::events::{Journal, MonitorEvent, Recorded};
use crate::clock;
use crate::cluster::{ServerId, Snapshot};
use crate::policy::{Event, Operator, Rules};

/// The monitor has stopped, or does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the monitor takes no orders now")]
pub struct MonitorBusy;

/// A place for new rules in the monitor's queue.
#[derive(Debug)]
pub struct PlaceForRules<'a>(mpsc::Permit<'a, Event>);

impl PlaceForRules<'_> {
    /// Puts new rules in force.
    pub fn put(self, rules: Rules) {
        self.0.send(Event::RulesChanged(rules));
    }
}

/// A running monitor. Clones are the same monitor.
#[derive(Clone, Debug)]
pub struct MonitorHandle {
    /// The newest view of the cluster.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Changes with each new view; the number only grows.
    pub changes: watch::Receiver<u64>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) ask_now: Arc<Vec<Arc<Notify>>>,
    pub(super) journal: Arc<Journal>,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) stop: Arc<Notify>,
    pub(super) brain: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl MonitorHandle {
    /// Tells that a client's connection to this server was refused or reset: it is asked at once.
    pub fn report_loss(&self, server: ServerId) {
        let event = Event::ClientSawLoss {
            server,
            at: clock::now(),
        };
        if self.events.try_send(event).is_err() {
            tracing::debug!(%server, "the monitor is busy; a report of loss was dropped");
        }
    }

    /// Asks this server at once, for somebody who waits for a newer position. Many calls within
    /// one probe cost one probe.
    pub fn probe_now(&self, server: ServerId) {
        if let Some(notify) = self.ask_now.get(server.index()) {
            notify.notify_one();
        }
    }

    /// Failovers and decisions against one, oldest first.
    pub fn records(&self) -> Vec<Recorded> {
        self.journal.records()
    }

    /// How many events there ever were, and those after the first `seen` that are still kept,
    /// oldest first.
    pub fn events_since(&self, seen: u64) -> (u64, Vec<MonitorEvent>) {
        self.journal.events_since(seen)
    }

    /// A place for new rules: whoever has it can put them in force, and nothing can fail any more.
    /// Rules are put in force in the order in which they are given.
    ///
    /// # Errors
    ///
    /// When the monitor has stopped, or does not keep up.
    pub fn place_for_rules(&self) -> Result<PlaceForRules<'_>, MonitorBusy> {
        let place = self.events.try_reserve();
        place.map(PlaceForRules).map_err(|_full| MonitorBusy)
    }

    /// Gives an operator's command. What comes of it is in the records.
    ///
    /// # Errors
    ///
    /// When the monitor has stopped, or does not keep up.
    pub fn operate(&self, operator: Operator) -> Result<(), MonitorBusy> {
        let place = self.events.try_reserve().map_err(|_full| MonitorBusy)?;
        place.send(Event::Operator(operator));
        Ok(())
    }

    /// Gives the right to promote to another process: from here on this one observes, and writes no
    /// state.
    ///
    /// # Errors
    ///
    /// When it is in the middle of something; then nothing has changed.
    pub async fn give_authority(&self) -> Result<(), AuthorityError> {
        self.ask(Authority::Given(None)).await
    }

    /// Takes the right to promote back: the other process is gone.
    ///
    /// # Errors
    ///
    /// When the monitor has stopped.
    pub async fn take_authority(&self) -> Result<(), AuthorityError> {
        self.ask(Authority::Ours).await
    }

    async fn ask(&self, wanted: Authority) -> Result<(), AuthorityError> {
        let (answer, told) = oneshot::channel();
        let asked = self.asks.send(Ask { wanted, answer }).await;
        asked.map_err(|_stopped| AuthorityError::Stopped)?;
        told.await.unwrap_or(Err(AuthorityError::Stopped))
    }

    /// Stops all its tasks and waits for them.
    pub async fn shutdown(&self) {
        self.stop.notify_one();
        let brain = self.brain.lock().await.take();
        if let Some(brain) = brain
            && let Err(error) = brain.await
        {
            tracing::error!(%error, "the monitor ended badly");
        }
    }
}
