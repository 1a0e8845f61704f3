//! What hurt users of other routers: one test for each hazard, named after it.
//!
//! Some stand with their kin: `prepared::the_least_used_statements_are_really_closed_on_the_server`,
//! `prepared::a_statement_whose_result_changed_is_prepared_again`,
//! `cancel::a_cancel_never_hits_the_next_user_of_the_connection`, and in `drivers` the orders of
//! messages, of which `pgbench -M prepared` with several commands is one.

use std::time::Duration;

use crate::support::{
    Message, Raw, Router, fields, play, rows, shared, tags, test, value, wait_until,
};
use pgherd::local::{DATABASE, SUPERUSER};

/// A router with one connection for each server: what one session leaves, the next one finds.
async fn narrow(more: &[(&str, &str)]) -> Router {
    let settings = [&[("cluster.test.pool.size", "1")], more].concat();
    Router::start(&shared().await.cluster, &settings).await
}

/// The first column of the first row of a query.
async fn ask(raw: &mut Raw, text: &str) -> String {
    let answer = raw.query(text).await;
    let row = answer.iter().find(|message| message.tag == b'D');
    let row = row.unwrap_or_else(|| panic!("{text}: {answer:?}"));
    row.columns()[0].clone()
}

// Prepared statements.

#[test]
fn a_statement_that_died_with_its_server_connection_is_prepared_again() {
    test(async {
        let lab = shared().await;
        let name = "hazard_died";
        let settings = [("cluster.test.route.reads", "primary_only")];
        let router = narrow(&settings).await;
        let mut raw = Raw::connect(router.address).await;
        let names = [
            ("user", SUPERUSER),
            ("database", DATABASE),
            ("application_name", name),
        ];
        raw.start(0, &names).await;
        raw.until_ready().await;
        play(&mut raw, "P s|SELECT 'alive'\nS").await;
        let mut direct = Raw::log_in(lab.cluster.address(0).unwrap(), SUPERUSER, DATABASE).await;
        for _ in 0..3 {
            let answer = play(&mut raw, "B |s\nE |0\nS").await;
            assert_eq!(tags(&answer), "2DCZ");
            let kill = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
            );
            assert_eq!(ask(&mut direct, &kill).await, "t");
            let look = "SHOW SERVERS WHERE database = 'app'";
            wait_until("the loss is seen", Duration::from_secs(10), async || {
                router.console(look).await.is_empty()
            })
            .await;
        }
    });
}

#[test]
fn a_statement_parsed_on_a_replica_is_bound_on_the_primary() {
    test(async {
        let mut raw = shared().await.router.raw().await;
        let read = play(
            &mut raw,
            "P s|SELECT pg_is_in_recovery()\nD S|s\nS\n--\nB |s\nE |0\nS",
        )
        .await;
        assert_eq!(tags(&read), "1tTZ2DCZ");
        let write = "Q BEGIN\n--\nB |s\nE |0\nS\n--\nQ COMMIT\n--\nB |s\nE |0\nS";
        let answer = play(&mut raw, write).await;
        assert_eq!(tags(&answer), "CZ2DCZCZ2DCZ");
        assert_eq!(answer[3].columns(), ["f"]);
    });
}

#[test]
fn parse_and_describe_then_bind_in_a_transaction_do_not_hang() {
    test(async {
        let router = narrow(&[]).await;
        let mut raw = router.raw().await;
        let script = "Q BEGIN\n--\nP 1|SELECT $1::int\nD S|1\nS\n--\nB |1|7\nE |0\nS\n--\nQ COMMIT";
        assert_eq!(tags(&play(&mut raw, script).await), "CZ1tTZ2DCZCZ");
    });
}

#[test]
fn a_statement_survives_somebody_elses_discard_and_ddl() {
    test(async {
        let router = narrow(&[]).await;
        let (mut one, mut two) = (router.raw().await, router.raw().await);
        one.query("CREATE TABLE hazard_ddl(n int)").await;
        play(&mut one, "P s|SELECT count(*) FROM hazard_ddl\nS").await;
        for text in ["DISCARD ALL", "ALTER TABLE hazard_ddl ADD m int"] {
            assert_eq!(tags(&two.query(text).await), "CZ");
            let answer = play(&mut one, "B |s\nE |0\nS").await;
            assert_eq!(tags(&answer), "2DCZ", "after {text}");
        }
    });
}

#[test]
fn a_session_that_gets_no_connection_is_told_and_not_stuck() {
    test(async {
        let settings = [("cluster.test.pool.wait_timeout", "300ms")];
        let router = narrow(&settings).await;
        let (mut holder, mut waiter) = (router.raw().await, router.raw().await);
        holder.query("BEGIN; LOCK pg_description").await;
        let script = "P |INSERT INTO nowhere VALUES (1)\nB |\nD P|\nE |0\nS";
        let refused = play(&mut waiter, script).await;
        assert_eq!(fields(&refused)[&'C'], "53300");
        assert_eq!(refused.last().unwrap().tag, b'Z', "the session goes on");
        holder.query("ROLLBACK").await;
        assert_eq!(ask(&mut waiter, "SELECT 1").await, "1");
    });
}

