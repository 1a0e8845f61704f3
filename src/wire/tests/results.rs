//! Errors, notices, and results of our own.

use bytes::BytesMut;

use crate::wire::backend::{self, Column, Kind, Table};
use crate::wire::{ErrorFields, ErrorView, Severity, SqlState};

fn refusal() -> ErrorFields {
    ErrorFields::new(Severity::Fatal, SqlState::TOO_MANY_CONNECTIONS, "full")
        .with_detail("all 10 in use")
        .with_hint("wait")
}

#[test]
fn an_error_of_ours_has_the_fields_of_postgres() {
    let mut out = BytesMut::new();
    backend::error(&mut out, &refusal());
    let fields = b"SFATAL\0VFATAL\0C53300\0Mfull\0Dall 10 in use\0Hwait\0\0";
    assert_eq!(&out[..5], [b'E', 0, 0, 0, 53]);
    assert_eq!(&out[5..], fields);
    let view = ErrorView::new(&out[5..]);
    assert_eq!(view.severity(), Some(Severity::Fatal));
    assert!(view.is(SqlState::TOO_MANY_CONNECTIONS) && !view.is(SqlState::WARNING));
    assert_eq!(view.message(), Some(&b"full"[..]));
    assert_eq!(view.detail(), Some(&b"all 10 in use"[..]));
    assert_eq!(view.hint(), Some(&b"wait"[..]));
    assert_eq!(view.routine(), None);
}

#[test]
fn a_notice_differs_from_an_error_in_its_type_only() {
    let (mut error, mut notice) = (BytesMut::new(), BytesMut::new());
    backend::error(&mut error, &refusal());
    backend::notice(&mut notice, &refusal());
    assert_eq!((error[0], notice[0]), (b'E', b'N'));
    assert_eq!(error[1..], notice[1..]);
}

#[test]
fn a_nul_in_an_error_cannot_forge_a_field() {
    let mut out = BytesMut::new();
    let forged = ErrorFields::new(Severity::Error, SqlState::INTERNAL_ERROR, "x\0C00000");
    backend::error(&mut out, &forged);
    let view = ErrorView::new(&out[5..]);
    assert_eq!(view.sqlstate(), Some(&b"XX000"[..]));
    assert_eq!(view.message(), Some(&b"x?C00000"[..]));
}

#[test]
fn a_translated_error_in_any_encoding_is_read() {
    let view = ErrorView::new(b"SERREUR\0VERROR\0C57P01\0Mcaf\xe9\0Rroutine\0\0");
    assert_eq!(view.severity(), Some(Severity::Error));
    assert_eq!(view.message(), Some(&b"caf\xe9"[..]));
    assert_eq!(view.routine(), Some(&b"routine"[..]));
    let older = ErrorView::new(b"SFATAL\0C57P01\0\0");
    assert_eq!(older.severity(), Some(Severity::Fatal));
    assert!(Severity::Fatal.ends_session() && !Severity::Error.ends_session());
}

#[test]
fn an_error_that_is_cut_short_has_its_whole_fields() {
    let view = ErrorView::new(b"SERROR\0C4000");
    assert_eq!(view.severity(), Some(Severity::Error));
    assert_eq!(view.sqlstate(), None);
    assert_eq!(ErrorView::new(b"").fields().count(), 0);
}

fn table() -> Table {
    let cells = |cells: [&str; 4]| cells.map(|cell| Some(cell.to_owned())).to_vec();
    Table {
        columns: vec![
            Column::new("server", Kind::Text),
            Column::new("lag", Kind::Int8),
            Column::new("load", Kind::Float8),
            Column::new("up", Kind::Bool),
        ],
        rows: vec![cells(["a", "-5", "1.5", "t"]), vec![None, None]],
    }
}

#[test]
fn a_table_describes_its_columns() {
    let mut out = BytesMut::new();
    table().row_description(&mut out, &[0, 1, 1, 0]);
    let column = |name: &[u8], oid: u16, size: i16, format: u8| {
        let oid = u32::from(oid).to_be_bytes();
        let tail = [0xFF, 0xFF, 0xFF, 0xFF, 0, format];
        [name, b"\0", &[0; 6], &oid, &size.to_be_bytes(), &tail].concat()
    };
    let body = [
        b"\0\x04".to_vec(),
        column(b"server", 25, -1, 0),
        column(b"lag", 20, 8, 1),
        column(b"load", 701, 8, 1),
        column(b"up", 16, 1, 0),
    ]
    .concat();
    assert_eq!(out[0], b'T');
    assert_eq!(
        out[1..5],
        u32::try_from(body.len() + 4).unwrap().to_be_bytes()
    );
    assert_eq!(out[5..], body);
}

#[test]
fn rows_are_text_or_binary_and_a_missing_cell_is_null() {
    let (mut text, mut binary) = (BytesMut::new(), BytesMut::new());
    table().data_rows(&mut text, &[]);
    let row = b"\0\x04\0\0\0\x01a\0\0\0\x02-5\0\0\0\x031.5\0\0\0\x01t";
    assert_eq!(&text[..5], [b'D', 0, 0, 0, 29]);
    assert_eq!(&text[5..30], row);
    let nulls = [b"D\0\0\0\x16\0\x04".to_vec(), vec![0xFF; 16]].concat();
    assert_eq!(&text[30..], nulls);

    table().data_rows(&mut binary, &[1]);
    let row = [
        b"\0\x04\0\0\0\x01a\0\0\0\x08".to_vec(),
        (-5_i64).to_be_bytes().to_vec(),
        b"\0\0\0\x08".to_vec(),
        1.5_f64.to_be_bytes().to_vec(),
        b"\0\0\0\x01\x01".to_vec(),
    ]
    .concat();
    assert_eq!(binary[5..5 + row.len()], row);
    assert_eq!(&binary[5 + row.len()..], nulls);
}

#[test]
fn a_value_that_is_not_of_its_type_is_null_in_binary() {
    let mut out = BytesMut::new();
    let row = ["x", "x", "x", "x"].map(|cell| Some(cell.to_owned()));
    table().data_row(&mut out, &row, &[1]);
    let expected = [b"\0\x04\0\0\0\x01x".to_vec(), vec![0xFF; 12]].concat();
    assert_eq!(&out[5..], expected);
}

#[test]
fn a_description_of_many_parameters_is_whole() {
    let mut out = BytesMut::new();
    backend::parameter_description(&mut out, &vec![23; 65_535]);
    assert_eq!(out.len(), 7 + 4 * 65_535);
    assert_eq!(&out[..11], [b't', 0, 4, 0, 2, 0xFF, 0xFF, 0, 0, 0, 23]);
}
