//! The encrypted stream offers what the plain one does.

use std::io::{self, IoSlice};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pair;
use crate::net::{Idle, Stream};

#[tokio::test]
async fn text_passes_in_both_directions_and_a_read_takes_no_more_than_it_may() {
    let (mut ours, mut theirs) = pair().await;
    theirs.write_all(b"0123456789").await.unwrap();
    theirs.flush().await.unwrap();
    let mut buffer = BytesMut::new();
    while buffer.len() < 10 {
        assert!(ours.read(&mut buffer, 4).await.unwrap() <= 4);
    }
    assert_eq!(&buffer[..], b"0123456789");
    let written = ours.try_write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]);
    assert_eq!(written.unwrap(), 4);
    let mut answer = [0; 4];
    theirs.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"abcd");
}

#[tokio::test]
async fn what_a_full_socket_did_not_take_is_taken_later_once_and_in_order() {
    let (mut ours, mut theirs) = pair().await;
    let Stream::Tls(encrypted) = &ours else {
        panic!("encrypted")
    };
    SockRef::from(encrypted.socket())
        .set_send_buffer_size(4096)
        .unwrap();
    let text: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut sent, mut refused) = (0, 0);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        all
    });
    while sent < text.len() {
        match ours.try_write(&text[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                refused += 1;
                ours.writable().await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "the socket was never full");
    drop(ours);
    assert_eq!(reader.await.unwrap(), text);
}

#[tokio::test]
async fn a_large_text_arrives_whole_with_reads_of_any_size() {
    for max in [1000, 8 << 10, 64 << 10] {
        let (mut ours, mut theirs) = pair().await;
        let text: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = text.clone();
        let writer = tokio::spawn(async move {
            theirs.write_all(&sent).await.unwrap();
            theirs.shutdown().await.unwrap();
            theirs
        });
        let mut buffer = BytesMut::new();
        while ours.read(&mut buffer, max).await.unwrap() > 0 {}
        assert!(buffer == text);
        // It only stopped sending: it still gets its answer.
        ours.write_all(b"done").await.unwrap();
        let mut answer = [0; 4];
        let mut theirs = writer.await.unwrap();
        theirs.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"done");
    }
}

#[tokio::test]
async fn an_idle_stream_tells_silence_speech_and_end_apart() {
    let (mut ours, mut theirs) = pair().await;
    assert_eq!(ours.check_idle(), Idle::Silent);
    theirs.write_all(b"N").await.unwrap();
    theirs.flush().await.unwrap();
    let Stream::Tls(encrypted) = &ours else {
        panic!("encrypted")
    };
    encrypted.socket().readable().await.unwrap();
    assert_eq!(ours.check_idle(), Idle::Spoke);
    let mut buffer = BytesMut::new();
    assert_eq!(ours.read(&mut buffer, 10).await.unwrap(), 1);
    assert_eq!(ours.check_idle(), Idle::Silent);
    drop(theirs);
    assert_eq!(ours.read(&mut buffer, 1).await.unwrap(), 0);
    assert_ne!(ours.check_idle(), Idle::Silent);
}

#[tokio::test]
async fn text_that_was_decrypted_and_not_taken_counts_as_speech() {
    let (mut ours, mut theirs) = pair().await;
    theirs.write_all(b"NN").await.unwrap();
    theirs.flush().await.unwrap();
    let mut buffer = BytesMut::new();
    assert_eq!(ours.read(&mut buffer, 1).await.unwrap(), 1);
    assert_eq!(ours.check_idle(), Idle::Spoke);
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_goodbye_has_closed() {
    let (mut ours, theirs) = pair().await;
    let (socket, _connection) = theirs.into_inner();
    drop(socket);
    let mut buffer = BytesMut::new();
    assert_eq!(ours.read(&mut buffer, 1).await.unwrap(), 0);
}

#[tokio::test]
async fn a_stream_that_ends_says_goodbye() {
    let (ours, mut theirs) = pair().await;
    drop(ours);
    let mut all = Vec::new();
    // rustls calls an end without a goodbye an error.
    assert_eq!(theirs.read_to_end(&mut all).await.unwrap(), 0);
}

#[tokio::test]
async fn a_broken_record_ends_the_stream() {
    let (mut ours, theirs) = pair().await;
    let (mut socket, _connection) = theirs.into_inner();
    socket
        .write_all(b"\x17\x03\x03\x00\x20this is not what it should be...")
        .await
        .unwrap();
    let mut buffer = BytesMut::new();
    let error = ours.read(&mut buffer, 10).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
