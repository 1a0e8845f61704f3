//! The client's side of an exchange: we log in at a server.

use super::ScramError;
use super::attributes::{check_nonce, decode, decode_key, encode, take};
use super::crypto::{ClientKey, ServerKey, hmac, is_equal, keys, xor};

/// One login of ours, between the messages of the server.
#[derive(Clone, Debug)]
pub struct ClientExchange {
    secret: Secret,
    step: Step,
}

/// The keys of a login that worked. They work again until the verifier changes, without the cost of
/// deriving them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKeys {
    /// What we proved to know.
    pub client_key: ClientKey,
    /// What the server proved to know; `None` when it could not be checked.
    pub server_key: Option<ServerKey>,
}

#[derive(Clone)]
enum Secret {
    Password(Vec<u8>),
    Keys(ClientKeys),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Our nonce is sent.
    First { nonce: String },
    /// Our proof is sent; the transcript is what the server has to sign.
    Final { transcript: Vec<u8> },
}

impl ClientExchange {
    /// Begins an exchange with a password. `nonce` is random.
    pub fn with_password(password: &[u8], nonce: [u8; 18]) -> Self {
        Self::new(Secret::Password(password.to_vec()), nonce)
    }

    /// Begins an exchange with the key that a client has proved to know. The server is checked when
    /// its key is known, too.
    pub fn with_keys(
        client_key: ClientKey,
        server_key: Option<ServerKey>,
        nonce: [u8; 18],
    ) -> Self {
        let keys = ClientKeys {
            client_key,
            server_key,
        };
        Self::new(Secret::Keys(keys), nonce)
    }

    fn new(secret: Secret, nonce: [u8; 18]) -> Self {
        let nonce = encode(&nonce);
        Self {
            secret,
            step: Step::First { nonce },
        }
    }

    /// The first message, for SASLInitialResponse. The user's name is empty, as libpq has it: the
    /// start-up message names the user.
    ///
    /// # Errors
    /// [`ScramError::OutOfOrder`] when the exchange is past it.
    pub fn first(&self) -> Result<Vec<u8>, ScramError> {
        match &self.step {
            Step::First { nonce } => Ok(format!("n,,n=,r={nonce}").into_bytes()),
            Step::Final { .. } => Err(ScramError::OutOfOrder),
        }
    }

    /// Takes the server's first message and gives the proof, for SASLResponse. With a password this
    /// takes its time: about a millisecond for 4096 rounds.
    ///
    /// # Errors
    /// [`ScramError`] when the message is malformed, answers another exchange, or asks for more
    /// rounds than is sane.
    pub fn proof(self, server_first: &[u8]) -> Result<(Self, Vec<u8>), ScramError> {
        let Step::First { nonce: ours } = self.step else {
            return Err(ScramError::OutOfOrder);
        };
        let (nonce, salt, iterations) = read_first(server_first)?;
        // A server that adds nothing of its own could be repeating an old exchange.
        if !nonce.starts_with(ours.as_bytes()) || nonce.len() == ours.len() {
            return Err(ScramError::Nonce);
        }
        let proved = self.secret.into_keys(&salt, iterations)?;

        let signed = [b"c=biws,r=", nonce].concat();
        let opening = format!("n=,r={ours},").into_bytes();
        let transcript = [&opening, server_first, b",", &signed].concat();
        let signature = hmac(&proved.client_key.stored_key(), &[&transcript]);
        let proof = encode(&xor(proved.client_key.as_bytes(), &signature));
        let answer = [&signed, b",p=".as_slice(), proof.as_bytes()].concat();

        let secret = Secret::Keys(proved);
        let step = Step::Final { transcript };
        Ok((Self { secret, step }, answer))
    }

    /// Takes the server's last message. The server knows the verifier if its key was known to us.
    ///
    /// # Errors
    /// [`ScramError::WrongServer`] when its signature is not of this exchange;
    /// [`ScramError::Refused`] when it reports an error.
    pub fn finish(self, server_final: &[u8]) -> Result<ClientKeys, ScramError> {
        let (Step::Final { transcript }, Secret::Keys(keys)) = (self.step, self.secret) else {
            return Err(ScramError::OutOfOrder);
        };
        if server_final.starts_with(b"e=") {
            return Err(ScramError::Refused);
        }
        let mut rest = server_final;
        let signature = decode_key(take(&mut rest, b'v')?)?;
        match &keys.server_key {
            Some(key) if !is_equal(&hmac(key.as_bytes(), &[&transcript]), &signature) => {
                Err(ScramError::WrongServer)
            }
            _ => Ok(keys),
        }
    }
}

impl Secret {
    fn into_keys(self, salt: &[u8], iterations: u32) -> Result<ClientKeys, ScramError> {
        match self {
            Self::Keys(keys) => Ok(keys),
            Self::Password(_) if iterations > ITERATIONS_MAX => {
                Err(ScramError::Iterations(iterations))
            }
            Self::Password(password) => {
                let (client_key, server_key) = keys(&password, salt, iterations);
                Ok(ClientKeys {
                    client_key,
                    server_key: Some(server_key),
                })
            }
        }
    }
}

fn read_first(message: &[u8]) -> Result<(&[u8], Vec<u8>, u32), ScramError> {
    let mut rest = message;
    let nonce = check_nonce(take(&mut rest, b'r')?)?;
    let salt = decode(take(&mut rest, b's')?)?;
    let count = take(&mut rest, b'i')?;
    let iterations = std::str::from_utf8(count)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .filter(|&count| count > 0)
        .ok_or(ScramError::Malformed)?;
    Ok((nonce, salt, iterations))
}

/// A quarter of a second of work; the default is 4096.
const ITERATIONS_MAX: u32 = 1_000_000;
