//! The files of TLS, read once: what cannot be used is a mistake like any other.

use std::path::{Path, PathBuf};

use crate::net::{
    AcceptorFiles, ConnectorFiles, TlsAcceptor, TlsConnector, TlsFile, TlsMode, TlsStart,
};

use super::build::Builder;
use super::model::{ClientCertificates, ListenTls, ListenTlsMode};
use super::problem::Code;

impl Builder<'_> {
    /// How connections of clients are encrypted.
    pub(super) fn listen_tls(&mut self) -> ListenTls {
        let mode = match self.word("listen.tls.mode") {
            "disable" => ListenTlsMode::Disable,
            "require" => ListenTlsMode::Require,
            _ => ListenTlsMode::Allow,
        };
        let only_tls13 = self.word("listen.tls.min_version") == "1.3";
        let (certificate, key) = (self.path(CERTIFICATE), self.path(KEY));
        let authorities = self.path(CLIENT_AUTHORITIES);
        let client_certificates = match (self.word("listen.tls.client_certs"), &authorities) {
            ("require", _) => ClientCertificates::Required,
            (_, Some(_)) => ClientCertificates::Asked,
            (_, None) => ClientCertificates::No,
        };
        let acceptor = match (mode, certificate, key) {
            (ListenTlsMode::Disable, ..) | (_, None, None) => None,
            (_, Some(certificate), Some(key)) => {
                let files = [Some(certificate), Some(key), authorities];
                self.acceptor(&files, client_certificates, only_tls13)
            }
            (_, Some(_), None) => self.misses(CERTIFICATE, KEY),
            (_, None, Some(_)) => self.misses(KEY, CERTIFICATE),
        };
        ListenTls {
            mode,
            acceptor,
            client_certificates,
        }
    }

    /// How connections to servers are encrypted.
    pub(super) fn cluster_tls(&mut self, cluster: &str) -> TlsConnector {
        let key = |name: &str| format!("cluster.{cluster}.{name}");
        let (authorities, certificate, private) = (
            key("tls_ca_file"),
            key("tls_cert_file"),
            key("tls_key_file"),
        );
        let mode = match self.word(&key("tls")) {
            "disable" => TlsMode::Disable,
            "require" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyFull,
            _ => TlsMode::Prefer,
        };
        let files = [&authorities, &certificate, &private].map(|setting| self.path(setting));
        if mode == TlsMode::Disable {
            // Files that nobody uses may be missing.
            return self.connector(cluster, mode, &ConnectorFiles::default());
        }
        let [ca, own, own_key] = [&authorities, &certificate, &private]
            .into_iter()
            .zip(&files)
            .map(|(setting, file)| self.pem(setting, file.as_deref()).unwrap_or_default())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_default();
        let identity = match &files {
            [_, Some(_), Some(_)] => Some((own.as_slice(), own_key.as_slice())),
            [_, None, None] => None,
            [_, Some(_), None] => self.misses(&certificate, &private),
            [_, None, Some(_)] => self.misses(&private, &certificate),
        };
        let files = ConnectorFiles {
            authorities: (!ca.is_empty()).then_some(&ca),
            identity: identity.filter(|(own, key)| !own.is_empty() && !key.is_empty()),
        };
        self.connector(cluster, mode, &files)
    }

    fn connector(
        &mut self,
        cluster: &str,
        mode: TlsMode,
        files: &ConnectorFiles<'_>,
    ) -> TlsConnector {
        let start = match self.word(&format!("cluster.{cluster}.tls_negotiation")) {
            "direct" => TlsStart::Direct,
            _ => TlsStart::Asked,
        };
        TlsConnector::new(mode, start, files).unwrap_or_else(|error| {
            let name = match error.file() {
                TlsFile::Certificate => "tls_cert_file",
                TlsFile::Key => "tls_key_file",
                TlsFile::Authorities => "tls_ca_file",
            };
            self.unusable(&format!("cluster.{cluster}.{name}"), &error.to_string());
            TlsConnector::default()
        })
    }

    fn acceptor(
        &mut self,
        files: &[Option<PathBuf>; 3],
        client_certificates: ClientCertificates,
        only_tls13: bool,
    ) -> Option<TlsAcceptor> {
        let [certificate, key, authorities] = files;
        let certificate = self.pem(CERTIFICATE, certificate.as_deref())?;
        let key = self.pem(KEY, key.as_deref())?;
        let authorities = self.pem(CLIENT_AUTHORITIES, authorities.as_deref())?;
        let made = TlsAcceptor::new(&AcceptorFiles {
            certificate: &certificate,
            key: &key,
            client_authorities: (!authorities.is_empty()).then_some(&authorities),
            client_certificate_required: client_certificates == ClientCertificates::Required,
            only_tls13,
        });
        match made {
            Ok(acceptor) => Some(acceptor),
            Err(error) => {
                let setting = match error.file() {
                    TlsFile::Certificate => CERTIFICATE,
                    TlsFile::Key => KEY,
                    TlsFile::Authorities => CLIENT_AUTHORITIES,
                };
                self.unusable(setting, &error.to_string());
                None
            }
        }
    }

    /// The contents of a file; nothing when none is named, `None` when it cannot be read.
    pub(super) fn pem(&mut self, setting: &str, file: Option<&Path>) -> Option<Vec<u8>> {
        match file.map(std::fs::read) {
            None => Some(Vec::new()),
            Some(Ok(contents)) => Some(contents),
            Some(Err(error)) => {
                self.unusable(setting, &error.to_string());
                None
            }
        }
    }

    pub(super) fn unusable(&mut self, setting: &str, why: &str) {
        let entry = self.entry(setting);
        let file = entry.as_ref().map(|entry| entry.value.to_string());
        let message = format!("{setting}: cannot use {}: {why}", file.unwrap_or_default());
        self.error(
            Code::SecretUnreadable,
            entry.and_then(|entry| entry.place),
            message,
            None,
        );
    }

    pub(super) fn misses<T>(&mut self, given: &str, missing: &str) -> Option<T> {
        let place = self.entry(given).and_then(|entry| entry.place);
        let message = format!("{given} needs {missing}");
        self.error(Code::Conflict, place, message, None);
        None
    }
}

const CERTIFICATE: &str = "listen.tls.cert_file";
const KEY: &str = "listen.tls.key_file";
const CLIENT_AUTHORITIES: &str = "listen.tls.client_ca_file";
