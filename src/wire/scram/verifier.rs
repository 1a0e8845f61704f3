//! What PostgreSQL stores instead of a password.

use std::fmt;
use std::str::FromStr;

use super::attributes::{decode, decode_key, encode};
use super::crypto::{ServerKey, hmac, keys};

/// The contents of `pg_authid.rolpassword`: checks a password, does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// Random bytes that the password was hashed with.
    pub salt: Vec<u8>,
    /// The hash of the client's key.
    pub stored_key: [u8; 32],
    /// The key with which the server proves that it knows the verifier.
    pub server_key: ServerKey,
}

/// A text that is not a SCRAM-SHA-256 verifier. It is not repeated: it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a verifier like SCRAM-SHA-256$4096:salt$StoredKey:ServerKey")]
pub struct VerifierError;

impl Verifier {
    /// The verifier of a password. Slow on purpose: about a millisecond for 4096 rounds.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.max(1);
        let (client_key, server_key) = keys(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: client_key.stored_key(),
            server_key,
        }
    }

    /// A verifier that no password fits, for a user that does not exist: the same one each time, so
    /// that the exchange looks and takes the same as for a user that does.
    ///
    /// `secret` is random, kept, and told to nobody.
    pub fn mock(secret: &[u8], user: &[u8]) -> Self {
        let derive = |what: &[u8]| hmac(secret, &[what, user]);
        let salt = derive(b"salt:");
        Self {
            iterations: Self::DEFAULT_ITERATIONS,
            salt: salt.iter().take(SALT).copied().collect(),
            stored_key: derive(b"stored key:"),
            server_key: ServerKey::from_bytes(derive(b"server key:")),
        }
    }

    /// What `scram_iterations` is unless somebody changed it.
    pub const DEFAULT_ITERATIONS: u32 = 4096;
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        parse(text).ok_or(VerifierError)
    }
}

fn parse(text: &str) -> Option<Verifier> {
    let (front, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
    let (iterations, salt) = front.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let is_plain = iterations.bytes().all(|byte| byte.is_ascii_digit());
    Some(Verifier {
        iterations: iterations
            .parse()
            .ok()
            .filter(|&count| is_plain && count > 0)?,
        salt: decode(salt.as_bytes()).ok()?,
        stored_key: decode_key(stored_key.as_bytes()).ok()?,
        server_key: ServerKey::from_bytes(decode_key(server_key.as_bytes()).ok()?),
    })
}

/// Prints it as PostgreSQL stores it.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(self.server_key.as_bytes()),
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

const PREFIX: &str = "SCRAM-SHA-256$";
/// `SCRAM_DEFAULT_SALT_LEN`, in bytes.
const SALT: usize = 16;
