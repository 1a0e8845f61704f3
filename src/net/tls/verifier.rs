//! Whether a server is who it should be, as libpq decides it: the chain, and the name if wanted.
//!
//! The chain is webpki's to check. What is added is what clusters have and webpki does not take: a
//! certificate that signed itself and stands in the list of those whom we believe, and a name that
//! is only in the subject. The signature of the handshake is checked whatever the mode: channel
//! binding stands on it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::acceptor::certificates;
use super::certificate::{ServerNames, public_key};
use super::{TlsError, TlsFile};

/// How much of a server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    roots: RootCertStore,
    /// The certificates in the file as they are.
    listed: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(check: Check, authorities: Option<&[u8]>) -> Result<Self, TlsError> {
        let listed = match authorities {
            Some(pem) => certificates(pem, TlsFile::Authorities)?,
            None => Vec::new(),
        };
        let mut roots = RootCertStore::empty();
        let (usable, _ignored) = roots.add_parsable_certificates(listed.iter().cloned());
        if let Some(first) = listed.first()
            && usable == 0
            && listed.iter().all(|der| ServerNames::parse(der).is_none())
        {
            return Err(TlsError::Authority(why_not(first)));
        }
        Ok(Self {
            check,
            roots,
            listed,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        })
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.listed.iter().any(|known| known == certificate) {
            // It stands in the file itself, so nobody has to vouch for it.
            return within_its_time(certificate, now);
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms().all,
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != Check::Nothing {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if self.check == Check::ChainAndName {
            verify_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, cert, dss, self.algorithms()) {
            // Version 1, say. The key is all that is needed of it.
            Err(Error::InvalidCertificate(_)) => {
                let key = public_key(cert).ok_or(CertificateError::BadEncoding)?;
                let key = SubjectPublicKeyInfoDer::from(key);
                verify_tls13_signature_with_raw_key(message, &key, dss, self.algorithms())
            }
            result => result,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

/// Whether a certificate is for a host. The common name counts where no alternative name is of the
/// host's kind, as in libpq.
///
/// Source: PostgreSQL 17, `pgtls_verify_peer_name_matches_certificate_guts`.
fn verify_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let named = ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, host));
    let Err(error) = named else {
        return Ok(());
    };
    let fits = ServerNames::parse(certificate).is_some_and(|names| names.fit_by_common_name(host));
    if fits { Ok(()) } else { Err(error) }
}

fn within_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let names = ServerNames::parse(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = now.as_secs();
    if now < names.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > names.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn why_not(certificate: &CertificateDer<'static>) -> String {
    match RootCertStore::empty().add(certificate.clone()) {
        Err(error) => error.to_string(),
        Ok(()) => "not an X.509 certificate".to_owned(),
    }
}
