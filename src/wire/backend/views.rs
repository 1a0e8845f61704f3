//! Borrowed views of a server's messages.

use bytes::Bytes;

use crate::wire::CancelKey;
use crate::wire::reader::{Reader, ViewError};

/// Where the server says its transaction stands, when it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: none is open.
    Idle,
    /// `T`: one is open.
    Open,
    /// `E`: one has failed and waits for its end.
    Failed,
}

impl TransactionStatus {
    /// Reads the body of a ReadyForQuery.
    ///
    /// # Errors
    /// [`ViewError`] when it is not one byte of the three.
    pub fn parse(body: &[u8]) -> Result<Self, ViewError> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::Open),
            b"E" => Ok(Self::Failed),
            [] => Err(ViewError::InsufficientData),
            _ => Err(ViewError::InvalidFormat),
        }
    }
}

/// The tag in the body of a CommandComplete, such as `INSERT 0 1`.
pub fn command_tag(body: &[u8]) -> Option<&[u8]> {
    match body {
        [tag @ .., 0] if !tag.contains(&0) => Some(tag),
        _ => None,
    }
}

/// A setting that the server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The name of the setting.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a string has no NUL, or bytes are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let name = reader.string()?;
        let value = reader.string()?;
        reader.end()?;
        Ok(Self { name, value })
    }
}

/// The key that cancels a query of this connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKey<'a> {
    /// The process ID of the backend.
    pub pid: u32,
    /// Four bytes in protocol 3.0, up to 256 in 3.2.
    pub secret: &'a [u8],
}

impl<'a> BackendKey<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when the secret is shorter or longer than the protocol has it.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let pid = reader.u32()?;
        let secret = reader.rest();
        match secret.len() {
            0..4 => Err(ViewError::InsufficientData),
            4..=256 => Ok(Self { pid, secret }),
            _ => Err(ViewError::InvalidFormat),
        }
    }

    /// The key with bytes of its own.
    pub fn to_key(self) -> CancelKey {
        CancelKey {
            pid: self.pid,
            secret: Bytes::copy_from_slice(self.secret),
        }
    }
}

impl std::fmt::Debug for BackendKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// What a server asks for before it lets us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Nothing more.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password hashed with this salt.
    Md5([u8; 4]),
    /// One of these mechanisms.
    Sasl(Mechanisms<'a>),
    /// The next message of the mechanism.
    SaslContinue(&'a [u8]),
    /// The last message of the mechanism.
    SaslFinal(&'a [u8]),
    /// Something that we cannot do (Kerberos, GSS, SSPI), by its number.
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, or bytes are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let request = match reader.u32()? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => Self::Md5(reader.salt()?),
            10 => return Mechanisms::parse(reader).map(Self::Sasl),
            11 => return Ok(Self::SaslContinue(reader.rest())),
            12 => return Ok(Self::SaslFinal(reader.rest())),
            other => return Ok(Self::Other(other)),
        };
        reader.end()?;
        Ok(request)
    }
}

/// The names of the SASL mechanisms that a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl<'a> Mechanisms<'a> {
    fn parse(mut reader: Reader<'a>) -> Result<Self, ViewError> {
        let list = Self(reader.rest());
        while !reader.string()?.is_empty() {}
        reader.end()?;
        Ok(list)
    }

    /// The names, in the server's order of preference.
    pub fn names(self) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
    }

    /// Whether the server offers this one.
    pub fn has(self, name: &str) -> bool {
        self.names().any(|offered| offered == name.as_bytes())
    }
}

/// The server speaks an older protocol, or does not know some options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion {
    /// The minor version that it speaks.
    pub minor: u16,
    /// How many of our options it does not know.
    pub unknown_options: u32,
}

impl NegotiateProtocolVersion {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, or bytes are left.
    pub fn parse(body: &[u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        // PostgreSQL sends the whole number here; others only the minor part, as documented.
        let (_major, minor) = (reader.u16()?, reader.u16()?);
        let unknown_options = reader.u32()?;
        for _ in 0..unknown_options {
            reader.string()?;
        }
        reader.end()?;
        Ok(Self {
            minor,
            unknown_options,
        })
    }
}

/// What somebody told the listeners of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The process ID of the backend that notified.
    pub pid: u32,
    /// The channel.
    pub channel: &'a [u8],
    /// The payload; empty when there is none.
    pub payload: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, or bytes are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let pid = reader.u32()?;
        let channel = reader.string()?;
        let payload = reader.string()?;
        reader.end()?;
        Ok(Self {
            pid,
            channel,
            payload,
        })
    }
}
