//! Views and builders, each against the other, and bytes against the protocol's description.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::wire::checks::{client_message, server_message};
use crate::wire::frontend::{Bind, Execute, NO_TYPES, Parse, What};
use crate::wire::{CancelKey, Head, TransactionStatus, ViewError, backend, frontend};

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    build(&mut out);
    out
}

/// Formats, parameters (one NULL), result formats.
const BIND_REST: &[u8] = b"\0\x01\0\x01\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\x02\0\0\0\x01";

fn client_messages() -> Vec<BytesMut> {
    vec![
        built(|out| frontend::query(out, b"select 'caf\xe9'")),
        built(|out| frontend::parse(out, b"s", b"select $1", b"\0\x02\0\0\0\x17\0\0\0\0")),
        built(|out| frontend::parse(out, b"", b"", NO_TYPES)),
        built(|out| frontend::bind_for(out, b"s", b"p", BIND_REST)),
        built(|out| frontend::describe(out, What::Portal, b"p")),
        built(|out| frontend::close(out, What::Statement, b"")),
        built(|out| frontend::execute(out, b"p", -1)),
        built(|out| frontend::password(out, b"secret")),
        built(|out| frontend::sasl_initial_response(out, b"SCRAM-SHA-256", b"n,,n=,r=x")),
    ]
}

fn server_messages() -> Vec<BytesMut> {
    let key = CancelKey {
        pid: 0x8000_0001,
        secret: Bytes::from_static(&[7; 32]),
    };
    vec![
        built(|out| backend::ready(out, TransactionStatus::Idle)),
        built(|out| backend::ready(out, TransactionStatus::Open)),
        built(|out| backend::ready(out, TransactionStatus::Failed)),
        built(|out| backend::parameter_status(out, b"application_name", b"caf\xe9")),
        built(|out| backend::backend_key(out, &key)),
        built(|out| backend::notification(out, 7, b"channel", b"payload \xe9")),
        built(|out| backend::command_complete(out, "INSERT 0 1")),
        built(backend::authentication_ok),
        built(backend::authentication_cleartext),
        built(|out| backend::authentication_md5(out, [1, 0, 3, 4])),
        built(|out| backend::authentication_sasl_continue(out, b"r=x,s=y,i=1")),
    ]
}

#[test]
fn a_built_message_reads_as_it_was_built() {
    for message in client_messages() {
        let read = client_message(message[0], &message[5..]);
        assert_eq!(read.as_ref(), Some(&message));
    }
    for message in server_messages() {
        let read = server_message(message[0], &message[5..]);
        assert_eq!(read.as_ref(), Some(&message));
    }
}

#[test]
fn a_message_that_is_cut_short_is_an_error() {
    // A first answer of SASL that ends behind its mechanism is a good password.
    let is_ambiguous = |message: &BytesMut, length| message[0] == b'p' && length == 5 + 14;
    for message in client_messages() {
        for length in (5..message.len()).filter(|&length| !is_ambiguous(&message, length)) {
            let read = client_message(message[0], &message[5..length]);
            assert_eq!(read, None, "{message:?} cut to {length}");
        }
    }
    // A key and the data of SASL have no end of their own, so they may be shorter.
    let bounded = |message: &BytesMut| !b"K".contains(&message[0]) && message.get(8) != Some(&11);
    for message in server_messages().into_iter().filter(bounded) {
        for length in 5..message.len() {
            let read = server_message(message[0], &message[5..length]);
            assert_eq!(read, None, "{message:?} cut to {length}");
        }
    }
}

#[test]
fn bytes_behind_the_last_field_are_an_error() {
    let longer = |message: &BytesMut| [&message[5..], b"\0"].concat();
    for message in client_messages() {
        assert_eq!(
            client_message(message[0], &longer(&message)),
            None,
            "{message:?}"
        );
    }
}

#[test]
fn each_view_says_what_is_wrong() {
    use ViewError::{InsufficientData, InvalidFormat, InvalidString, InvalidSubtype};
    let subtype = frontend::Describe::parse(b"Xname\0").map(|_| ());
    assert_eq!(subtype, Err(InvalidSubtype(b'X')));
    assert_eq!(
        frontend::Close::parse(b"").map(|_| ()),
        Err(InsufficientData)
    );
    assert_eq!(frontend::Query::parse(b"x").map(|_| ()), Err(InvalidString));
    assert_eq!(Parse::parse(b"s\0x\0").map(|_| ()), Err(InsufficientData));
    assert_eq!(
        Parse::parse(b"s\0x\0\0\x01\0\0\0").map(|_| ()),
        Err(InsufficientData)
    );
    assert_eq!(
        Execute::parse(b"p\0\0\0").map(|_| ()),
        Err(InsufficientData)
    );
    let longer_than_the_frame = b"\0\0\0\0\0\x01\x7f\xff\xff\xff";
    assert_eq!(
        Bind::parse(longer_than_the_frame).map(|_| ()),
        Err(InsufficientData)
    );
    let negative = b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0";
    assert_eq!(Bind::parse(negative).map(|_| ()), Err(InvalidFormat));
    assert_eq!(InvalidFormat.sqlstate().0, "08P01");
    assert_eq!(InvalidString.to_string(), "invalid string in message");
}

#[test]
fn a_parse_tells_its_types_and_a_bind_its_result_formats() {
    let view = Parse::parse(b"s\0x\0\0\x02\0\0\0\x17\0\0\0\0").unwrap();
    assert_eq!(view.type_oids().collect::<Vec<_>>(), [23, 0]);
    let body = [b"p\0s\0", BIND_REST].concat();
    let view = Bind::parse(&body).unwrap();
    assert_eq!(view.result_formats(), [0, 1]);
    assert_eq!((view.portal, view.statement), (&b"p"[..], &b"s"[..]));
}

