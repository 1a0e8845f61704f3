//! Logins, cancels and lookups at a real server, which the test starts and stops.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::clock;
use crate::cluster::{Address, Epoch, ServerId};
use crate::local::{Environment, Programs};
use crate::upstream::cancel::cancel;
use crate::upstream::tests::fake::plain;
use crate::upstream::tests::telemetry;
use crate::upstream::{
    AuthMethod, ConnectError, ControlTls, GetError, Lease, Login, LookupError, LookupRules, Rules,
    Secret, Upstreams, VerifierSource,
};
use crate::wire::frontend;

/// A server in a directory of its own.
struct Postgres {
    directory: PathBuf,
    address: Address,
}

impl Postgres {
    fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Address = free.local_addr().unwrap().to_string().parse().unwrap();
        drop(free);
        let directory = std::env::temp_dir().join(format!("pgherd-upstream-{}", address.port));
        let data = directory.display();
        run(&format!("mkdir -m 700 {data}"));
        run(&format!(
            "{}/initdb -D {data} -U postgres -A trust --no-sync -E UTF8 --locale=C",
            bin()
        ));
        std::fs::write(directory.join("pg_hba.conf"), HBA).unwrap();
        let options = format!("-p {} -k {data} -c fsync=off", address.port);
        run(&format!(
            "{}/pg_ctl -D {data} -w -l {data}/log -o '{options}' start",
            bin()
        ));
        Self { directory, address }
    }

    fn login(user: &str, secret: Secret) -> Arc<Login> {
        Arc::new(Login {
            database: "postgres".into(),
            user: user.into(),
            secret,
            parameters: BTreeMap::from([("application_name".into(), "pgherd test".into())]),
        })
    }

    async fn try_login(&self, user: &str, secret: Secret) -> Result<Lease<()>, GetError> {
        let addresses = vec![self.address.clone()];
        let upstreams = Upstreams::new(addresses, Rules::default(), telemetry());
        upstreams
            .get(
                ServerId(0),
                &Self::login(user, secret),
                Some(Epoch(1)),
                soon(),
            )
            .await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.directory.display();
        run(&format!("{}/pg_ctl -D {data} -m immediate stop", bin()));
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    std::fs::remove_dir_all(directory).unwrap();
}

