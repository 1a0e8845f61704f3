//! Cutting and bounding.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::wire::checks::{self, Outcome, Sender, cut};
use crate::wire::{Cut, Frame, FrameError, Head, Limits, frontend};

const SMALL: Limits = Limits {
    hold: 64,
    frame_max: 0x4000_0003,
};

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn message(tag: u8, body: &[u8]) -> Cut {
    let bytes = Bytes::from(frame(tag, body));
    Cut::Message(Frame { tag, bytes })
}

fn header(tag: u8, length: u32) -> Vec<u8> {
    [&[tag], &length.to_be_bytes()[..]].concat()
}

fn all(sender: Sender, input: &[u8]) -> Outcome {
    cut(sender, SMALL, input, &[usize::MAX])
}

#[test]
fn neighbouring_rows_are_one_run() {
    let rows = [
        frame(b'D', b"one"),
        frame(b'D', &[7; 500]),
        frame(b'd', b""),
    ]
    .concat();
    let input = [
        frame(b'T', b"columns"),
        rows.clone(),
        frame(b'C', b"SELECT 2\0"),
    ]
    .concat();
    let mut splitter = crate::wire::Splitter::server(SMALL);
    let mut buffer = BytesMut::from(&input[..]);
    let mut pieces = Vec::new();
    while let Some(piece) = splitter.next(&mut buffer).unwrap() {
        pieces.push(piece);
    }
    let run = Cut::Run(Bytes::from(rows));
    assert_eq!(
        pieces,
        [message(b'T', b"columns"), run, message(b'C', b"SELECT 2\0")]
    );
    assert!(splitter.is_between_frames());
}

#[test]
fn part_of_a_row_is_not_held_back() {
    let row = frame(b'D', &[7; 5000]);
    let mut splitter = crate::wire::Splitter::server(SMALL);
    let mut buffer = BytesMut::from(&row[..10]);
    let piece = splitter.next(&mut buffer).unwrap();
    assert_eq!(piece, Some(Cut::Run(Bytes::copy_from_slice(&row[..10]))));
    assert!(!splitter.is_between_frames());
    assert_eq!(splitter.next(&mut buffer), Ok(None));
    buffer.extend_from_slice(&row[10..]);
    let piece = splitter.next(&mut buffer).unwrap();
    assert_eq!(piece, Some(Cut::Run(Bytes::copy_from_slice(&row[10..]))));
    assert!(splitter.is_between_frames());
}

#[test]
fn a_long_frame_comes_as_a_head_and_a_rest() {
    let long = frame(b'Q', &[b'x'; 100]);
    let outcome = all(Sender::Client, &[long.clone(), frame(b'S', b"")].concat());
    let head = Head {
        tag: b'Q',
        length: 104,
        bytes: Bytes::copy_from_slice(&long[..64]),
    };
    let rest = Cut::Rest {
        bytes: Bytes::copy_from_slice(&long[64..]),
        last: true,
    };
    assert_eq!(outcome.pieces, [Cut::Head(head), rest, message(b'S', b"")]);
}

#[test]
fn a_frame_of_just_the_held_length_is_whole() {
    let body = [b'x'; 59];
    let outcome = all(Sender::Client, &frame(b'Q', &body));
    assert_eq!(outcome.pieces, [message(b'Q', &body)]);
}

#[test]
fn a_length_that_does_not_count_itself_is_refused() {
    for length in 0..4 {
        for (sender, tag) in [
            (Sender::Client, b'd'),
            (Sender::Server, b'D'),
            (Sender::Server, b'Z'),
        ] {
            let end = all(sender, &header(tag, length)).end;
            assert_eq!(end, Err(FrameError::BadLength { tag, length }));
        }
    }
}

#[test]
fn each_type_has_the_limit_that_postgres_gives_it() {
    let cases = [
        (Sender::Client, b"CDEHSXcf".as_slice(), 10_000),
        (Sender::Client, b"QPBFd", 0x3FFF_FFFE),
        (Sender::ClientAtLogin, b"p", 65_535),
        (Sender::Server, b"DdTEZ", 0x4000_0003),
    ];
    for (sender, tags, limit) in cases {
        for &tag in tags {
            assert_eq!(all(sender, &header(tag, limit)).end, Ok(()));
            let length = limit + 1;
            let end = all(sender, &header(tag, length)).end;
            assert_eq!(end, Err(FrameError::TooLong { tag, length, limit }));
        }
    }
}

