//! Plays `testdata/*.txt`: what a client and a server say, and what the session does about it.
//!
//! ```text
//! == a title                     a new session and a new cluster: `primary`, `replica`
//! rules hold_clients 1s          a limit of the session; before it is used
//! hold 64                        frames longer than so many bytes come in pieces
//! cluster primary replica        who is the primary (or `none`), and which replicas serve
//! unseen cluster replica         the same, and the session is not told
//! state replica lost             a server is `silent`, `lost` or `quarantined`
//! given up                       the primary is being replaced, in the epoch that was
//! client> Query select 1         messages, with ` | ` between them
//! client part 70> Query …        only the first bytes of them
//! client rest>                   what was kept back
//! server> ReadyForQuery I
//! grant                          the lease that was asked for
//! deny unreachable | full | login
//! lost                           the server connection breaks
//! gone                           the client is not there any more
//! wait 100ms                     time passes, and what is due rings
//! drain
//! subscribed | refused to listen what the shared listener says
//! cancelled                      the client cancels what waits
//! echo> c p                      the same from the connection that the session has
//! heard> c p                     the shared listener has heard this on channel c
//! missed 3 | connection          it has dropped so many; it had no connection
//!     expect client …            everything that happened, in order, and nothing else
//!     expect server …
//!     expect lease replica why read_only
//!     expect release clean | reset | discard
//!     expect cancel, close, retried …, pinned …, unpinned
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::words;
use crate::cluster::{
    Address, DownReason, Epoch, HoldCause, Lineage, PrimarySample, QuarantineReason, Role,
    ServerId, ServerState, ServerView, Snapshot, SystemId, Timeline, Writes,
};
use crate::policy::RouteRules;
use crate::session::{
    Condition, ConsoleReply, Denial, Input, Missed, Note, Output, OwnNumbers, Refusal, Rules,
    ServerSide, Session, TextSettings, Texts, World, reply,
};
use crate::statement::{Catalog, CatalogRows, Persistence, RelationRow, Storage};
use crate::wire::backend::{Column, Kind, Table};
use crate::wire::{Limits, Splitter};

const FILES: [(&str, &str); 12] = [
    ("simple.txt", include_str!("../testdata/simple.txt")),
    ("extended.txt", include_str!("../testdata/extended.txt")),
    ("copy.txt", include_str!("../testdata/copy.txt")),
    ("large.txt", include_str!("../testdata/large.txt")),
    ("pins.txt", include_str!("../testdata/pins.txt")),
    ("left.txt", include_str!("../testdata/left.txt")),
    (
        "transactions.txt",
        include_str!("../testdata/transactions.txt"),
    ),
    ("begun.txt", include_str!("../testdata/begun.txt")),
    ("settings.txt", include_str!("../testdata/settings.txt")),
    ("faults.txt", include_str!("../testdata/faults.txt")),
    ("own.txt", include_str!("../testdata/own.txt")),
    ("listen.txt", include_str!("../testdata/listen.txt")),
];

