//! From the steps of a unit to bytes for its server, and to what the server will answer them with.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::begun::Begun;
use super::prepared::{Prepared, ServerSide};
use super::unit::{Expected, Step};
use super::{Output, reply};
use crate::wire::frontend::{self, What};

/// Turns steps into bytes for the server and notes what it will answer.
pub(super) struct Sender<'a> {
    pub(super) side: &'a mut ServerSide,
    pub(super) expected: &'a mut VecDeque<Expected>,
    /// Whether the client's transaction has failed: the server refuses what we could answer.
    pub(super) is_failed: bool,
    /// How many statements the connection may hold.
    pub(super) max: usize,
    pub(super) buffer: BytesMut,
    pub(super) out: &'a mut Vec<Output>,
}

impl Sender<'_> {
    /// Writes one step.
    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Raw { bytes, expect } => {
                if let Expected::Query | Expected::ParseRaw = expect {
                    // A simple Query drops the unnamed statement, and a Parse replaces it.
                    self.side.unnamed = None;
                }
                self.raw(bytes);
                self.expected.push_back(expect.clone());
            }
            Step::Parse { statement, name } => self.parse(statement, name),
            Step::Probe(statement) => self.probe(statement),
            Step::Bind {
                statement,
                unnamed,
                portal,
                rest,
            } => {
                let name = self.ensure(statement, *unnamed);
                frontend::bind_for(&mut self.buffer, &name, portal, rest);
                self.expected.push_back(Expected::Bind);
            }
            Step::BindHead {
                statement,
                unnamed,
                portal,
                head,
            } => {
                let name = self.ensure(statement, *unnamed);
                match frontend::bind_head_for(&mut self.buffer, head, &name, portal) {
                    Ok(()) => self.expected.push_back(Expected::Bind),
                    // The names were read when the step was made, so only the length can be wrong:
                    // the server refuses the frame as it is.
                    Err(_too_long) => self.raw(&head.bytes),
                }
            }
            Step::Describe { statement, unnamed } => {
                let name = self.ensure(statement, *unnamed);
                frontend::describe(&mut self.buffer, What::Statement, &name);
                self.expected.push_back(Expected::DescribeStatement);
            }
            Step::Renew(statement) => {
                self.side.remove(statement.id);
                self.side.unnamed = None;
                let name = statement.id.server_name();
                frontend::close(&mut self.buffer, What::Statement, &name);
                self.expected.push_back(Expected::CloseStale);
            }
            Step::DropUnnamed => {
                self.side.unnamed = None;
                frontend::close(&mut self.buffer, What::Statement, b"");
                self.expected.push_back(Expected::CloseStale);
            }
            Step::Known(name) => self.expected.push_back(Expected::Known(name.clone())),
            Step::Local(bytes) => self.expected.push_back(Expected::Ours(bytes.clone())),
            Step::Fail(refusal) => {
                // The server has to skip to the Sync and to fail its transaction, as it would have
                // done for the error that we show instead.
                frontend::parse(&mut self.buffer, b"", UNPARSABLE, &NO_TYPES);
                self.side.unnamed = None;
                self.expected
                    .push_back(Expected::Failure(reply::encode_refusal(refusal)));
            }
            Step::More(bytes) => self.raw(bytes),
            Step::Flush => frontend::flush(&mut self.buffer),
            Step::Sync => {
                frontend::sync(&mut self.buffer);
                self.expected.push_back(Expected::Ready);
            }
        }
    }

    /// Begins the client's transaction. A server that refuses it skips what follows: nothing of the
    /// unit may run outside.
    pub(super) fn begin(&mut self, begun: &Begun) {
        for text in begun.texts() {
            frontend::parse(&mut self.buffer, b"", text, &NO_TYPES);
            frontend::bind_for(&mut self.buffer, b"", b"", &NOTHING_BOUND);
            frontend::execute(&mut self.buffer, b"", 0);
            self.expected.push_back(Expected::Begin);
        }
        self.side.unnamed = None;
    }

    /// Large pieces go as they are, small ones together.
    fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_BELOW && !self.buffer.is_empty() {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        self.flush();
        self.out.push(Output::ToServer(bytes.clone()));
    }

    /// Sends what was written.
    pub(super) fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.out
                .push(Output::ToServer(self.buffer.split().freeze()));
        }
    }

    fn parse(&mut self, statement: &Arc<Prepared>, name: &Bytes) {
        if name.is_empty() {
            frontend::parse(&mut self.buffer, b"", &statement.text, &statement.types);
            self.side.unnamed = Some(statement.id);
        } else if self.side.has(statement.id) && self.is_failed {
            self.probe(statement);
            self.expected.push_back(Expected::Known(name.clone()));
            return;
        } else if self.side.has(statement.id) {
            self.expected.push_back(Expected::Known(name.clone()));
            return;
        } else {
            self.prepare(statement);
        }
        self.expected
            .push_back(Expected::Parse(Arc::clone(statement), name.clone()));
    }

    /// Lets the server say what it has against a statement.
    fn probe(&mut self, statement: &Prepared) {
        frontend::parse(&mut self.buffer, b"", &statement.text, &statement.types);
        self.side.unnamed = None;
        self.expected.push_back(Expected::Probe);
    }

    fn prepare(&mut self, statement: &Arc<Prepared>) {
        if let Some(old) = self.side.evict(self.max) {
            frontend::close(&mut self.buffer, What::Statement, &old.server_name());
            self.expected.push_back(Expected::CloseOurs(old));
        }
        let name = statement.id.server_name();
        frontend::parse(&mut self.buffer, &name, &statement.text, &statement.types);
        self.side.insert(statement.id);
    }

    /// Makes sure that the connection has a statement; returns its name there.
    fn ensure(&mut self, statement: &Arc<Prepared>, unnamed: bool) -> Bytes {
        if unnamed {
            if self.side.unnamed != Some(statement.id) {
                frontend::parse(&mut self.buffer, b"", &statement.text, &statement.types);
                self.side.unnamed = Some(statement.id);
                self.expected.push_back(Expected::UnnamedAgain);
            }
            return Bytes::new();
        }
        if !self.side.has(statement.id) {
            self.prepare(statement);
            self.expected
                .push_back(Expected::PrepareAgain(Arc::clone(statement)));
        }
        statement.id.server_name()
    }
}

/// The parameter types of a Parse: none.
const NO_TYPES: [u8; 2] = [0; 2];
/// The formats, values and result formats of a Bind: none.
const NOTHING_BOUND: [u8; 6] = [0; 6];
/// A statement that no server understands.
const UNPARSABLE: &[u8] = b"pgherd_refused";
/// Bytes up to which copying is cheaper than another piece of a write.
const COPY_BELOW: usize = 4096;
