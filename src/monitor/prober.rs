//! The task that asks one server, on one connection, for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep_until, timeout};
use tokio_postgres::Statement;
use tracing::warn;

use super::MonitorSettings;
use super::connect::{Link, failure_of};
use super::probe::{PROBE, ask};
use crate::clock;
use crate::cluster::{Address, Observation, ProbeFailure, ServerId, Sighting};
use crate::policy::Event;
use crate::telemetry::Telemetry;

/// How servers are to be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// What one prober needs.
#[derive(Debug)]
pub(super) struct Prober {
    pub(super) server: ServerId,
    pub(super) address: Address,
    pub(super) settings: Arc<MonitorSettings>,
    pub(super) pace: watch::Receiver<Pace>,
    pub(super) ask_now: Arc<Notify>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) telemetry: Arc<Telemetry>,
}

struct Connected {
    link: Link,
    statement: Statement,
    beaten_at: Option<Instant>,
    may_beat: bool,
}

/// Asks until the brain is gone.
pub(super) async fn run(mut prober: Prober) {
    let mut connected: Option<Connected> = None;
    let mut told = None;
    loop {
        let pace = *prober.pace.borrow_and_update();
        let asked_at = clock::now();
        let outcome = prober.probe(&mut connected, pace).await;
        prober.tell_of_tls(&outcome, &mut told);
        let is_primary = outcome.as_ref().is_ok_and(|sighting| !sighting.in_recovery);
        let answered_at = clock::now();
        let took = answered_at.saturating_duration_since(asked_at);
        let failure = outcome.as_ref().err();
        prober.telemetry.probed(prober.server, took, failure);
        let observation = Observation {
            server: prober.server,
            asked_at,
            answered_at,
            outcome,
        };
        if prober
            .events
            .send(Event::Observed(observation))
            .await
            .is_err()
        {
            return;
        }
        if is_primary && !beat(&mut connected, pace.timeout).await {
            connected = None;
        }
        prober.rest(&mut connected, asked_at).await;
    }
}

impl Prober {
    /// One question, with one new connection when the old one turns out to be gone.
    async fn probe(
        &self,
        connected: &mut Option<Connected>,
        pace: Pace,
    ) -> Result<Sighting, ProbeFailure> {
        drop(connected.take_if(|open| !open.link.is_as_wanted(&self.settings)));
        if let Some(open) = connected.as_ref() {
            let asked = ask(&open.link.client, &open.statement);
            match timeout(pace.timeout, asked).await {
                Ok(Ok(sighting)) => return Ok(sighting),
                Ok(Err(ProbeFailure::Refused | ProbeFailure::StartingUp)) => {}
                Ok(Err(failure)) => {
                    *connected = None;
                    return Err(failure);
                }
                Err(_elapsed) => {
                    *connected = None;
                    return Err(ProbeFailure::TimedOut);
                }
            }
            *connected = None;
        }
        let asked = async {
            let link = Link::open(&self.address, &self.settings).await?;
            let prepared = link.client.prepare(PROBE).await;
            let statement = prepared.map_err(|error| failure_of(&error))?;
            let sighting = ask(&link.client, &statement).await?;
            Ok((link, statement, sighting))
        };
        let (link, statement, sighting) = match timeout(pace.timeout, asked).await {
            Ok(answer) => answer?,
            Err(_elapsed) => return Err(ProbeFailure::TimedOut),
        };
        *connected = Some(Connected {
            link,
            statement,
            beaten_at: None,
            may_beat: true,
        });
        Ok(sighting)
    }

    /// Warns of what is wrong with TLS, once for each reason: the state of a server has no room for
    /// it, and a probe is made many times a second.
    fn tell_of_tls(&self, outcome: &Result<Sighting, ProbeFailure>, told: &mut Option<String>) {
        let reason = match outcome {
            Err(ProbeFailure::TlsFailed { why }) => Some(why),
            Ok(_) | Err(_) => None,
        };
        if reason != told.as_ref() {
            if let Some(why) = reason {
                warn!(server = %self.address, why, "no TLS with a server");
            }
            *told = reason.cloned();
        }
    }

    /// Waits for the next question: the interval, a demand, or the end of the connection, which is
    /// the first sign of a server's death.
    async fn rest(&mut self, connected: &mut Option<Connected>, asked_at: Instant) {
        let earliest = asked_at + GAP_MIN;
        let due = async {
            loop {
                let interval = self.pace.borrow_and_update().interval;
                tokio::select! {
                    () = sleep_until((asked_at + interval).into()) => return,
                    changed = self.pace.changed() => if changed.is_err() { return },
                }
            }
        };
        let ended = async {
            match connected.as_mut() {
                Some(open) => open.link.ended().await,
                None => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            () = due => false,
            () = self.ask_now.notified() => false,
            () = ended => true,
        };
        if gone {
            *connected = None;
        }
        sleep_until(earliest.into()).await;
    }
}

/// Writes a message into the WAL of the primary, so that the replicas can witness that it lives.
/// Returns false when the connection is of no use any more.
async fn beat(connected: &mut Option<Connected>, limit: Duration) -> bool {
    let Some(open) = connected.as_mut().filter(|open| open.may_beat) else {
        return true;
    };
    let now = clock::now();
    if open
        .beaten_at
        .is_some_and(|at| now.duration_since(at) < BEAT)
    {
        return true;
    }
    open.beaten_at = Some(now);
    match timeout(limit, open.link.client.batch_execute(HEARTBEAT)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            // Not allowed, or a primary that cannot write: the probes go on without it.
            open.may_beat = error.is_closed();
            tracing::debug!(%error, "heartbeat was refused");
            !error.is_closed()
        }
        Err(_elapsed) => false,
    }
}

/// Takes no transaction id, and does not wait for synchronous replicas.
const HEARTBEAT: &str = "SELECT pg_logical_emit_message(false, 'pgherd', '')";
/// How often: a replica then hears of its primary well within any confirmation time.
const BEAT: Duration = Duration::from_millis(500);
/// Between two questions, however urgent.
const GAP_MIN: Duration = Duration::from_millis(5);
