//! A client of the simulator: it sends units of a few kinds, knows what must come back for each
//! message, and what it may believe of its writes.

use std::collections::{BTreeSet, VecDeque};

use bytes::{BufMut, BytesMut};
use pgherd::wire::frontend::{self};
use pgherd::wire::{Cut, ErrorView, Frame, Limits, Splitter};

use crate::random::Random;

/// What a client wrote and what it was told about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is committed.
    Acknowledged,
    /// It is not, and it is safe to do it again.
    Refused,
    /// Nobody knows.
    InDoubt,
}

/// What a client has learned.
#[derive(Debug)]
pub(crate) enum News {
    Wrote { value: u64, fate: Fate },
    Saw(String),
}

#[derive(Debug)]
pub(crate) struct Client {
    cut: Splitter,
    input: BytesMut,
    pub(crate) output: BytesMut,
    /// What must come, in order: a tag, and for a Parse the name, for a read or write what it is.
    expected: VecDeque<(u8, What)>,
    prepared: BTreeSet<String>,
    /// Sent and not decided.
    writing: Vec<u64>,
    /// Whether the unit that is answered had an error, and whether that leaves a doubt.
    failed: Option<Fate>,
    in_transaction: bool,
    pub(crate) act_at: u64,
    pub(crate) waits_since: u64,
    next_value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Nothing,
    Name(String),
}

impl Client {
    /// The values of client `number` are its own.
    pub(crate) fn new(number: u64) -> Self {
        Self {
            cut: Splitter::server(Limits::default()),
            input: BytesMut::new(),
            output: BytesMut::new(),
            expected: VecDeque::new(),
            prepared: BTreeSet::new(),
            writing: Vec::new(),
            failed: None,
            in_transaction: false,
            act_at: 0,
            waits_since: 0,
            next_value: number * 1_000_000,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.expected.is_empty()
    }

    pub(crate) fn act(&mut self, now: u64, random: &mut Random) {
        self.waits_since = now;
        if self.in_transaction {
            match random.between(0, 6) {
                0 | 1 => self.query("commit"),
                2 => self.query("rollback"),
                3 => self.pipeline(&["insert", "commit"]),
                4 => self.pipeline(&["insert"]),
                _ => self.query("select * from t"),
            }
            return;
        }
        match random.between(0, 16) {
            0 => {
                let value = self.value();
                self.query(&format!("insert into t values ({value})"));
            }
            1..4 => self.pipeline(&["insert"]),
            4 | 5 => self.query("select * from t"),
            6..9 => self.pipeline(&["select"]),
            9 => self.query("begin"),
            10 => self.query("begin read only"),
            11 => self.pipeline(&["begin", "insert", "select", "commit"]),
            12 => self.pipeline(&["division", "select2", "insert2"]),
            13 => {
                self.pipeline(&["insert2"]);
                self.pipeline(&["select"]);
                self.query("select * from t");
            }
            14 => self.pipeline(&["select", "select2"]),
            _ => self.pipeline(&["select", "division", "insert"]),
        }
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.writing.push(self.next_value);
        self.next_value
    }

    fn query(&mut self, text: &str) {
        frontend::query(&mut self.output, text.as_bytes());
        self.expect(b'C');
        self.expect(b'Z');
    }

    fn expect(&mut self, tag: u8) {
        self.expected.push_back((tag, What::Nothing));
    }

    /// Named statements, each prepared when it is not yet; one Sync.
    fn pipeline(&mut self, names: &[&str]) {
        let mut sent = BTreeSet::new();
        for name in names {
            let text = match *name {
                "insert" | "insert2" => format!("insert into t values ($1) -- {name}"),
                "select" | "select2" => format!("select * from t -- {name}"),
                "division" => "select 1/0".to_owned(),
                other => other.to_owned(),
            };
            if !self.prepared.contains(*name) && sent.insert(*name) {
                let types = [0, 0];
                frontend::parse(&mut self.output, name.as_bytes(), text.as_bytes(), &types);
                self.expected
                    .push_back((b'1', What::Name((*name).to_owned())));
            }
            let mut rest = BytesMut::new();
            rest.put_u16(0);
            if text.starts_with("insert") {
                let value = self.value().to_string();
                rest.put_u16(1);
                rest.put_u32(value.len() as u32);
                rest.put_slice(value.as_bytes());
            } else {
                rest.put_u16(0);
            }
            rest.put_u16(0);
            frontend::bind_for(&mut self.output, name.as_bytes(), b"", &rest);
            frontend::execute(&mut self.output, b"", 0);
            self.expect(b'2');
            self.expect(b'C');
        }
        frontend::sync(&mut self.output);
        self.expect(b'Z');
    }

    /// Takes what the router sent.
    pub(crate) fn receive(&mut self, bytes: &[u8], news: &mut Vec<News>) -> Result<(), String> {
        self.input.extend_from_slice(bytes);
        loop {
            match self.cut.next(&mut self.input) {
                Ok(Some(Cut::Message(frame))) => self.answered(&frame, news)?,
                Ok(Some(Cut::Run(run))) => {
                    if self.expected.front().is_none_or(|(tag, _)| *tag != b'C') {
                        return Err("rows that nobody asked for".into());
                    }
                    let seen = run.get(11..).unwrap_or_default();
                    news.push(News::Saw(String::from_utf8_lossy(seen).into_owned()));
                }
                Ok(None) => return Ok(()),
                other => return Err(format!("a client cannot read {other:?}")),
            }
        }
    }

    fn answered(&mut self, frame: &Frame, news: &mut Vec<News>) -> Result<(), String> {
        match frame.tag {
            b'T' | b'N' => return Ok(()),
            b'E' => return self.refused(frame, news),
            _ => {}
        }
        let Some((tag, what)) = self.expected.pop_front() else {
            return Err(format!("{} that nobody asked for", char::from(frame.tag)));
        };
        if tag != frame.tag {
            let (came, due) = (char::from(frame.tag), char::from(tag));
            return Err(format!("{came} came and {due} was due"));
        }
        if let What::Name(name) = what {
            self.prepared.insert(name);
        }
        if frame.bytes.get(5..13) == Some(b"ROLLBACK".as_slice()) {
            self.decide(Fate::Refused, news);
        }
        if tag == b'Z' {
            let status = frame.bytes.get(5).copied();
            self.in_transaction = status != Some(b'I');
            let failed = self.failed.take();
            if !self.in_transaction {
                self.decide(failed.unwrap_or(Fate::Acknowledged), news);
            }
        }
        Ok(())
    }

    fn refused(&mut self, frame: &Frame, news: &mut Vec<News>) -> Result<(), String> {
        let view = ErrorView::new(frame.body());
        let state = String::from_utf8_lossy(view.sqlstate().unwrap_or_default()).into_owned();
        match state.as_str() {
            "42P05" | "26000" | "34000" | "08P01" | "XX000" | "42601" => {
                return Err(format!("{state} reached a client that did nothing wrong"));
            }
            "08007" => self.decide(Fate::InDoubt, news),
            // The whole transaction is gone, what was written before as well.
            _ => self.decide(Fate::Refused, news),
        }
        self.failed = Some(Fate::Refused);
        while self.expected.front().is_some_and(|(tag, _)| *tag != b'Z') {
            self.expected.pop_front();
        }
        match self.expected.is_empty() {
            true => Err(format!("error {state} that nobody asked for")),
            false => Ok(()),
        }
    }

    fn decide(&mut self, fate: Fate, news: &mut Vec<News>) {
        let writing = std::mem::take(&mut self.writing);
        news.extend(writing.into_iter().map(|value| News::Wrote { value, fate }));
    }
}
