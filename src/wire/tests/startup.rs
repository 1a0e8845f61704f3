//! First packets.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::wire::checks::{self, take_first};
use crate::wire::{CancelKey, FirstPacket, Startup, StartupError, backend, frontend, startup};

fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], body].concat()
}

fn read(input: &[u8]) -> Result<Option<FirstPacket>, StartupError> {
    take_first(input, usize::MAX).0
}

fn read_startup(body: &[u8]) -> Result<Startup, StartupError> {
    match read(&packet(body))? {
        Some(FirstPacket::Startup(startup)) => Ok(startup),
        other => panic!("not a start-up message: {other:?}"),
    }
}

#[test]
fn a_startup_message_has_its_parameters_in_order() {
    let body = b"\0\x03\0\x02user\0alice\0options\0-c a=b\0user\0caf\xe9\0\0";
    let startup = read_startup(body).unwrap();
    assert_eq!((startup.minor, startup.parameters.len()), (2, 3));
    assert_eq!(startup.user(), b"caf\xe9");
    assert_eq!(startup.database(), b"caf\xe9");
    assert_eq!(startup.parameter("options"), Some(&b"-c a=b"[..]));
    assert_eq!(startup.parameter("application_name"), None);
    assert!(!startup.needs_negotiation());
}

#[test]
fn a_newer_minor_version_and_unknown_options_are_negotiated() {
    let startup = read_startup(b"\0\x03\x27\x0f_pq_.dance\0\x31\0user\0a\0database\0\0\0").unwrap();
    assert!(startup.needs_negotiation());
    assert_eq!(startup.accepted_minor(), 2);
    assert_eq!(
        startup.protocol_options,
        [Bytes::from_static(b"_pq_.dance")]
    );
    assert_eq!(startup.database(), b"a");
    let mut out = BytesMut::new();
    startup::negotiate_protocol_version(&mut out, &startup);
    assert_eq!(&out[..], b"v\0\0\0\x17\0\x03\0\x02\0\0\0\x01_pq_.dance\0");
    let view = backend::NegotiateProtocolVersion::parse(&out[5..]).unwrap();
    assert_eq!((view.minor, view.unknown_options), (2, 1));
}

#[test]
fn requests_for_encryption_are_told_apart() {
    assert_eq!(
        read(&packet(&[0x04, 0xD2, 0x16, 0x2F])),
        Ok(Some(FirstPacket::SslRequest))
    );
    assert_eq!(
        read(&packet(&[0x04, 0xD2, 0x16, 0x30])),
        Ok(Some(FirstPacket::GssRequest))
    );
}

#[test]
fn tls_without_a_request_is_known_by_its_first_byte_and_stays_in_the_buffer() {
    let hello = b"\x16\x03\x01";
    assert_eq!(read(&hello[..1]), Ok(Some(FirstPacket::DirectTls)));
    assert_eq!(take_first(hello, usize::MAX).1, hello);
}

#[test]
fn what_follows_a_request_stays_in_the_buffer() {
    let input = [packet(&[0x04, 0xD2, 0x16, 0x2F]), b"injected".to_vec()].concat();
    assert_eq!(take_first(&input, usize::MAX).1, b"injected");
}

#[test]
fn a_cancel_request_has_a_short_or_a_long_key() {
    for length in [4, 32, 256] {
        let key = CancelKey {
            pid: 7,
            secret: vec![9; length].into(),
        };
        let mut out = BytesMut::new();
        frontend::cancel_request(&mut out, &key);
        let Ok(Some(FirstPacket::Cancel(read))) = read(&out) else {
            panic!("no cancel request");
        };
        assert!(read.matches(&key));
    }
}