#[test]
fn a_nul_in_a_text_cannot_begin_the_next_field() {
    let message = built(|out| frontend::query(out, b"select 1\0X\0\0\0\x04"));
    assert_eq!(message, built(|out| frontend::query(out, b"select 1")));
}

#[test]
fn messages_without_a_body_are_five_bytes() {
    assert_eq!(&built(frontend::sync)[..], b"S\0\0\0\x04");
    assert_eq!(&built(frontend::flush)[..], b"H\0\0\0\x04");
    assert_eq!(&built(frontend::terminate)[..], b"X\0\0\0\x04");
    assert_eq!(&built(backend::parse_complete)[..], b"1\0\0\0\x04");
    assert_eq!(&built(backend::bind_complete)[..], b"2\0\0\0\x04");
    assert_eq!(&built(backend::close_complete)[..], b"3\0\0\0\x04");
    assert_eq!(&built(backend::no_data)[..], b"n\0\0\0\x04");
    assert_eq!(&built(backend::empty_query)[..], b"I\0\0\0\x04");
    assert_eq!(
        &built(|out| frontend::copy_fail(out, b"no"))[..],
        b"f\0\0\0\x07no\0"
    );
    assert_eq!(
        &built(|out| frontend::sasl_response(out, b"c=biws"))[..],
        b"p\0\0\0\x0ac=biws"
    );
}

fn head(tag: u8, length: u32, prefix: &[u8]) -> Head {
    let bytes = [&[tag], &length.to_be_bytes()[..], prefix].concat().into();
    Head { tag, length, bytes }
}

#[test]
fn a_renamed_head_says_how_long_the_whole_message_is_now() {
    let bind = head(b'B', 1_000_000, b"p\0s\0\0\x01");
    let out = built(|out| frontend::bind_head_for(out, &bind, b"pgherd_17", b"").unwrap());
    let length = 1_000_000_u32 - 4 + 11;
    let expected = [b"B", &length.to_be_bytes()[..], b"\0pgherd_17\0\0\x01"].concat();
    assert_eq!(out, expected);

    let parse = head(b'P', 1_000_000, b"s\0select ");
    let out = built(|out| frontend::parse_head_for(out, &parse, b"s2").unwrap());
    assert_eq!(
        &out[..],
        [b"P", &1_000_001_u32.to_be_bytes()[..], b"s2\0select "].concat()
    );
}

#[test]
fn a_head_that_cannot_be_renamed_is_refused_and_nothing_is_written() {
    let mut out = BytesMut::new();
    let nameless = head(b'B', 1_000_000, b"p\0s");
    let refused = frontend::bind_head_for(&mut out, &nameless, b"x", b"");
    assert_eq!(refused, Err(ViewError::InvalidString));
    let largest = head(b'P', 0x3FFF_FFFE, b"s\0select ");
    let refused = frontend::parse_head_for(&mut out, &largest, b"s2");
    assert_eq!(refused, Err(ViewError::TooLong));
    assert!(out.is_empty());
}

#[test]
fn what_a_server_asks_for_is_read() {
    use backend::Authentication;
    let body = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let Ok(Authentication::Sasl(list)) = Authentication::parse(body) else {
        panic!("not a list of mechanisms");
    };
    assert_eq!(list.names().count(), 2);
    assert!(list.has("SCRAM-SHA-256") && !list.has("SCRAM"));
    assert!(Authentication::parse(&body[..body.len() - 1]).is_err());
    assert_eq!(
        Authentication::parse(b"\0\0\0\x07"),
        Ok(Authentication::Other(7))
    );
    assert_eq!(
        Authentication::parse(b"\0\0\0\x0cv=x"),
        Ok(Authentication::SaslFinal(b"v=x"))
    );
    let offered = built(|out| {
        backend::authentication_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    });
    assert_eq!(&offered[5..], body);
}

#[test]
fn a_key_outside_the_bounds_of_the_protocol_is_refused() {
    let body = |secret: usize| [&[0, 0, 0, 1][..], &vec![9; secret]].concat();
    for secret in [0, 3, 257] {
        assert!(
            backend::BackendKey::parse(&body(secret)).is_err(),
            "{secret}"
        );
    }
    let shown = format!(
        "{:?}",
        backend::BackendKey::parse(&body(4)).unwrap().to_key()
    );
    assert_eq!(shown, "CancelKey { pid: 1, .. }");
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(
        tag in any::<u8>(),
        body in prop::collection::vec(prop_oneof![3 => Just(0), 1 => any::<u8>()], 0..60),
    ) {
        if let Some(message) = client_message(tag, &body) {
            prop_assert_eq!(&message[5..], &body[..]);
        }
        if let Some(message) = server_message(tag, &body) {
            prop_assert_eq!(&message[5..], &body[..]);
        }
    }

    #[test]
    fn any_names_survive_a_bind(
        names in prop::array::uniform2(prop::collection::vec(1..=255_u8, 0..20)),
    ) {
        let [portal, statement] = &names;
        let message = built(|out| frontend::bind_for(out, statement, portal, BIND_REST));
        let view = Bind::parse(&message[5..]).unwrap();
        prop_assert_eq!((view.portal, view.statement, view.rest), (&portal[..], &statement[..], BIND_REST));
    }
}