#[test]
fn statements_of_one_client_are_bounded_and_refused_beyond() {
    test(async {
        let settings = [("limits.prepared_statements", "10")];
        let router = narrow(&settings).await;
        let mut raw = router.raw().await;
        let mut refused = None;
        for number in 0..12 {
            let tuples: Vec<String> = (2..502).map(|at| (at + number).to_string()).collect();
            let script = format!("P s{number}|SELECT 1 WHERE 1 IN ({})\nS", tuples.join(","));
            let answer = play(&mut raw, &script).await;
            if tags(&answer) != "1Z" {
                refused.get_or_insert(number);
            }
        }
        assert_eq!(refused, Some(10));
        assert_eq!(tags(&play(&mut raw, "B |s0\nE |0\nS").await), "2CZ");
    });
}

#[test]
fn what_the_page_about_compatibility_promises_is_kept() {
    const PAGE: &str = include_str!("../docs/compatibility.md");
    test(async {
        let lab = shared().await;
        let router = narrow(&[]).await;
        let blocks: Vec<&str> = PAGE.split("```sql\n").skip(1).collect();
        assert!(!blocks.is_empty());
        for block in blocks {
            let block = block.split("```").next().unwrap();
            let lines: Vec<&str> = block.lines().filter(|line| !line.is_empty()).collect();
            let address = lab.cluster.address(0).unwrap();
            let mut direct = Raw::log_in(address, SUPERUSER, DATABASE).await;
            let mut expected = Vec::new();
            for line in &lines {
                expected.push(shown(&direct.query(line).await));
            }
            direct.query("DISCARD ALL").await;
            let mut through = router.raw().await;
            for (line, expected) in lines.iter().zip(expected) {
                assert_eq!(shown(&through.query(line).await), expected, "{line}");
            }
        }
    });
}

/// The tags of an answer and its rows.
fn shown(answer: &[Message]) -> (String, Vec<Vec<String>>) {
    let rows = answer.iter().filter(|message| message.tag == b'D');
    (tags(answer), rows.map(Message::columns).collect())
}

// State of a session.

#[test]
fn a_read_only_default_of_one_session_is_not_the_others() {
    test(async {
        let router = narrow(&[]).await;
        let (mut one, mut two) = (router.raw().await, router.raw().await);
        two.query("CREATE TABLE hazard_read_only(n int)").await;
        one.query("SET default_transaction_read_only = on").await;
        assert_eq!(
            ask(&mut one, "SHOW default_transaction_read_only").await,
            "on"
        );
        let deleted = two.query("DELETE FROM hazard_read_only").await;
        assert_eq!(tags(&deleted), "CZ", "{deleted:?}");
        let refused = one.query("DELETE FROM hazard_read_only").await;
        assert_eq!(fields(&refused)[&'C'], "25006");
    });
}

#[test]
fn a_setting_is_taken_along_and_not_refused() {
    test(async {
        let router = narrow(&[]).await;
        let (mut one, mut two) = (router.raw().await, router.raw().await);
        assert_eq!(
            tags(&one.query("SET statement_timeout = '61s'").await),
            "CZ"
        );
        two.query("SELECT 1").await;
        assert_eq!(ask(&mut one, "SHOW statement_timeout").await, "61s");
    });
}

#[test]
fn a_setting_made_in_a_transaction_does_not_leak_and_a_reset_undone_is_undone() {
    test(async {
        let router = narrow(&[]).await;
        let (mut one, mut two) = (router.raw().await, router.raw().await);
        for text in [
            "BEGIN",
            "SELECT 1",
            "SET lock_timeout = '62s'",
            "COMMIT",
            "BEGIN",
            "RESET lock_timeout",
            "ROLLBACK",
        ] {
            one.query(text).await;
        }
        assert_eq!(ask(&mut two, "SHOW lock_timeout").await, "0");
        assert_eq!(ask(&mut one, "SHOW lock_timeout").await, "62s");
    });
}

#[test]
fn set_config_is_seen_in_each_way_of_writing_it() {
    test(async {
        for script in [
            "Q SELECT set_config('work_mem', '7MB', false)",
            "Q SELECT pg_catalog.SET_CONFIG('work_mem', '7MB', false)",
            "P |SELECT \"set_config\"($1, $2, false)\nB ||work_mem|7MB\nE |0\nS",
            "Q DO $$ BEGIN PERFORM set_config('work_mem', '7MB', false); END $$",
        ] {
            let router = narrow(&[]).await;
            let mut one = router.raw().await;
            play(&mut one, script).await;
            assert_eq!(ask(&mut one, "SHOW work_mem").await, "7MB", "{script}");
            drop(one);
            let next = ask(&mut router.raw().await, "SHOW work_mem").await;
            assert_eq!(next, "4MB", "leaked by {script}");
        }
    });
}

