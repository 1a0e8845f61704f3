//! The part of a login that encrypts the connection.

use tracing::debug;

use super::login::{Attempt, Failed};
use crate::net::{PeerCertificate, Stream, TlsAcceptor};
use crate::session::{ClientCertificate, Secured};
use crate::telemetry::LoginResult;

impl Attempt<'_> {
    /// Answers a request for encryption.
    pub(super) async fn answer(&mut self, answer: &[u8]) -> Result<(), Failed> {
        if !self.input.is_empty() {
            // Bytes that were sent before the answer might be believed to have come encrypted:
            // CVE-2021-23214 and its like.
            return Err(Failed(LoginResult::ProtocolViolation));
        }
        self.send(answer).await
    }

    /// Shakes hands. What the client has sent is the beginning of it.
    pub(super) async fn secure(
        mut self,
        tls: Option<&TlsAcceptor>,
    ) -> Result<(Self, Secured), Failed> {
        let (Some(tls), Stream::Plain(socket)) = (tls, self.stream) else {
            return Err(Failed(LoginResult::TlsFailed));
        };
        match tls.accept(socket, std::mem::take(&mut self.input)).await {
            Ok(stream) => {
                let secured = Secured {
                    certificate: stream.peer_certificate().map(to_session),
                    agreed: stream.is_agreed(),
                };
                Ok((Self { stream, ..self }, secured))
            }
            Err(error) => {
                debug!(client = self.client, error = %error, "could not begin TLS");
                Err(Failed(LoginResult::TlsFailed))
            }
        }
    }
}

fn to_session(certificate: PeerCertificate) -> ClientCertificate {
    ClientCertificate {
        common_name: certificate.common_name,
        subject: certificate.subject,
    }
}
