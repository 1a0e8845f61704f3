//! The two protocols, their orders of messages, and errors.

use pgherd::local::{DATABASE, SUPERUSER};
use pgherd::wire::frontend::{self, NO_TYPES, What};

use crate::support::{Raw, fields, shared, tags, test};

/// A Bind without parameters, all columns in text.
const NOTHING: &[u8] = &[0, 0, 0, 0, 0, 0];

#[test]
fn several_statements_in_one_query_are_answered_in_order() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        let answer = raw.query("SELECT 1; SELECT 2 WHERE false; SELECT 3").await;
        assert_eq!(tags(&answer), "TDCTCTDCZ");
        assert_eq!(tags(&raw.query("").await), "IZ");
        assert_eq!(tags(&raw.query(";;").await), "IZ");
    });
}

#[test]
fn an_error_in_several_statements_ends_them_and_undoes_them() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        let text = "CREATE TABLE multi(n int); INSERT INTO multi VALUES (1); SELECT 1/0; SELECT 2";
        let answer = raw.query(text).await;
        assert_eq!(tags(&answer), "CCEZ");
        assert_eq!(fields(&answer)[&'C'], "22012");
        let answer = raw.query("SELECT to_regclass('multi') IS NULL").await;
        assert_eq!(answer[1].columns(), ["t"]);
    });
}

#[test]
fn flush_brings_answers_before_sync() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.send(|out| {
            frontend::parse(out, b"", b"SELECT $1::text", NO_TYPES);
            frontend::describe(out, What::Statement, b"");
            frontend::flush(out);
        })
        .await;
        assert_eq!(tags(&raw.until(b'T').await), "1tT");
        raw.send(|out| {
            frontend::bind_for(out, b"", b"", &[0, 0, 0, 1, 0, 0, 0, 2, b'h', b'i', 0, 0]);
            frontend::execute(out, b"", 0);
            frontend::flush(out);
        })
        .await;
        let answer = raw.until(b'C').await;
        assert_eq!(tags(&answer), "2DC");
        assert_eq!(answer[1].columns(), ["hi"]);
        assert!(raw.is_silent().await);
        raw.send(frontend::sync).await;
        assert_eq!(tags(&raw.until_ready().await), "Z");
    });
}

#[test]
fn pipelines_of_several_syncs_are_answered_in_order() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("CREATE TABLE pipelined(n int)").await;
        raw.send(|out| {
            for number in 0..20 {
                let text = match number % 3 {
                    0 => format!("INSERT INTO pipelined VALUES ({number}) RETURNING n"),
                    1 => format!("SELECT {number}"),
                    _ => format!("SELECT max({number}) FROM pipelined"),
                };
                frontend::parse(out, b"", text.as_bytes(), NO_TYPES);
                frontend::bind_for(out, b"", b"", NOTHING);
                frontend::execute(out, b"", 0);
                frontend::sync(out);
            }
        })
        .await;
        for number in 0..20 {
            let answer = raw.until_ready().await;
            assert_eq!(tags(&answer), "12DCZ", "{number}: {answer:?}");
            assert_eq!(answer[2].columns(), [number.to_string()]);
        }
    });
}

#[test]
fn queries_sent_without_waiting_are_answered_in_order() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.send(|out| {
            for number in 0..10 {
                frontend::query(out, format!("SELECT {number}").as_bytes());
                frontend::query(out, b"BEGIN; CREATE TABLE x1(n int); ROLLBACK");
            }
        })
        .await;
        for number in 0..10 {
            assert_eq!(raw.until_ready().await[1].columns(), [number.to_string()]);
            assert_eq!(tags(&raw.until_ready().await), "CCCZ");
        }
    });
}

#[test]
fn after_an_error_everything_up_to_sync_is_skipped() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.send(|out| {
            for text in ["SELECT 1", "SELECT 1/0", "SELECT 3"] {
                frontend::parse(out, b"", text.as_bytes(), NO_TYPES);
                frontend::bind_for(out, b"", b"", NOTHING);
                frontend::execute(out, b"", 0);
            }
            frontend::sync(out);
            frontend::parse(out, b"", b"SELECT 4", NO_TYPES);
            frontend::bind_for(out, b"", b"", NOTHING);
            frontend::execute(out, b"", 0);
            frontend::sync(out);
        })
        .await;
        let answer = raw.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "22012");
        let all = tags(&answer);
        // Whether the division fails when it is planned or when it runs is the server's affair.
        assert!(["12DC1EZ", "12DC12EZ"].contains(&all.as_str()), "{all}");
        assert_eq!(tags(&raw.until_ready().await), "12DCZ");
    });
}

#[test]
fn a_portal_gives_its_rows_in_portions_inside_a_transaction() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("BEGIN").await;
        raw.send(|out| {
            frontend::parse(out, b"", b"SELECT generate_series(1, 5)", NO_TYPES);
            frontend::bind_for(out, b"", b"p", NOTHING);
            frontend::execute(out, b"p", 2);
            frontend::sync(out);
        })
        .await;
        assert_eq!(tags(&raw.until_ready().await), "12DDsZ");
        for expected in ["DDsZ", "DCZ"] {
            raw.send(|out| {
                frontend::execute(out, b"p", 2);
                frontend::sync(out);
            })
            .await;
            assert_eq!(tags(&raw.until_ready().await), expected);
        }
        assert_eq!(tags(&raw.query("COMMIT").await), "CZ");
    });
}