#[test]
fn reset_goes_back_to_what_the_session_was_started_with() {
    test(async {
        let router = narrow(&[]).await;
        let mut raw = Raw::connect(router.address).await;
        let names = [
            ("user", SUPERUSER),
            ("database", DATABASE),
            ("options", "-c lock_timeout=63s"),
        ];
        raw.start(0, &names).await;
        raw.until_ready().await;
        assert_eq!(ask(&mut raw, "SHOW lock_timeout").await, "63s");
        raw.query("SET lock_timeout = '1s'").await;
        for reset in ["RESET lock_timeout", "RESET ALL", "DISCARD ALL"] {
            raw.query(reset).await;
            assert_eq!(ask(&mut raw, "SHOW lock_timeout").await, "63s", "{reset}");
        }
    });
}

#[test]
fn a_setting_that_is_wrong_is_refused_at_once_and_changes_nothing() {
    test(async {
        let router = narrow(&[]).await;
        let mut raw = router.raw().await;
        for text in ["SET work_mem = 'much'", "SET no_such_setting = 1"] {
            let code = fields(&raw.query(text).await)[&'C'].clone();
            assert!(
                ["22023", "42704"].contains(&code.as_str()),
                "{text}: {code}"
            );
            assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
        }
    });
}

#[test]
fn a_list_stays_a_list() {
    test(async {
        let router = narrow(&[]).await;
        let (mut one, mut two) = (router.raw().await, router.raw().await);
        one.query("SET search_path = pg_catalog, public").await;
        two.query("SELECT 1").await;
        let schemas = ask(&mut one, "SELECT current_schemas(false)::text").await;
        assert_eq!(schemas, "{pg_catalog,public}");
    });
}

#[test]
fn nobody_finds_anothers_temporary_table() {
    test(async {
        let router = narrow(&[]).await;
        let mut one = router.raw().await;
        one.query("CREATE TEMP TABLE hazard_temp(n int)").await;
        drop(one);
        let mut two = router.raw().await;
        let look = "SELECT to_regclass('hazard_temp') IS NULL AND to_regclass('pg_temp.hazard_temp') IS NULL";
        assert_eq!(ask(&mut two, look).await, "t");
        let create = two.query("CREATE TEMP TABLE hazard_temp(n int)").await;
        assert_eq!(tags(&create), "CZ", "{create:?}");
    });
}

#[test]
fn an_advisory_lock_ends_with_its_session() {
    test(async {
        let lab = shared().await;
        let router = narrow(&[]).await;
        let mut one = router.raw().await;
        one.query("SELECT pg_advisory_lock(4712)").await;
        drop(one);
        let mut direct = Raw::log_in(lab.cluster.address(0).unwrap(), SUPERUSER, DATABASE).await;
        wait_until("the lock is free", Duration::from_secs(10), async || {
            ask(&mut direct, "SELECT pg_try_advisory_xact_lock(4712)").await == "t"
        })
        .await;
    });
}

#[test]
fn an_advisory_lock_of_a_transaction_does_not_pin() {
    test(async {
        let client = shared().await.router.connect().await;
        for text in ["BEGIN", "SELECT pg_advisory_xact_lock(4713)", "COMMIT"] {
            client.batch_execute(text).await.unwrap();
        }
        assert_eq!(value(&client, "SHOW pgherd.pinned").await, "");
    });
}

#[test]
fn a_transaction_touches_no_server_that_does_not_serve_it() {
    test(async {
        let router = narrow(&[]).await;
        let client = router.connect().await;
        for text in ["BEGIN", "SET LOCAL work_mem = '6MB'", "COMMIT"] {
            client.batch_execute(text).await.unwrap();
        }
        let servers = router.console("SHOW SERVERS WHERE database = 'app'").await;
        assert!(servers.len() <= 1, "{servers:?}");
        assert_eq!(rows(&client, "SELECT 1").await.len(), 1);
    });
}

#[test]
fn a_pipeline_is_one_transaction_and_no_part_of_it_is_committed_early() {
    test(async {
        let router = narrow(&[]).await;
        let mut raw = router.raw().await;
        raw.query("CREATE TABLE hazard_pipeline(n int)").await;
        let script = "P |INSERT INTO hazard_pipeline VALUES (1)\nB |\nE |0\n\
            P |SET lock_timeout = '64s'\nB |\nE |0\n\
            P |SELECT 1/0\nB |\nE |0\nS";
        let answer = play(&mut raw, script).await;
        assert_eq!(fields(&answer)[&'C'], "22012");
        assert_eq!(
            ask(&mut raw, "SELECT count(*) FROM hazard_pipeline").await,
            "0"
        );
        assert_eq!(ask(&mut raw, "SHOW lock_timeout").await, "0");
    });
}
