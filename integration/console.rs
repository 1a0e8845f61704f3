//! The console and the pages by HTTP.

use pgherd::local::{DEMO_ROLE, SUPERUSER};
use tokio_postgres::Client;

use crate::support::{rows, shared, test, value};

async fn console() -> Client {
    let router = &shared().await.router;
    router.connect_as(SUPERUSER, "", "pgherd").await.unwrap()
}

#[test]
fn all_views_answer_in_both_protocols_with_the_same_columns() {
    test(async {
        let client = console().await;
        let session = shared().await.router.connect().await;
        session.batch_execute("BEGIN; SELECT 1").await.unwrap();
        for view in [
            "NODES",
            "POOLS",
            "CLIENTS",
            "SERVERS",
            "ROUTING",
            "FAILOVERS",
            "CONFIG",
            "STATS",
            "DATABASES",
            "LISTS",
            "VERSION",
            "EVENTS",
        ] {
            let command = format!("SHOW {view}");
            let simple = rows(&client, &command).await;
            let prepared = client.prepare(&command).await;
            let prepared = prepared.unwrap_or_else(|error| panic!("{command}: {error:?}"));
            let extended = client.query(&prepared, &[]).await.unwrap();
            let names: Vec<&str> = prepared
                .columns()
                .iter()
                .map(|column| column.name())
                .collect();
            assert!(!names.is_empty(), "{command}");
            if let Some(row) = simple.first() {
                assert_eq!(row.len(), names.len(), "{command}");
                assert!(
                    names.iter().all(|name| row.contains_key(*name)),
                    "{command}: {names:?}"
                );
            }
            if view != "FAILOVERS" && view != "EVENTS" {
                assert!(
                    !simple.is_empty() && !extended.is_empty(),
                    "{command} is empty"
                );
            }
        }
    });
}

#[test]
fn show_nodes_tells_who_is_the_primary() {
    test(async {
        let client = console().await;
        let nodes = rows(&client, "SHOW NODES ORDER BY node").await;
        let told: Vec<_> = nodes
            .iter()
            .map(|row| {
                (
                    row["node"].as_str(),
                    row["role"].as_str(),
                    row["state"].as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("node1", "primary", "primary"),
                ("node2", "replica", "serving"),
                ("node3", "replica", "serving"),
            ]
        );
    });
}

#[test]
fn show_config_tells_each_value_and_where_it_comes_from() {
    test(async {
        let client = console().await;
        let rows = rows(&client, "SHOW CONFIG WHERE key = 'auth.method'").await;
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0]["value"].as_str(), rows[0]["default"].as_str()),
            ("trust", "lookup")
        );
    });
}

#[test]
fn a_command_that_is_wrong_is_an_error_and_the_session_goes_on() {
    test(async {
        let client = console().await;
        for command in ["SHOW nothing", "FROBNICATE", "SHOW NODES WHERE"] {
            let error = client.simple_query(command).await.unwrap_err();
            assert!(error.as_db_error().is_some(), "{command}: {error:?}");
        }
        assert_eq!(value(&client, "SELECT 1").await, "1");
    });
}

#[test]
fn a_user_that_is_not_named_may_not_enter_the_console() {
    test(async {
        let router = &shared().await.router;
        let error = router
            .connect_as(DEMO_ROLE, "x", "pgherd")
            .await
            .err()
            .unwrap();
        assert!(error.as_db_error().is_some(), "{error:?}");
    });
}

#[test]
fn http_answers_liveness_readiness_metrics_and_status() {
    test(async {
        let router = &shared().await.router;
        router
            .connect()
            .await
            .batch_execute("SELECT 1")
            .await
            .unwrap();
        assert_eq!(router.get("/livez").await.0, 200);
        assert_eq!(router.get("/readyz").await.0, 200);
        let (status, metrics) = router.get("/metrics").await;
        assert_eq!(status, 200);
        assert!(metrics.contains("# TYPE pgherd_"), "{metrics}");
        assert!(metrics.contains("read_only"), "{metrics}");
        assert_eq!(router.get("/").await.0, 200);
        assert_eq!(router.get("/no_such_page").await.0, 404);
    });
}
