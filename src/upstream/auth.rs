//! Answers the authentication requests of a server.
//!
//! A machine without a socket: a request goes in, a reply comes out. A server that skips the proof
//! of its own identity in the middle of SCRAM is refused.
//!
//! Source: PostgreSQL 17, protocol-message-formats.html, "AuthenticationOk" and its siblings.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use super::scram::{Expected, ScramByKeys};
use super::{AuthMethod, ConnectError, Login, Secret};
use crate::clock;

/// One authentication, from the server's first request to its `AuthenticationOk`.
pub(super) struct Authentication<'a> {
    login: &'a Login,
    step: Step,
}

/// What has happened.
enum Step {
    /// Nothing; any method may be asked for.
    Start,
    /// A password, plain or hashed, was sent.
    PasswordSent,
    /// SCRAM by password: the first message was sent.
    PasswordFirst(Box<ScramSha256>),
    /// SCRAM by password: the proof was sent.
    PasswordProof(Box<ScramSha256>),
    /// SCRAM by keys: the first message was sent.
    KeysFirst(ScramByKeys),
    /// SCRAM by keys: the proof was sent.
    KeysProof(Expected),
    /// The server has proven itself; only `AuthenticationOk` may follow.
    ServerProven,
}

/// What to do after a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this.
    Reply(BytesMut),
    /// Read on.
    Wait,
    /// We are logged in.
    Done,
}

impl<'a> Authentication<'a> {
    pub(super) fn new(login: &'a Login) -> Self {
        Self {
            login,
            step: Step::Start,
        }
    }

    /// Handles the body of one authentication request.
    pub(super) fn handle(&mut self, body: &[u8]) -> Result<Next, ConnectError> {
        let Some((code, data)) = body.split_first_chunk::<4>() else {
            return Err(ConnectError::Protocol("short authentication request"));
        };
        let code = u32::from_be_bytes(*code);
        match (code, std::mem::replace(&mut self.step, Step::PasswordSent)) {
            (OK, Step::Start | Step::PasswordSent | Step::ServerProven) => Ok(Next::Done),
            (OK, _) => Err(ConnectError::ServerNotProven),
            (CLEARTEXT, Step::Start) => self.cleartext(),
            (MD5, Step::Start) => self.md5(data),
            (SASL, Step::Start) => self.scram_first(data),
            (SASL_CONTINUE, step) => self.scram_proof(step, data),
            (SASL_FINAL, step) => self.scram_check(step, data),
            (CLEARTEXT | MD5 | SASL, _) => {
                Err(ConnectError::Protocol("a second authentication method"))
            }
            (other, _) => Err(self.unsupported(AuthMethod::Other(other))),
        }
    }

    fn cleartext(&self) -> Result<Next, ConnectError> {
        match &self.login.secret {
            Secret::Password(password) => password_message(password.as_bytes()),
            _ => Err(self.unsupported(AuthMethod::Cleartext)),
        }
    }

    fn md5(&self, salt: &[u8]) -> Result<Next, ConnectError> {
        let Secret::Password(password) = &self.login.secret else {
            return Err(self.unsupported(AuthMethod::Md5));
        };
        let Ok(salt) = <[u8; 4]>::try_from(salt) else {
            return Err(ConnectError::Protocol("md5 salt of a wrong length"));
        };
        let hash = md5_hash(self.login.user.as_bytes(), password.as_bytes(), salt);
        password_message(hash.as_bytes())
    }

    fn scram_first(&mut self, mechanisms: &[u8]) -> Result<Next, ConnectError> {
        let known = mechanisms
            .split(|byte| *byte == 0)
            .any(|name| name == SCRAM_SHA_256.as_bytes());
        if !known {
            return Err(self.unsupported(AuthMethod::OtherSasl));
        }
        let (first, step) = match &self.login.secret {
            Secret::Password(password) => {
                let scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                (
                    scram.message().to_vec(),
                    Step::PasswordFirst(Box::new(scram)),
                )
            }
            Secret::ScramKeys { .. } => {
                let random = clock::random()?;
                let scram = ScramByKeys::new(random);
                (scram.first().into_bytes(), Step::KeysFirst(scram))
            }
            Secret::None => return Err(self.unsupported(AuthMethod::Scram)),
        };
        self.step = step;
        encode(|out| frontend::sasl_initial_response(SCRAM_SHA_256, &first, out))
    }

    fn scram_proof(&mut self, step: Step, challenge: &[u8]) -> Result<Next, ConnectError> {
        let (proof, step) = match (step, &self.login.secret) {
            (Step::PasswordFirst(mut scram), _) => {
                scram
                    .update(challenge)
                    .map_err(|_malformed| ConnectError::Protocol("malformed SCRAM challenge"))?;
                (scram.message().to_vec(), Step::PasswordProof(scram))
            }
            (
                Step::KeysFirst(scram),
                Secret::ScramKeys {
                    client_key,
                    server_key,
                },
            ) => {
                let (proof, expected) = scram.answer(challenge, client_key, server_key)?;
                (proof.into_bytes(), Step::KeysProof(expected))
            }
            _ => return Err(ConnectError::Protocol("SCRAM challenge out of order")),
        };
        self.step = step;
        encode(|out| frontend::sasl_response(&proof, out))
    }

