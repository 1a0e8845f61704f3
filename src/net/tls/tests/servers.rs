//! Which servers are believed, in which mode.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use rcgen::{CertificateParams, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{Authority, Pair, sockets};
use crate::net::tls::certificate::ServerNames;
use crate::net::{
    ConnectorFiles, Stream, TlsAcceptor, TlsConnector, TlsError, TlsFile, TlsMode, TlsStart,
};

const MODES: [TlsMode; 3] = [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];

/// Connects to a server with this certificate, as `host`.
async fn connect(mode: TlsMode, ca: &str, server: &Pair, host: &str) -> io::Result<Stream> {
    let files = ConnectorFiles {
        authorities: Some(ca.as_bytes()),
        identity: None,
    };
    let connector = TlsConnector::new(mode, TlsStart::Asked, &files).unwrap();
    let acceptor = TlsAcceptor::new(&server.files()).unwrap();
    let (near, far) = sockets().await;
    let (theirs, ours) = tokio::join!(
        acceptor.accept(near, BytesMut::new()),
        connector.connect(far, host)
    );
    if let (Ok(_), Ok(ours)) = (&theirs, &ours) {
        assert_eq!(ours.peer_end_point().as_ref(), acceptor.end_point());
    }
    ours
}

/// In which of the three modes a server is believed.
async fn believed(ca: &str, server: &Pair, host: &str) -> [bool; 3] {
    let mut result = [false; 3];
    for (slot, mode) in result.iter_mut().zip(MODES) {
        *slot = match connect(mode, ca, server, host).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                false
            }
        };
    }
    result
}

