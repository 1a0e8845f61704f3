//! Who a client is: what a login finds out.

use super::Replication;
use crate::wire::Md5Hash;
use crate::wire::scram::{ClientKey, ServerKey};

/// Who a client is, and what it asked for.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
    /// The other start-up parameters, as they came.
    pub parameters: Vec<(String, String)>,
    /// With what we can log in to the servers.
    pub secret: Credential,
    /// The minor version of the protocol.
    pub minor: u16,
    /// Set for a client that replicates.
    pub replication: Option<Replication>,
}

/// With what we can log in to the servers as a client.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing: the servers have to trust us.
    None,
    /// The password.
    Password(String),
    /// The stored hash of it.
    Md5(Md5Hash),
    /// The keys behind the verifier.
    Keys {
        /// Proves us to the server.
        client: ClientKey,
        /// Proves the server to us.
        server: ServerKey,
    },
}

/// What the TLS of a client tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secured {
    /// Whom its certificate names; `None` when it gave none. It has been verified.
    pub certificate: Option<ClientCertificate>,
    /// Whether both sides named PostgreSQL's protocol, by ALPN.
    pub agreed: bool,
}

/// Whom a verified certificate of a client names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The common name of its subject. PostgreSQL's method `cert` compares it, byte for byte, with
    /// the user; a certificate without one lets nobody in.
    pub common_name: Option<String>,
    /// The whole subject, as in `CN=ann,O=Example`.
    pub subject: String,
}
