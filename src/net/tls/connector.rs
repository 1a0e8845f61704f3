//! Whom we believe among servers, and who we are to them.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use super::acceptor::{ALPN, identity};
use super::verifier::{Check, Verifier};
use super::{Encrypted, TlsError};
use crate::net::Stream;

/// How connections to servers are encrypted, and what is looked at; libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// If the server can; its certificate is not looked at.
    #[default]
    Prefer,
    /// Always; its certificate is not looked at.
    Require,
    /// Always; its certificate leads to an authority that we believe.
    VerifyCa,
    /// As before, and it is for the host that we connect to.
    VerifyFull,
}

/// How TLS begins; libpq's `sslnegotiation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsStart {
    /// The server is asked whether it can.
    #[default]
    Asked,
    /// With the first byte. PostgreSQL can since version 17.
    Direct,
}

/// The contents of the files that a connector is made of.
#[derive(Clone, Copy, Default)]
pub struct ConnectorFiles<'a> {
    /// Who signs the certificates of servers, in PEM.
    pub authorities: Option<&'a [u8]>,
    /// Our certificate and its private key, in PEM, for servers that ask for one.
    pub identity: Option<(&'a [u8], &'a [u8])>,
}

/// Takes the client's part of TLS with servers. A reload makes another one.
#[derive(Clone)]
pub struct TlsConnector {
    mode: TlsMode,
    start: TlsStart,
    config: Arc<ClientConfig>,
    /// Of all that it was made of, to tell whether a reload brought something else.
    digest: [u8; 32],
}

/// Not what is in them: one is a secret.
impl fmt::Debug for ConnectorFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorFiles").finish_non_exhaustive()
    }
}

impl TlsConnector {
    /// Reads the certificates. Without authorities no certificate of a server is good for the
    /// modes that look at it.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when they cannot be used, or do not belong together.
    pub fn new(
        mode: TlsMode,
        start: TlsStart,
        files: &ConnectorFiles<'_>,
    ) -> Result<Self, TlsError> {
        let identity = match files.identity {
            Some((certificate, key)) => Some(identity(certificate, key)?),
            None => None,
        };
        let check = match mode {
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Check::Nothing,
            TlsMode::VerifyCa => Check::Chain,
            TlsMode::VerifyFull => Check::ChainAndName,
        };
        let verifier = Verifier::new(check, files.authorities)?;
        let config = ClientConfig::builder_with_provider(verifier.provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL gives no tickets.
        config.resumption = Resumption::disabled();
        Ok(Self {
            mode,
            start,
            config: Arc::new(config),
            digest: digest(mode, files),
        })
    }

    /// Whether to encrypt, and what to look at.
    pub const fn mode(&self) -> TlsMode {
        self.mode
    }

    /// How it begins.
    pub const fn start(&self) -> TlsStart {
        self.start
    }

    /// For those who move the bytes themselves.
    pub const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Takes the client's part of a handshake, with a server that is called `host`.
    ///
    /// # Errors
    ///
    /// `InvalidData` with the reason when the server's certificate is not good, or it speaks no TLS
    /// that we speak; `InvalidInput` when no certificate could name such a host; others when the
    /// connection breaks.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<Stream> {
        let name = server_name(host)?;
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let encrypted = Encrypted::handshake(stream, connection.into(), BytesMut::new()).await?;
        self.check_agreed(encrypted.is_agreed())?;
        Ok(Stream::Tls(Box::new(encrypted)))
    }

    /// Checks that a server which was not asked first knows what protocol it has agreed to: any
    /// other, of a web server, say, could be made to take what we send for its own.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it does not.
    pub fn check_agreed(&self, is_agreed: bool) -> io::Result<()> {
        if self.start == TlsStart::Direct && !is_agreed {
            let text = "the server did not agree to PostgreSQL's protocol by ALPN";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }
}

/// A host as certificates name it.
///
/// # Errors
///
/// `InvalidInput` when no certificate could.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// As `prefer` without any files, which cannot fail.
impl Default for TlsConnector {
    #[expect(
        clippy::expect_used,
        reason = "fails only by its files, and by a provider without versions"
    )]
    fn default() -> Self {
        Self::new(
            TlsMode::default(),
            TlsStart::default(),
            &ConnectorFiles::default(),
        )
        .expect("there are no files")
    }
}

/// Equal when they were made of the same files, for the same mode and start.
impl PartialEq for TlsConnector {
    fn eq(&self, other: &Self) -> bool {
        self.start == other.start && self.digest == other.digest
    }
}

impl Eq for TlsConnector {}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

fn digest(mode: TlsMode, files: &ConnectorFiles<'_>) -> [u8; 32] {
    let (certificate, key) = files.identity.unwrap_or_default();
    let mode = format!("{mode:?}");
    let authorities = files.authorities.unwrap_or_default();
    let mut digest = Sha256::new();
    for part in [mode.as_bytes(), authorities, certificate, key] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