#[tokio::test]
async fn each_mode_looks_at_what_it_says() {
    let authority = Authority::new("authority");
    let ca = authority.pem();
    let server = authority.sign(&["pg1", "10.0.0.1"], "pg1");
    assert_eq!(believed(&ca, &server, "pg1").await, [true, true, true]);
    assert_eq!(believed(&ca, &server, "10.0.0.1").await, [true, true, true]);
    assert_eq!(believed(&ca, &server, "pg2").await, [true, true, false]);
    let foreign = Authority::new("authority").sign(&["pg1"], "pg1");
    assert_eq!(believed(&ca, &foreign, "pg1").await, [true, false, false]);
    let expired = authority.sign_with(&["pg1"], "pg1", |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    assert_eq!(believed(&ca, &expired, "pg1").await, [true, false, false]);
}

#[tokio::test]
async fn a_common_name_counts_where_there_is_no_other_name_of_the_kind() {
    let authority = Authority::new("authority");
    let ca = authority.pem();
    let old = authority.sign(&[], "pg1");
    assert_eq!(believed(&ca, &old, "PG1").await, [true, true, true]);
    assert_eq!(believed(&ca, &old, "pg2").await, [true, true, false]);
    let other = authority.sign(&["elsewhere"], "pg1");
    assert_eq!(believed(&ca, &other, "pg1").await, [true, true, false]);
    let address = authority.sign(&["elsewhere"], "10.0.0.1");
    assert_eq!(
        believed(&ca, &address, "10.0.0.1").await,
        [true, true, true]
    );
    let wild = authority.sign(&[], "*.example.com");
    assert_eq!(
        believed(&ca, &wild, "a.example.com").await,
        [true, true, true]
    );
    let not = [true, true, false];
    assert_eq!(believed(&ca, &wild, "a.b.example.com").await, not);
    assert_eq!(believed(&ca, &wild, "example.com").await, not);
}

#[test]
fn a_wildcard_stands_for_one_whole_label() {
    let fits = |name: &str, host: &str| {
        let der = Authority::new("authority").sign(&[], name).der();
        let host = ServerName::try_from(host.to_owned()).unwrap();
        ServerNames::parse(&der).unwrap().fit_by_common_name(&host)
    };
    assert!(fits("*.example.com", "pg.EXAMPLE.com"));
    assert!(!fits("p*.example.com", "pg.example.com"));
    assert!(!fits("*", "pg"));
    assert!(!fits("*.", "pg."));
    assert!(!fits("*.0.0.1", "10.0.0.1"));
}

/// A certificate that nobody signed but itself, as `openssl req -x509` makes it.
fn self_signed(is_ca: bool, year: i32) -> Pair {
    let mut params = CertificateParams::new(["pg1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "pg1");
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    if is_ca {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    Pair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_believed_when_it_is_listed() {
    for is_ca in [false, true] {
        let server = self_signed(is_ca, 2100);
        let ca = &server.certificate;
        assert_eq!(believed(ca, &server, "pg1").await, [true, true, true]);
        assert_eq!(believed(ca, &server, "pg2").await, [true, true, false]);
        let other = self_signed(is_ca, 2100).certificate;
        assert_eq!(believed(&other, &server, "pg1").await, [true, false, false]);
        let expired = self_signed(is_ca, 2001);
        let ca = &expired.certificate;
        assert_eq!(believed(ca, &expired, "pg1").await, [true, false, false]);
    }
}

#[tokio::test]
async fn a_server_that_asks_gets_our_certificate() {
    let authority = Authority::new("authority");
    let pem = authority.pem();
    let (server, own) = (
        authority.sign(&["pg1"], "pg1"),
        authority.sign(&[], "router"),
    );
    let mut files = server.files();
    files.client_authorities = Some(pem.as_bytes());
    files.client_certificate_required = true;
    let acceptor = TlsAcceptor::new(&files).unwrap();
    for identity in [Some(&own), None] {
        let files = ConnectorFiles {
            authorities: Some(pem.as_bytes()),
            identity: identity.map(|pair| (pair.certificate.as_bytes(), pair.key.as_bytes())),
        };
        let connector = TlsConnector::new(TlsMode::VerifyFull, TlsStart::Asked, &files).unwrap();
        let (near, far) = sockets().await;
        let (theirs, _ours) = tokio::join!(
            acceptor.accept(near, BytesMut::new()),
            connector.connect(far, "pg1")
        );
        let named = theirs.ok().and_then(|theirs| theirs.peer_certificate());
        let named = named.and_then(|certificate| certificate.common_name);
        assert_eq!(named.as_deref(), identity.map(|_| "router"));
    }
}

#[test]
fn files_for_servers_that_cannot_be_used_are_named_with_the_reason() {
    let authority = Authority::new("authority");
    let (one, other) = (authority.sign(&[], "a"), authority.sign(&[], "b"));
    let mismatch = ConnectorFiles {
        authorities: None,
        identity: Some((one.certificate.as_bytes(), other.key.as_bytes())),
    };
    let error = TlsConnector::new(TlsMode::Prefer, TlsStart::Asked, &mismatch).unwrap_err();
    assert_eq!(error, TlsError::KeyMismatch);
    let no_certificate = ConnectorFiles {
        authorities: Some(one.key.as_bytes()),
        identity: None,
    };
    let error = TlsConnector::new(TlsMode::VerifyCa, TlsStart::Asked, &no_certificate).unwrap_err();
    assert_eq!(error, TlsError::Nothing(TlsFile::Authorities));
}

#[tokio::test]
async fn a_server_that_was_not_asked_has_to_name_the_protocol() {
    let authority = Authority::new("authority");
    let server = authority.sign(&["pg1"], "pg1");
    let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let knowing = TlsAcceptor::new(&server.files()).unwrap();
    for start in [TlsStart::Asked, TlsStart::Direct] {
        let files = ConnectorFiles::default();
        let connector = TlsConnector::new(TlsMode::Require, start, &files).unwrap();
        let (near, far) = sockets().await;
        let other = tokio_rustls::TlsAcceptor::from(Arc::new(config.clone()));
        let (_theirs, ours) = tokio::join!(other.accept(near), connector.connect(far, "pg1"));
        let kind = ours.err().map(|error| error.kind());
        let wanted = (start == TlsStart::Direct).then_some(io::ErrorKind::InvalidData);
        assert_eq!(kind, wanted, "{start:?}");
        let (near, far) = sockets().await;
        let accepting = knowing.accept(near, BytesMut::new());
        let (_theirs, ours) = tokio::join!(accepting, connector.connect(far, "pg1"));
        assert!(ours.unwrap().is_agreed(), "{start:?}");
    }
}

#[tokio::test]
async fn a_host_that_no_certificate_could_name_is_refused() {
    let (near, _far) = sockets().await;
    let connector = TlsConnector::default();
    let error = connector.connect(near, "not a name").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// Of version 1 and self-signed, as `openssl x509 -req -signkey` makes it before version 3.2.
const VERSION_1: &str = include_str!("version1.pem");

#[tokio::test]
async fn an_old_form_of_certificate_is_good_where_nobody_has_to_vouch_for_it() {
    let (certificate, key) = VERSION_1.split_at(VERSION_1.find("-----BEGIN PRIVATE").unwrap());
    let server = Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    };
    let all = [true, true, true];
    assert_eq!(believed(certificate, &server, "pg1").await, all);
    let other = Authority::new("authority").pem();
    let only_unverified = [true, false, false];
    assert_eq!(believed(&other, &server, "pg1").await, only_unverified);
}