#[test]
fn keys_that_differ_anywhere_do_not_match() {
    let key = |pid, secret: &'static [u8]| CancelKey {
        pid,
        secret: Bytes::from_static(secret),
    };
    let ours = key(1, b"abcd");
    assert!(ours.matches(&key(1, b"abcd")));
    for other in [
        key(2, b"abcd"),
        key(1, b"abce"),
        key(1, b"abcde"),
        key(1, b"abc"),
    ] {
        assert!(!ours.matches(&other));
    }
}

#[test]
fn what_is_no_first_packet_is_refused_as_postgres_does() {
    let long_key = [&[0x04, 0xD2, 0x16, 0x2E, 0, 0, 0, 1][..], &[1; 257]].concat();
    let cases: &[(&[u8], StartupError)] = &[
        (b"\0\0\0\x07aaaa", StartupError::Length(7)),
        (b"GET / HTTP/1.1\r\n", StartupError::Length(0x4745_5420)),
        (b"\0\0\x27\x15", StartupError::Length(10_005)),
        (
            &packet(b"\0\x02\0\0"),
            StartupError::Version { major: 2, minor: 0 },
        ),
        (
            &packet(b"\0\x04\0\x01"),
            StartupError::Version { major: 4, minor: 1 },
        ),
        (&packet(b"\0\x03\0\0user\0a\0"), StartupError::Layout),
        (&packet(b"\0\x03\0\0user\0a\0\0x"), StartupError::Layout),
        (&packet(b"\0\x03\0\0user\0a"), StartupError::Layout),
        (&packet(b"\0\x03\0\0user\0\0\0"), StartupError::NoUser),
        (&packet(b"\0\x03\0\0\0"), StartupError::NoUser),
        (
            &packet(&[0x04, 0xD2, 0x16, 0x2E]),
            StartupError::CancelLength,
        ),
        (
            &packet(&[0x04, 0xD2, 0x16, 0x2E, 0, 0, 0, 1, 2, 3, 4]),
            StartupError::CancelLength,
        ),
        (&packet(&long_key), StartupError::CancelLength),
        (
            &packet(&[0x04, 0xD2, 0x16, 0x2F, 0]),
            StartupError::Length(9),
        ),
    ];
    for (input, error) in cases {
        assert_eq!(read(input), Err(*error), "{input:?}");
    }
    let version = StartupError::Version { major: 2, minor: 0 };
    assert_eq!(
        version.to_string(),
        "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"
    );
    assert_eq!(version.sqlstate().0, "0A000");
    assert_eq!(StartupError::NoUser.sqlstate().0, "28000");
    assert!(StartupError::Length(7).is_silent() && !StartupError::Layout.is_silent());
}

#[test]
fn a_packet_that_is_cut_short_waits_for_more() {
    let whole = packet(b"\0\x03\0\0user\0a\0\0");
    for length in 0..whole.len() {
        assert_eq!(read(&whole[..length]), Ok(None));
    }
    assert!(read(&whole).unwrap().is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_a_first_packet_or_refused(
        body in prop::collection::vec(prop_oneof![Just(0), Just(b'a'), any::<u8>()], 0..80),
        code in prop_oneof![
            Just(0x0003_0000_u32), Just(0x0003_0002), Just(80_877_102), Just(80_877_103), any::<u32>()
        ],
        size in 1..20_usize,
        is_framed in any::<bool>(),
    ) {
        let framed = packet(&[&code.to_be_bytes()[..], &body].concat());
        checks::startup(if is_framed { &framed } else { &body }, size);
    }

    #[test]
    fn any_parameters_read_as_they_were_written(
        pairs in prop::collection::vec(("[a-z_]{1,8}", "[^\0]{0,8}"), 0..6),
        minor in any::<u16>(),
        size in 1..20_usize,
    ) {
        let mut out = BytesMut::new();
        let named = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        frontend::startup(&mut out, minor, named.chain([(&b"user"[..], &b"u"[..])]));
        checks::startup(&out, size);
        prop_assert_eq!(read_startup(&out[4..]).unwrap().parameters.len(), pairs.len() + 1);
    }
}
