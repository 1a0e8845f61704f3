//! What must hold after every step, told against the truth of the world.

use std::collections::{BTreeMap, BTreeSet};

use pgherd::cluster::{
    Epoch, HoldCause, Lsn, Observation, Role, ServerId, ServerState, Snapshot, Timeline, Writes,
};
use pgherd::policy::LostBytes;
use pgherd::policy::failover::Fenced;
use pgherd::policy::transitions::Stage;

use crate::node::Conninfo;
use crate::world::{World, index_of};

#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// The server of each epoch.
    reigns: BTreeMap<Epoch, ServerId>,
    newest: Epoch,
    /// Who was chosen to end each timeline.
    chosen: BTreeMap<Timeline, ServerId>,
    /// The last flushed position that each timeline's primary told.
    known: BTreeMap<Timeline, Lsn>,
    known_when_decided: BTreeMap<Timeline, Lsn>,
    moves: BTreeSet<(Stage, Stage)>,
}

impl Checks {
    pub(crate) fn promotions(&self) -> u64 {
        self.reigns.len().saturating_sub(1) as u64
    }

    pub(crate) fn moves(&self) -> &BTreeSet<(Stage, Stage)> {
        &self.moves
    }

    pub(crate) fn moved(&mut self, from: Stage, to: Stage) {
        self.moves.insert((from, to));
        // A primary that comes back after the decision may tell more; that is too late.
        if (from, to) == (Stage::Collecting, Stage::Promoting) {
            self.known_when_decided = self.known.clone();
        }
    }

    pub(crate) fn sample(&mut self, observation: &Observation, snapshot: &Snapshot) {
        // The program asks a server one question at a time; here an answer may be overtaken by that
        // to a later question, and is ignored then.
        let seen = snapshot.server(observation.server);
        let overtaken = seen.is_some_and(|seen| seen.last_seen > Some(observation.asked_at));
        if let (Ok(sighting), Some(lineage), false) =
            (&observation.outcome, snapshot.lineage, overtaken)
            && !sighting.in_recovery
            && sighting.timeline == Some(lineage.timeline)
            && self.reigns.get(&snapshot.epoch) == Some(&observation.server)
        {
            self.known.insert(lineage.timeline, sighting.position);
        }
    }

    /// What a new router does not know it cannot keep: positions, and an epoch that began within
    /// the last write of the state file. Its sessions are gone, so nobody sees that epoch twice.
    pub(crate) fn router_restarted(&mut self, remembered: Epoch) {
        self.newest = remembered;
        self.known.clear();
    }
}

impl World {
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.check_reigns()?;
        self.check_quarantine()?;
        self.check_reads()
    }

    /// In one epoch writes go to one server, and an epoch that ended does not come back.
    fn check_reigns(&mut self) -> Result<(), String> {
        let epoch = self.snapshot.epoch;
        if epoch < self.checks.newest {
            return Err(format!("epoch {epoch} after epoch {}", self.checks.newest));
        }
        self.checks.newest = epoch;
        let Writes::Open(server) = self.snapshot.writes else {
            return Ok(());
        };
        let reign = *self.checks.reigns.entry(epoch).or_insert(server);
        match reign == server {
            true => Ok(()),
            false => Err(format!(
                "epoch {epoch} belongs to {reign}, and writes go to {server}"
            )),
        }
    }

    /// A server that says primary on an old timeline gets nothing.
    fn check_quarantine(&self) -> Result<(), String> {
        let Some(lineage) = self.snapshot.lineage else {
            return Ok(());
        };
        for server in &self.snapshot.servers {
            let old = server.role == Role::Primary && server.timeline < Some(lineage.timeline);
            if old && matches!(server.state, ServerState::Primary | ServerState::Serving) {
                return Err(format!(
                    "{} is used although its timeline is old",
                    server.name
                ));
            }
        }
        Ok(())
    }

    /// A replica that serves has every write that was acknowledged longer ago than the bound.
    fn check_reads(&self) -> Result<(), String> {
        let as_of = match self.snapshot.writes {
            Writes::Open(_) => self.at(self.now),
            Writes::Held {
                since,
                cause: HoldCause::Failover | HoldCause::Promotion,
            } => since,
            Writes::Held { .. } => return Ok(()),
        };
        let bound = self.rules.lag.max_time;
        let due = self.acknowledged.iter().rev().find(|write| {
            write.epoch == self.snapshot.epoch && self.at(write.at_ms) + bound < as_of
        });
        let Some(due) = due else {
            return Ok(());
        };
        for server in &self.snapshot.servers {
            let node = &self.nodes[index_of(server.id)];
            let replayed = Lsn::from_bytes(node.replay);
            if server.state == ServerState::Serving && replayed < due.end {
                return Err(format!(
                    "{} is read at {replayed}, but {} was acknowledged by {} more than {bound:?} ago",
                    server.name, due.end, due.server
                ));
            }
        }
        Ok(())
    }

    /// Told of every order to promote, before it is carried out.
    pub(crate) fn check_promotion(
        &mut self,
        server: ServerId,
        proof: &Fenced,
    ) -> Result<(), String> {
        self.tell(&format!("promote {server}, cut off {:?}", proof.servers()));
        let Some(lineage) = self.snapshot.lineage else {
            return Err("a promotion without a history".into());
        };
        let is_first = !self.checks.chosen.contains_key(&lineage.timeline);
        let first = *self.checks.chosen.entry(lineage.timeline).or_insert(server);
        if first != server {
            return Err(format!(
                "{server} is a second server for timeline {}, after {first}",
                lineage.timeline
            ));
        }
        let candidate = &self.nodes[index_of(server)];
        for other in proof.servers() {
            let node = &self.nodes[index_of(*other)];
            // One that is promoted ends its receiver itself. One that cannot be cut off may find its
            // primary when the decision is made and carried to its end.
            let may_receive = *other == server || node.refuses && !is_first;
            if node.receives_from.is_some() && node.conninfo != Conninfo::CutOff && !may_receive {
                return Err(format!(
                    "{other} still receives WAL while {server} is promoted"
                ));
            }
            let same = node.in_recovery && node.timeline() == candidate.timeline();
            if same && candidate.in_recovery && node.wal > candidate.wal {
                return Err(format!("{other} has more WAL than {server}"));
            }
        }
        // A decision is carried to its end, whatever becomes known after it was made.
        if !is_first {
            return Ok(());
        }
        let limit = self.rules.failover.max_lost;
        let known = self.checks.known_when_decided.get(&lineage.timeline);
        if let (LostBytes::AtMost(limit), Some(known)) = (limit, known) {
            let has = Lsn::from_bytes(candidate.wal);
            if has.behind(*known) > limit {
                return Err(format!(
                    "{server} has {has}, and {known} was known to be flushed"
                ));
            }
        }
        Ok(())
    }

    /// When everything works again, writes flow, or somebody says why not.
    pub(crate) fn check_ending(&self) -> Result<(), String> {
        match self.snapshot.writes {
            Writes::Open(server) => {
                let node = &self.nodes[index_of(server)];
                match node.is_up() && !node.in_recovery {
                    true => Ok(()),
                    false => Err(format!("writes go to {server}, which cannot take them")),
                }
            }
            Writes::Held { cause, .. } => match self.supervisor.standstill() {
                Some(_) => Ok(()),
                None => Err(format!(
                    "writes wait for {cause:?} in {} and nobody says why",
                    self.supervisor.stage()
                )),
            },
        }
    }
}