#[test]
fn errors_have_all_the_fields_of_a_direct_connection() {
    test(async {
        let lab = shared().await;
        let mut through = lab.router.raw().await;
        let mut direct = Raw::log_in(lab.cluster.address(0).unwrap(), SUPERUSER, DATABASE).await;
        let table = "CREATE TABLE errors(n int PRIMARY KEY, m int CHECK (m > 0))";
        direct.query(table).await;
        direct.query("INSERT INTO errors VALUES (1, 1)").await;
        for text in [
            "INSERT INTO errors VALUES (1, 1)",
            "INSERT INTO errors VALUES (2, -1)",
            "SELECT * FROM no_such_table",
            "SELEC 1",
            "SELECT nothing FROM errors",
            "SELECT 'x'::int",
            "DO $$ BEGIN RAISE EXCEPTION 'own' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'P9999', \
             COLUMN = 'c', SCHEMA = 's', TABLE = 't', CONSTRAINT = 'k', DATATYPE = 'y'; END $$",
            "COMMIT PREPARED 'none'",
        ] {
            let expected = direct.query(text).await;
            let answer = through.query(text).await;
            assert_eq!(fields(&answer), fields(&expected), "{text}");
            assert_eq!(tags(&answer), tags(&expected), "{text}");
        }
    });
}

#[test]
fn notices_and_warnings_are_forwarded() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        let answer = raw.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$").await;
        assert_eq!(tags(&answer), "NCZ");
        assert_eq!(answer[0].fields()[&'M'], "hello");
        let answer = raw.query("COMMIT").await;
        assert_eq!(tags(&answer), "NCZ");
        assert_eq!(answer[0].fields()[&'C'], "25P01");
    });
}

#[test]
fn the_same_conversation_gives_the_same_bytes_as_a_direct_connection() {
    test(async {
        let lab = shared().await;
        let mut through = lab.router.raw().await;
        let mut direct = Raw::log_in(lab.cluster.address(0).unwrap(), SUPERUSER, DATABASE).await;
        for text in [
            "BEGIN",
            "SAVEPOINT a",
            "SELECT 1/0",
            "SELECT 1",
            "ROLLBACK TO a",
            "SELECT 2",
            "COMMIT",
            "BEGIN READ ONLY",
            "CREATE TABLE never(n int)",
            "COMMIT",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SHOW transaction_isolation",
            "END",
            "START TRANSACTION",
            "ROLLBACK AND CHAIN",
            "ROLLBACK",
            "ROLLBACK",
            "SET search_path = pg_catalog",
            "SHOW search_path",
            "RESET ALL",
            "VALUES (1, NULL), (2, 'x')",
            "TABLE pg_database LIMIT 0",
            "PREPARE q AS SELECT $1::int",
            "EXECUTE q(5)",
            "DEALLOCATE q",
            "DISCARD ALL",
        ] {
            let expected = direct.query(text).await;
            let answer = through.query(text).await;
            assert_eq!(tags(&answer), tags(&expected), "{text}: {answer:?}");
            let without_status = |messages: Vec<crate::support::Message>| -> Vec<_> {
                messages
                    .into_iter()
                    .filter(|message| message.tag != b'S')
                    .collect()
            };
            assert_eq!(without_status(answer), without_status(expected), "{text}");
        }
    });
}

#[test]
fn a_large_result_passes_in_bounded_memory() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        raw.query("SELECT 1").await;
        let before = crate::support::memory_kb();
        let text = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)";
        raw.send(|out| frontend::query(out, text.as_bytes())).await;
        let (mut count, mut peak) = (0, before);
        loop {
            let message = raw.next().await;
            match message.tag {
                b'D' => count += 1,
                b'Z' => break,
                _ => {}
            }
            if count % 500 == 0 {
                peak = peak.max(crate::support::memory_kb());
            }
        }
        assert_eq!(count, 20_000);
        // 200 MB went through; the other tests of this process take some memory of their own.
        assert!(
            peak < before + 100_000,
            "{before} kB before, {peak} kB at the peak"
        );
    });
}

#[test]
fn a_client_that_reads_slowly_holds_the_server_back() {
    test(async {
        let lab = shared().await;
        let mut raw = lab.router.raw().await;
        let before = crate::support::memory_kb();
        let text = "SELECT repeat('x', 10000), 'slow reader' FROM generate_series(1, 20000)";
        raw.send(|out| frontend::query(out, text.as_bytes())).await;
        raw.next().await;
        let direct = lab.cluster.connect(0).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let after = crate::support::memory_kb();
        assert!(
            after < before + 100_000,
            "{before} kB before, {after} kB with the result waiting"
        );
        drop(direct);
        // The first was read above; what follows is counted, not kept.
        let mut count = 0;
        loop {
            match raw.next().await.tag {
                b'D' => count += 1,
                b'Z' => break,
                _ => {}
            }
        }
        assert_eq!(count, 20_000);
    });
}
