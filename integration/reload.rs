//! A new configuration in a running router.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pgherd::app::{App, ConfigSource};
use pgherd::config::{Environment, load_text};
use rustix::process::{Pid, Signal, kill_process};

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
    assert!(router.app.wait_ready(Duration::from_secs(30)).await);
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

#[test]
fn sighup_changes_the_level_of_the_log_and_is_told_there() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sighup.toml");
    let text = "[listen]\npostgres = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[monitor]\nuser = \"nobody\"\n\
                [auth]\nmethod = \"trust\"\n[cluster.test]\nhosts = [\"127.0.0.1:1\"]\n\
                [log]\nformat = \"json\"\n";
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .args(["run", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // Ends the program, and with it its log, should it never say what is waited for.
    let (over, wait) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        let signal = match wait.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => Signal::TERM,
            Err(_never_said) => Signal::KILL,
        };
        kill_process(pid, signal).unwrap();
    });
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for = |what: &str| {
        let mut lines = lines.by_ref().map(Result::unwrap);
        lines
            .find(|line| line.contains(what))
            .unwrap_or_else(|| panic!("it never said {what}"))
    };
    let line: serde_json::Value = serde_json::from_str(&wait_for("listening for clients")).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    std::fs::write(&file, format!("{text}level = \"debug\"\n")).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let told = wait_for("setting changed");
    assert!(
        told.contains("log.level") && told.contains("\"to\":\"debug\""),
        "{told}"
    );
    wait_for("configuration reloaded");
    drop(std::net::TcpStream::connect(&address).unwrap());
    wait_for("\"level\":\"DEBUG\"");
    over.send(()).unwrap();
    guard.join().unwrap();
    child.wait().unwrap();
}
