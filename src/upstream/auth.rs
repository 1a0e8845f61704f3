//! Answers the authentication requests of a server.
//!
//! A machine without a socket: a request goes in, a reply comes out. A server that skips the proof
//! of its own identity in the middle of SCRAM is refused.

use bytes::BytesMut;

use super::{AuthMethod, ConnectError, Login, Secret};
use crate::clock;
use crate::wire::Md5Hash;
use crate::wire::backend::{Authentication as Request, Mechanisms};
use crate::wire::frontend;
use crate::wire::scram::{ClientExchange, ClientKey, MECHANISM, ScramError, ServerKey};

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
    /// The first message of SCRAM was sent.
    ScramFirst(ClientExchange),
    /// The proof was sent.
    ScramProof(ClientExchange),
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
        let request = Request::parse(body)
            .map_err(|_malformed| ConnectError::Protocol("malformed authentication request"))?;
        let step = std::mem::replace(&mut self.step, Step::PasswordSent);
        match (request, step) {
            (Request::Ok, Step::Start | Step::PasswordSent | Step::ServerProven) => Ok(Next::Done),
            (Request::Ok, _) => Err(ConnectError::ServerNotProven),
            (Request::Cleartext, Step::Start) => self.cleartext(),
            (Request::Md5(salt), Step::Start) => self.md5(salt),
            (Request::Sasl(mechanisms), Step::Start) => self.scram_first(mechanisms),
            (Request::SaslContinue(challenge), Step::ScramFirst(exchange)) => {
                let (exchange, proof) = exchange.proof(challenge).map_err(explain)?;
                self.step = Step::ScramProof(exchange);
                Ok(reply(|out| frontend::sasl_response(out, &proof)))
            }
            (Request::SaslFinal(last), Step::ScramProof(exchange)) => {
                // The keys that it gives are those that the login has, or a password's.
                let _known = exchange.finish(last).map_err(explain)?;
                self.step = Step::ServerProven;
                Ok(Next::Wait)
            }
            (Request::Other(code), _) => Err(self.unsupported(AuthMethod::Other(code))),
            _ => Err(ConnectError::Protocol("authentication out of order")),
        }
    }

    fn cleartext(&self) -> Result<Next, ConnectError> {
        match &self.login.secret {
            Secret::Password(password) => {
                Ok(reply(|out| frontend::password(out, password.as_bytes())))
            }
            _ => Err(self.unsupported(AuthMethod::Cleartext)),
        }
    }

    fn md5(&self, salt: [u8; 4]) -> Result<Next, ConnectError> {
        let user = self.login.user.as_bytes();
        let answer = match &self.login.secret {
            Secret::Password(password) => {
                Md5Hash::of_password(password.as_bytes(), user).answer(salt)
            }
            Secret::Md5(hash) => hash.answer(salt),
            Secret::None | Secret::ScramKeys { .. } => {
                return Err(self.unsupported(AuthMethod::Md5));
            }
        };
        Ok(reply(|out| frontend::password(out, answer.as_bytes())))
    }

    fn scram_first(&mut self, mechanisms: Mechanisms<'_>) -> Result<Next, ConnectError> {
        if !mechanisms.has(MECHANISM) {
            return Err(self.unsupported(AuthMethod::OtherSasl));
        }
        let nonce = clock::random()?;
        let exchange = match &self.login.secret {
            Secret::Password(password) => ClientExchange::with_password(password.as_bytes(), nonce),
            Secret::ScramKeys {
                client_key,
                server_key,
            } => ClientExchange::with_keys(
                ClientKey::from_bytes(*client_key),
                Some(ServerKey::from_bytes(*server_key)),
                nonce,
            ),
            Secret::None | Secret::Md5(_) => return Err(self.unsupported(AuthMethod::Scram)),
        };
        let first = exchange.first().map_err(explain)?;
        self.step = Step::ScramFirst(exchange);
        let mechanism = MECHANISM.as_bytes();
        Ok(reply(|out| {
            frontend::sasl_initial_response(out, mechanism, &first);
        }))
    }

    fn unsupported(&self, method: AuthMethod) -> ConnectError {
        let secret = match self.login.secret {
            Secret::None => "no secret",
            Secret::Password(_) => "a password",
            Secret::Md5(_) => "an md5 hash",
            Secret::ScramKeys { .. } => "SCRAM keys",
        };
        ConnectError::AuthUnsupported { method, secret }
    }
}

fn reply(encode: impl FnOnce(&mut BytesMut)) -> Next {
    let mut out = BytesMut::new();
    encode(&mut out);
    Next::Reply(out)
}

fn explain(error: ScramError) -> ConnectError {
    match error {
        ScramError::WrongServer | ScramError::Refused => ConnectError::ServerNotProven,
        _ => ConnectError::Protocol("SCRAM exchange failed"),
    }
}

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

    fn hash() -> Secret {
        Secret::Md5(Md5Hash::of_password(b"secret", b"alice"))
    }

    #[test]
    fn a_stored_hash_answers_md5_as_its_password_does() {
        let asked = [request(MD5, b"salt")];
        assert_eq!(handle(hash(), &asked), handle(password(), &asked));
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
                hash(),
                "an md5 hash",
                SASL,
                b"SCRAM-SHA-256\0\0",
                AuthMethod::Scram,
            ),
            (hash(), "an md5 hash", CLEARTEXT, b"", AuthMethod::Cleartext),
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

    const OK: u32 = 0;
    const CLEARTEXT: u32 = 3;
    const MD5: u32 = 5;
    const SASL: u32 = 10;
    const SASL_CONTINUE: u32 = 11;
    const SASL_FINAL: u32 = 12;
}
