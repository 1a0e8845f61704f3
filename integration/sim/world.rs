//! The world of one seed: nodes, links, a router, clients, and the virtual clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd::cluster::{ByteCount, Lsn, ServerId, Snapshot, Writes};
use pgherd::policy::transitions::Stage;
use pgherd::policy::{Configured, Event, FailoverMode, LostBytes, Remembered, Rules, Supervisor};

use crate::check::Checks;
use crate::fault::{self, Fault, Repair};
use crate::node::{Conninfo, Life, Node};
use crate::random::Random;
use crate::router::Letter;
use crate::sessions::{Acknowledged, Sessions};

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    FreezePretends,
    PositionLies,
    DecisionForgotten,
    ReplayLies,
    /// Sessions do not wait for their own writes.
    OwnWritesForgotten,
    /// Clients are told that it is safe to repeat what may have been done.
    DoubtDenied,
}

/// How a seed ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) writes_open: bool,
    pub(crate) promotions: u64,
    pub(crate) moves: BTreeSet<(Stage, Stage)>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    zero: Instant,
    pub(crate) random: Random,
    pub(crate) sabotage: Sabotage,
    pub(crate) nodes: Vec<Node>,
    pub(crate) router_links: Vec<bool>,
    pub(crate) cut_peers: Vec<(usize, usize)>,
    pub(crate) repairs: Vec<(u64, Repair)>,
    pub(crate) letters: Vec<(u64, Letter)>,
    pub(crate) probe_due: Vec<u64>,
    beat_at: u64,
    pub(crate) written_at: u64,
    pub(crate) disk: Option<Remembered>,
    pub(crate) rules: Rules,
    pub(crate) supervisor: Supervisor,
    pub(crate) snapshot: Snapshot,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Not here while they have their turn.
    pub(crate) sessions: Option<Box<Sessions>>,
    pub(crate) checks: Checks,
    story: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.between(1, 3) as usize;
        let node = |index: usize| Node {
            life: Life::Up,
            in_recovery: index != 0,
            history: vec![(1, 0)],
            wal: 1000,
            replay: 1000,
            conninfo: Conninfo::Node(0),
            refuses: false,
            receives_from: None,
            latest_end: 0,
            last_message: 0,
            promoted_at: None,
            replay_rate: 5000,
            retry_at: 0,
        };
        let mut rules = Rules::default();
        rules.failover.mode = FailoverMode::Auto;
        rules.failover.cooldown = Duration::from_secs(2);
        rules.failover.promote_timeout = Duration::from_secs(3);
        rules.failover.crash_grace = Duration::from_secs(3);
        rules.failover.max_lost = match random.one_in(3) {
            true => LostBytes::AtMost(ByteCount(0)),
            false => LostBytes::Any,
        };
        let zero = Instant::now();
        let supervisor = Supervisor::new(&configured(count), rules.clone(), None, zero);
        Self {
            now: 0,
            zero,
            random,
            sabotage,
            nodes: (0..count).map(node).collect(),
            router_links: vec![true; count],
            cut_peers: Vec::new(),
            repairs: Vec::new(),
            letters: Vec::new(),
            probe_due: vec![0; count],
            beat_at: 0,
            written_at: 0,
            disk: None,
            rules,
            snapshot: supervisor.snapshot(),
            supervisor,
            acknowledged: Vec::new(),
            sessions: Some(Box::new(Sessions::new(seed, sabotage))),
            checks: Checks::default(),
            story: Vec::new(),
        }
    }

    /// The same world with servers that do not let themselves be cut off or repointed.
    pub(crate) fn with_refusals(seed: u64, refuses: impl Fn(usize) -> bool) -> Self {
        let mut world = Self::new(seed, Sabotage::None);
        for (index, node) in world.nodes.iter_mut().enumerate() {
            node.refuses = refuses(index);
        }
        world
    }

    /// Plays the seed to its end.
    pub(crate) fn run(&mut self) -> Result<Ending, String> {
        let nodes = self.nodes.len();
        let plan = fault::plan(&mut self.random, nodes, FAULTS_UNTIL);
        self.play(&plan)
            .map_err(|broken| match std::env::var("SIM_SEED") {
                Ok(_) => format!("{broken}\n{}", self.story.join("\n")),
                Err(_) => broken,
            })
    }

    /// Plays these faults instead of those of the seed.
    pub(crate) fn play(&mut self, plan: &[(u64, Fault)]) -> Result<Ending, String> {
        let mut plan = plan.iter().peekable();
        while self.now < FAULTS_UNTIL {
            while let Some((_, fault)) = plan.next_if(|(at, _)| *at <= self.now) {
                self.strike(*fault);
            }
            self.tick()?;
        }
        self.heal();
        while self.now < FAULTS_UNTIL + HEALED_WITHIN {
            self.tick()?;
        }
        self.check_ending()?;
        if let Some(sessions) = &self.sessions {
            sessions.check_ending(self)?;
        }
        Ok(Ending {
            writes_open: matches!(self.snapshot.writes, Writes::Open(_)),
            promotions: self.checks.promotions(),
            moves: self.checks.moves().clone(),
        })
    }

    pub(crate) fn story(&self) -> Vec<String> {
        self.story.clone()
    }

    pub(crate) fn tell(&mut self, what: &str) {
        self.story.push(format!("{:>6} ms  {what}", self.now));
    }

    pub(crate) fn at(&self, ms: u64) -> Instant {
        self.zero + Duration::from_millis(ms)
    }

    fn tick(&mut self) -> Result<(), String> {
        self.now += TICK;
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) = self.repairs.drain(..).partition(|(at, _)| *at <= now);
        self.repairs = later;
        for (_, repair) in due {
            self.repair(repair);
        }
        self.write();
        self.replicate();
        for node in &mut self.nodes {
            node.tick(now);
        }
        for node in 0..self.nodes.len() {
            if self.probe_due[node] <= now {
                self.probe(node);
            }
        }
        self.deliver()?;
        self.converse()?;
        if self.at(now) >= self.supervisor.next_deadline() {
            self.step(Event::Tick)?;
        }
        Ok(())
    }

    /// Clients write where the snapshot says; a living primary also writes a little by itself.
    fn write(&mut self) {
        let bytes = self.random.between(0, 400);
        if let Writes::Open(server) = self.snapshot.writes {
            let node = &mut self.nodes[server.index()];
            if self.router_links[server.index()] && node.is_up() && !node.in_recovery {
                node.wal += bytes;
                let end = Lsn::from_bytes(node.wal);
                let epoch = self.snapshot.epoch;
                self.acknowledged.push(Acknowledged {
                    at_ms: self.now,
                    epoch,
                    server,
                    end,
                });
            }
        }
        if self.now >= self.beat_at {
            self.beat_at = self.now + 500;
            for (node, link) in self.nodes.iter_mut().zip(&self.router_links) {
                if *link && node.is_up() && !node.in_recovery {
                    node.wal += 40;
                }
            }
        }
    }

    fn replicate(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let Conninfo::Node(from) = node.conninfo else {
                self.nodes[index].receives_from = None;
                continue;
            };
            if !node.is_up() || !node.in_recovery || from == index {
                continue;
            }
            let source = self.nodes[from].clone();
            let linked = !self.cut_peers.contains(&(index, from))
                && !self.cut_peers.contains(&(from, index));
            match source.life {
                // The connection stands, and nothing comes.
                Life::Hung => continue,
                Life::Up if !linked => continue,
                Life::Dead | Life::Starting(_) => {
                    self.nodes[index].receives_from = None;
                    self.nodes[index].retry_at = self.now + 500;
                    continue;
                }
                Life::Up => {}
            }
            let node = &mut self.nodes[index];
            let behind = self.random.one_in(3);
            if node.receives_from.is_none() && self.now < node.retry_at || behind {
                continue;
            }
            if !node.receive(&source, from, self.now) {
                node.receives_from = None;
            }
        }
    }

    pub(crate) fn step(&mut self, event: Event) -> Result<(), String> {
        if let Event::Observed(observation) = &event {
            let node = observation.server.index();
            let pace = self.supervisor.probe_interval().as_millis() as u64;
            self.probe_due[node] = self.probe_due[node].min(self.now + pace);
            self.checks.sample(observation, &self.snapshot);
        }
        let before = self.supervisor.stage();
        let actions = self.supervisor.step(self.at(self.now), event);
        let after = self.supervisor.stage();
        if before != after {
            self.tell(&format!("{before} -> {after}"));
        }
        assert!(
            pgherd::policy::transitions::is_allowed(before, after),
            "the machine moved from {before} to {after}"
        );
        self.checks.moved(before, after);
        self.snapshot = self.supervisor.snapshot();
        for action in actions {
            self.act(action)?;
        }
        self.check()
    }

    pub(crate) fn restart_router(&mut self) {
        self.letters
            .retain(|(_, letter)| matches!(letter, Letter::Do { .. }));
        let servers = configured(self.nodes.len());
        let now = self.at(self.now);
        self.supervisor = Supervisor::new(&servers, self.rules.clone(), self.disk.as_ref(), now);
        self.snapshot = self.supervisor.snapshot();
        self.probe_due.fill(self.now);
        self.checks.router_restarted(self.snapshot.epoch);
        if let Some(sessions) = &mut self.sessions {
            sessions.router_restarted();
        }
    }
}

pub(crate) fn configured(count: usize) -> Vec<Configured> {
    (0..count)
        .map(|index| Configured {
            name: Arc::from(format!("n{index}")),
            address: format!("n{index}:5432").parse().unwrap(),
            weight: 100,
            candidate: true,
        })
        .collect()
}

/// Which node a server is.
pub(crate) fn index_of(server: ServerId) -> usize {
    server.index()
}

const TICK: u64 = 10;
/// Faults strike for this long.
const FAULTS_UNTIL: u64 = 15_000;
/// After everything works again, writes flow within this time, or somebody says why not.
const HEALED_WITHIN: u64 = 15_000;
