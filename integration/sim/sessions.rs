//! The sessions of the router: the real machine between played clients and played server
//! processes. It stands where `proxy` and `upstream` stand in the program: it carries bytes with
//! delay and loss, keeps a pool for each server, and lends a connection to one session at a time.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::BytesMut;
use pgherd::cluster::{Epoch, Lsn, ServerId, Writes};
use pgherd::policy::transitions::Stage;
use pgherd::policy::{Intent, Route, RouteRules};
use pgherd::session::{
    Condition, Denial, Input, Output, Rules, ServerSide, Session, TextSettings, Texts,
};
use pgherd::statement::{Catalog, CatalogRows, Persistence, RelationRow, Storage};
use pgherd::wire::{Limits, Splitter};

use crate::backend::{Backend, Database};
use crate::client::{Client, Fate, News};
use crate::node::{Life, Node};
use crate::random::Random;
use crate::world::{Sabotage, World};

/// A write that its client believes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) at_ms: u64,
    pub(crate) epoch: Epoch,
    pub(crate) server: ServerId,
    pub(crate) end: Lsn,
}

/// Where a value was committed.
#[derive(Clone, Debug)]
struct Committed {
    timeline: u32,
    end: u64,
}

/// A connection to a server process.
#[derive(Debug)]
struct Connection {
    node: usize,
    backend: Backend,
    cut: Splitter,
    input: BytesMut,
    /// Under way to the server, with the time when it arrives.
    sent: Vec<(u64, BytesMut)>,
    /// Since when the other end has been silent although something was sent.
    stuck_since: Option<u64>,
}

#[derive(Debug)]
struct Conversation {
    session: Session,
    client: Client,
    cut: Splitter,
    input: BytesMut,
    alarm: Option<Instant>,
    asked: Option<(u64, Route)>,
    lent: Option<Connection>,
    /// What the session's own reads must see.
    own: Option<Committed>,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    random: Random,
    conversations: Vec<Conversation>,
    pools: BTreeMap<usize, Vec<(Backend, Box<ServerSide>)>>,
    committed: BTreeMap<u64, Committed>,
    refused: Vec<u64>,
    clients: u64,
    rules: Rules,
    route: RouteRules,
    texts: Texts,
    catalog: Catalog,
    pub(crate) acknowledged: u64,
    last_write_at: u64,
    open_since: u64,
    known: Known,
}

/// The part of a snapshot whose change is announced to sessions.
#[derive(Debug, Default, PartialEq)]
struct Known {
    epoch: Epoch,
    writes: Option<Writes>,
    states: Vec<(&'static str, &'static str)>,
}

impl Known {
    fn of(world: &World) -> Self {
        let servers = world.snapshot.servers.iter();
        Self {
            epoch: world.snapshot.epoch,
            writes: Some(world.snapshot.writes),
            states: servers
                .map(|server| (server.state.as_str(), server.state.reason()))
                .collect(),
        }
    }
}

/// A server process looks at its node.
struct View<'a> {
    node: &'a mut Node,
    committed: &'a mut BTreeMap<u64, Committed>,
    twice: Option<u64>,
}

impl Database for View<'_> {
    fn is_writable(&self) -> bool {
        !self.node.in_recovery
    }

    fn commit(&mut self, values: &[u64]) {
        for value in values {
            self.node.wal += 60;
            let committed = Committed {
                timeline: self.node.timeline(),
                end: self.node.wal,
            };
            if self.committed.insert(*value, committed).is_some() {
                self.twice = Some(*value);
            }
        }
        self.node.replay = self.node.wal;
    }

    fn look(&self) -> String {
        self.node.visible().to_string()
    }
}