    fn scram_check(&mut self, step: Step, server_final: &[u8]) -> Result<Next, ConnectError> {
        match step {
            Step::PasswordProof(mut scram) => scram
                .finish(server_final)
                .map_err(|_wrong| ConnectError::ServerNotProven)?,
            Step::KeysProof(expected) => expected.check(server_final)?,
            _ => return Err(ConnectError::Protocol("end of SCRAM out of order")),
        }
        self.step = Step::ServerProven;
        Ok(Next::Wait)
    }

    fn unsupported(&self, method: AuthMethod) -> ConnectError {
        let secret = match self.login.secret {
            Secret::None => "no secret",
            Secret::Password(_) => "a password",
            Secret::ScramKeys { .. } => "SCRAM keys",
        };
        ConnectError::AuthUnsupported { method, secret }
    }
}

fn password_message(password: &[u8]) -> Result<Next, ConnectError> {
    encode(|out| frontend::password_message(password, out))
}

/// Runs an encoder. They fail on a NUL in a string, or a message beyond two gigabytes.
pub(super) fn encode(
    encoder: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
) -> Result<Next, ConnectError> {
    let mut out = BytesMut::new();
    encoder(&mut out).map_err(|_not_encodable| ConnectError::InvalidLogin)?;
    Ok(Next::Reply(out))
}

const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn login(secret: Secret) -> Login {
        Login {
            database: "app".into(),
            user: "alice".into(),
            secret,
            parameters: BTreeMap::new(),
        }
    }

    fn request(code: u32, data: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], data].concat()
    }

    fn handle(secret: Secret, requests: &[Vec<u8>]) -> Result<Next, ConnectError> {
        let login = login(secret);
        let mut authentication = Authentication::new(&login);
        let mut next = Ok(Next::Wait);
        for request in requests {
            next = authentication.handle(request);
            next.as_ref().map_err(Clone::clone)?;
        }
        next
    }

    fn password() -> Secret {
        Secret::Password("secret".into())
    }

    fn keys() -> Secret {
        Secret::ScramKeys {
            client_key: [1; 32],
            server_key: [2; 32],
        }
    }

    #[test]
    fn trust_is_taken_with_any_secret() {
        for secret in [Secret::None, password(), keys()] {
            assert_eq!(handle(secret, &[request(OK, b"")]), Ok(Next::Done));
        }
    }

    #[test]
    fn a_secret_that_does_not_fit_the_method_is_named() {
        for (secret, word, code, data, method) in [
            (
                Secret::None,
                "no secret",
                CLEARTEXT,
                &b""[..],
                AuthMethod::Cleartext,
            ),
            (keys(), "SCRAM keys", CLEARTEXT, b"", AuthMethod::Cleartext),
            (keys(), "SCRAM keys", MD5, b"salt", AuthMethod::Md5),
            (
                Secret::None,
                "no secret",
                SASL,
                b"SCRAM-SHA-256\0\0",
                AuthMethod::Scram,
            ),
            (
                password(),
                "a password",
                SASL,
                b"MAGIC\0\0",
                AuthMethod::OtherSasl,
            ),
            (password(), "a password", 7, b"", AuthMethod::Other(7)),
        ] {
            assert_eq!(
                handle(secret, &[request(code, data)]),
                Err(ConnectError::AuthUnsupported {
                    method,
                    secret: word
                })
            );
        }
    }

    #[test]
    fn a_server_that_skips_its_own_proof_is_refused() {
        for secret in [password(), keys()] {
            let requests = [request(SASL, b"SCRAM-SHA-256\0\0"), request(OK, b"")];
            assert_eq!(
                handle(secret, &requests),
                Err(ConnectError::ServerNotProven)
            );
        }
    }

    #[test]
    fn requests_out_of_order_are_refused_and_never_a_panic() {
        for secret in [Secret::None, password(), keys()] {
            for requests in [
                vec![request(SASL_CONTINUE, b"r=x")],
                vec![request(SASL_FINAL, b"v=AAAA")],
                vec![
                    request(SASL, b"SCRAM-SHA-256\0\0"),
                    request(SASL_FINAL, b"v=AAAA"),
                ],
                vec![
                    request(SASL, b"SCRAM-SHA-256\0\0"),
                    request(SASL_CONTINUE, b"\xff"),
                ],
                vec![
                    request(SASL, b"SCRAM-SHA-256\0\0"),
                    request(SASL, b"SCRAM-SHA-256\0\0"),
                ],
                vec![request(CLEARTEXT, b""), request(MD5, b"salt")],
                vec![request(MD5, b"sal")],
                vec![vec![0, 0, 0]],
            ] {
                assert!(handle(secret.clone(), &requests).is_err(), "{requests:?}");
            }
        }
    }
}
