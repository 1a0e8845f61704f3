//! Why certificates and keys cannot be used.

use std::fmt;

/// What is wrong with the files of TLS. The files in force are not touched by it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// There is nothing of the kind in it.
    #[error("no {0} in PEM form found")]
    Nothing(TlsFile),
    /// It is not PEM, or not what it says it is.
    #[error("not a valid {0}: {1}")]
    Malformed(TlsFile, String),
    /// The key is encrypted, and nobody is there to type its passphrase.
    #[error("the private key is encrypted: store it without a passphrase")]
    EncryptedKey,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A certificate authority cannot be used as one.
    #[error("not usable as a certificate authority: {0}")]
    Authority(String),
    /// What cannot be: the library has no version of TLS.
    #[error("TLS cannot be used: {0}")]
    Library(#[source] rustls::Error),
}

impl TlsError {
    /// The file that it is about.
    pub const fn file(&self) -> TlsFile {
        match self {
            Self::Nothing(file) | Self::Malformed(file, _) => *file,
            Self::Library(_) => TlsFile::Certificate,
            Self::EncryptedKey | Self::KeyMismatch => TlsFile::Key,
            Self::Authority(_) => TlsFile::Authorities,
        }
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// Our certificate, and those that lead from it to an authority.
    Certificate,
    /// The private key of our certificate.
    Key,
    /// The certificates of those whom we believe.
    Authorities,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate | Self::Authorities => "certificate",
            Self::Key => "private key",
        })
    }
}