impl Sessions {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let relation = RelationRow {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            persistence: Persistence::Permanent,
            storage: Storage::Local,
        };
        let rows = CatalogRows {
            relations: vec![relation],
            ..CatalogRows::default()
        };
        let mut sessions = Self {
            random: Random::new(seed ^ 0x5E55_1045),
            conversations: Vec::new(),
            pools: BTreeMap::new(),
            committed: BTreeMap::new(),
            refused: Vec::new(),
            clients: 0,
            rules: Rules::default(),
            route: RouteRules {
                read_your_writes: sabotage != Sabotage::OwnWritesForgotten,
                ..RouteRules::default()
            },
            texts: Texts::new(1 << 20, [seed, 1]),
            catalog: Catalog::from_rows(&rows),
            acknowledged: 0,
            last_write_at: 0,
            open_since: 0,
            known: Known::default(),
        };
        (0..CLIENTS).for_each(|_| sessions.connect());
        sessions
    }

    fn connect(&mut self) {
        self.clients += 1;
        self.conversations.push(Conversation {
            session: Session::new(self.clients, TextSettings::default()),
            client: Client::new(self.clients),
            cut: Splitter::client(Limits::default()),
            input: BytesMut::new(),
            alarm: None,
            asked: None,
            lent: None,
            own: None,
            closed: false,
        });
    }

    /// The router died: every session and connection of it is gone.
    pub(crate) fn router_restarted(&mut self) {
        self.conversations.clear();
        self.pools.clear();
        (0..CLIENTS).for_each(|_| self.connect());
    }
}

impl Node {
    fn visible(&self) -> u64 {
        match self.in_recovery {
            true => self.replay,
            false => self.wal,
        }
    }

    /// Whether this node shows a value that was committed there, when this much is visible.
    fn shows(&self, committed: &Committed, visible: u64) -> bool {
        let mut history = self
            .history
            .iter()
            .skip_while(|(timeline, _)| *timeline != committed.timeline);
        match (history.next(), history.next()) {
            (None, _) => false,
            (Some(_), Some((_, forked_at))) if *forked_at < committed.end => false,
            (Some(_), _) => visible >= committed.end,
        }
    }
}

impl World {
    /// One tick of all sessions.
    pub(crate) fn converse(&mut self) -> Result<(), String> {
        let Some(mut sessions) = self.sessions.take() else {
            return Ok(());
        };
        let result = sessions.tick(self);
        self.sessions = Some(sessions);
        result
    }

    fn reaches(&self, node: usize) -> bool {
        self.router_links[node] && self.nodes[node].is_up()
    }
}

impl Sessions {
    fn tick(&mut self, world: &mut World) -> Result<(), String> {
        for node in 0..world.nodes.len() {
            if !matches!(world.nodes[node].life, Life::Up | Life::Hung) {
                self.pools.remove(&node);
            }
        }
        if !matches!(world.snapshot.writes, Writes::Open(_)) {
            self.open_since = world.now;
        }
        for index in 0..self.conversations.len() {
            let mut one = self.conversations.swap_remove(index);
            let result = self.turn(world, &mut one);
            self.conversations.push(one);
            let last = self.conversations.len() - 1;
            self.conversations.swap(index, last);
            result.map_err(|broken| format!("at {} ms: {broken}", world.now))?;
            if self.conversations[index].closed {
                return Err("a session ended for no reason".into());
            }
        }
        self.known = Known::of(world);
        Ok(())
    }

    fn turn(&mut self, world: &mut World, one: &mut Conversation) -> Result<(), String> {
        let now = world.now;
        if one.client.is_idle() && now >= one.client.act_at {
            one.client.act_at = now + self.random.between(20, 600);
            one.client.act(now, &mut self.random);
            let sent = one.client.output.split();
            one.input.extend_from_slice(&sent);
        }
        self.answer_request(world, one)?;
        self.carry(world, one)?;
        if one.alarm.is_some_and(|at| at <= world.at(now)) {
            one.alarm = None;
            self.tell(world, one, Input::Timer)?;
        }
        if self.known != Known::of(world) {
            self.tell(world, one, Input::SnapshotChanged)?;
        }
        self.work(world, one)?;
        let waits = now - one.client.waits_since;
        if !one.client.is_idle() && waits > ANSWERED_WITHIN {
            return Err(format!("a request has waited for {waits} ms: {one:#?}"));
        }
        Ok(())
    }

    /// A lease is granted or denied when its time has come.
    fn answer_request(&mut self, world: &mut World, one: &mut Conversation) -> Result<(), String> {
        let Some((due, route)) = one.asked.take() else {
            return Ok(());
        };
        if world.now < due {
            one.asked = Some((due, route));
            return Ok(());
        }
        let (server, node) = (route.server, route.server.index());
        // As `upstream::Gate` does: a server that was fenced since takes no more writes.
        let fenced = route.intent == Intent::Write && route.epoch < world.snapshot.epoch;
        if fenced || !world.reaches(node) {
            return self.tell(world, one, Input::Denied(Denial::Unreachable(server)));
        }
        let pooled = self.pools.entry(node).or_default().pop();
        let (backend, side) = pooled.unwrap_or_else(|| (Backend::new(), Box::default()));
        one.lent = Some(Connection {
            node,
            backend,
            cut: Splitter::server(Limits::default()),
            input: BytesMut::new(),
            sent: Vec::new(),
            stuck_since: None,
        });
        self.tell(world, one, Input::Granted { server, side })
    }

