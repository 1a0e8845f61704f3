//! Who is let in, and how a conversation begins.

use std::fmt::Write as _;
use std::time::Duration;

use pgherd::local::{DATABASE, DEMO_PASSWORD, DEMO_ROLE, SUPERUSER};
use pgherd::wire::frontend;
use tokio::sync::OnceCell;

use crate::support::{Raw, Router, fields, psql, rows, shared, tags, test, value, wait_until};

/// A router that looks verifiers up on the cluster.
async fn lookup() -> &'static Router {
    static ROUTER: OnceCell<Router> = OnceCell::const_new();
    ROUTER
        .get_or_init(|| async {
            Router::start(&shared().await.cluster, &[("auth.method", "lookup")]).await
        })
        .await
}

/// The error of a login by SCRAM that must fail.
async fn refused(router: &Router, user: &str, password: &str) -> Vec<(char, String)> {
    let mut raw = Raw::connect(router.address).await;
    raw.start(0, &[("user", user), ("database", DATABASE)])
        .await;
    let answer = raw.scram(password).await;
    let told = fields(&answer).into_iter().collect();
    assert_eq!(raw.until_end().await, [], "the connection ends");
    told
}

#[test]
fn scram_by_a_looked_up_verifier_opens_servers_that_ask_for_scram() {
    test(async {
        let router = lookup().await;
        let client = router
            .connect_as(DEMO_ROLE, DEMO_PASSWORD, DATABASE)
            .await
            .unwrap();
        assert_eq!(value(&client, "SELECT current_user").await, DEMO_ROLE);
        client
            .batch_execute("CREATE TABLE login_proof(n int)")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO login_proof VALUES (1)")
            .await
            .unwrap();
        // The pools of replicas are opened with the same recovered key.
        wait_until("a replica answers", Duration::from_secs(20), async || {
            assert_eq!(
                value(&client, "SELECT count(*) FROM login_proof").await,
                "1"
            );
            value(&client, "SHOW pgherd.node").await != "node1"
        })
        .await;
    });
}

#[test]
fn a_wrong_password_and_an_unknown_user_cannot_be_told_apart() {
    test(async {
        let router = lookup().await;
        let wrong = refused(router, DEMO_ROLE, "wrong").await;
        let unknown = refused(router, "demi", "wrong").await;
        let named = |fields: Vec<(char, String)>| -> Vec<(char, String)> {
            let fields = fields.into_iter();
            fields
                .map(|(tag, text)| (tag, text.replace(DEMO_ROLE, "X").replace("demi", "X")))
                .collect()
        };
        assert!(wrong.contains(&('C', "28P01".to_owned())), "{wrong:?}");
        assert_eq!(named(wrong), named(unknown));
    });
}

#[test]
fn a_userlist_with_a_verifier_or_a_password_lets_its_users_in() {
    test(async {
        let lab = shared().await;
        let verifier = lab.cluster.connect(0).await.unwrap();
        let stored = value(
            &verifier,
            &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{DEMO_ROLE}'"),
        )
        .await;
        let mut list = String::new();
        writeln!(list, "\"{DEMO_ROLE}\" \"{stored}\"").unwrap();
        writeln!(list, "\"{SUPERUSER}\" \"plain text\"").unwrap();
        let path = lab.cluster.directory().join("userlist.txt");
        std::fs::write(&path, list).unwrap();
        let file = path.to_str().unwrap();
        let settings = [("auth.method", "file"), ("auth.file", file)];
        let router = Router::start(&lab.cluster, &settings).await;
        let demo = router
            .connect_as(DEMO_ROLE, DEMO_PASSWORD, DATABASE)
            .await
            .unwrap();
        assert_eq!(value(&demo, "SELECT current_user").await, DEMO_ROLE);
        let root = router
            .connect_as(SUPERUSER, "plain text", DATABASE)
            .await
            .unwrap();
        assert_eq!(value(&root, "SELECT current_user").await, SUPERUSER);
        let wrong = refused(&router, SUPERUSER, "other").await;
        assert!(wrong.contains(&('C', "28P01".to_owned())), "{wrong:?}");
        let absent = refused(&router, "nobody", "other").await;
        assert!(absent.contains(&('C', "28P01".to_owned())), "{absent:?}");
    });
}

