//! Messages as words, and words as messages, so that a script can be read aloud.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::frontend::{self, What};
use crate::wire::{ErrorFields, ErrorView, Severity, SqlState, TransactionStatus, backend};

/// A Bind's formats, parameters and result formats: none of each.
const NOTHING_BOUND: [u8; 6] = [0; 6];

/// Writes what a client sends.
pub(super) fn write_client(out: &mut BytesMut, words: &str) {
    let (name, rest) = split(words);
    let (first, second) = split(rest);
    match name {
        "Query" => frontend::query(out, rest.as_bytes()),
        "Parse" => {
            let (statement, text) = rest.split_once("as ").unwrap();
            frontend::parse(out, statement.trim().as_bytes(), text.as_bytes(), &[0, 0]);
        }
        "Bind" => {
            let (statement, portal) = rest.split_once("to ").unwrap_or((rest, ""));
            let statement = statement.trim().as_bytes();
            frontend::bind_for(out, statement, portal.as_bytes(), &NOTHING_BOUND);
        }
        "Describe" => frontend::describe(out, what(first), second.as_bytes()),
        "Close" => frontend::close(out, what(first), second.as_bytes()),
        "Execute" => frontend::execute(out, rest.as_bytes(), 0),
        "Sync" => frontend::sync(out),
        "Flush" => frontend::flush(out),
        "Terminate" => frontend::terminate(out),
        "CopyData" => put(out, b'd', rest.as_bytes()),
        "CopyDone" => put(out, b'c', b""),
        "CopyFail" => frontend::copy_fail(out, rest.as_bytes()),
        other => panic!("a client does not send {other}"),
    }
}

/// Writes what a server sends.
pub(super) fn write_server(out: &mut BytesMut, words: &str) {
    let (name, rest) = split(words);
    let (first, second) = split(rest);
    let fields = |severity| {
        let state = SqlState(Box::leak(first.to_owned().into_boxed_str()));
        ErrorFields::new(severity, state, second.to_owned())
    };
    match name {
        "ReadyForQuery" => backend::ready(out, TransactionStatus::parse(rest.as_bytes()).unwrap()),
        "Error" => backend::error(out, &fields(Severity::Error)),
        "Fatal" => backend::error(out, &fields(Severity::Fatal)),
        "Notice" => backend::notice(out, &fields(Severity::Notice)),
        "ParameterStatus" => backend::parameter_status(out, first.as_bytes(), second.as_bytes()),
        "RowDescription" => table(rest).row_description(out, &[]),
        "DataRow" => table("c").data_row(out, &[Some(rest.to_owned())], &[]),
        "CommandComplete" => backend::command_complete(out, rest),
        "ParseComplete" => backend::parse_complete(out),
        "BindComplete" => backend::bind_complete(out),
        "CloseComplete" => backend::close_complete(out),
        "ParameterDescription" => backend::parameter_description(out, &[]),
        "NoData" => backend::no_data(out),
        "EmptyQueryResponse" => backend::empty_query(out),
        "PortalSuspended" => put(out, b's', b""),
        "CopyInResponse" => put(out, b'G', &[0, 0, 0]),
        "CopyOutResponse" => put(out, b'H', &[0, 0, 0]),
        "CopyData" => put(out, b'd', rest.as_bytes()),
        "CopyDone" => put(out, b'c', b""),
        "NotificationResponse" => {
            backend::notification(out, 1, first.as_bytes(), second.as_bytes());
        }
        other => panic!("a server does not send {other}"),
    }
}

/// Takes whole frames off the front and puts them into words.
pub(super) fn read(buffer: &mut BytesMut, show: fn(u8, &[u8]) -> String) -> Vec<String> {
    let mut words = Vec::new();
    while let Some([tag, a, b, c, d]) = buffer.first_chunk::<5>().copied() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if buffer.len() <= length {
            break;
        }
        let frame = buffer.split_to(length + 1).freeze();
        words.push(show(tag, &frame[5..]).trim_end().to_owned());
    }
    words
}

