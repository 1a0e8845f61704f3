//! Keys, hashes and how they are compared.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a client proves to know. As good as the password at every server with the same verifier.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey([u8; 32]);

/// What a server proves to know.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerKey([u8; 32]);

impl ClientKey {
    /// A key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself: for a store that is as safe as one of passwords.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a server stores of it.
    pub(super) fn stored_key(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl ServerKey {
    /// A key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(…)")
    }
}

/// Both keys of a password.
pub(super) fn keys(password: &[u8], salt: &[u8], iterations: u32) -> (ClientKey, ServerKey) {
    let salted = salted_password(&prepared(password), salt, iterations);
    (
        ClientKey(hmac(&salted, &[b"Client Key"])),
        ServerKey(hmac(&salted, &[b"Server Key"])),
    )
}

/// SASLprep, and the password as it is where that does not apply: PostgreSQL allows passwords that
/// are not UTF-8 or hold forbidden characters. Source: PostgreSQL 17, `pg_saslprep`.
fn prepared(password: &[u8]) -> Vec<u8> {
    let text = match std::str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => text,
        _ => return password.to_vec(),
    };
    match stringprep::saslprep(text) {
        Ok(text) if !text.is_empty() => text.into_owned().into_bytes(),
        _ => password.to_vec(),
    }
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let keyed = keyed(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut round: [u8; 32] = first.finalize().into_bytes().into();
    let mut result = round;
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&round);
        round = next.finalize().into_bytes().into();
        result = xor(&result, &round);
    }
    result
}

pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The key as one block of the hash: the form that cannot fail. Source: RFC 2104.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let digest;
    let key = if key.len() > BLOCK {
        digest = Sha256::digest(key);
        digest.as_slice()
    } else {
        key
    };
    let mut block = [0; BLOCK];
    for (slot, byte) in block.iter_mut().zip(key) {
        *slot = *byte;
    }
    Hmac::new(&block.into())
}

pub(super) fn xor(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut result = *left;
    for (byte, other) in result.iter_mut().zip(right) {
        *byte ^= other;
    }
    result
}

/// Compares in the same time wherever the difference is.
pub(super) fn is_equal(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    difference == 0
}

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;
