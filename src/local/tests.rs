//! Real servers. Without PostgreSQL these fail, with the list of places; `PGHERD_TEST_PG=off` says
//! that this is wanted.

mod with_postgres {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use tokio_postgres::Client;

    use crate::local::{
        Auth, DATABASE, DEMO_PASSWORD, DEMO_ROLE, LocalCluster, LocalError, MONITOR_ROLE, Options,
        Role, StopMode, process,
    };

    /// Whether tests with servers are switched off; says so where the summary is.
    fn is_off() -> bool {
        let off = std::env::var_os("PGHERD_TEST_PG").is_some_and(|value| value == "off");
        if off {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            writeln!(std::io::stderr(), "not run, PGHERD_TEST_PG=off: {name}").unwrap();
        }
        off
    }

    async fn start(replicas: usize) -> LocalCluster {
        let options = Options {
            replicas,
            ..Options::for_tests()
        };
        LocalCluster::start(options)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn count(client: &Client, query: &str) -> i64 {
        client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Asks until the answer fits; a deadline instead of a sleep.
    async fn eventually(client: &Client, query: &str, expected: i64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while count(client, query).await != expected {
            assert!(Instant::now() < deadline, "{query} never became {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_row_of_the_primary_appears_on_both_replicas_and_the_roles_exist() {
        if is_off() {
            return;
        }
        let cluster = start(2).await;
        assert_eq!((cluster.node_count(), cluster.ready_after().len()), (3, 3));
        let primary = cluster
            .connect_as(0, DEMO_ROLE, None, DATABASE)
            .await
            .unwrap();
        primary
            .batch_execute("CREATE TABLE t AS SELECT 42::bigint AS n")
            .await
            .unwrap();
        for index in [1, 2] {
            cluster.wait_until_replayed(index, 0).await.unwrap();
            let replica = cluster
                .connect_as(index, DEMO_ROLE, None, DATABASE)
                .await
                .unwrap();
            assert_eq!(count(&replica, "SELECT n FROM t").await, 42);
        }
        let monitor = cluster
            .connect_as(0, MONITOR_ROLE, None, DATABASE)
            .await
            .unwrap();
        let found =
            "SELECT count(*) FROM pgherd.lookup('demo') WHERE verifier LIKE 'SCRAM-SHA-256$%'";
        assert_eq!(count(&monitor, found).await, 1);
        let names = "SELECT count(*) FROM pg_stat_replication
                     WHERE application_name IN ('node2', 'node3') AND state = 'streaming'";
        assert_eq!(count(&monitor, names).await, 2);
        cluster.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn under_scram_an_application_needs_its_password_and_the_monitor_does_not() {
        if is_off() {
            return;
        }
        let role = Role {
            name: "app user".to_owned(),
            password: Some("it's".to_owned()),
        };
        let options = Options {
            replicas: 0,
            auth: Auth::Scram,
            roles: vec![role],
            settings: vec![("work_mem".to_owned(), "5MB".to_owned())],
            ..Options::for_tests()
        };
        let cluster = LocalCluster::start(options).await.unwrap();
        let enters = async |user, password| {
            cluster
                .connect_as(0, user, password, DATABASE)
                .await
                .is_ok()
        };
        assert!(enters(DEMO_ROLE, Some(DEMO_PASSWORD)).await);
        assert!(enters("app user", Some("it's")).await);
        assert!(enters(MONITOR_ROLE, None).await);
        assert!(!enters(DEMO_ROLE, Some("wrong")).await);
        assert!(!enters(DEMO_ROLE, None).await);
        let client = cluster.connect(0).await.unwrap();
        let memory = "SELECT setting::bigint FROM pg_settings WHERE name = 'work_mem'";
        assert_eq!(count(&client, memory).await, 5120);
    }

    #[tokio::test]
    async fn a_replica_can_be_paused_delayed_cut_off_and_hung_and_recovers_each_time() {
        if is_off() {
            return;
        }
        let cluster = start(1).await;
        let primary = cluster.connect(0).await.unwrap();
        let replica = cluster.connect(1).await.unwrap();
        primary
            .batch_execute("CREATE TABLE t(n int)")
            .await
            .unwrap();
        let rows = "SELECT count(*) FROM t";
        let insert = "INSERT INTO t VALUES (1)";
        cluster.wait_until_replayed(1, 0).await.unwrap();

        cluster.pause_replay(1).await.unwrap();
        primary.batch_execute(insert).await.unwrap();
        eventually(
            &replica,
            "SELECT (pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 0)::int::bigint",
            1,
        )
        .await;
        assert_eq!(count(&replica, rows).await, 0);
        cluster.resume_replay(1).await.unwrap();
        eventually(&replica, rows, 1).await;

        cluster
            .set_apply_delay(1, Some(Duration::from_secs(3600)))
            .await
            .unwrap();
        eventually(
            &replica,
            "SELECT setting::bigint FROM pg_settings WHERE name = 'recovery_min_apply_delay'",
            3_600_000,
        )
        .await;
        primary.batch_execute(insert).await.unwrap();
        eventually(
            &replica,
            "SELECT (pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 0)::int::bigint",
            1,
        )
        .await;
        assert_eq!(count(&replica, rows).await, 1);
        cluster.set_apply_delay(1, None).await.unwrap();
        eventually(&replica, rows, 2).await;

        cluster.cut_off(1).await.unwrap();
        primary.batch_execute(insert).await.unwrap();
        assert_eq!(
            count(&primary, "SELECT count(*) FROM pg_stat_replication").await,
            0
        );
        assert_eq!(count(&replica, rows).await, 2);
        cluster.follow(1, 0).await.unwrap();
        eventually(&replica, rows, 3).await;

        cluster.hang(1).unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(300), count(&replica, rows)).await;
        assert!(answer.is_err(), "a server that hangs answered {answer:?}");
        cluster.thaw(1).unwrap();
        assert_eq!(count(&replica, rows).await, 3);
    }

    #[tokio::test]
    async fn a_killed_primary_comes_back_as_a_primary_or_rejoins_as_a_replica() {
        if is_off() {
            return;
        }
        let cluster = start(2).await;
        let address = cluster.address(0).unwrap();
        let postmaster = cluster.pid(0).unwrap().unwrap();
        cluster.kill9(0).await.unwrap();
        assert!(!process::is_running(postmaster));
        assert_eq!(cluster.pid(0).unwrap(), None);
        cluster.promote(1).await.unwrap();
        cluster.follow(2, 1).await.unwrap();
        let primary = cluster.connect(1).await.unwrap();
        primary
            .batch_execute("CREATE TABLE t AS SELECT 7::bigint AS n")
            .await
            .unwrap();

        cluster.start_node(0).await.unwrap();
        let old = cluster.connect(0).await.unwrap();
        let recovers = "SELECT pg_is_in_recovery()::int::bigint";
        assert_eq!(
            count(&old, recovers).await,
            0,
            "it came back as what it was"
        );
        assert_eq!(cluster.address(0).unwrap(), address);

        cluster.rejoin_as_replica(0, 1).await.unwrap();
        cluster.wait_until_replayed(0, 1).await.unwrap();
        let rejoined = cluster.connect(0).await.unwrap();
        assert_eq!(count(&rejoined, recovers).await, 1);
        assert_eq!(count(&rejoined, "SELECT n FROM t").await, 7);
        assert_eq!(cluster.address(0).unwrap(), address);
    }

    #[tokio::test]
    async fn a_node_that_was_stopped_starts_on_its_port_and_streams_again() {
        if is_off() {
            return;
        }
        let cluster = start(1).await;
        cluster.stop(1, StopMode::Fast).await.unwrap();
        assert!(cluster.connect(1).await.is_err());
        assert!(matches!(
            cluster.hang(1),
            Err(LocalError::NotRunning { .. })
        ));
        cluster.start_node(1).await.unwrap();
        cluster.wait_until_streaming(1).await.unwrap();
    }

    #[tokio::test]
    async fn numbers_that_make_no_sense_are_refused() {
        if is_off() {
            return;
        }
        let cluster = start(0).await;
        assert!(matches!(
            cluster.address(1),
            Err(LocalError::NoSuchNode { index: 1, count: 1 })
        ));
        let itself = cluster.rejoin_as_replica(0, 0).await;
        assert!(matches!(
            itself,
            Err(LocalError::FollowsItself { index: 0 })
        ));
        let itself = cluster.follow(0, 0).await;
        assert!(matches!(
            itself,
            Err(LocalError::FollowsItself { index: 0 })
        ));
    }

    #[tokio::test]
    async fn a_server_that_cannot_start_is_reported_with_its_log_and_leaves_nothing() {
        if is_off() {
            return;
        }
        let options = Options {
            settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
            ..Options::for_tests()
        };
        let error = LocalCluster::start(options).await.unwrap_err();
        assert!(matches!(error, LocalError::ServerStopped { .. }), "{error}");
        assert!(error.to_string().contains("no_such_setting"), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_cluster_leaves_no_process_and_no_file() {
        if is_off() {
            return;
        }
        let cluster = start(1).await;
        let trace = Trace::of(&cluster);
        // One that was killed and one that hangs: both must go.
        cluster.kill9(0).await.unwrap();
        cluster.hang(1).unwrap();
        drop(cluster);
        assert_eq!(trace.left(), Vec::<String>::new());
        let ours = process::children(std::process::id());
        let waited_for = |pid: &u32| !ours.contains(pid);
        assert!(
            trace.postmasters.iter().all(waited_for),
            "zombies in {ours:?}"
        );
    }

    #[tokio::test]
    async fn a_kept_directory_stays_and_must_be_empty_before() {
        if is_off() {
            return;
        }
        let random = u64::from_ne_bytes(crate::clock::random().unwrap());
        let kept = PathBuf::from(format!("/tmp/pgherd-kept-{random:x}"));
        let options = Options {
            replicas: 0,
            keep: Some(kept.clone()),
            ..Options::for_tests()
        };
        let cluster = LocalCluster::start(options.clone()).await.unwrap();
        let sockets = cluster.directory().to_owned();
        cluster.shutdown().await.unwrap();
        assert!(!sockets.exists());
        assert!(kept.join("node1/PG_VERSION").is_file());
        assert!(!kept.join("node1/postmaster.pid").exists());
        let again = LocalCluster::start(options).await.unwrap_err();
        fs::remove_dir_all(&kept).unwrap();
        assert!(matches!(again, LocalError::NotEmpty { .. }), "{again}");
    }

    /// What a cluster consists of on this machine.
    struct Trace {
        directory: PathBuf,
        postmasters: Vec<u32>,
        children: Vec<u32>,
    }

    impl Trace {
        fn of(cluster: &LocalCluster) -> Self {
            let indexes = 0..cluster.node_count();
            let postmasters = indexes
                .filter_map(|index| cluster.pid(index).unwrap())
                .collect();
            Self::new(cluster.directory(), postmasters)
        }

        fn new(directory: &Path, postmasters: Vec<u32>) -> Self {
            let children: Vec<u32> = postmasters
                .iter()
                .flat_map(|pid| process::children(*pid))
                .collect();
            assert!(!postmasters.is_empty() && !children.is_empty() && directory.exists());
            Self {
                directory: directory.to_owned(),
                postmasters,
                children,
            }
        }

        /// What of it is still there, in words.
        fn left(&self) -> Vec<String> {
            let processes = self.postmasters.iter().chain(&self.children);
            let mut left: Vec<String> = processes
                .filter(|pid| process::is_running(**pid))
                .map(|pid| format!("process {pid}"))
                .collect();
            if self.directory.exists() {
                left.push(self.directory.display().to_string());
            }
            left
        }
    }

    const HELPER: &str = "PGHERD_TEST_HELPER_WRITES";

    /// The test runs itself a second time as the owner of a cluster, and kills that owner.
    #[tokio::test]
    async fn when_the_owner_is_killed_its_servers_and_files_go() {
        if is_off() {
            return;
        }
        if let Some(file) = std::env::var_os(HELPER) {
            return own_a_cluster_until_killed(Path::new(&file)).await;
        }
        let random = u64::from_ne_bytes(crate::clock::random().unwrap());
        let file = std::env::temp_dir().join(format!("pgherd-helper-{random:x}"));
        let name = "local::tests::with_postgres::when_the_owner_is_killed_its_servers_and_files_go";
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact"])
            .env(HELPER, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let text = wait_for(&file, || assert_eq!(owner.try_wait().unwrap(), None)).await;
        fs::remove_file(&file).unwrap();
        let mut lines = text.lines();
        let directory = PathBuf::from(lines.next().unwrap());
        let trace = Trace::new(
            &directory,
            lines.map(|line| line.parse().unwrap()).collect(),
        );
        owner.kill().unwrap();
        owner.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !trace.left().is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", trace.left());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn own_a_cluster_until_killed(file: &Path) {
        let cluster = start(1).await;
        let mut text = format!("{}\n", cluster.directory().display());
        for index in 0..2 {
            text += &format!("{}\n", cluster.pid(index).unwrap().unwrap());
        }
        // Renamed into place, so that the reader finds all of it or nothing.
        let unfinished = file.with_extension("new");
        fs::write(&unfinished, text).unwrap();
        fs::rename(&unfinished, file).unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
    }

    async fn wait_for(file: &Path, mut check: impl FnMut()) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(text) = fs::read_to_string(file) {
                return text;
            }
            check();
            assert!(
                Instant::now() < deadline,
                "{} was never written",
                file.display()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