/// Runs a command as a user that PostgreSQL accepts: it refuses root.
fn run(command: &str) {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    let mut shell = match is_root {
        true => Command::new("runuser"),
        false => Command::new("sh"),
    };
    if is_root {
        shell.args(["-u", "postgres", "--", "sh"]);
    }
    let output = shell.args(["-c", command]).current_dir("/tmp").output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn soon() -> Instant {
    clock::now() + Duration::from_secs(20)
}

/// Runs statements and returns all that the server said until it was ready again.
async fn query(lease: &mut Lease<()>, text: &str) -> Vec<u8> {
    send_query(lease, text).await;
    read_answer(lease).await
}

async fn send_query(lease: &mut Lease<()>, text: &str) {
    let mut out = BytesMut::new();
    frontend::query(&mut out, text.as_bytes());
    lease.stream.write_all(&out).await.unwrap();
}

async fn read_answer(lease: &mut Lease<()>) -> Vec<u8> {
    let mut input = BytesMut::new();
    while !input.ends_with(b"Z\0\0\0\x05I") {
        assert_ne!(lease.stream.read(&mut input, 8192).await.unwrap(), 0);
    }
    input.to_vec()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// Where the programs of a server are.
fn bin() -> String {
    let programs = Programs::find(None, &Environment::read()).unwrap();
    programs.bin.display().to_string()
}

const HBA: &str = "host all postgres 127.0.0.1/32 trust
host all plain 127.0.0.1/32 password
host all hashed 127.0.0.1/32 md5
host all salted 127.0.0.1/32 scram-sha-256
";
const USERS: &str = "SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'secret';
SET password_encryption = 'scram-sha-256'; CREATE ROLE plain LOGIN PASSWORD 'secret';
CREATE ROLE salted LOGIN PASSWORD 'secret'; CREATE ROLE nobody_knows NOLOGIN;
CREATE SCHEMA pgherd; CREATE FUNCTION pgherd.lookup(name, OUT rolname name, OUT verifier text)
RETURNS SETOF record LANGUAGE sql AS
'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND rolpassword IS NOT NULL';";

/// One server for all of it: starting one takes seconds.
#[tokio::test]
async fn a_real_server_is_logged_in_to_by_every_method() {
    let postgres = Postgres::start();
    let mut lease = postgres.try_login("postgres", Secret::None).await.unwrap();
    assert_eq!(lease.is_hot_standby, Some(false));
    assert_eq!(
        lease.parameters.get("application_name").unwrap(),
        "pgherd test"
    );
    query(&mut lease, USERS).await;
    logins(&postgres).await;
    lookups(&postgres).await;
    cancels(&postgres, lease).await;
}

async fn logins(postgres: &Postgres) {
    let password = |text: &str| Secret::Password(text.into());
    for user in ["plain", "hashed", "salted"] {
        postgres.try_login(user, password("secret")).await.unwrap();
        let error = postgres.try_login(user, password("wrong")).await;
        let GetError::Connect(error) = error.unwrap_err() else {
            panic!("{user}");
        };
        assert_eq!(error.server_error().unwrap().sqlstate, "28P01", "{user}");
    }
    let (client_key, server_key) = scram_keys(postgres).await;
    let secret = Secret::ScramKeys {
        client_key,
        server_key,
    };
    let mut lease = postgres.try_login("salted", secret.clone()).await.unwrap();
    assert!(contains(
        &query(&mut lease, "SELECT current_user").await,
        "salted"
    ));
    let impostor = Secret::ScramKeys {
        client_key,
        server_key: [0; 32],
    };
    assert_eq!(
        postgres.try_login("salted", impostor).await.unwrap_err(),
        GetError::Connect(ConnectError::ServerNotProven)
    );
    let method = AuthMethod::Md5;
    assert_eq!(
        postgres.try_login("hashed", secret).await.unwrap_err(),
        GetError::Connect(ConnectError::AuthUnsupported {
            method,
            secret: "SCRAM keys"
        })
    );
}

/// The keys of the role `salted`, by its verifier's salt and count.
async fn scram_keys(postgres: &Postgres) -> ([u8; 32], [u8; 32]) {
    let source = source(LookupRules::default());
    let verifier = source.lookup("salted", std::slice::from_ref(&postgres.address));
    let verifier = verifier.await.unwrap().unwrap();
    let (count, salt) = verifier
        .strip_prefix("SCRAM-SHA-256$")
        .and_then(|rest| rest.split('$').next())
        .and_then(|middle| middle.split_once(':'))
        .unwrap();
    let salt = BASE64.decode(salt).unwrap();
    keys("secret", &salt, count.parse().unwrap())
}

/// `ClientKey` and `ServerKey` of a password.
fn keys(password: &str, salt: &[u8], iterations: u32) -> ([u8; 32], [u8; 32]) {
    let hmac = |key: &[u8], bytes: &[u8]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    };
    let mut block = hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
    let mut salted = block;
    for _ in 1..iterations {
        block = hmac(password.as_bytes(), &block);
        salted.iter_mut().zip(block).for_each(|(a, b)| *a ^= b);
    }
    (hmac(&salted, b"Client Key"), hmac(&salted, b"Server Key"))
}

fn source(rules: LookupRules) -> VerifierSource {
    let login = (*Postgres::login("postgres", Secret::None)).clone();
    VerifierSource::new(login, rules, ControlTls::default())
}

async fn lookups(postgres: &Postgres) {
    let nobody: Address = "127.0.0.1:1".parse().unwrap();
    let both = [nobody.clone(), postgres.address.clone()];
    let rules = LookupRules {
        ttl: Duration::ZERO,
        ..LookupRules::default()
    };
    let known = source(rules);
    let verifier = known.lookup("salted", &both).await.unwrap().unwrap();
    assert!(verifier.starts_with("SCRAM-SHA-256$"));
    assert_eq!(known.lookup("nobody_knows", &both).await, Ok(None));
    assert_eq!(known.lookup("no such role", &both).await, Ok(None));

    let down = std::slice::from_ref(&nobody);
    let stale = known.lookup("salted", down).await;
    assert_eq!(stale, Ok(Some(verifier)), "no server answers");
    let error = known.lookup("hashed", down).await.unwrap_err();
    assert!(matches!(error, LookupError::NoServer(_)), "{error}");

    let rules = |query: &str| LookupRules {
        query: query.into(),
        ..LookupRules::default()
    };
    let missing = source(rules("SELECT * FROM no_such_function($1::text)"));
    let error = missing.lookup("salted", &both).await.unwrap_err();
    assert!(matches!(error, LookupError::Refused { sqlstate, .. } if sqlstate == "42883"));
    let narrow = source(rules("SELECT $1::text"));
    let error = narrow.lookup("salted", &both).await;
    assert_eq!(error, Err(LookupError::WrongColumns));
}

async fn cancels(postgres: &Postgres, mut lease: Lease<()>) {
    let key = lease.cancel_key.clone().unwrap();
    send_query(&mut lease, "SELECT pg_sleep(60)").await;
    // Sent again until it hits: the first may come before the statement has begun.
    let answer = loop {
        cancel(&postgres.address, &plain(), &key, Duration::from_secs(5))
            .await
            .unwrap();
        let limit = Duration::from_millis(200);
        if let Ok(answer) = tokio::time::timeout(limit, read_answer(&mut lease)).await {
            break answer;
        }
    };
    assert!(contains(&answer, "57014"));
}