#[test]
fn an_md5_hash_is_proved_and_opens_servers_that_ask_for_md5() {
    test(async {
        let lab = shared().await;
        let primary = lab.cluster.connect(0).await.unwrap();
        let sql = "DROP ROLE IF EXISTS hashed; SET password_encryption = 'md5';
                   CREATE ROLE hashed LOGIN PASSWORD 'secret'";
        primary.batch_execute(sql).await.unwrap();
        let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'hashed'";
        let path = lab.cluster.directory().join("md5list.txt");
        let list = format!("\"hashed\" \"{}\"\n", value(&primary, stored).await);
        std::fs::write(&path, list).unwrap();
        let settings = [
            ("auth.method", "file"),
            ("auth.file", path.to_str().unwrap()),
        ];
        let from_file = Router::start(&lab.cluster, &settings).await;
        for router in [lookup().await, &from_file] {
            let client = router.connect_as("hashed", "secret", DATABASE).await;
            assert_eq!(
                value(&client.unwrap(), "SELECT current_user").await,
                "hashed"
            );
            let refused = router.connect_as("hashed", "wrong", DATABASE).await;
            assert_eq!(refused.err().unwrap().code().unwrap().code(), "28P01");
        }
        // A changed one is taken within the login: the answer is to the salt alone.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let sql = "SET password_encryption = 'md5'; ALTER ROLE hashed PASSWORD 'changed'";
        primary.batch_execute(sql).await.unwrap();
        let changed = lookup().await.connect_as("hashed", "changed", DATABASE);
        changed.await.unwrap();
    });
}

#[test]
fn psql_logs_in_by_md5_and_by_scram() {
    test(async {
        let lab = shared().await;
        let primary = lab.cluster.connect(0).await.unwrap();
        let sql = "DROP ROLE IF EXISTS md5_psql; SET password_encryption = 'md5';
                   CREATE ROLE md5_psql LOGIN PASSWORD 'secret'";
        primary.batch_execute(sql).await.unwrap();
        let router = lookup().await;
        for (user, password) in [("md5_psql", "secret"), (DEMO_ROLE, DEMO_PASSWORD)] {
            let who = |password| format!("user={user} password={password} dbname={DATABASE}");
            let said = psql(router.address, &who(password), "SELECT session_user").await;
            assert_eq!(said, Ok(user.to_owned()));
            let said = psql(router.address, &who("wrong"), "SELECT 1").await;
            let said = said.unwrap_err();
            assert!(said.contains("password authentication failed"), "{said}");
        }
    });
}

#[test]
fn trust_asks_nothing() {
    test(async {
        let client = shared().await.router.connect().await;
        assert_eq!(value(&client, "SELECT session_user").await, SUPERUSER);
    });
}

