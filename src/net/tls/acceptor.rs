//! Who we are to clients: a certificate, its key, and whose certificates of clients we believe.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use super::certificate::{end_point, public_key};
use super::{Encrypted, TlsError, TlsFile};
use crate::net::Stream;

/// The contents of the files that an acceptor is made of.
#[derive(Clone, Copy)]
pub struct AcceptorFiles<'a> {
    /// Our certificate, and those that lead to an authority, in PEM.
    pub certificate: &'a [u8],
    /// Its private key, in PEM.
    pub key: &'a [u8],
    /// Who signs the certificates of clients, in PEM; without it none is asked for.
    pub client_authorities: Option<&'a [u8]>,
    /// Whether a client without a certificate is turned away.
    pub client_certificate_required: bool,
    /// Whether TLS 1.2 is refused.
    pub only_tls13: bool,
}

/// Not what is in them: one is a secret.
impl fmt::Debug for AcceptorFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorFiles").finish_non_exhaustive()
    }
}

/// Takes the server's part of TLS with clients. A reload makes another one; connections that are
/// there keep what they have.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    end_point: Option<Bytes>,
    /// Of all that it was made of, to tell whether a reload brought something else.
    digest: [u8; 32],
}

impl TlsAcceptor {
    /// Reads certificate and key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when they cannot be used, or do not belong together.
    pub fn new(files: &AcceptorFiles<'_>) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = identity(files.certificate, files.key)?;
        let end_point = identity.cert.first().and_then(end_point).map(Bytes::from);
        let versions: &[&SupportedProtocolVersion] = match files.only_tls13 {
            true => &[&rustls::version::TLS13],
            false => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(TlsError::Library)?;
        let builder = match files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(authorities(pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match files.client_certificate_required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| TlsError::Authority(error.to_string()))?,
                )
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // As PostgreSQL: a resumed session would skip the look at a certificate, and libpq resumes
        // none.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            end_point,
            digest: digest(files),
        })
    }

    /// Takes the server's part of a handshake; `received` is what the client has sent of it.
    ///
    /// # Errors
    ///
    /// When the client speaks no TLS that we speak, its certificate is not good, or the connection
    /// breaks.
    pub async fn accept(&self, stream: TcpStream, received: BytesMut) -> io::Result<Stream> {
        let connection =
            ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let encrypted = Encrypted::handshake(stream, connection.into(), received).await?;
        Ok(Stream::Tls(Box::new(encrypted)))
    }

    /// What `tls-server-end-point` binds to on our connections; `None` when our certificate has a
    /// signature for which that is not defined.
    pub fn end_point(&self) -> Option<&Bytes> {
        self.end_point.as_ref()
    }
}

/// Equal when they were made of the same files.
impl PartialEq for TlsAcceptor {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TlsAcceptor {}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}

/// A certificate with its key, if they belong together.
pub(super) fn identity(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate, TlsFile::Certificate)?;
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) if is_encrypted(key) => return Err(TlsError::EncryptedKey),
        Err(pem::Error::NoItemsFound) => return Err(TlsError::Nothing(TlsFile::Key)),
        Err(error) => return Err(TlsError::Malformed(TlsFile::Key, error.to_string())),
    };
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|error| TlsError::Malformed(TlsFile::Key, error.to_string()))?;
    // Not by rustls' own comparison: it does not read the certificates of version 1 that a plain
    // `openssl x509 -req` makes.
    let certified = chain.first().and_then(public_key).ok_or_else(|| {
        TlsError::Malformed(TlsFile::Certificate, "not an X.509 certificate".to_owned())
    })?;
    match key.public_key() {
        Some(own) if own.as_ref() != certified => Err(TlsError::KeyMismatch),
        _ => Ok(CertifiedKey::new(chain, key)),
    }
}

/// All certificates of a PEM file; at least one.
pub(super) fn certificates(
    pem: &[u8],
    file: TlsFile,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Nothing(file)),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::Malformed(file, error.to_string())),
    }
}

/// The certificates of a PEM file, as those whom we believe.
pub(super) fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, TlsFile::Authorities)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authority(error.to_string()))?;
    }
    Ok(roots)
}

fn is_encrypted(pem: &[u8]) -> bool {
    memchr::memmem::find(pem, b"ENCRYPTED").is_some()
}

fn digest(files: &AcceptorFiles<'_>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [
        files.certificate,
        files.key,
        files.client_authorities.unwrap_or_default(),
        &[
            u8::from(files.client_certificate_required),
            u8::from(files.only_tls13),
        ],
    ] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The one protocol that is spoken here. A client that begins with TLS at once has to name it, so
/// that nobody can lead a browser to a database. Source: PostgreSQL 17, `PG_ALPN_PROTOCOL`.
pub(super) const ALPN: &[u8] = b"postgresql";
