//! Conversations written as text: one line for each message, in the order in which a driver sends
//! them.
//!
//! ```text
//! P name|SELECT $1::int     Parse          D S|name   Describe of a statement    S   Sync
//! B portal|name|value|...   Bind           D P|       ... of a portal            H   Flush
//! E portal|rows             Execute        C S|name   Close (C P| as well)       Q   Query
//! ```
//!
//! An empty name is the unnamed one. What stands between two lines of `--` is sent in one piece, and
//! then its answers are read: up to the last ReadyForQuery, or what a Flush brings.

use bytes::BytesMut;
use pgherd::wire::frontend::{self, NO_TYPES, What};

use super::{Message, Raw};

/// Plays a conversation and gives all answers but ParameterStatus.
pub(crate) async fn play(raw: &mut Raw, script: &str) -> Vec<Message> {
    let mut answers = Vec::new();
    let mut piece = Piece::default();
    let lines = script.lines().map(str::trim_start);
    for line in lines.filter(|line| !line.is_empty()).chain(["--"]) {
        if line == "--" {
            answers.extend(std::mem::take(&mut piece).exchange(raw).await);
        } else {
            piece.add(line);
        }
    }
    answers.retain(|message| message.tag != b'S');
    answers
}

/// What is sent at once, and what has to come back.
#[derive(Default)]
struct Piece {
    bytes: BytesMut,
    readies: usize,
    /// What is owed since the last Sync, and comes before it only after a Flush.
    owed: usize,
    flushed: bool,
}

impl Piece {
    fn add(&mut self, line: &str) {
        let (tag, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let parts: Vec<&str> = rest.split('|').collect();
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().as_bytes();
        let what = if parts[0] == "S" {
            What::Statement
        } else {
            What::Portal
        };
        self.owed += 1;
        let out = &mut self.bytes;
        match tag {
            "P" => {
                let text = rest.split_once('|').unwrap().1;
                frontend::parse(out, part(0), text.as_bytes(), NO_TYPES);
            }
            "B" => frontend::bind_for(out, part(1), part(0), &values(&parts[2..])),
            "D" => frontend::describe(out, what, part(1)),
            "C" => frontend::close(out, what, part(1)),
            "E" => {
                let rows = parts.get(1).map_or(0, |rows| rows.parse().unwrap());
                frontend::execute(out, part(0), rows);
            }
            "H" => {
                frontend::flush(out);
                self.owed -= 1;
                self.flushed = true;
            }
            "S" | "Q" => {
                if tag == "S" {
                    frontend::sync(out);
                } else {
                    frontend::query(out, rest.as_bytes());
                }
                self.readies += 1;
                self.owed = 0;
                self.flushed = false;
            }
            _ => panic!("no such message: {line}"),
        }
    }

    async fn exchange(self, raw: &mut Raw) -> Vec<Message> {
        raw.send_bytes(&self.bytes).await;
        let mut answers = Vec::new();
        for _ in 0..self.readies {
            answers.extend(raw.until_ready().await);
        }
        let mut owed = if self.flushed { self.owed } else { 0 };
        while owed > 0 {
            let message = raw.next().await;
            owed = match message.tag {
                b'E' => 0,
                b'1' | b'2' | b'3' | b'T' | b'n' | b'C' | b's' | b'I' => owed - 1,
                _ => owed,
            };
            answers.push(message);
        }
        answers
    }
}

/// What follows the names in a Bind: text parameters, results as text. `\N` is NULL.
fn values(values: &[&str]) -> Vec<u8> {
    let mut rest = vec![0, 0];
    rest.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        if *value == r"\N" {
            rest.extend_from_slice(&(-1_i32).to_be_bytes());
            continue;
        }
        rest.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        rest.extend_from_slice(value.as_bytes());
    }
    rest.extend_from_slice(&[0, 0]);
    rest
}