#[test]
fn protocol_3_2_is_spoken_with_a_longer_cancel_key() {
    test(async {
        let mut raw = Raw::connect(shared().await.router.address).await;
        raw.start(2, &[("user", SUPERUSER), ("database", DATABASE)])
            .await;
        let answer = raw.until_ready().await;
        assert_eq!(tags(&answer), "RKZ");
        raw.keep_key(&answer);
        assert!(raw.key.as_ref().unwrap().secret.len() > 4, "{:?}", raw.key);
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn an_unknown_protocol_option_and_a_newer_version_are_negotiated() {
    test(async {
        let mut raw = Raw::connect(shared().await.router.address).await;
        let options = [
            ("user", SUPERUSER),
            ("database", DATABASE),
            ("_pq_.future", "1"),
        ];
        raw.start(9, &options).await;
        let answer = raw.until_ready().await;
        assert_eq!(tags(&answer), "vRKZ");
        let body = &answer[0].body;
        assert_eq!(
            body[..8],
            [0, 3, 0, 2, 0, 0, 0, 1],
            "3.2, and one unknown option"
        );
        assert_eq!(&body[8..], b"_pq_.future\0");
        assert_eq!(tags(&raw.query("SELECT 1").await), "TDCZ");
    });
}

#[test]
fn requests_for_encryption_are_answered_n_and_the_session_goes_on() {
    test(async {
        let mut raw = Raw::connect(shared().await.router.address).await;
        raw.send_bytes(&[0, 0, 0, 8, 4, 210, 22, 48]).await;
        assert_eq!(raw.byte().await, Some(b'N'), "GSSENCRequest");
        raw.send(frontend::ssl_request).await;
        assert_eq!(raw.byte().await, Some(b'N'), "SSLRequest");
        raw.start(0, &[("user", SUPERUSER), ("database", DATABASE)])
            .await;
        assert_eq!(tags(&raw.until_ready().await), "RKZ");
    });
}

#[test]
fn bytes_behind_an_ssl_request_end_the_connection() {
    test(async {
        let mut raw = Raw::connect(shared().await.router.address).await;
        raw.send(|out| {
            frontend::ssl_request(out);
            let user: [(&[u8], &[u8]); 1] = [(b"user", b"postgres")];
            frontend::startup(out, 0, user);
        })
        .await;
        let answer = raw.byte().await;
        assert!(matches!(answer, None | Some(b'E')), "{answer:?}");
        assert_eq!(tags(&raw.until_end().await).replace('E', ""), "");
    });
}

#[test]
fn an_unknown_database_gives_the_error_of_the_server() {
    test(async {
        let lab = shared().await;
        let connected = lab.router.connect_as(SUPERUSER, "", "no_such_db").await;
        let through = match connected {
            Err(error) => error,
            Ok(client) => client.simple_query("SELECT 1").await.unwrap_err(),
        };
        let direct = lab
            .cluster
            .connect_as(0, SUPERUSER, None, "no_such_db")
            .await;
        let direct = std::error::Error::source(&direct.err().unwrap())
            .unwrap()
            .to_string();
        assert_eq!(through.code().unwrap().code(), "3D000", "{through:?}");
        let text = through.as_db_error().unwrap().message();
        assert_eq!(text, "database \"no_such_db\" does not exist");
        assert!(
            direct.contains("no_such_db") || direct.contains("db error"),
            "{direct}"
        );
    });
}

#[test]
fn what_the_client_is_told_at_its_login_is_what_the_primary_tells() {
    test(async {
        let lab = shared().await;
        let mut told = Vec::new();
        for address in [lab.cluster.address(0).unwrap(), lab.router.address] {
            let mut raw = Raw::connect(address).await;
            raw.start(0, &[("user", SUPERUSER), ("database", DATABASE)])
                .await;
            let answer = raw.until_ready().await;
            let parameters = answer.iter().filter(|message| message.tag == b'S');
            let mut parameters: Vec<String> = parameters
                .map(|message| String::from_utf8_lossy(&message.body).replace('\0', "="))
                .collect();
            parameters.sort();
            told.push(parameters);
        }
        assert_eq!(told[0], told[1]);
    });
}

#[test]
fn settings_of_the_startup_message_hold_on_every_server() {
    test(async {
        let lab = shared().await;
        let mut raw = Raw::connect(lab.router.address).await;
        let parameters = [
            ("user", SUPERUSER),
            ("database", DATABASE),
            ("application_name", "mine"),
            ("options", "-c work_mem=7MB"),
            ("extra_float_digits", "2"),
        ];
        raw.start(0, &parameters).await;
        assert_eq!(tags(&raw.until_ready().await), "RKZ");
        for query in [
            "SELECT current_setting('work_mem'), current_setting('extra_float_digits')",
            "BEGIN; SELECT current_setting('work_mem'), current_setting('extra_float_digits'); COMMIT",
        ] {
            let answer = raw.query(query).await;
            let row = answer.iter().find(|message| message.tag == b'D').unwrap();
            assert_eq!(row.columns(), ["7MB", "2"], "{query}");
        }
        // And they are not there for the next one.
        let client = lab.router.connect().await;
        let row = rows(&client, "SELECT current_setting('work_mem') AS w").await;
        assert_eq!(row[0]["w"], "4MB");
    });
}
