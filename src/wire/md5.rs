//! The old way to prove a password: MD5 of what the server stores and a salt.
//!
//! What is stored is as good as the password itself, here and at every server that stores the same.
//! Source: PostgreSQL 17, `common/md5_common.c`, `pg_md5_encrypt`.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};

/// What a server stores of a password: `md5` and the hash of the password and the name of the user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Md5Hash(String);

/// A text that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected md5 and 32 hexadecimal digits")]
pub struct NotMd5;

impl Md5Hash {
    /// What a server would store.
    pub fn of_password(password: &[u8], user: &[u8]) -> Self {
        Self(hash(password, user))
    }

    /// What a client that knows the password answers to a salt.
    pub fn answer(&self, salt: [u8; 4]) -> String {
        let digits = self.0.strip_prefix(PREFIX).unwrap_or_default();
        hash(digits.as_bytes(), &salt)
    }

    /// Whether a client that answered this knows the password. Takes the same time for each wrong
    /// answer of the right length.
    pub fn proves(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        let right = self.answer(salt);
        let differ = |(a, b): (&u8, &u8)| a ^ b;
        let differences = right.as_bytes().iter().zip(answer).map(differ);
        right.len() == answer.len() && differences.fold(0, |all, one| all | one) == 0
    }

    /// As the server stores it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Md5Hash {
    type Err = NotMd5;

    fn from_str(text: &str) -> Result<Self, NotMd5> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotMd5)?;
        let is_hash = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then(|| Self(text.to_owned())).ok_or(NotMd5)
    }
}

/// Not the hash: it is as good as a password.
impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash")
    }
}

fn hash(text: &[u8], salt: &[u8]) -> String {
    let digest = Md5::new().chain_update(text).chain_update(salt).finalize();
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once(PREFIX.to_owned()).chain(digits).collect()
}

const PREFIX: &str = "md5";
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_one_that_postgresql_stores() {
        // SELECT rolpassword of CREATE ROLE hashed PASSWORD 'secret' under
        // password_encryption = md5: 'md5' || md5('secret' || 'hashed').
        let hash = Md5Hash::of_password(b"secret", b"hashed");
        let expected = postgres_protocol::authentication::md5_hash(b"hashed", b"secret", *b"salt");
        assert_eq!(hash.answer(*b"salt"), expected);
        assert_eq!(hash.as_str().parse::<Md5Hash>(), Ok(hash));
    }

    #[test]
    fn only_the_right_answer_to_the_right_salt_proves() {
        let hash = Md5Hash::of_password(b"secret", b"ann");
        let answer = hash.answer(*b"salt");
        assert!(hash.proves(*b"salt", answer.as_bytes()));
        assert!(!hash.proves(*b"sale", answer.as_bytes()));
        assert!(!hash.proves(*b"salt", &answer.as_bytes()[..34]));
        assert!(!hash.proves(*b"salt", b""));
        assert!(!hash.proves(*b"salt", hash.as_str().as_bytes()));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_none_is_printed() {
        for text in ["", "md5", "md5xyz", "secret", &"0".repeat(35)] {
            assert_eq!(text.parse::<Md5Hash>(), Err(NotMd5), "{text}");
        }
        let hash = Md5Hash::of_password(b"secret", b"ann");
        assert_eq!(format!("{hash:?}"), "Md5Hash");
    }
}
