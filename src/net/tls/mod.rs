//! TLS: who we are to clients, whom we believe among servers, and the encrypted stream.
//!
//! rustls is a machine that we drive over our own socket, so that an encrypted stream offers the
//! same attempts that never wait as a plain one.

mod acceptor;
mod certificate;
mod connector;
mod encrypted;
mod error;
#[cfg(test)]
mod tests;
mod verifier;

pub use acceptor::{AcceptorFiles, TlsAcceptor};
pub use certificate::{PeerCertificate, end_point};
pub use connector::{ConnectorFiles, TlsConnector, TlsMode, TlsStart, server_name};
pub use error::{TlsError, TlsFile};

pub use encrypted::Encrypted;