#[test]
fn a_lower_limit_of_the_configuration_holds() {
    let limits = Limits {
        hold: 64,
        frame_max: 1000,
    };
    let end = cut(Sender::Client, limits, &header(b'Q', 1001), &[1]).end;
    let refused = FrameError::TooLong {
        tag: b'Q',
        length: 1001,
        limit: 1000,
    };
    assert_eq!(end, Err(refused));
    assert_eq!(refused.sqlstate().0, "08P01");
}

#[test]
fn a_type_of_the_other_side_or_phase_is_refused_at_its_first_byte() {
    for (sender, tag) in [
        (Sender::Client, b'p'),
        (Sender::Client, b'Z'),
        (Sender::Client, 0),
        (Sender::ClientAtLogin, b'Q'),
        (Sender::ClientAtLogin, b'X'),
        (Sender::Server, b'Q'),
        (Sender::Server, 0xFF),
    ] {
        assert_eq!(all(sender, &[tag]).end, Err(FrameError::UnknownTag(tag)));
    }
}

#[test]
fn what_came_before_an_error_is_handed_out_first() {
    let good = frame(b'D', b"row");
    let outcome = all(Sender::Server, &[good.clone(), header(b'D', 3)].concat());
    assert_eq!(outcome.pieces, [Cut::Run(Bytes::from(good))]);
    assert_eq!(outcome.left, header(b'D', 3));
    assert!(outcome.end.is_err());
}

#[test]
fn a_frame_inside_a_frame_stays_inside() {
    let inner = frame(b'Q', b"drop table x\0");
    let body = [b"select 1\0", &inner[..]].concat();
    let outcome = all(Sender::Client, &frame(b'Q', &body));
    assert_eq!(outcome.pieces, [message(b'Q', &body)]);
    assert_eq!(
        frontend::Query::parse(&body),
        Err(crate::wire::ViewError::InvalidFormat)
    );
}

fn senders() -> impl Strategy<Value = Sender> {
    prop_oneof![
        Just(Sender::ClientAtLogin),
        Just(Sender::Client),
        Just(Sender::Server)
    ]
}

/// Whole frames of one side, a few of them with a wrong length, and perhaps a cut end.
fn conversations() -> impl Strategy<Value = (Sender, Vec<u8>)> {
    senders().prop_flat_map(|sender| {
        let tags: &[u8] = match sender {
            Sender::ClientAtLogin => b"p",
            Sender::Client => b"QPBDECHSFXdcfdddBPP",
            Sender::Server => b"DDDDdddTCZSKREAINVWGHtn123scv",
        };
        let body = prop_oneof![
            4 => prop::collection::vec(prop_oneof![Just(0), Just(b'S'), any::<u8>()], 0..40),
            1 => prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..300),
        ];
        let one = (
            prop::sample::select(tags),
            body,
            prop::option::weighted(0.02, any::<u32>()),
        );
        let frames = prop::collection::vec(one, 0..30);
        (Just(sender), frames, 0..8_usize).prop_map(|(sender, frames, cut)| {
            let mut input = Vec::new();
            for (tag, body, wrong) in frames {
                let start = input.len();
                input.extend_from_slice(&frame(tag, &body));
                if let Some(wrong) = wrong {
                    input[start + 1..start + 5].copy_from_slice(&wrong.to_be_bytes());
                }
            }
            input.truncate(input.len().saturating_sub(cut));
            (sender, input)
        })
    })
}

proptest! {
    #[test]
    fn any_bytes_are_cut_or_refused(
        sender in senders(),
        input in prop::collection::vec(any::<u8>(), 0..600),
        sizes in prop::collection::vec(1..50_usize, 1..8),
    ) {
        checks::frames(sender, SMALL, &input, &sizes);
    }

    #[test]
    fn any_conversation_is_cut_the_same_however_it_comes(
        (sender, input) in conversations(),
        sizes in prop::collection::vec(1..50_usize, 1..8),
    ) {
        checks::frames(sender, SMALL, &input, &sizes);
    }
}
