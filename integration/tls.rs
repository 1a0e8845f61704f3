//! Clients that encrypt: what libpq makes of our certificates, and we of theirs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgherd::local::{DATABASE, SUPERUSER};
use pgherd::wire::frontend;
use rcgen::date_time_ymd;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Authority, Files, Raw, Router, fields, psql, shared, tags, test};

/// A directory of this test's own.
async fn directory(name: &str) -> PathBuf {
    let path = shared().await.cluster.directory().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A router with this certificate, and more settings.
async fn router(files: &Files, settings: &[(&str, &str)]) -> Router {
    let mut all = vec![
        ("listen.tls.cert_file", files.certificate.as_str()),
        ("listen.tls.key_file", files.key.as_str()),
    ];
    all.extend(settings);
    Router::start(&shared().await.cluster, &all).await
}

fn as_root(options: &str) -> String {
    format!("user={SUPERUSER} dbname={DATABASE} {options}")
}

/// What psql sees of its own connection.
async fn ask(router: &Router, options: &str) -> Result<String, String> {
    psql(router.address, &as_root(options), "SELECT 'hello'").await
}

#[test]
fn every_sslmode_of_libpq_does_what_it_says() {
    test(async {
        let directory = directory("sslmodes").await;
        let (good, other) = (
            Authority::new(&directory, "good"),
            Authority::new(&directory, "other"),
        );
        let router = router(&good.sign(&["localhost"], "localhost"), &[]).await;
        let ca = good.file();
        for options in [
            "sslmode=disable",
            "sslmode=allow",
            "sslmode=prefer",
            "sslmode=require",
            &format!("sslmode=verify-ca sslrootcert={ca}"),
            &format!("sslmode=verify-full sslrootcert={ca}"),
        ] {
            assert_eq!(
                ask(&router, options).await.as_deref(),
                Ok("hello"),
                "{options}"
            );
        }
        let ca = other.file();
        let error = ask(&router, &format!("sslmode=verify-ca sslrootcert={ca}")).await;
        assert!(error.unwrap_err().contains("certificate verify failed"));
    });
}

#[test]
fn a_certificate_for_another_name_or_that_expired_is_found_out_by_libpq() {
    test(async {
        let directory = directory("bad").await;
        let authority = Authority::new(&directory, "authority");
        let ca = authority.file();
        let other = router(&authority.sign(&["elsewhere"], "elsewhere"), &[]).await;
        let verify = |mode| format!("sslmode={mode} sslrootcert={ca}");
        assert!(ask(&other, &verify("verify-ca")).await.is_ok());
        let error = ask(&other, &verify("verify-full")).await.unwrap_err();
        assert!(error.contains("does not match host name"), "{error}");
        let old = authority.sign_with(&["localhost"], "old", |params| {
            params.not_after = date_time_ymd(2001, 1, 1);
        });
        let old = router(&old, &[]).await;
        let error = ask(&old, &verify("verify-ca")).await.unwrap_err();
        assert!(error.contains("certificate verify failed"), "{error}");
    });
}

#[test]
fn where_tls_is_required_a_plain_client_is_refused_as_by_postgresql() {
    test(async {
        let directory = directory("required").await;
        let authority = Authority::new(&directory, "authority");
        let files = authority.sign(&["localhost"], "localhost");
        let router = router(&files, &[("listen.tls.mode", "require")]).await;
        assert!(ask(&router, "sslmode=require").await.is_ok());
        // It tries without first, is refused, and tries again.
        assert!(ask(&router, "sslmode=allow").await.is_ok());
        let error = ask(&router, "sslmode=disable").await.unwrap_err();
        assert!(error.contains("no encryption"), "{error}");
        let mut raw = Raw::connect(router.address).await;
        raw.start(0, &[("user", SUPERUSER), ("database", DATABASE)])
            .await;
        let told = fields(&raw.until_end().await);
        assert_eq!(
            (told[&'S'].as_str(), told[&'C'].as_str()),
            ("FATAL", "28000")
        );
        let said = "no pg_hba.conf entry for host \"127.0.0.1\", user \"postgres\", database \
                    \"app\", no encryption";
        assert_eq!(told[&'M'], said);
    });
}

#[test]
fn where_there_is_no_certificate_clients_that_insist_are_told_no() {
    test(async {
        let router = &shared().await.router;
        assert!(ask(router, "sslmode=prefer").await.is_ok());
        let error = ask(router, "sslmode=require").await.unwrap_err();
        assert!(error.contains("server does not support SSL"), "{error}");
    });
}

#[test]
fn certificates_of_clients_are_asked_for_verified_and_if_wanted_required() {
    test(async {
        let directory = directory("clients").await;
        let ours = Authority::new(&directory, "ours");
        let clients = Authority::new(&directory, "clients");
        let foreign = Authority::new(&directory, "foreign").sign(&[], "ann");
        let ann = clients.sign(&[], "ann");
        let expired = clients.sign_with(&[], "expired", |params| {
            params.not_after = date_time_ymd(2001, 1, 1);
        });
        let files = ours.sign(&["localhost"], "localhost");
        let with = |files: &Files| {
            let Files { certificate, key } = files;
            format!("sslmode=require sslcert={certificate} sslkey={key}")
        };
        let ca = clients.file();
        let asked = router(&files, &[("listen.tls.client_ca_file", &ca)]).await;
        assert!(ask(&asked, "sslmode=require").await.is_ok());
        assert!(ask(&asked, &with(&ann)).await.is_ok());
        assert!(ask(&asked, &with(&foreign)).await.is_err());
        assert!(ask(&asked, &with(&expired)).await.is_err());
        let settings = [
            ("listen.tls.client_ca_file", ca.as_str()),
            ("listen.tls.client_certs", "require"),
            ("listen.tls.mode", "require"),
        ];
        let required = router(&files, &settings).await;
        assert!(ask(&required, &with(&ann)).await.is_ok());
        assert!(ask(&required, "sslmode=require").await.is_err());
    });
}

#[test]
fn bytes_behind_a_request_that_would_be_granted_end_the_connection() {
    test(async {
        let directory = directory("injected").await;
        let authority = Authority::new(&directory, "authority");
        let router = router(&authority.sign(&["localhost"], "localhost"), &[]).await;
        let mut raw = Raw::connect(router.address).await;
        raw.send(|out| {
            frontend::ssl_request(out);
            let user: [(&[u8], &[u8]); 1] = [(b"user", b"postgres")];
            frontend::startup(out, 0, user);
        })
        .await;
        assert_eq!(raw.byte().await, None, "it is closed without an answer");
    });
}

#[test]
fn requests_for_encryption_are_answered_once_each() {
    test(async {
        let router = &shared().await.router;
        let mut raw = Raw::connect(router.address).await;
        raw.send(frontend::ssl_request).await;
        assert_eq!(raw.byte().await, Some(b'N'));
        raw.send(frontend::ssl_request).await;
        let told = fields(&raw.until_end().await);
        assert_eq!(told[&'C'], "0A000");
        assert!(told[&'M'].contains("1234.5679"), "{told:?}");
    });
}

/// A client that begins with TLS at once.
async fn direct(
    address: SocketAddr,
    authority: &Authority,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls::pki_types::CertificateDer::from_pem_file(authority.file());
    roots.add(pem.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

/// All that comes after a start-up message.
async fn greet(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    let user: [(&[u8], &[u8]); 2] = [(b"user", b"postgres"), (b"database", b"app")];
    frontend::startup(&mut out, 0, user);
    frontend::terminate(&mut out);
    let mut answer = Vec::new();
    // Whoever is refused may find the connection closed at any step.
    if stream.write_all(&out).await.is_ok() {
        let _closed = stream.read_to_end(&mut answer).await;
    }
    answer
}

#[test]
fn tls_without_a_request_needs_the_name_of_the_protocol() {
    test(async {
        let directory = directory("direct").await;
        let authority = Authority::new(&directory, "authority");
        let router = router(&authority.sign(&["localhost"], "localhost"), &[]).await;
        let address = router.address;
        let mut good = direct(address, &authority, &[b"postgresql"]).await.unwrap();
        assert_eq!(greet(&mut good).await.first(), Some(&b'R'));
        let mut nameless = direct(address, &authority, &[]).await.unwrap();
        assert_eq!(greet(&mut nameless).await, b"");
        assert!(direct(address, &authority, &[b"http/1.1"]).await.is_err());
        let plain = shared().await.router.address;
        let refused = direct(plain, &authority, &[b"postgresql"]).await;
        assert!(refused.is_err(), "there is no certificate");
    });
}

#[test]
fn a_large_result_and_a_large_copy_pass_encrypted_with_flat_memory() {
    test(async {
        let directory = directory("large").await;
        let authority = Authority::new(&directory, "authority");
        let router = router(&authority.sign(&["localhost"], "localhost"), &[]).await;
        let options = as_root("sslmode=require");
        let query = "SELECT repeat('x', 1000) FROM generate_series(1, 50000)";
        let before = crate::support::memory_kb();
        let result = psql(router.address, &options, query).await.unwrap();
        assert_eq!(result.len(), 50_000 * 1001 - 1);
        let file = directory.join("rows");
        std::fs::write(&file, format!("{result}\n")).unwrap();
        drop(result);
        let table = "CREATE TABLE tls_copy(t text)";
        psql(router.address, &options, table).await.unwrap();
        let copy = format!("\\copy tls_copy FROM '{}'", file.display());
        assert_eq!(
            psql(router.address, &options, &copy).await.unwrap(),
            "COPY 50000"
        );
        // psql's own output is read by this process: 50 MB of it at most.
        let grown = crate::support::memory_kb().saturating_sub(before);
        assert!(grown < 120_000, "{grown} kB");
    });
}

/// A router that reads a file, for RELOAD.
async fn with_file(directory: &Path, files: &Files) -> Router {
    use pgherd::app::{App, ConfigSource};
    use pgherd::config::{Environment, load_text};
    let text = format!(
        "{}[listen.tls]\ncert_file = {:?}\nkey_file = {:?}\n",
        crate::support::config_text(&shared().await.cluster),
        files.certificate,
        files.key
    );
    let path = directory.join("pgherd.toml");
    std::fs::write(&path, &text).unwrap();
    let environment = Environment::from_pairs([]);
    let (config, _) = load_text(path.to_str().unwrap(), &text, &environment).unwrap();
    let source = ConfigSource::File {
        path: Some(path),
        environment,
    };
    let router = Router::from(App::start(config, source).await.unwrap());
    assert!(
        router
            .app
            .wait_ready(std::time::Duration::from_secs(30))
            .await
    );
    router
}

#[test]
fn a_reload_takes_a_new_certificate_and_leaves_the_old_one_when_the_new_is_bad() {
    test(async {
        let directory = directory("rotation").await;
        let (old, new) = (
            Authority::new(&directory, "old"),
            Authority::new(&directory, "new"),
        );
        let files = old.sign(&["localhost"], "localhost");
        let router = with_file(&directory, &files).await;
        let verify = |ca: String| format!("sslmode=verify-full sslrootcert={ca}");
        let mut open = direct(router.address, &old, &[b"postgresql"])
            .await
            .unwrap();
        assert!(ask(&router, &verify(old.file())).await.is_ok());
        let next = new.sign(&["localhost"], "localhost");
        std::fs::copy(&next.certificate, &files.certificate).unwrap();
        let said = router.app.reloader.reload().unwrap_err().concat();
        assert!(
            said.contains("does not belong to the certificate"),
            "{said}"
        );
        assert!(ask(&router, &verify(old.file())).await.is_ok());
        std::fs::copy(&next.key, &files.key).unwrap();
        let changes = router.app.reloader.reload().unwrap().concat();
        assert!(changes.contains("listen.tls.cert_file"), "{changes}");
        assert!(ask(&router, &verify(new.file())).await.is_ok());
        assert!(ask(&router, &verify(old.file())).await.is_err());
        assert_eq!(
            greet(&mut open).await.first(),
            Some(&b'R'),
            "it keeps what it had"
        );
    });
}

#[test]
fn a_cancel_request_may_come_encrypted() {
    test(async {
        let directory = directory("cancel").await;
        let authority = Authority::new(&directory, "authority");
        let router = router(&authority.sign(&["localhost"], "localhost"), &[]).await;
        let mut raw = router.raw().await;
        raw.send(|out| frontend::query(out, b"SELECT pg_sleep(50)"))
            .await;
        let key = raw.key.clone().unwrap();
        crate::support::wait_until(
            "it sleeps",
            std::time::Duration::from_secs(20),
            async || {
                let clients = router.console("SHOW CLIENTS").await;
                clients.iter().any(|row| row["state"] == "active")
            },
        )
        .await;
        let mut stream = direct(router.address, &authority, &[b"postgresql"])
            .await
            .unwrap();
        let mut out = bytes::BytesMut::new();
        frontend::cancel_request(&mut out, &key);
        stream.write_all(&out).await.unwrap();
        let answer = raw.until_ready().await;
        assert_eq!(fields(&answer)[&'C'], "57014", "{}", tags(&answer));
    });
}
