//! The order in which the drivers of PostgreSQL send their messages.
//!
//! What a driver sends is in a file of its own, as [`play`] reads it; it is played on a direct
//! connection and through the router, and every answer has to be the same, byte for byte. So no
//! driver need be installed, and none is left out.

use std::collections::BTreeMap;

use pgherd::local::{DATABASE, SUPERUSER};
use tokio::sync::OnceCell;

use crate::support::{Message, Raw, Router, play, shared, tags, test};

/// A table that all scripts use; each finds it as if nobody had been there.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS";

/// Plays the conversation of a driver: on a direct connection, through a router that splits, and
/// through one with all reads on the primary and one connection for both of two sessions.
fn compare(driver: &'static str, script: &'static str) {
    test(async move {
        let lab = shared().await;
        let table = format!("driven_by_{driver}");
        let mut direct = Raw::log_in(lab.cluster.address(0).unwrap(), SUPERUSER, DATABASE).await;
        let make = format!("{TABLE} {table} (n int PRIMARY KEY, t text)");
        assert_eq!(tags(&direct.query(&make).await), "CZ");
        let script = script.replace("driven", &table);
        let reset = format!(
            "TRUNCATE {table}; INSERT INTO {table} SELECT g, 'row ' || g FROM generate_series(1, 20) g"
        );
        direct.query(&reset).await;
        let expected = play(&mut direct, &script).await;
        for router in [&lab.router, narrow().await] {
            for _ in 0..2 {
                let mut through = router.raw().await;
                through.query(&reset).await;
                let answers = play(&mut through, &script).await;
                for (at, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
                    let so_far = tags(&answers[..=at]);
                    assert_eq!(told(answer), told(expected), "{driver}, after {so_far}");
                }
                assert_eq!(tags(&answers), tags(&expected), "{driver}");
            }
        }
    });
}

/// A message as it is compared. Of an error it is not where in PostgreSQL's sources it was raised:
/// that is another place when the statement had to be prepared on this connection first.
fn told(message: &Message) -> (u8, Vec<u8>, BTreeMap<char, String>) {
    if message.tag != b'E' {
        return (message.tag, message.body.clone(), BTreeMap::new());
    }
    let mut fields = message.fields();
    fields.retain(|field, _text| !"FLR".contains(*field));
    (message.tag, Vec::new(), fields)
}

/// A router with one connection to each server, so that sessions find what others left.
async fn narrow() -> &'static Router {
    static ROUTER: OnceCell<Router> = OnceCell::const_new();
    let settings = [
        ("cluster.test.pool.size", "1"),
        ("cluster.test.route.reads", "primary_only"),
    ];
    ROUTER
        .get_or_init(async || Router::start(&shared().await.cluster, &settings).await)
        .await
}

macro_rules! drivers {
    ($($name:ident: $driver:literal,)*) => {$(
        #[test]
        fn $name() {
            compare($driver, include_str!(concat!($driver, ".txt")));
        }
    )*};
}

drivers! {
    asyncpg_flushes_before_it_syncs: "asyncpg",
    go_pq_describes_before_it_binds: "go_pq",
    node_postgres_names_statements_and_reads_cursors: "node_postgres",
    npgsql_resets_in_front_of_the_next_command: "npgsql",
    pdo_deallocates_by_sql: "pdo",
    pgbench_prepares_each_command_of_a_script: "pgbench",
    pgjdbc_names_a_statement_when_it_is_used_often: "pgjdbc",
    pgx_describes_once_and_binds_from_its_cache: "pgx",
    psycopg2_speaks_simple_queries: "psycopg2",
    psycopg_pipelines: "psycopg",
    sqlx_closes_each_portal: "sqlx",
    tokio_postgres_prepares_before_it_executes: "tokio_postgres",
}
