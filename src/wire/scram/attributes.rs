//! The comma-separated attributes that SCRAM messages are made of.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ScramError;

/// Takes the value of the next attribute, which must have this name. A comma must follow unless the
/// message ends.
pub(super) fn take<'a>(message: &mut &'a [u8], name: u8) -> Result<&'a [u8], ScramError> {
    let (value, rest) = match memchr::memchr(b',', message) {
        Some(comma) => {
            let (value, rest) = message
                .split_at_checked(comma)
                .ok_or(ScramError::Malformed)?;
            (value, rest.get(1..).unwrap_or_default())
        }
        None => (*message, &[][..]),
    };
    match value {
        [found, b'=', value @ ..] if *found == name => {
            *message = rest;
            Ok(value)
        }
        [b'm', b'=', ..] => Err(ScramError::Extension),
        _ => Err(ScramError::Malformed),
    }
}

/// A nonce: printable ASCII without a comma, at least one character.
pub(super) fn check_nonce(nonce: &[u8]) -> Result<&[u8], ScramError> {
    let is_good = |byte: &u8| matches!(byte, 0x21..=0x7E) && *byte != b',';
    if nonce.is_empty() || !nonce.iter().all(is_good) {
        return Err(ScramError::Malformed);
    }
    Ok(nonce)
}

pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, ScramError> {
    STANDARD
        .decode(text)
        .map_err(|_not_base64| ScramError::Malformed)
}

pub(super) fn decode_key(text: &[u8]) -> Result<[u8; 32], ScramError> {
    decode(text)?
        .try_into()
        .map_err(|_wrong_length| ScramError::Malformed)
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