#[test]
fn every_conversation_goes_as_its_script_says() {
    let mut wrong = String::new();
    let mut played = 0;
    for (file, content) in FILES {
        for script in content.split("\n== ").skip(1) {
            played += 1;
            if let Err(difference) = play(script) {
                let title = script.lines().next().unwrap_or_default();
                write!(wrong, "\n{file}: {title}\n{difference}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(played >= 60, "only {played} conversations");
}

fn play(script: &str) -> Result<(), String> {
    let mut stage = Stage::new();
    let mut said = String::new();
    let mut expected = Vec::new();
    let lines = script.lines().skip(1).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines.chain(["the end"]) {
        if let Some(expectation) = line.strip_prefix("expect ") {
            expected.push(expectation.to_owned());
            continue;
        }
        let happened = stage.take_events();
        if happened != expected {
            return Err(format!(
                "  {said}\n    expected\n      {}\n    happened\n      {}\n",
                expected.join("\n      "),
                happened.join("\n      ")
            ));
        }
        expected.clear();
        said = line.to_owned();
        stage.step(line);
    }
    Ok(())
}

/// A session between a client, a cluster and a clock that are played.
struct Stage {
    session: Session,
    snapshot: Snapshot,
    rules: Rules,
    route: RouteRules,
    texts: Texts,
    catalog: Catalog,
    server_statements_max: usize,
    is_console: bool,
    is_paused: bool,
    now: Instant,
    alarm: Option<Instant>,
    client_cut: Splitter,
    client_input: BytesMut,
    kept_back: BytesMut,
    server_cut: Splitter,
    server_input: BytesMut,
    asked: Option<ServerId>,
    letters: VecDeque<Input>,
    lent: Option<ServerId>,
    sides: BTreeMap<ServerId, Box<ServerSide>>,
    to_client: BytesMut,
    to_server: BytesMut,
    events: Vec<String>,
}

const NAMES: [&str; 3] = ["primary", "replica", "replica2"];

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(0, TextSettings::default()),
            snapshot: snapshot(now, 1, "primary replica"),
            rules: Rules::default(),
            route: RouteRules::default(),
            texts: Texts::new(1 << 20, [1, 2]),
            catalog: catalog(),
            server_statements_max: 100,
            is_console: false,
            is_paused: false,
            now,
            alarm: None,
            client_cut: Splitter::client(Limits::default()),
            client_input: BytesMut::new(),
            kept_back: BytesMut::new(),
            server_cut: Splitter::server(Limits::default()),
            server_input: BytesMut::new(),
            asked: None,
            letters: VecDeque::new(),
            lent: None,
            sides: BTreeMap::new(),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            events: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) {
        let (order, words) = line.split_once('>').unwrap_or((line, ""));
        let words = words.trim();
        match order.split(' ').collect::<Vec<_>>().as_slice() {
            ["client", how @ ..] => self.client_says(how, words),
            ["server"] => {
                for message in words.split(" | ") {
                    words::write_server(&mut self.server_input, message);
                }
            }
            ["heard"] => self.hears(words, Input::Notified),
            ["echo"] => self.hears(words, Input::Echoed),
            ["grant"] => {
                let server = self.asked.take().expect("nobody asked");
                self.lent = Some(server);
                let side = self.sides.remove(&server).unwrap_or_default();
                self.tell(Input::Granted { server, side });
            }
            ["deny", how] => self.deny(how),
            ["lost"] => self.lose(),
            ["gone"] => {
                self.asked = None;
                self.tell(Input::ClientGone);
            }
            ["cluster", members @ ..] => {
                self.change_cluster(members);
                self.tell(Input::SnapshotChanged);
            }
            ["unseen", "cluster", members @ ..] => self.change_cluster(members),
            ["state", server, state] => self.change_state(server, state),
            ["given", "up"] => {
                self.snapshot.writes = Writes::Held {
                    since: self.now,
                    cause: HoldCause::Promotion,
                };
                self.tell(Input::SnapshotChanged);
            }
            ["sampled"] => {
                let sample = self.snapshot.primary_sample.as_mut().unwrap();
                sample.asked_at = self.now;
            }
            ["wait", time] => self.wait(duration(time)),
            ["paused"] => {
                assert!(self.session.wants_pause(), "nothing to do in a pause");
                self.tell(Input::Pause);
            }
            ["drain"] => self.tell(Input::Drain),
            ["cancelled"] => self.tell(Input::Cancel),
            ["subscribed" | "refused" | "missed", how @ ..] => self.listener_says(order, how),
            ["console"] => self.is_console = true,
            ["pause"] => self.is_paused = true,
            ["resume"] => {
                self.is_paused = false;
                self.tell(Input::SnapshotChanged);
            }
            ["hold", bytes] => {
                let hold = bytes.parse().unwrap();
                let limits = Limits {
                    hold,
                    ..Limits::default()
                };
                self.client_cut = Splitter::client(limits);
            }
            ["rules", "server_statements", count] => {
                self.server_statements_max = count.parse().unwrap();
            }
            ["rules", name, value] => self.set_rule(name, value),
            ["the", "end"] => {}
            other => panic!("no such line: {other:?}"),
        }
        self.work();
    }

    fn hears(&mut self, words: &str, what: fn(Bytes) -> Input) {
        for message in words.split(" | ") {
            let mut frame = BytesMut::new();
            words::write_server(&mut frame, &format!("NotificationResponse {message}"));
            self.letters.push_back(what(frame.freeze()));
        }
    }

    fn listener_says(&mut self, order: &str, how: &[&str]) {
        match (order.split(' ').next(), how) {
            (Some("subscribed"), []) => self.tell(Input::Listening(Ok(()))),
            (Some("refused"), _) => {
                let refusal = Refusal::CannotConnect("no".to_owned());
                self.tell(Input::Listening(Err(refusal)));
            }
            (_, [count]) => {
                let missed = match count.parse() {
                    Ok(count) => Missed::Overflow { count },
                    Err(_) => Missed::Connection,
                };
                self.letters.push_back(Input::Missed(missed));
            }
            other => panic!("no such line: {other:?}"),
        }
    }

    fn change_cluster(&mut self, members: &[&str]) {
        let epoch = self.snapshot.epoch.0 + 1;
        self.snapshot = snapshot(self.now, epoch, &members.join(" "));
    }

    fn change_state(&mut self, server: &str, state: &str) {
        let place = NAMES.iter().position(|name| *name == server).unwrap();
        let view = &mut self.snapshot.servers[place];
        if !matches!(view.state, ServerState::Down(_)) {
            view.since = self.now;
        }
        view.state = match state {
            "silent" => ServerState::Down(DownReason::Silent),
            "lost" => ServerState::Down(DownReason::Lost),
            "quarantined" => ServerState::Quarantined(QuarantineReason::OldPrimary),
            other => panic!("no such state: {other}"),
        };
        self.tell(Input::SnapshotChanged);
    }

    fn client_says(&mut self, how: &[&str], words: &str) {
        if how == ["rest"] {
            let rest = self.kept_back.split();
            self.client_input.extend_from_slice(&rest);
            return;
        }
        let mut bytes = BytesMut::new();
        for message in words.split(" | ") {
            words::write_client(&mut bytes, message);
        }
        if let ["part", count] = how {
            self.kept_back = bytes.split_off(count.parse().unwrap());
        }
        self.client_input.extend_from_slice(&bytes);
    }

    fn deny(&mut self, how: &str) {
        let server = self.asked.take().expect("nobody asked");
        let denial = match how {
            "unreachable" => Denial::Unreachable(server),
            "full" => Denial::Refused(Refusal::PoolFull {
                pool: "u/d".to_owned(),
                waiting: 3,
            }),
            "login" => Denial::Server(reply::message(|to| {
                words::write_server(to, "Error 28P01 no");
            })),
            other => panic!("no such denial: {other}"),
        };
        self.tell(Input::Denied(denial));
    }

    fn lose(&mut self) {
        self.lent.expect("no server to lose");
        self.tell(Input::ServerLost);
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.alarm.filter(|at| *at <= until) {
            self.alarm = None;
            self.now = at.max(self.now);
            self.tell(Input::Timer);
        }
        self.now = until;
    }

    fn set_rule(&mut self, name: &str, value: &str) {
        let rules = &mut self.rules;
        match name {
            "hold_clients" => rules.hold_clients = duration(value),
            "hold_paused" => rules.hold_paused = duration(value),
            "idle_timeout" => rules.idle_timeout = duration(value),
            "idle_in_transaction_timeout" => rules.idle_in_transaction_timeout = duration(value),
            "query_timeout" => rules.query_timeout = duration(value),
            "transaction_timeout" => rules.transaction_timeout = duration(value),
            "channels" => rules.channels_max = value.parse().unwrap(),
            "prepared_statements" => rules.prepared_statements_max = value.parse().unwrap(),
            other => panic!("no such rule: {other}"),
        }
    }

    /// What `proxy/drive.rs` does: the server's bytes first, then the client's when it may speak.
    fn work(&mut self) {
        loop {
            if self.session.takes_notifications()
                && let Some(letter) = self.letters.pop_front()
            {
                self.tell(letter);
            } else if self.lent.is_some()
                && let Some(cut) = self.server_cut.next(&mut self.server_input).unwrap()
            {
                self.tell(Input::Server(cut));
            } else if self.session.wants_client()
                && let Some(cut) = self.client_cut.next(&mut self.client_input).unwrap()
            {
                self.tell(Input::Client(cut));
            } else {
                return;
            }
        }
    }

    fn tell(&mut self, input: Input) {
        let mut outputs = Vec::new();
        let console = |text: &str| match text {
            "SHOW VERSION" => ConsoleReply::Table {
                table: Table {
                    columns: vec![Column::new("version", Kind::Text)],
                    rows: vec![vec![Some("pgherd".to_owned())]],
                },
                tag: "SHOW".to_owned(),
                notices: Vec::new(),
            },
            _ => ConsoleReply::Done {
                tag: "PAUSE".to_owned(),
                notices: vec!["done".to_owned()],
            },
        };
        let world = World {
            now: self.now,
            snapshot: &self.snapshot,
            rules: &self.rules,
            route: &self.route,
            texts: &self.texts,
            catalog: Some(&self.catalog),
            view: 0,
            load: &|_| 0,
            server_statements_max: self.server_statements_max,
            console: self.is_console.then_some(&console),
            own: OwnNumbers {
                client: 77,
                server: self.lent.map(|_| 1),
            },
            paused: self.is_paused,
        };
        self.session.handle(&world, input, &mut outputs);
        for output in outputs {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::ToClient(bytes) => {
                self.flush_server();
                self.to_client.extend_from_slice(&bytes);
            }
            Output::ToServer(bytes) => {
                self.flush_client();
                self.to_server.extend_from_slice(&bytes);
            }
            Output::Lease(route) => {
                assert!(
                    self.lent.is_none() && self.asked.is_none(),
                    "a second lease"
                );
                self.asked = Some(route.server);
                let name = NAMES[route.server.index()];
                self.event(format!("lease {name} why {}", route.why));
            }
            Output::Release { condition, side } => {
                let server = self.lent.take().expect("a release without a lease");
                self.server_input.clear();
                let condition = match condition {
                    Condition::Clean => {
                        self.sides.insert(server, side);
                        "clean"
                    }
                    Condition::Reset => "reset",
                    Condition::Discard => "discard",
                };
                self.event(format!("release {condition}"));
            }
            Output::Listen(channels) => self.event(format!("listen {}", channels.join(" "))),
            Output::Echo(when) => self.event(format!("echo {when:?}").to_lowercase()),
            Output::Unlisten(channels) => self.event(format!("unlisten {}", channels.join(" "))),
            Output::Arm(at) => self.alarm = at,
            Output::CancelServer => self.event("cancel".to_owned()),
            Output::Close => self.event("close".to_owned()),
            Output::Note(Note::Retried { cause }) => {
                self.event(format!("retried {}", cause.code()));
            }
            Output::Note(Note::Pinned { pin }) => self.event(format!("pinned {pin}")),
            Output::Note(Note::Unpinned) => self.event("unpinned".to_owned()),
            Output::Note(_) => {}
        }
    }

    fn event(&mut self, event: String) {
        self.flush_client();
        self.flush_server();
        self.events.push(event);
    }

    fn flush_client(&mut self) {
        let said = words::read(&mut self.to_client, words::show_server);
        if !said.is_empty() {
            self.events.push(format!("client {}", said.join(" | ")));
        }
    }

    fn flush_server(&mut self) {
        let said = words::read(&mut self.to_server, words::show_client);
        if !said.is_empty() {
            self.events.push(format!("server {}", said.join(" | ")));
        }
    }

    fn take_events(&mut self) -> Vec<String> {
        self.flush_client();
        self.flush_server();
        std::mem::take(&mut self.events)
    }
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(count) => Duration::from_millis(count.parse().unwrap()),
        None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

/// A table of users, so that reading it is known to be a read.
pub(super) fn catalog() -> Catalog {
    Catalog::from_rows(&CatalogRows {
        relations: vec![RelationRow {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            persistence: Persistence::Permanent,
            storage: Storage::Local,
        }],
        ..CatalogRows::default()
    })
}

/// A cluster in which the first of `members` is the primary and the others serve.
pub(in crate::session) fn snapshot(now: Instant, epoch: u64, members: &str) -> Snapshot {
    let members: Vec<_> = members.split(' ').collect();
    let id = |name: &str| NAMES.iter().position(|known| *known == name);
    let primary = id(members[0]);
    let lsn = "0/1000".parse().unwrap();
    let view = |index: usize| ServerView {
        id: ServerId(index as u16),
        name: Arc::from(NAMES[index]),
        address: Address {
            host: "localhost".to_owned(),
            port: 5432,
        },
        weight: 100,
        role: if Some(index) == primary {
            Role::Primary
        } else {
            Role::Replica
        },
        state: if Some(index) == primary {
            ServerState::Primary
        } else if members.contains(&NAMES[index]) {
            ServerState::Serving
        } else {
            ServerState::Unknown
        },
        since: now,
        timeline: Some(Timeline(epoch as u32)),
        position: Some(lsn),
        lag: None,
        last_seen: Some(now),
        version_num: Some(150_000),
    };
    Snapshot {
        epoch: Epoch(epoch),
        servers: (0..NAMES.len()).map(view).collect(),
        writes: match primary {
            Some(index) => Writes::Open(ServerId(index as u16)),
            None => Writes::Held {
                since: now,
                cause: HoldCause::Failover,
            },
        },
        lineage: Some(Lineage {
            system_id: SystemId(1),
            timeline: Timeline(epoch as u32),
            forked_at: crate::cluster::Lsn::ZERO,
        }),
        primary_sample: Some(PrimarySample {
            asked_at: now,
            position: lsn,
            timeline: Timeline(epoch as u32),
        }),
    }
}
