//! SCRAM-SHA-256 without channel binding: the verifier that PostgreSQL stores, the server's side
//! against clients, the client's side against servers.
//!
//! The one thing to know: the server's side recovers the [`ClientKey`] from a good proof. With it
//! the same user can be logged in at every server that holds the same verifier, so that no password
//! has to stand in our configuration.
//!
//! Source: RFC 5802, RFC 7677; PostgreSQL 17, `libpq/auth-scram.c`.

mod attributes;
mod client;
mod crypto;
mod server;
mod verifier;

use crate::wire::SqlState;

pub use client::{ClientExchange, ClientKeys};
pub use crypto::{ClientKey, ServerKey};
pub use server::ServerExchange;
pub use verifier::{Verifier, VerifierError};

/// The name of the mechanism.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is not as the RFC has it.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The client asks for channel binding, which was not offered.
    #[error("client requires SCRAM channel binding, but it is not supported")]
    ChannelBinding,
    /// The client wants to log in as somebody else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// The peer requires an extension.
    #[error("peer requires an unsupported SCRAM extension")]
    Extension,
    /// The peer answers another exchange than this one.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// A server wants more rounds than we are ready to compute.
    #[error("server asks for {0} SCRAM iterations")]
    Iterations(u32),
    /// The proof is wrong: the password is.
    #[error("SCRAM proof does not match")]
    WrongProof,
    /// The server does not know the secret that it should.
    #[error("SCRAM server signature does not match")]
    WrongServer,
    /// The server says that we failed.
    #[error("server refused the SCRAM exchange")]
    Refused,
    /// A step was made twice, or before the one that it follows.
    #[error("SCRAM step out of order")]
    OutOfOrder,
}

impl ScramError {
    /// The state that a client is told.
    pub const fn sqlstate(self) -> SqlState {
        match self {
            Self::WrongProof | Self::Refused | Self::WrongServer => SqlState::INVALID_PASSWORD,
            Self::AuthorizationIdentity | Self::Extension => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Malformed | Self::ChannelBinding | Self::Nonce | Self::Iterations(_) => {
                SqlState::PROTOCOL_VIOLATION
            }
            Self::OutOfOrder => SqlState::INTERNAL_ERROR,
        }
    }
}
