//! TLS against a client that is not ours, with certificates made for the occasion.

mod certificates;
mod servers;
mod streams;

use std::sync::Arc;

use bytes::BytesMut;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use super::{AcceptorFiles, TlsAcceptor};
use crate::net::Stream;

/// An authority, with which the others are signed.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, with this common name.
    pub(super) fn sign(&self, names: &[&str], common_name: &str) -> Pair {
        self.sign_with(names, common_name, |_| {})
    }

    pub(super) fn sign_with(
        &self,
        names: &[&str],
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    pub(super) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    fn files(&self) -> AcceptorFiles<'_> {
        AcceptorFiles {
            certificate: self.certificate.as_bytes(),
            key: self.key.as_bytes(),
            client_authorities: None,
            client_certificate_required: false,
            only_tls13: false,
        }
    }
}

/// A client of another make.
fn client(authority: &Authority, identity: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(vec![pair.der()], key)
                .unwrap()
        }
    }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Both ends of a connection after the handshake, ours first.
async fn shake(
    acceptor: &TlsAcceptor,
    config: ClientConfig,
) -> (
    std::io::Result<Stream>,
    std::io::Result<TlsStream<TcpStream>>,
) {
    let (near, far) = sockets().await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    tokio::join!(
        acceptor.accept(near, BytesMut::new()),
        connector.connect(name, far)
    )
}

/// The same where nothing goes wrong.
async fn pair() -> (Stream, TlsStream<TcpStream>) {
    let authority = Authority::new("authority");
    let identity = authority.sign(&["localhost"], "localhost");
    let acceptor = TlsAcceptor::new(&identity.files()).unwrap();
    let (ours, theirs) = shake(&acceptor, client(&authority, None)).await;
    (ours.unwrap(), theirs.unwrap())
}
