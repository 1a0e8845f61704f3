//! Reads the fields of one message body, from front to back. Never past its end, never a panic.

use crate::wire::SqlState;

/// A message body that is not what its tag promises; PostgreSQL's own words.
///
/// Source: PostgreSQL 17, `libpq/pqformat.c` and `tcop/postgres.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The body ends inside a field.
    #[error("insufficient data left in message")]
    InsufficientData,
    /// A string has no NUL at its end.
    #[error("invalid string in message")]
    InvalidString,
    /// Bytes are left behind the last field, or a field holds what it cannot.
    #[error("invalid message format")]
    InvalidFormat,
    /// Describe or Close of something that is neither a statement nor a portal.
    #[error("invalid message subtype {0}")]
    InvalidSubtype(u8),
    /// A message that we would have to make longer than the protocol can say.
    #[error("message is too long")]
    TooLong,
}

impl ViewError {
    /// Every one of them is a protocol violation.
    pub const fn sqlstate(self) -> SqlState {
        SqlState::PROTOCOL_VIOLATION
    }
}

/// The part of a body that is not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ViewError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(ViewError::InsufficientData)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ViewError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(ViewError::InsufficientData)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ViewError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ViewError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ViewError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, ViewError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn salt(&mut self) -> Result<[u8; 4], ViewError> {
        self.array()
    }

    /// A string without its NUL.
    pub(super) fn string(&mut self) -> Result<&'a [u8], ViewError> {
        let length = memchr::memchr(0, self.0).ok_or(ViewError::InvalidString)?;
        let text = self.bytes(length)?;
        self.byte()?;
        Ok(text)
    }

    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) const fn end(self) -> Result<(), ViewError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ViewError::InvalidFormat)
        }
    }
}
