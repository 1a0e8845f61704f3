//! COPY in both directions, and when it fails.

use std::pin::pin;

use bytes::{BufMut, Bytes};
use futures_util::{SinkExt, StreamExt};
use pgherd::wire::frontend::{self, NO_TYPES};

use crate::support::{fields, memory_kb, shared, tags, test, value};

/// A CopyData message.
fn copy_data(out: &mut bytes::BytesMut, data: &[u8]) {
    out.put_u8(b'd');
    out.put_u32(u32::try_from(data.len() + 4).unwrap());
    out.put_slice(data);
}

const COPY_DONE: &[u8] = &[b'c', 0, 0, 0, 4];

#[test]
fn rows_go_in_and_come_out_by_copy() {
    test(async {
        let client = shared().await.router.connect().await;
        client
            .batch_execute("CREATE TABLE copied(n int, t text)")
            .await
            .unwrap();
        let sink = client
            .copy_in::<_, Bytes>("COPY copied FROM STDIN")
            .await
            .unwrap();
        let mut sink = pin!(sink);
        for number in 0..1000 {
            sink.send(Bytes::from(format!("{number}\trow {number}\n")))
                .await
                .unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 1000);
        assert_eq!(value(&client, "SELECT sum(n) FROM copied").await, "499500");
        let stream = client
            .copy_out("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT")
            .await;
        let parts: Vec<_> = stream.unwrap().collect().await;
        let mut text = Vec::new();
        for part in parts {
            text.extend_from_slice(&part.unwrap());
        }
        assert!(text.starts_with(b"0\trow 0\n1\trow 1\n"));
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1000);
    });
}

#[test]
fn a_row_that_does_not_fit_fails_the_copy_and_the_session_goes_on() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("CREATE TABLE copy_bad(n int)").await;
        raw.send(|out| frontend::query(out, b"COPY copy_bad FROM STDIN"))
            .await;
        assert_eq!(tags(&raw.until(b'G').await), "G");
        raw.send(|out| {
            copy_data(out, b"1\nnot a number\n");
            out.put_slice(COPY_DONE);
        })
        .await;
        let answer = raw.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "22P02");
        // What the client still had on its way is ignored.
        raw.send(|out| {
            copy_data(out, b"2\n");
            out.put_slice(COPY_DONE);
        })
        .await;
        let answer = raw.query("SELECT count(*) FROM copy_bad").await;
        assert_eq!(answer[1].columns(), ["0"]);
    });
}

#[test]
fn a_client_that_gives_up_a_copy_gets_its_reason_back() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("CREATE TABLE copy_given_up(n int)").await;
        raw.send(|out| {
            frontend::query(out, b"COPY copy_given_up FROM STDIN");
            copy_data(out, b"1\n");
            frontend::copy_fail(out, b"changed my mind");
        })
        .await;
        let answer = raw.until_ready().await;
        assert_eq!(tags(&answer), "GEZ");
        let told = fields(&answer);
        assert_eq!(told[&'C'], "57014");
        assert!(told[&'M'].contains("changed my mind"), "{told:?}");
        let answer = raw.query("SELECT count(*) FROM copy_given_up").await;
        assert_eq!(answer[1].columns(), ["0"]);
    });
}

#[test]
fn copy_by_the_extended_protocol_keeps_its_order() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("CREATE TABLE copy_extended(n int)").await;
        raw.send(|out| {
            frontend::parse(out, b"", b"COPY copy_extended FROM STDIN", NO_TYPES);
            frontend::bind_for(out, b"", b"", &[0, 0, 0, 0, 0, 0]);
            frontend::execute(out, b"", 0);
            frontend::sync(out);
        })
        .await;
        assert_eq!(tags(&raw.until(b'G').await), "12G");
        raw.send(|out| {
            copy_data(out, b"1\n2\n");
            out.put_slice(COPY_DONE);
            frontend::sync(out);
        })
        .await;
        assert_eq!(tags(&raw.until_ready().await), "CZ");
        let answer = raw.query("SELECT sum(n) FROM copy_extended").await;
        assert_eq!(answer[1].columns(), ["3"]);
    });
}

#[test]
fn a_statement_that_is_wrong_begins_no_copy() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        let answer = raw.query("COPY no_such_table FROM STDIN").await;
        assert_eq!(fields(&answer)[&'C'], "42P01");
        let answer = raw.query("COPY (SELECT 1/0) TO STDOUT").await;
        assert_eq!(fields(&answer)[&'C'], "22012");
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn fifty_megabytes_go_in_and_out_in_bounded_memory() {
    test(async {
        let client = shared().await.router.connect().await;
        let table = "CREATE UNLOGGED TABLE copy_large(t text)";
        client.batch_execute(table).await.unwrap();
        let before = memory_kb();
        let mut peak = before;
        let line = Bytes::from(format!("{}\n", "y".repeat(9_999)));
        let sink = client
            .copy_in::<_, Bytes>("COPY copy_large FROM STDIN")
            .await
            .unwrap();
        let mut sink = pin!(sink);
        for number in 0..5_000 {
            sink.send(line.clone()).await.unwrap();
            if number % 500 == 0 {
                peak = peak.max(memory_kb());
            }
        }
        assert_eq!(sink.finish().await.unwrap(), 5_000);
        let stream = client.copy_out("COPY copy_large TO STDOUT").await.unwrap();
        let mut stream = pin!(stream);
        let (mut total, mut parts) = (0, 0);
        while let Some(part) = stream.next().await {
            total += part.unwrap().len();
            parts += 1;
            if parts % 500 == 0 {
                peak = peak.max(memory_kb());
            }
        }
        assert_eq!(total, 50_000_000);
        // The other tests of this process need some too.
        assert!(
            peak < before + 40_000,
            "{before} kB before, {peak} kB at the peak"
        );
    });
}
