//! A new configuration in a running router.

use pgherd::app::{App, ConfigSource};
use pgherd::config::{Environment, load_text};

use crate::support::{Listener, Router, config_text, shared, test, value};

/// A router that reads a file, and the file.
async fn with_file(name: &str) -> (Router, std::path::PathBuf, String) {
    let cluster = &shared().await.cluster;
    let text = config_text(cluster);
    let path = cluster.directory().join(name);
    std::fs::write(&path, &text).unwrap();
    let environment = Environment::from_pairs([]);
    let (config, _) = load_text(path.to_str().unwrap(), &text, &environment).unwrap();
    let source = ConfigSource::File {
        path: Some(path.clone()),
        environment,
    };
    let router = Router::from(App::start(config, source).await.unwrap());
    assert!(
        router
            .app
            .wait_ready(std::time::Duration::from_secs(30))
            .await
    );
    (router, path, text)
}

#[test]
fn reload_puts_a_changed_file_in_force_for_sessions_that_are_there() {
    test(async {
        let (router, path, text) = with_file("reload.toml").await;
        let client = router.connect().await;
        client.batch_execute("SELECT 1").await.unwrap();
        let changed = format!("{text}[cluster.test.route]\nreads = \"primary_only\"\n");
        std::fs::write(&path, changed).unwrap();
        router.console("RELOAD").await;
        for _ in 0..10 {
            client.batch_execute("SELECT 1").await.unwrap();
            assert_eq!(value(&client, "SHOW pgherd.node").await, "node1");
        }
        let config = router
            .console("SHOW CONFIG WHERE key = 'cluster.test.route.reads'")
            .await;
        assert_eq!(config[0]["value"], "primary_only");
    });
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_all_mistakes_are_told() {
    test(async {
        let (router, path, text) = with_file("bad.toml").await;
        let changed =
            format!("{text}[cluster.test.pool]\nsize = 0\n[cluster.test.lag]\nmax_tim = 5\n");
        std::fs::write(&path, changed).unwrap();
        let console = router.connect_as("postgres", "", "pgherd").await.unwrap();
        let error = console.simple_query("RELOAD").await.unwrap_err();
        let error = format!("{:?}", error.as_db_error().unwrap());
        assert!(
            error.contains("size") && error.contains("max_tim"),
            "{error}"
        );
        let config = router
            .console("SHOW CONFIG WHERE key = 'cluster.test.pool.size'")
            .await;
        assert_eq!(config[0]["value"], "20");
        let client = router.connect().await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
    });
}

#[test]
fn reload_works_in_the_extended_protocol() {
    test(async {
        let (router, _path, _text) = with_file("extended.toml").await;
        let console = router.connect_as("postgres", "", "pgherd").await.unwrap();
        console.execute("RELOAD", &[]).await.unwrap();
    });
}

#[test]
fn a_reload_says_what_changed_from_what_to_what_and_what_waits_for_a_restart() {
    test(async {
        let (router, path, text) = with_file("says.toml").await;
        let console = Listener::connect(router.address, "postgres", "", "pgherd").await;
        let console = console.unwrap();
        let reload = async |changes: &str| {
            std::fs::write(&path, format!("{text}{changes}")).unwrap();
            console.client.batch_execute("RELOAD").await.unwrap();
            console.told()
        };
        let changed =
            "[cluster.test.pool]\nsize = 7\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
        let size = "cluster.test.pool.size: 20 -> 7";
        let format = "log.format: auto -> json (after a restart)";
        let told = reload(changed).await;
        assert!(told.iter().any(|line| line == size), "{told:?}");
        assert!(told.iter().any(|line| line == format), "{told:?}");
        // What is in force is not told again, what is not in force is.
        let told = reload(changed).await;
        assert!(!told.iter().any(|line| line == size), "{told:?}");
        assert!(told.iter().any(|line| line == format), "{told:?}");
        let row = "SHOW CONFIG WHERE key = 'log.format'";
        assert_eq!(router.console(row).await[0]["pending_restart"], "t");
        let row = "SHOW CONFIG WHERE key = 'cluster.test.pool.size'";
        assert_eq!(router.console(row).await[0]["pending_restart"], "f");
        // Taken back before the restart: nothing waits any more.
        let told = reload("").await;
        assert!(
            !told.iter().any(|line| line.contains("restart")),
            "{told:?}"
        );
    });
}
