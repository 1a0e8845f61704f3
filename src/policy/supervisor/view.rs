//! What sessions may know: the state of each server, and the snapshot of them all.

use std::sync::Arc;
use std::time::Instant;

use super::machine::Supervisor;
use super::tracked::Tracked;
use crate::cluster::{
    DownReason, HoldCause, Lag, Lineage, OutReason, Role, ServerId, ServerState, ServerView,
    Snapshot, Writes,
};
use crate::policy::Rules;
use crate::policy::facts::Stream;
use crate::policy::freshness::{History, Reading, Streaming};
use crate::policy::health::Verdict;
use crate::policy::transitions::Stage;

impl Supervisor {
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

    pub(super) fn judge_states(&mut self, now: Instant) {
        let writes = self.writes();
        let primary = self.failover.primary();
        let lineage = self.failover.lineage();
        let in_doubt = self.is_primary_failing()
            || !matches!(self.failover.stage(), Stage::Steady | Stage::Settling);
        // While writes wait nobody's write is acknowledged, so nothing gets older.
        let as_of = match self.failover.writes() {
            Writes::Held {
                since,
                cause: HoldCause::Failover | HoldCause::Promotion,
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
}

impl Tracked {
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
            (Verdict::Doubt(reason), None) => ServerState::Down(reason),
            (Verdict::Dead(reason), None) => ServerState::Down(when_dead(reason)),
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
            Verdict::Impaired(reason) | Verdict::Shaky(reason) | Verdict::Doubt(reason) => {
                ServerState::Down(reason)
            }
            Verdict::Dead(reason) => ServerState::Down(when_dead(reason)),
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

/// What sessions are told of a death. A server that refuses has hung up on them itself; one that is
/// silent never will.
const fn when_dead(reason: DownReason) -> DownReason {
    match reason {
        DownReason::Silent => DownReason::Lost,
        DownReason::Refused
        | DownReason::Lost
        | DownReason::StartingUp
        | DownReason::LoginRefused
        | DownReason::TlsFailed
        | DownReason::Failing => reason,
    }
}
