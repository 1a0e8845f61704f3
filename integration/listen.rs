//! LISTEN through the listener that all sessions of a database share.

use std::collections::BTreeSet;
use std::time::Duration;

use pgherd::local::{DATABASE, Options, SUPERUSER};
use tokio_postgres::Client;

use crate::support::{
    Listener, Message, Raw, Router, fields, psql, shared, start, tags, test, test_alone, value,
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A router with one connection for each server, so that who holds one is in everybody's way.
async fn one_connection() -> Router {
    Router::start(&shared().await.cluster, &[("cluster.test.pool.size", "1")]).await
}

/// The connections that listen.
async fn listening(router: &Router) -> usize {
    let servers = router.console("SHOW SERVERS WHERE state = 'listening'");
    servers.await.len()
}

/// The next notification: its channel and its payload. Nothing else may come.
async fn heard(raw: &mut Raw) -> (String, String) {
    let message = raw.next().await;
    assert_eq!(char::from(message.tag), 'A', "{message:?}");
    channel_and_payload(&message)
}

fn channel_and_payload(message: &Message) -> (String, String) {
    let text = String::from_utf8_lossy(&message.body[4..]).into_owned();
    let mut parts = text.split('\0').map(str::to_owned);
    (parts.next().unwrap(), parts.next().unwrap())
}

fn news(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

/// Waits until all of these were told, and nothing else.
async fn told(listener: &Listener, wanted: &[&str]) {
    let mut all = Vec::new();
    wait_until("it is told", LIMIT, async || {
        all.extend(listener.told());
        all.len() >= wanted.len()
    })
    .await;
    assert_eq!(all, wanted);
}

async fn run(client: &Client, text: &str) {
    let done = client.batch_execute(text).await;
    done.unwrap_or_else(|error| panic!("{text}: {error:?}"));
}

#[test]
fn sessions_that_listen_hold_no_connection_and_share_one_that_does() {
    test(async {
        let router = one_connection().await;
        let (mut ann, mut bob) = (router.raw().await, router.raw().await);
        let other = router.connect().await;
        for raw in [&mut ann, &mut bob] {
            assert_eq!(tags(&raw.query("LISTEN shared_news").await), "CZ");
        }
        assert_eq!(listening(&router).await, 1);
        let shown = router.console("SHOW CHANNELS").await;
        let told = ["database", "channel", "sessions"].map(|name| &*shown[0][name]);
        assert_eq!((shown.len(), told), (1, [DATABASE, "shared_news", "2"]));
        run(&other, "NOTIFY shared_news, 'one'").await;
        for raw in [&mut ann, &mut bob] {
            assert_eq!(heard(raw).await, news("shared_news", "one"));
            let pinned = raw.query("SHOW pgherd.pinned").await;
            assert_eq!(pinned[1].columns(), [""]);
        }
        assert_eq!(tags(&bob.query("UNLISTEN shared_news").await), "CZ");
        run(&other, "NOTIFY shared_news, 'two'").await;
        assert_eq!(heard(&mut ann).await, news("shared_news", "two"));
        assert_eq!(tags(&bob.query("SELECT 1").await), "TDCZ");
        drop(ann);
        wait_until("the connection ends with the last", LIMIT, async || {
            listening(&router).await == 0
        })
        .await;
        // And it comes again.
        assert_eq!(tags(&bob.query("LISTEN shared_news").await), "CZ");
        run(&other, "SELECT pg_notify('shared_news', 'three')").await;
        assert_eq!(heard(&mut bob).await, news("shared_news", "three"));
    });
}

#[test]
fn what_is_notified_behind_the_answer_to_a_listen_is_heard() {
    test(async {
        let router = &shared().await.router;
        let notifier = router.connect().await;
        let mut raw = router.raw().await;
        for round in 0..50 {
            let channel = format!("round_{round}");
            assert_eq!(tags(&raw.query(&format!("LISTEN {channel}")).await), "CZ");
            run(&notifier, &format!("NOTIFY {channel}, 'x'")).await;
            assert_eq!(heard(&mut raw).await, news(&channel, "x"));
        }
    });
}

#[test]
fn a_listen_counts_with_its_transaction_and_its_savepoint() {
    test(async {
        let router = &shared().await.router;
        let notifier = router.connect().await;
        let mut raw = router.raw().await;
        for text in ["BEGIN", "LISTEN tx_kept", "SAVEPOINT s", "LISTEN tx_gone"] {
            raw.query(text).await;
        }
        for text in ["ROLLBACK TO s", "COMMIT", "BEGIN", "UNLISTEN *"] {
            raw.query(text).await;
        }
        raw.query("LISTEN tx_undone").await;
        run(&notifier, "NOTIFY tx_kept, '1'").await;
        // In a transaction nothing is told, and the answer comes without it.
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
        raw.query("ROLLBACK").await;
        assert_eq!(heard(&mut raw).await, news("tx_kept", "1"));
        run(
            &notifier,
            "NOTIFY tx_gone; NOTIFY tx_undone; NOTIFY tx_kept, '2'",
        )
        .await;
        assert_eq!(heard(&mut raw).await, news("tx_kept", "2"));
        assert_eq!(tags(&raw.query("DISCARD ALL").await), "CZ");
        run(&notifier, "NOTIFY tx_kept").await;
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn names_mean_what_they_mean_to_the_server() {
    test(async {
        let router = &shared().await.router;
        let notifier = router.connect().await;
        let mut raw = router.raw().await;
        raw.query("LISTEN Names_Folded; LISTEN \"Names \"\"Quoted\"\"\"")
            .await;
        run(&notifier, "NOTIFY NAMES_folded").await;
        assert_eq!(heard(&mut raw).await, news("names_folded", ""));
        run(&notifier, "NOTIFY \"Names \"\"Quoted\"\"\", 'ü'").await;
        assert_eq!(heard(&mut raw).await, news("Names \"Quoted\"", "ü"));
        let long = "ä".repeat(40);
        let direct = shared().await.cluster.address(0).unwrap();
        let mut direct =
            Raw::log_in(direct.to_string().parse().unwrap(), SUPERUSER, DATABASE).await;
        for text in [
            format!("LISTEN \"{long}\""),
            "LISTEN \"\"".to_owned(),
            "LISTEN".to_owned(),
        ] {
            let (here, there) = (raw.query(&text).await, direct.query(&text).await);
            assert_eq!(tags(&here), tags(&there), "{text}");
            let words = |messages: &[Message]| {
                let told = messages
                    .iter()
                    .filter(|message| matches!(message.tag, b'N' | b'E'));
                let told = told.map(|message| message.fields());
                told.map(|it| (it[&'C'].clone(), it[&'M'].clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&here), words(&there), "{text}");
        }
        run(&notifier, &format!("NOTIFY \"{}\"", "ä".repeat(31))).await;
        assert_eq!(heard(&mut raw).await, news(&"ä".repeat(31), ""));
    });
}

#[test]
fn ordinary_clients_listen() {
    test(async {
        let router = &shared().await.router;
        let listener = router.listener().await;
        run(&listener.client, "LISTEN clients_a; LISTEN clients_b").await;
        let prepared = listener.client.prepare("LISTEN clients_c").await.unwrap();
        listener.client.execute(&prepared, &[]).await.unwrap();
        let notifier = router.connect().await;
        let payload = "x".repeat(7999);
        run(&notifier, "NOTIFY clients_a, '1'; NOTIFY clients_b, '2'").await;
        run(&notifier, &format!("NOTIFY clients_c, '{payload}'")).await;
        let long = format!("clients_c={payload}");
        told(&listener, &["clients_a=1", "clients_b=2", &long]).await;
        let query = "LISTEN clients_psql; NOTIFY clients_psql, 'own'; SELECT pg_sleep(0.1)";
        let options = format!("user={SUPERUSER} dbname={DATABASE}");
        let printed = psql(router.address, &options, query).await.unwrap();
        assert!(
            printed.contains("\"clients_psql\" with payload \"own\""),
            "{printed}"
        );
    });
}

/// The process that a notification names.
fn sender(message: &Message) -> u32 {
    u32::from_be_bytes(message.body[..4].try_into().unwrap())
}

#[test]
fn its_own_notifications_come_with_the_statement_and_by_its_own_number() {
    test(async {
        let router = &shared().await.router;
        let (mut ann, mut bob) = (router.raw().await, router.raw().await);
        let own = ann.key.as_ref().unwrap().pid;
        ann.query("LISTEN own_news").await;
        for round in 0..30 {
            // On whichever connection the other has just had.
            bob.query("NOTIFY own_news, 'other'").await;
            let query = match round % 3 {
                0 => "NOTIFY own_news, 'own'",
                1 => "SELECT pg_notify('own_news', 'own')",
                _ => "BEGIN; NOTIFY own_news, 'own'; COMMIT",
            };
            let mut answer = ann.query(query).await;
            answer.retain(|message| message.tag == b'A');
            let heard: Vec<_> = answer
                .iter()
                .map(|message| (channel_and_payload(message).1, sender(message) == own))
                .collect();
            // What the other sent may have come before, or may be in front of it.
            let other = |it: &(String, bool)| *it == ("other".to_owned(), false);
            let mine = |it: &(String, bool)| *it == ("own".to_owned(), true);
            assert!(heard.last().is_some_and(mine), "{round}: {heard:?}");
            assert!(
                heard[..heard.len() - 1].iter().all(other),
                "{round}: {heard:?}"
            );
        }
        let mut lone = router.raw().await;
        let own = lone.key.as_ref().unwrap().pid;
        // On a connection of its own as well.
        lone.query("CREATE TEMP TABLE own_mine(n int)").await;
        lone.query("LISTEN own_news").await;
        let answer = lone.query("NOTIFY own_news, 'own'").await;
        assert_eq!(tags(&answer), "CAZ");
        assert_eq!(sender(&answer[1]), own);
    });
}

#[test]
fn a_session_that_is_pinned_hears_each_notification_once() {
    test(async {
        let router = &shared().await.router;
        let notifier = router.connect().await;
        let mut raw = router.raw().await;
        raw.query("LISTEN pinned_a").await;
        raw.query("CREATE TEMP TABLE pinned_mine(n int)").await;
        raw.query("SELECT 1; LISTEN pinned_a; LISTEN pinned_b")
            .await;
        run(&notifier, "NOTIFY pinned_a, '1'; NOTIFY pinned_b, '2'").await;
        let both = BTreeSet::from([heard(&mut raw).await, heard(&mut raw).await]);
        assert_eq!(
            both,
            BTreeSet::from([news("pinned_a", "1"), news("pinned_b", "2")])
        );
        raw.query("UNLISTEN *").await;
        run(&notifier, "NOTIFY pinned_a; NOTIFY pinned_b").await;
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
        assert!(raw.is_silent().await);
    });
}

#[test]
fn a_client_that_does_not_take_its_notifications_loses_them_alone_and_is_told() {
    test(async {
        let settings = [("limits.notifications", "64kB")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let (mut slow, mut quick) = (router.raw().await, router.raw().await);
        let notifier = router.connect().await;
        for raw in [&mut slow, &mut quick] {
            raw.query("LISTEN slow_news").await;
        }
        // In a transaction nothing is taken.
        slow.query("BEGIN").await;
        let payload = "x".repeat(7000);
        for round in 0..20 {
            run(&notifier, &format!("NOTIFY slow_news, '{round}{payload}'")).await;
            assert_eq!(heard(&mut quick).await.1, format!("{round}{payload}"));
        }
        slow.query("COMMIT").await;
        let mut kept = 0;
        let warning = loop {
            let message = slow.next().await;
            match message.tag {
                b'A' => kept += 1,
                _ => break message,
            }
        };
        assert_eq!(char::from(warning.tag), 'N');
        let told = warning.fields();
        assert_eq!(
            (&*told[&'S'], &*told[&'C']),
            ("WARNING", "01000"),
            "{told:?}"
        );
        assert!(
            told[&'D'].starts_with(&format!("{} came", 20 - kept)),
            "{kept}: {told:?}"
        );
        assert!((1..20).contains(&kept), "{kept}");
        // From here on nothing is missing.
        run(&notifier, "NOTIFY slow_news, 'again'").await;
        assert_eq!(heard(&mut slow).await, news("slow_news", "again"));
    });
}

#[test]
fn too_many_channels_are_refused() {
    test(async {
        let router = Router::start(&shared().await.cluster, &[("limits.channels", "2")]).await;
        let mut raw = router.raw().await;
        assert_eq!(
            tags(&raw.query("LISTEN many_a; LISTEN many_b").await),
            "CCZ"
        );
        let answer = raw.query("LISTEN many_c").await;
        assert_eq!(fields(&answer)[&'C'], "53400");
        assert_eq!(tags(&raw.query("UNLISTEN many_a").await), "CZ");
        assert_eq!(tags(&raw.query("LISTEN many_c").await), "CZ");
    });
}

#[test]
fn a_listener_whose_connection_is_lost_says_so_and_goes_on() {
    test(async {
        let router = Router::start(&shared().await.cluster, &[]).await;
        let listener = router.listener().await;
        run(&listener.client, "LISTEN lost_news").await;
        let notifier = router.connect().await;
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'pgherd listener' AND query LIKE '%lost_news%'";
        assert_eq!(
            value(&notifier, &format!("BEGIN; {end}; COMMIT")).await,
            "1"
        );
        told(&listener, &["notifications may have been missed"]).await;
        run(&notifier, "NOTIFY lost_news, 'there'").await;
        told(&listener, &["lost_news=there"]).await;
        assert_eq!(value(&listener.client, "SHOW pgherd.pinned").await, "");
    });
}

#[test]
fn sessions_go_on_listening_at_the_primary_that_was_promoted() {
    test_alone(async {
        let cluster = start(Options::for_tests()).await;
        let directory = cluster.directory().join("state");
        let settings = [
            ("cluster.test.failover.mode", "auto"),
            ("cluster.test.failover.max_lost_bytes", "16MB"),
            ("state.dir", directory.to_str().unwrap()),
        ];
        let router = Router::start(&cluster, &settings).await;
        let mut listeners = Vec::new();
        for _ in 0..5 {
            let listener = router.listener().await;
            run(&listener.client, "LISTEN failover_news").await;
            listeners.push(listener);
        }
        let notifier = router.connect().await;
        run(&notifier, "NOTIFY failover_news, 'before'").await;
        for listener in &listeners {
            told(listener, &["failover_news=before"]).await;
        }
        cluster.kill9(0).await.unwrap();
        // Held until there is a primary, and answered when it is listened to there.
        let late = router.listener().await;
        run(&late.client, "LISTEN failover_news").await;
        run(&notifier, "NOTIFY failover_news, 'after'").await;
        for listener in &listeners {
            let missed = "notifications may have been missed";
            told(listener, &[missed, "failover_news=after"]).await;
        }
        told(&late, &["failover_news=after"]).await;
        assert_eq!(listening(&router).await, 1);
    });
}
