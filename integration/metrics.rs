//! What is counted of real statements, read from `GET /metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use pgherd::app::{App, ConfigSource};
use pgherd::config::{Environment, load_text};
use pgherd::wire::frontend::{self, NO_TYPES};
use tokio::net::TcpListener;

use crate::support::{Router, config_text, rows, shared, tags, test, value, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// What one page tells, by the name and the labels of each series.
#[derive(Debug)]
struct Page(BTreeMap<String, f64>);

impl Page {
    async fn of(router: &Router) -> Self {
        let (status, text) = router.get("/metrics").await;
        assert_eq!(status, 200);
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let series = series.filter_map(|line| line.rsplit_once(' '));
        Self(
            series
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// The sum of all series of this name that have all these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_meant = |series: &&String| {
            series.split('{').next() == Some(name)
                && labels.iter().all(|label| series.contains(label))
        };
        let meant = self.0.keys().filter(is_meant);
        meant.map(|series| self.0[series]).sum()
    }

    /// How many units of a kind a role has answered.
    fn timed(&self, role: &str, kind: &str) -> f64 {
        let labels = [&*format!("role=\"{role}\""), &*format!("kind=\"{kind}\"")];
        self.sum("pgherd_statement_duration_seconds_count", &labels)
    }

    fn errors(&self, origin: &str, class: &str) -> f64 {
        let labels = [
            &*format!("origin=\"{origin}\""),
            &*format!("sqlstate_class=\"{class}\""),
        ];
        self.sum("pgherd_errors_total", &labels)
    }
}

/// A router whose counters nobody else moves.
async fn router() -> Router {
    Router::start(&shared().await.cluster, &[]).await
}

#[test]
fn each_unit_is_timed_by_where_it_ran_and_what_it_was() {
    test(async {
        let router = router().await;
        let client = router.connect().await;
        let empty = Page::of(&router).await;
        for _ in 0..3 {
            value(&client, "SELECT 1").await;
        }
        client.query("SELECT $1::int", &[&1]).await.unwrap();
        let reads = Page::of(&router).await;
        // One that is prepared by the protocol is a unit, and to run it another.
        assert_eq!(
            reads.timed("replica", "read"),
            empty.timed("replica", "read") + 5.0
        );
        assert_eq!(
            reads.timed("primary", "write"),
            empty.timed("primary", "write")
        );
        value(&client, "SELECT txid_current()").await;
        client
            .batch_execute("BEGIN; SELECT 1; SELECT txid_current()")
            .await
            .unwrap();
        // Nobody could send this one elsewhere.
        value(&client, "SELECT 2").await;
        client.batch_execute("COMMIT").await.unwrap();
        let all = Page::of(&router).await;
        assert_eq!(all.timed("replica", "read"), reads.timed("replica", "read"));
        assert_eq!(
            all.timed("primary", "write"),
            reads.timed("primary", "write") + 4.0
        );
        assert_eq!(all.timed("primary", "read"), 0.0);
    });
}

#[test]
fn the_time_of_a_unit_is_what_its_client_waited_for_it() {
    test(async {
        let settings = [("cluster.test.pool.size", "1")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let (first, second) = (router.connect().await, router.connect().await);
        let sum = "pgherd_statement_duration_seconds_sum";
        let before = Page::of(&router).await.sum(sum, &[]);
        // The second has to wait for the connection of the first.
        let sleep = "SELECT pg_sleep(0.4), txid_current()";
        let begun = std::time::Instant::now();
        let (one, two) = tokio::join!(first.batch_execute(sleep), second.batch_execute(sleep));
        one.and(two).unwrap();
        let most = begun.elapsed().as_secs_f64() * 2.0;
        let took = Page::of(&router).await.sum(sum, &[]) - before;
        assert!((1.2..most).contains(&took), "{took} s, at most {most} s");
    });
}

#[test]
fn reads_that_find_no_replica_are_reads_on_the_primary() {
    test(async {
        let settings = [("cluster.test.route.reads", "primary_only")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let client = router.connect().await;
        for _ in 0..4 {
            value(&client, "SELECT 1").await;
        }
        let page = Page::of(&router).await;
        assert_eq!(page.timed("primary", "read"), 4.0);
        assert_eq!(page.timed("replica", "read"), 0.0);
    });
}

#[test]
fn texts_are_counted_by_whether_they_were_known_and_understood() {
    test(async {
        let router = router().await;
        let client = router.connect().await;
        let counts = async || {
            let page = Page::of(&router).await;
            let of = |what: &str| page.sum(&format!("pgherd_parse_{what}_total"), &[]);
            [of("cache_hits"), of("cache_misses"), of("failures")]
        };
        let [hits, misses, failures] = counts().await;
        rows(&client, "SELECT 1 AS never_before").await;
        assert_eq!(counts().await, [hits, misses + 1.0, failures]);
        for _ in 0..3 {
            rows(&client, "SELECT 1 AS never_before").await;
        }
        // A text of the same shape is known as well.
        rows(&client, "SELECT 2 AS never_before").await;
        assert_eq!(counts().await, [hits + 4.0, misses + 1.0, failures]);
        let statement = client.prepare("SELECT 3 AS never_before").await.unwrap();
        assert_eq!(counts().await, [hits + 5.0, misses + 1.0, failures]);
        // What is prepared needs no text any more.
        client.query(&statement, &[]).await.unwrap();
        assert_eq!(counts().await, [hits + 5.0, misses + 1.0, failures]);
        client.simple_query("SELEC 1").await.unwrap_err();
        assert_eq!(counts().await, [hits + 5.0, misses + 2.0, failures + 1.0]);
    });
}

#[test]
fn an_error_of_a_server_and_one_of_ours_are_told_apart() {
    test(async {
        let router = router().await;
        let client = router.connect().await;
        assert_eq!(Page::of(&router).await.errors("server", "22"), 0.0);
        client.simple_query("SELECT 1/0").await.unwrap_err();
        client.query("SELECT 1/0", &[]).await.unwrap_err();
        client
            .batch_execute("BEGIN; SELECT txid_current(); SELECT 1/0")
            .await
            .unwrap_err();
        client.batch_execute("ROLLBACK").await.unwrap();
        let page = Page::of(&router).await;
        assert_eq!(page.errors("server", "22"), 3.0);
        assert_eq!(page.sum("pgherd_errors_total", &["origin=\"router\""]), 0.0);
        client
            .simple_query("SET pgherd.explain = 'perhaps'")
            .await
            .unwrap_err();
        let page = Page::of(&router).await;
        assert_eq!(page.errors("router", "22"), 1.0);
        assert_eq!(page.errors("server", "22"), 3.0);
    });
}

#[test]
fn an_error_of_ours_in_the_place_of_one_of_a_server_is_ours() {
    test(async {
        let router = router().await;
        let mut raw = router.raw().await;
        let prepare = |out: &mut bytes::BytesMut| {
            frontend::parse(out, b"twice", b"SELECT txid_current()", NO_TYPES);
            frontend::sync(out);
        };
        raw.query("BEGIN").await;
        raw.send(prepare).await;
        assert_eq!(tags(&raw.until_ready().await), "1Z");
        // In a transaction its server has to fail as well.
        raw.send(prepare).await;
        assert_eq!(tags(&raw.until_ready().await), "EZ");
        let page = Page::of(&router).await;
        assert_eq!(page.errors("router", "42"), 1.0);
        assert_eq!(page.sum("pgherd_errors_total", &["origin=\"server\""]), 0.0);
    });
}

#[test]
fn probes_are_timed_and_the_failed_ones_counted_by_cause() {
    test(async {
        // Takes connections, and never says a word.
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = mute.local_addr().unwrap();
        let text = config_text(&shared().await.cluster);
        let text = text.replace("hosts = [", &format!("hosts = [\"mute={address}\", "));
        let environment = Environment::from_pairs([]);
        let (config, _warnings) = load_text("test.toml", &text, &environment).unwrap();
        let router = Router::from(App::start(config, ConfigSource::Fixed).await.unwrap());
        wait_until("each server was asked", LIMIT, async || {
            let page = Page::of(&router).await;
            let asked = |node: &str| {
                let labels = [&*format!("node=\"{node}\"")];
                page.sum("pgherd_probe_duration_seconds_count", &labels) > 1.0
            };
            ["mute", "node1", "node2", "node3"].into_iter().all(asked)
        })
        .await;
        let page = Page::of(&router).await;
        let failures = "pgherd_probe_failures_total";
        assert!(page.sum(failures, &["node=\"mute\"", "cause=\"timed_out\""]) > 1.0);
        assert_eq!(page.sum(failures, &["node=\"node2\""]), 0.0);
    });
}
