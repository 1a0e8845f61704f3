//! The client side of SCRAM-SHA-256 by keys instead of a password.
//!
//! Whoever has seen a client's proof and knows its verifier has the client's `ClientKey`, and can
//! log the same role in wherever the same verifier stands. No crate does this half.
//!
//! Source: RFC 5802, section 3; PostgreSQL 17, `fe-auth-scram.c`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::ConnectError;

/// What is remembered between the first message and the server's answer.
#[derive(Debug)]
pub(super) struct ScramByKeys {
    nonce: String,
}

/// What must come back for the server to be proven.
#[derive(Debug)]
pub(super) struct Expected {
    signature: [u8; KEY_BYTES],
}

impl ScramByKeys {
    /// Begins with fresh random bytes for the nonce.
    pub(super) fn new(random: [u8; NONCE_BYTES]) -> Self {
        Self {
            nonce: BASE64.encode(random),
        }
    }

    /// The first message of the client. PostgreSQL takes the name from the start-up packet.
    pub(super) fn first(&self) -> String {
        format!("{GS2_HEADER}n=,r={}", self.nonce)
    }

    /// Answers the first message of the server with the final one of the client.
    pub(super) fn answer(
        &self,
        server_first: &[u8],
        client_key: &[u8; KEY_BYTES],
        server_key: &[u8; KEY_BYTES],
    ) -> Result<(String, Expected), ConnectError> {
        let malformed = ConnectError::Protocol("malformed SCRAM challenge");
        let Ok(server_first) = std::str::from_utf8(server_first) else {
            return Err(malformed);
        };
        let nonce = server_first
            .split(',')
            .next()
            .and_then(|first| first.strip_prefix("r="));
        let nonce = match nonce {
            Some(nonce) if nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce) => {
                nonce
            }
            _ => return Err(malformed),
        };
        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let signed = format!("n=,r={},{server_first},{without_proof}", self.nonce);
        let stored_key: [u8; KEY_BYTES] = Sha256::digest(client_key).into();
        let mut proof = sign(&stored_key, &signed)?;
        for (byte, key) in proof.iter_mut().zip(client_key) {
            *byte ^= key;
        }
        let expected = Expected {
            signature: sign(server_key, &signed)?,
        };
        Ok((
            format!("{without_proof},p={}", BASE64.encode(proof)),
            expected,
        ))
    }
}

impl Expected {
    /// Checks the final message of the server.
    pub(super) fn check(&self, server_final: &[u8]) -> Result<(), ConnectError> {
        let signature = server_final
            .strip_prefix(b"v=")
            .and_then(|text| BASE64.decode(text.split(|byte| *byte == b',').next()?).ok())
            .ok_or(ConnectError::ServerNotProven)?;
        // The other side gains nothing from our timing: it would only prove itself to itself.
        match signature == self.signature {
            true => Ok(()),
            false => Err(ConnectError::ServerNotProven),
        }
    }
}

fn sign(key: &[u8; KEY_BYTES], text: &str) -> Result<[u8; KEY_BYTES], ConnectError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|_invalid_length| ConnectError::Protocol("SCRAM key of a wrong length"))?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().into())
}

/// No channel binding, and none wanted: the connection is not encrypted.
const GS2_HEADER: &str = "n,,";
/// The length of every key and signature: that of SHA-256.
pub(super) const KEY_BYTES: usize = 32;
/// As libpq takes.
pub(super) const NONCE_BYTES: usize = 18;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `ClientKey` and `ServerKey` of a password.
    pub(in crate::upstream) fn keys(
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> ([u8; 32], [u8; 32]) {
        let hmac = |key: &[u8], bytes: &[u8]| -> [u8; 32] {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.update(bytes);
            mac.finalize().into_bytes().into()
        };
        let mut block = hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
        let mut salted = block;
        for _ in 1..iterations {
            block = hmac(password.as_bytes(), &block);
            salted.iter_mut().zip(block).for_each(|(a, b)| *a ^= b);
        }
        (hmac(&salted, b"Client Key"), hmac(&salted, b"Server Key"))
    }

    /// The example of RFC 7677, section 3, whose client does name its user.
    #[test]
    fn the_keys_are_those_of_the_standard() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (client_key, server_key) = keys("pencil", &salt, 4096);
        let signed = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let expected = Expected {
            signature: sign(&server_key, signed).unwrap(),
        };
        let from_the_standard = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(expected.check(from_the_standard), Ok(()));
        let stored: [u8; 32] = Sha256::digest(client_key).into();
        let mut proof = sign(&stored, signed).unwrap();
        proof.iter_mut().zip(client_key).for_each(|(a, b)| *a ^= b);
        assert_eq!(
            BASE64.encode(proof),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
    }

    #[test]
    fn a_challenge_that_does_not_extend_our_nonce_is_refused() {
        let scram = ScramByKeys::new([7; NONCE_BYTES]);
        let own = BASE64.encode([7; NONCE_BYTES]);
        let key = [0; KEY_BYTES];
        let answers = |text: String| scram.answer(text.as_bytes(), &key, &key).is_ok();
        assert!(answers(format!("r={own}x,s=AAAA,i=4096")));
        assert!(!answers(format!("r={own},s=AAAA,i=4096")), "nothing added");
        assert!(!answers("r=other,s=AAAA,i=4096".into()));
        assert!(!answers(String::new()));
        assert!(scram.answer(b"\xff", &key, &key).is_err());
    }

    #[test]
    fn a_server_that_signs_with_another_key_is_not_proven() {
        let expected = Expected { signature: [1; 32] };
        for wrong in ["", "v=", "e=other-error", "v=AAAA", "v=!!"] {
            assert_eq!(
                expected.check(wrong.as_bytes()),
                Err(ConnectError::ServerNotProven)
            );
        }
    }
}
