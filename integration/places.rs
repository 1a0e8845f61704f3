//! How many may come in, and who may come in when those have.

use std::time::Duration;

use futures_util::future::join_all;
use pgherd::local::{DATABASE, SUPERUSER};

use crate::support::{Raw, Router, fields, shared, test, value, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn of_many_who_come_at_once_exactly_as_many_are_let_in_as_there_are_places() {
    test(async {
        let settings = [("cluster.test.pool.max_clients", "7")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let logins = (0..7).map(|_| router.connect_as(SUPERUSER, "", DATABASE));
        let mut clients = join_all(logins).await;
        clients.pop();
        // One place is free, and some who want it are ahead of the others.
        wait_until("one has left", LIMIT, async || {
            let shown = router.console("SHOW CLIENTS WHERE database = 'app'").await;
            shown.len() == 6
        })
        .await;
        let logins = (0..7).map(|_| router.connect_as(SUPERUSER, "", DATABASE));
        let more = join_all(logins).await;
        assert_eq!(more.iter().filter(|login| login.is_ok()).count(), 1);
        for refused in more.iter().filter_map(|login| login.as_ref().err()) {
            let said = refused.as_db_error().unwrap();
            assert_eq!(said.code().code(), "53300");
            assert_eq!(said.severity(), "FATAL");
            assert_eq!(said.message(), "sorry, too many clients already");
        }
        // The console is for such a moment.
        let shown = router.console("SHOW CLIENTS WHERE database = 'app'").await;
        assert_eq!(shown.len(), 7);
        for client in clients {
            assert_eq!(value(&client.unwrap(), "SELECT 1").await, "1");
        }
    });
}

#[test]
fn the_console_has_places_of_its_own_and_not_more() {
    test(async {
        let settings = [("admin.connections", "2")];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let console = || router.connect_as(SUPERUSER, "", "pgherd");
        let first = console().await.unwrap();
        let _second = console().await.unwrap();
        let refused = console().await.err().unwrap();
        assert_eq!(refused.code().unwrap().code(), "53300");
        drop(first);
        wait_until("a place is free", LIMIT, async || console().await.is_ok()).await;
    });
}

#[test]
fn connections_that_say_nothing_are_bounded_and_harm_nobody_for_long() {
    test(async {
        let settings = [
            ("cluster.test.pool.max_clients", "5"),
            ("limits.login_timeout", "2s"),
        ];
        let router = Router::start(&shared().await.cluster, &settings).await;
        let silent = (0..5).map(|_| Raw::connect(router.address));
        let mut silent = join_all(silent).await;
        // The places that are left are for this machine's own.
        let client = router.connect().await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
        let more = (0..16).map(|_| Raw::connect(router.address));
        silent.extend(join_all(more).await);
        let mut refused = Raw::connect(router.address).await;
        let told = fields(&refused.until_end().await);
        assert_eq!(told[&'C'], "53300");
        assert_eq!(told[&'M'], "sorry, too many clients already");
        wait_until("the silent ones are gone", LIMIT, async || {
            router.connect_as(SUPERUSER, "", DATABASE).await.is_ok()
        })
        .await;
        assert_eq!(value(&client, "SELECT 2").await, "2");
    });
}