/// What a client sent, in words.
pub(super) fn show_client(tag: u8, body: &[u8]) -> String {
    let part = |index: usize| {
        let part = body.split(|byte| *byte == 0).nth(index);
        short(part.unwrap_or_default())
    };
    let of = |body: &[u8]| {
        let kind = if body[0] == b'S' {
            "statement"
        } else {
            "portal"
        };
        format!("{kind} {}", short(&body[1..body.len() - 1]))
    };
    match tag {
        b'Q' => format!("Query {}", part(0)),
        b'P' => format!("Parse {}", joined(&part(0), "as", &part(1))),
        b'B' => format!("Bind {}", joined(&part(1), "to", &part(0))),
        b'D' => format!("Describe {}", of(body)),
        b'C' => format!("Close {}", of(body)),
        b'E' => format!("Execute {}", part(0)),
        b'S' => "Sync".to_owned(),
        b'H' => "Flush".to_owned(),
        b'X' => "Terminate".to_owned(),
        b'd' => format!("CopyData {}", short(body)),
        b'c' => "CopyDone".to_owned(),
        b'f' => format!("CopyFail {}", part(0)),
        other => panic!("a client does not send {}", char::from(other)),
    }
}

/// What a server sent, in words. Of an error the severity and the SQLSTATE.
pub(super) fn show_server(tag: u8, body: &[u8]) -> String {
    let text = |body: &[u8]| short(body.split(|byte| *byte == 0).next().unwrap_or_default());
    match tag {
        b'Z' => format!("ReadyForQuery {}", char::from(body[0])),
        b'E' | b'N' => {
            let view = ErrorView::new(body);
            let state = String::from_utf8_lossy(view.sqlstate().unwrap()).into_owned();
            match (tag, view.severity().unwrap()) {
                (b'N', _) => format!("Notice {}", short(view.message().unwrap())),
                (_, severity) if severity.ends_session() => format!("Fatal {state}"),
                _ => format!("Error {state}"),
            }
        }
        b'S' => {
            let mut parts = body.split(|byte| *byte == 0);
            let (name, value) = (parts.next().unwrap(), parts.next().unwrap());
            format!("ParameterStatus {} {}", short(name), short(value))
        }
        b'T' => format!("RowDescription {}", text(&body[2..])),
        b'D' => {
            let mut value = Bytes::copy_from_slice(&body[2..]);
            let length = value.get_u32() as usize;
            format!("DataRow {}", short(&value[..length]))
        }
        b'C' => format!("CommandComplete {}", text(body)),
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b't' => "ParameterDescription".to_owned(),
        b'n' => "NoData".to_owned(),
        b'I' => "EmptyQueryResponse".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b'G' => "CopyInResponse".to_owned(),
        b'H' => "CopyOutResponse".to_owned(),
        b'd' => format!("CopyData {}", short(body)),
        b'c' => "CopyDone".to_owned(),
        b'A' => {
            let (channel, payload) = (
                text(&body[4..]),
                text(&body[4 + text(&body[4..]).len() + 1..]),
            );
            let to = match body[3] {
                1 => String::new(),
                number => format!(" by {number}"),
            };
            format!("NotificationResponse {channel} {payload}{to}")
        }
        other => panic!("a server does not send {}", char::from(other)),
    }
}

fn split(words: &str) -> (&str, &str) {
    words.split_once(' ').unwrap_or((words, ""))
}

fn joined(first: &str, word: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first.to_owned(),
        (true, false) => format!("{word} {second}"),
        (false, false) => format!("{first} {word} {second}"),
    }
}

fn what(word: &str) -> What {
    match word {
        "statement" => What::Statement,
        "portal" => What::Portal,
        other => panic!("neither statement nor portal: {other}"),
    }
}

fn table(columns: &str) -> backend::Table {
    backend::Table {
        columns: columns
            .split(' ')
            .map(|name| backend::Column::new(name, backend::Kind::Text))
            .collect(),
        rows: Vec::new(),
    }
}

fn put(out: &mut BytesMut, tag: u8, body: &[u8]) {
    out.put_u8(tag);
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
}

/// Long texts are shown by their beginning and their length.
fn short(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.len() {
        0..=120 => text.into_owned(),
        length => format!("{}… {length} bytes", &text[..20]),
    }
}