    /// Bytes arrive at the server, and its answers here, unless something is broken.
    fn carry(&mut self, world: &mut World, one: &mut Conversation) -> Result<(), String> {
        let Some(lent) = &mut one.lent else {
            return Ok(());
        };
        let now = world.now;
        let node = lent.node;
        if matches!(world.nodes[node].life, Life::Dead | Life::Starting(_)) {
            return self.tell(world, one, Input::ServerLost);
        }
        // The kernel of a process that was stopped keeps its connections for as long as it takes.
        if world.router_links[node] && world.nodes[node].life == Life::Hung {
            return Ok(());
        }
        if !world.reaches(node) {
            let since = *lent.stuck_since.get_or_insert(now);
            let gone = now - since > 1000;
            return match gone {
                true => self.tell(world, one, Input::ServerLost),
                false => Ok(()),
            };
        }
        lent.stuck_since = None;
        let mut view = View {
            node: &mut world.nodes[node],
            committed: &mut self.committed,
            twice: None,
        };
        while lent.sent.first().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = lent.sent.remove(0);
            lent.backend.receive(&bytes, &mut view);
        }
        if let Some(value) = view.twice {
            return Err(format!("{value} was committed twice"));
        }
        // The process may die with its answer unsent.
        if !lent.backend.output.is_empty() && self.random.one_in(60) {
            world.tell(&format!("a process of node {node} dies"));
            return self.tell(world, one, Input::ServerLost);
        }
        let answer = lent.backend.output.split();
        lent.input.extend_from_slice(&answer);
        Ok(())
    }

    /// As `proxy/drive.rs` does: the server's bytes first, then the client's when it may speak.
    fn work(&mut self, world: &mut World, one: &mut Conversation) -> Result<(), String> {
        loop {
            if let Some(lent) = &mut one.lent
                && let Some(cut) = lent.cut.next(&mut lent.input).expect("frames")
            {
                self.tell(world, one, Input::Server(cut))?;
            } else if one.session.wants_client()
                && let Some(cut) = one.cut.next(&mut one.input).expect("frames")
            {
                self.tell(world, one, Input::Client(cut))?;
            } else {
                return Ok(());
            }
        }
    }

    fn tell(
        &mut self,
        world: &mut World,
        one: &mut Conversation,
        input: Input,
    ) -> Result<(), String> {
        let mut outputs = Vec::new();
        let view = pgherd::session::World {
            now: world.at(world.now),
            snapshot: &world.snapshot,
            rules: &self.rules,
            route: &self.route,
            texts: &self.texts,
            catalog: Some(&self.catalog),
            view: 0,
            load: &|_| 0,
            server_statements_max: 3,
            console: None,
            own: pgherd::session::OwnNumbers::default(),
            paused: false,
        };
        one.session.handle(&view, input, &mut outputs);
        for output in outputs {
            self.perform(world, one, output)?;
        }
        Ok(())
    }

    fn perform(
        &mut self,
        world: &mut World,
        one: &mut Conversation,
        output: Output,
    ) -> Result<(), String> {
        match output {
            Output::ToClient(bytes) => {
                let mut news = Vec::new();
                let seen_at = one.lent.as_ref().map(|lent| lent.node);
                let denied = world.sabotage == Sabotage::DoubtDenied;
                match bytes.windows(6).position(|word| word == b"C08007") {
                    Some(at) if denied => {
                        let mut told = bytes.to_vec();
                        told[at..at + 6].copy_from_slice(b"C40001");
                        one.client.receive(&told, &mut news)?;
                    }
                    _ => one.client.receive(&bytes, &mut news)?,
                }
                for news in news {
                    self.learn(world, one, &news, seen_at)?;
                }
            }
            Output::ToServer(bytes) => {
                let lent = one
                    .lent
                    .as_mut()
                    .ok_or("sent to a server that nobody lent")?;
                let due = world.now + self.random.between(0, 30);
                let due = lent.sent.last().map_or(due, |(last, _)| due.max(*last));
                lent.sent.push((due, BytesMut::from(&bytes[..])));
            }
            Output::Lease(route) => {
                if one.lent.is_some() || one.asked.is_some() {
                    return Err("a second lease".into());
                }
                let wait = if world.reaches(route.server.index()) {
                    0
                } else {
                    200
                };
                one.asked = Some((world.now + wait, route));
            }
            Output::Listen(_) | Output::Unlisten(_) | Output::Echo(_) => {
                return Err("nobody listens here".into());
            }
            Output::Release { condition, side } => {
                let lent = one.lent.take().ok_or("a lease is released twice")?;
                if condition == Condition::Clean {
                    if !lent.backend.is_at_rest() || !lent.sent.is_empty() {
                        return Err("a connection in use goes back to its pool".into());
                    }
                    self.pools
                        .entry(lent.node)
                        .or_default()
                        .push((lent.backend, side));
                }
            }
            Output::Arm(at) => one.alarm = at,
            Output::Close => one.closed = true,
            Output::CancelServer | Output::Note(_) => {}
        }
        Ok(())
    }

    /// What a client has learned must be true.
    fn learn(
        &mut self,
        world: &World,
        one: &mut Conversation,
        news: &News,
        seen_at: Option<usize>,
    ) -> Result<(), String> {
        match news {
            News::Wrote {
                value,
                fate: Fate::Acknowledged,
            } => {
                let committed = self.committed.get(value);
                let committed = committed
                    .ok_or_else(|| format!("{value} was acknowledged and never written"))?;
                let stage = world.supervisor.stage();
                let old = world.snapshot.lineage.map(|lineage| lineage.timeline.0);
                if matches!(stage, Stage::Collecting | Stage::Promoting)
                    && old == Some(committed.timeline)
                {
                    // The replicas are cut off by now: nobody would ever see it.
                    return Err(format!("{value} was acknowledged by a primary given up"));
                }
                one.own = Some(committed.clone());
                self.acknowledged += 1;
                self.last_write_at = world.now;
            }
            News::Wrote {
                value,
                fate: Fate::Refused,
            } => {
                self.refused.push(*value);
                if self.committed.contains_key(value) {
                    return Err(format!(
                        "{value} was committed, and its client may write it again"
                    ));
                }
            }
            News::Wrote {
                fate: Fate::InDoubt,
                ..
            } => {}
            News::Saw(visible) => {
                let node = seen_at.ok_or("rows without a server")?;
                let visible = visible.parse().expect("a position");
                check_own(world, one, node, visible)?;
            }
        }
        Ok(())
    }

    /// When everything works again, clients write; what was refused was never done.
    pub(crate) fn check_ending(&self, world: &World) -> Result<(), String> {
        if let Some(value) = self
            .refused
            .iter()
            .find(|value| self.committed.contains_key(value))
        {
            return Err(format!("{value} was refused and committed later"));
        }
        let open_for = world.now - self.open_since;
        let silent_for = world.now - self.last_write_at;
        match open_for > FLOWS_WITHIN && silent_for > FLOWS_WITHIN {
            true => Err(format!(
                "writes are open for {open_for} ms, and none came for {silent_for} ms"
            )),
            false => Ok(()),
        }
    }
}

/// A read shows what its session has committed, unless the failover lost that.
fn check_own(world: &World, one: &Conversation, node: usize, visible: u64) -> Result<(), String> {
    let (Some(own), Writes::Open(primary)) = (&one.own, world.snapshot.writes) else {
        return Ok(());
    };
    let primary = &world.nodes[primary.index()];
    let kept = primary.shows(own, primary.visible());
    let node = &world.nodes[node];
    match kept && !node.shows(own, visible) {
        true => Err(format!(
            "{own:?} is not shown where it is read, at {visible} on {node:?}"
        )),
        false => Ok(()),
    }
}

const CLIENTS: usize = 4;
/// The longest wait of a statement for a primary, twice for a pipeline, with a margin.
const ANSWERED_WITHIN: u64 = 35_000;
/// While writes are open, some client writes at least so often.
const FLOWS_WITHIN: u64 = 8_000;
