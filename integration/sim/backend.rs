//! A played server process: the protocol of PostgreSQL as far as the clients of the simulator need
//! it, and strict about it. It knows what was prepared on its connection and skips to the Sync.

use std::collections::BTreeMap;

use bytes::BytesMut;
use pgherd::wire::backend::{Column, Kind, Table};
use pgherd::wire::frontend::{Bind, Close, Execute, Parse, Query, What};
use pgherd::wire::{
    Cut, ErrorFields, Frame, Limits, Severity, Splitter, SqlState, TransactionStatus, backend,
};

/// What a server process sees of its server.
pub(crate) trait Database {
    fn is_writable(&self) -> bool;
    /// Commits these values.
    fn commit(&mut self, values: &[u64]);
    /// A word that tells what is visible now.
    fn look(&self) -> String;
}

#[derive(Debug)]
pub(crate) struct Backend {
    cut: Splitter,
    input: BytesMut,
    pub(crate) output: BytesMut,
    statements: BTreeMap<Vec<u8>, String>,
    /// Each with its statement's text and its parameter.
    portals: BTreeMap<Vec<u8>, (String, u64)>,
    status: TransactionStatus,
    /// Written in the transaction that is open.
    written: Vec<u64>,
    skipping: bool,
}

type Refused = (SqlState, &'static str);

impl Backend {
    pub(crate) fn new() -> Self {
        Self {
            cut: Splitter::client(Limits::default()),
            input: BytesMut::new(),
            output: BytesMut::new(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            status: TransactionStatus::Idle,
            written: Vec::new(),
            skipping: false,
        }
    }

    /// Whether nothing is under way: it may serve another session.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.status == TransactionStatus::Idle && self.input.is_empty() && !self.skipping
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], database: &mut dyn Database) {
        self.input.extend_from_slice(bytes);
        while let Some(cut) = self.cut.next(&mut self.input).expect("frames") {
            match cut {
                Cut::Message(frame) => self.handle(&frame, database),
                other => panic!("nobody sends {other:?} here"),
            }
        }
    }

    fn handle(&mut self, frame: &Frame, database: &mut dyn Database) {
        match frame.tag {
            b'S' => {
                self.skipping = false;
                self.end_implicit(database);
                backend::ready(&mut self.output, self.status);
            }
            _ if self.skipping => {}
            b'Q' => {
                let query = Query::parse(frame.body()).expect("a query");
                let text = String::from_utf8(query.text.to_vec()).expect("UTF-8");
                if let Err(refused) = self.execute(&text, 0, database) {
                    self.fail(refused);
                }
                self.end_implicit(database);
                backend::ready(&mut self.output, self.status);
            }
            b'H' => {}
            _ => {
                if let Err(refused) = self.extended(frame, database) {
                    self.fail(refused);
                    self.skipping = true;
                }
            }
        }
    }

    fn extended(&mut self, frame: &Frame, database: &mut dyn Database) -> Result<(), Refused> {
        match frame.tag {
            b'P' => {
                let parse = Parse::parse(frame.body()).expect("a Parse");
                let name = parse.name.to_vec();
                if !name.is_empty() && self.statements.contains_key(&name) {
                    return Err((SqlState("42P05"), "it is prepared already"));
                }
                let text = String::from_utf8(parse.text.to_vec()).expect("UTF-8");
                self.statements.insert(name, text);
                backend::parse_complete(&mut self.output);
            }
            b'B' => {
                let bind = Bind::parse(frame.body()).expect("a Bind");
                let Some(text) = self.statements.get(bind.statement).cloned() else {
                    return Err((SqlState("26000"), "there is no such statement"));
                };
                // One parameter in text, behind no formats, the count and its length.
                let value = bind.rest.get(8..bind.rest.len() - 2).unwrap_or_default();
                let value = String::from_utf8_lossy(value).parse().unwrap_or(0);
                self.portals.insert(bind.portal.to_vec(), (text, value));
                backend::bind_complete(&mut self.output);
            }
            b'E' => {
                let execute = Execute::parse(frame.body()).expect("an Execute");
                let Some((text, value)) = self.portals.get(execute.portal).cloned() else {
                    return Err((SqlState("34000"), "there is no such portal"));
                };
                self.execute(&text, value, database)?;
            }
            b'C' => {
                let close = Close::parse(frame.body()).expect("a Close");
                match close.what {
                    What::Statement => drop(self.statements.remove(close.name)),
                    What::Portal => drop(self.portals.remove(close.name)),
                }
                backend::close_complete(&mut self.output);
            }
            other => panic!("nobody sends {} here", char::from(other)),
        }
        Ok(())
    }

    fn execute(&mut self, text: &str, value: u64, db: &mut dyn Database) -> Result<(), Refused> {
        let is_end = matches!(text, "commit" | "rollback");
        if self.status == TransactionStatus::Failed && !is_end {
            return Err((SqlState("25P02"), "the transaction is aborted"));
        }
        let tag = match text.split(' ').next().unwrap_or_default() {
            "begin" => {
                self.status = TransactionStatus::Open;
                "BEGIN"
            }
            "commit" if self.status != TransactionStatus::Failed => {
                self.status = TransactionStatus::Idle;
                self.flush(db)?;
                "COMMIT"
            }
            "commit" | "rollback" => {
                self.status = TransactionStatus::Idle;
                self.written.clear();
                "ROLLBACK"
            }
            "insert" if !db.is_writable() => {
                return Err((SqlState("25006"), "read only"));
            }
            "insert" => {
                let spelled = text.split(['(', ')']).nth(1).and_then(|n| n.parse().ok());
                self.written.push(spelled.unwrap_or(value));
                "INSERT 0 1"
            }
            "select" if text.contains("1/0") => return Err((SqlState("22012"), "division")),
            "select" => {
                let table = Table {
                    columns: vec![Column::new("seen", Kind::Text)],
                    rows: vec![vec![Some(db.look())]],
                };
                table.row_description(&mut self.output, &[]);
                table.data_rows(&mut self.output, &[]);
                "SELECT 1"
            }
            _ => return Err((SqlState("42601"), "syntax")),
        };
        // What a COMMIT ended is on disk before it is acknowledged. So is a single statement.
        backend::command_complete(&mut self.output, tag);
        Ok(())
    }

    /// A unit without BEGIN commits at its end.
    fn end_implicit(&mut self, db: &mut dyn Database) {
        if self.status == TransactionStatus::Idle
            && let Err(refused) = self.flush(db)
        {
            self.fail(refused);
        }
        if self.status == TransactionStatus::Idle {
            self.portals.clear();
        }
    }

    fn flush(&mut self, db: &mut dyn Database) -> Result<(), Refused> {
        let written = std::mem::take(&mut self.written);
        if written.is_empty() {
            return Ok(());
        }
        if !db.is_writable() {
            return Err((SqlState("25006"), "read only"));
        }
        db.commit(&written);
        Ok(())
    }

    fn fail(&mut self, (state, text): Refused) {
        self.written.clear();
        if self.status == TransactionStatus::Open {
            self.status = TransactionStatus::Failed;
        }
        let fields = ErrorFields::new(Severity::Error, state, text.to_owned());
        backend::error(&mut self.output, &fields);
    }
}
