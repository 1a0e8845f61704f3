//! Which certificates are taken, and what they tell.

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use sha2::{Digest, Sha256, Sha384};

use super::{Authority, client, shake};
use crate::net::tls::certificate::{PeerCertificate, end_point};
use crate::net::{TlsAcceptor, TlsError, TlsFile};

#[tokio::test]
async fn a_verified_client_is_known_by_its_common_name() {
    let authority = Authority::new("authority");
    let server = authority.sign(&["localhost"], "localhost");
    let pem = authority.pem();
    let mut files = server.files();
    files.client_authorities = Some(pem.as_bytes());
    let acceptor = TlsAcceptor::new(&files).unwrap();
    let ann = authority.sign(&[], "ann");
    let (ours, _theirs) = shake(&acceptor, client(&authority, Some(&ann))).await;
    let told = ours.unwrap().peer_certificate().unwrap();
    assert_eq!(told.common_name.as_deref(), Some("ann"));
    assert_eq!(told.subject, "CN=ann");
    // Asked, and not required.
    let (ours, _theirs) = shake(&acceptor, client(&authority, None)).await;
    assert_eq!(ours.unwrap().peer_certificate(), None);
}

#[tokio::test]
async fn a_client_whose_certificate_is_foreign_expired_or_missing_is_turned_away() {
    let authority = Authority::new("authority");
    let server = authority.sign(&["localhost"], "localhost");
    let pem = authority.pem();
    let mut files = server.files();
    files.client_authorities = Some(pem.as_bytes());
    files.client_certificate_required = true;
    let acceptor = TlsAcceptor::new(&files).unwrap();
    let foreign = Authority::new("authority").sign(&[], "ann");
    let expired = authority.sign_with(&[], "ann", |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    for identity in [Some(&foreign), Some(&expired), None] {
        let (ours, _theirs) = shake(&acceptor, client(&authority, identity)).await;
        assert!(ours.is_err());
    }
}

#[tokio::test]
async fn an_old_version_is_refused_where_only_the_new_one_is_wanted() {
    let authority = Authority::new("authority");
    let server = authority.sign(&["localhost"], "localhost");
    let mut files = server.files();
    files.only_tls13 = true;
    let acceptor = TlsAcceptor::new(&files).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (ours, theirs) = shake(&acceptor, old.clone()).await;
    assert!(ours.is_err() && theirs.is_err());
    let both = TlsAcceptor::new(&server.files()).unwrap();
    let (ours, theirs) = shake(&both, old).await;
    assert!(ours.is_ok() && theirs.is_ok());
}

#[tokio::test]
async fn a_client_that_names_another_protocol_is_refused_and_ours_is_agreed() {
    let authority = Authority::new("authority");
    let server = authority.sign(&["localhost"], "localhost");
    let acceptor = TlsAcceptor::new(&server.files()).unwrap();
    let mut config = client(&authority, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (ours, _theirs) = shake(&acceptor, config.clone()).await;
    assert!(ours.is_err());
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let (ours, _theirs) = shake(&acceptor, config.clone()).await;
    assert!(ours.unwrap().is_agreed());
    config.alpn_protocols = Vec::new();
    let (ours, _theirs) = shake(&acceptor, config).await;
    assert!(!ours.unwrap().is_agreed());
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let authority = Authority::new("authority");
    let (one, other) = (authority.sign(&[], "a"), authority.sign(&[], "b"));
    let error = |certificate: &str, key: &str, authorities: Option<&str>| {
        let mut files = one.files();
        files.certificate = certificate.as_bytes();
        files.key = key.as_bytes();
        files.client_authorities = authorities.map(str::as_bytes);
        TlsAcceptor::new(&files).unwrap_err()
    };
    let (certificate, key) = (one.certificate.as_str(), one.key.as_str());
    assert_eq!(error(certificate, &other.key, None), TlsError::KeyMismatch);
    let nothing = TlsError::Nothing(TlsFile::Certificate);
    assert_eq!(error("", key, None), nothing);
    assert_eq!(error(key, key, None), nothing);
    let nothing = TlsError::Nothing(TlsFile::Key);
    assert_eq!(error(certificate, certificate, None), nothing);
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    assert_eq!(error(certificate, &encrypted, None), TlsError::EncryptedKey);
    let nothing = TlsError::Nothing(TlsFile::Authorities);
    assert_eq!(error(certificate, key, Some("")), nothing);
    let cut = certificate.replace("\nMI", "\nMJ");
    let malformed = error(&cut, key, None);
    assert_eq!(malformed.file(), TlsFile::Certificate, "{malformed}");
}

#[test]
fn a_name_with_a_nul_byte_names_nobody() {
    let pair = Authority::new("authority").sign(&[], "ann\0.example");
    let told = PeerCertificate::parse(&pair.der()).unwrap();
    assert_eq!(told.common_name, None);
}

#[test]
fn channel_binding_takes_the_hash_of_the_signature() {
    let sha256 = Authority::new("authority").sign(&[], "a").der();
    assert_eq!(
        end_point(&sha256).unwrap(),
        Sha256::digest(&sha256).to_vec()
    );
    let sign = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new([]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    };
    let sha384 = sign(&PKCS_ECDSA_P384_SHA384);
    assert_eq!(
        end_point(&sha384).unwrap(),
        Sha384::digest(&sha384).to_vec()
    );
    assert_eq!(end_point(&sign(&PKCS_ED25519)), None);
    assert_eq!(end_point(&b"no certificate".as_slice().into()), None);
}
