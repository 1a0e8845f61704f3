//! The first packet of a connection, which has no tag: start-up, requests for encryption, cancel.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::reader::{Reader, ViewError};
use crate::wire::{SqlState, writer};

/// What a client may open a connection with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// It wants a session.
    Startup(Startup),
    /// It begins with TLS at once, without asking: what it sent stays where it is.
    DirectTls,
    /// It asks for TLS. The answer is one byte; a buffer that is not empty then must end the
    /// connection, since those bytes came before the encryption.
    SslRequest,
    /// It asks for GSS encryption; as above.
    GssRequest,
    /// It wants the query of another connection stopped.
    Cancel(CancelKey),
}

/// A start-up message of protocol 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version that the client asks for.
    pub minor: u16,
    /// Names and values, in order, without the protocol options.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// Names of the protocol options (`_pq_.…`). We know none.
    pub protocol_options: Vec<Bytes>,
}

impl Startup {
    /// The value of a parameter; the last one when it was given twice, as in PostgreSQL.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters
            .iter()
            .rev()
            .find(|(key, _)| key == name.as_bytes())
            .map(|(_, value)| value.as_ref())
    }

    /// Who logs in; never empty.
    pub fn user(&self) -> &[u8] {
        self.parameter("user").unwrap_or_default()
    }

    /// Where to; the database named as the user when none was given.
    pub fn database(&self) -> &[u8] {
        match self.parameter("database") {
            Some(name) if !name.is_empty() => name,
            _ => self.user(),
        }
    }

    /// The minor version that both sides speak from here on.
    pub fn accepted_minor(&self) -> u16 {
        self.minor.min(NEWEST_MINOR)
    }

    /// Whether the client has to be told what we do not know, before it is asked to log in.
    pub fn needs_negotiation(&self) -> bool {
        self.minor > NEWEST_MINOR || !self.protocol_options.is_empty()
    }
}

/// What names a session to a cancel request.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The process ID that the session was told.
    pub pid: u32,
    /// Four bytes in protocol 3.0, up to 256 in 3.2.
    pub secret: Bytes,
}

impl CancelKey {
    /// Whether both are the same, told in the same time wherever they differ.
    pub fn matches(&self, other: &Self) -> bool {
        let difference = self
            .secret
            .iter()
            .zip(&other.secret)
            .fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        self.pid == other.pid && self.secret.len() == other.secret.len() && difference == 0
    }
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// A first packet that no session can begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length field is out of bounds. PostgreSQL closes without a word here.
    #[error("invalid length of startup packet")]
    Length(u32),
    /// A cancel request without a key, or with one that is too long; as above.
    #[error("invalid length of cancel request packet")]
    CancelLength,
    /// A version that is not 3.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Version {
        /// The major version.
        major: u16,
        /// The minor version.
        minor: u16,
    },
    /// The list of parameters does not end where the packet does.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// Nobody logs in.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
}

impl StartupError {
    /// The state that the client is told.
    pub const fn sqlstate(self) -> SqlState {
        match self {
            Self::Length(_) | Self::CancelLength | Self::Layout => SqlState::PROTOCOL_VIOLATION,
            Self::Version { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            Self::NoUser => SqlState::INVALID_AUTHORIZATION,
        }
    }

    /// Whether PostgreSQL closes without an answer: the peer speaks another protocol.
    pub const fn is_silent(self) -> bool {
        matches!(self, Self::Length(_) | Self::CancelLength)
    }
}

/// Takes the first packet from the front of `buffer`; `None` when it is not whole.
///
/// # Errors
/// [`StartupError`]; the connection cannot go on.
///
/// Source: PostgreSQL 18, `ProcessStartupPacket` in `tcop/backend_startup.c`.
pub fn first_packet(buffer: &mut BytesMut) -> Result<Option<FirstPacket>, StartupError> {
    if buffer.first() == Some(&TLS_HANDSHAKE) {
        return Ok(Some(FirstPacket::DirectTls));
    }
    let Some(field) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*field);
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        return Err(StartupError::Length(length));
    }
    let total = usize::try_from(length).unwrap_or(usize::MAX);
    if buffer.len() < total {
        return Ok(None);
    }
    let mut packet = buffer.split_to(total).freeze();
    // Both are there: the length is at least eight.
    packet.advance(4);
    let code = packet.get_u32();
    match code {
        CANCEL_REQUEST => cancel(packet).map(FirstPacket::Cancel),
        SSL_REQUEST if packet.is_empty() => Ok(FirstPacket::SslRequest),
        GSS_REQUEST if packet.is_empty() => Ok(FirstPacket::GssRequest),
        SSL_REQUEST | GSS_REQUEST => Err(StartupError::Length(length)),
        _ => startup_message(code, &packet).map(FirstPacket::Startup),
    }
    .map(Some)
}

/// Writes NegotiateProtocolVersion: the version that both will speak, and the options of the
/// client that we do not know.
///
/// The documentation says "minor version", but PostgreSQL sends and libpq reads the whole number.
///
/// Source: PostgreSQL 18, `SendNegotiateProtocolVersion` in `tcop/backend_startup.c`.
pub fn negotiate_protocol_version(out: &mut BytesMut, startup: &Startup) {
    writer::message(out, b'v', |out| {
        out.put_u16(MAJOR);
        out.put_u16(startup.accepted_minor());
        let count = u32::try_from(startup.protocol_options.len()).unwrap_or(u32::MAX);
        out.put_u32(count);
        for option in &startup.protocol_options {
            writer::string(out, option);
        }
    });
}

fn cancel(mut packet: Bytes) -> Result<CancelKey, StartupError> {
    let pid = packet
        .try_get_u32()
        .map_err(|_short| StartupError::CancelLength)?;
    if !(SECRET_MIN..=SECRET_MAX).contains(&packet.len()) {
        return Err(StartupError::CancelLength);
    }
    // The packet may share its memory with a large read buffer.
    let secret = Bytes::copy_from_slice(&packet);
    Ok(CancelKey { pid, secret })
}

fn startup_message(code: u32, packet: &Bytes) -> Result<Startup, StartupError> {
    let [a, b, c, d] = code.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if major != MAJOR {
        return Err(StartupError::Version { major, minor });
    }
    let mut startup = Startup {
        minor,
        parameters: Vec::new(),
        protocol_options: Vec::new(),
    };
    read_parameters(packet, &mut startup).map_err(|_malformed| StartupError::Layout)?;
    if startup.user().is_empty() {
        return Err(StartupError::NoUser);
    }
    Ok(startup)
}

fn read_parameters(packet: &Bytes, startup: &mut Startup) -> Result<(), ViewError> {
    let mut reader = Reader::new(packet);
    loop {
        let name = reader.string()?;
        if name.is_empty() {
            return reader.end();
        }
        let value = reader.string()?;
        if name.starts_with(OPTION_PREFIX) {
            startup.protocol_options.push(Bytes::copy_from_slice(name));
        } else {
            let pair = (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
            startup.parameters.push(pair);
        }
    }
}

/// The major version of the protocol.
pub(super) const MAJOR: u16 = 3;
/// The newest minor version that we speak.
pub const NEWEST_MINOR: u16 = 2;
/// The four bytes of the length and the four of the code.
const LENGTH_MIN: u32 = 8;
/// The type of a TLS record that holds a part of a handshake. As the first byte of a length it would
/// be far beyond the longest packet.
const TLS_HANDSHAKE: u8 = 0x16;
/// `MAX_STARTUP_PACKET_LENGTH`, which does not count the length field.
const LENGTH_MAX: u32 = 10_004;
/// 1234.5678
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;
/// 1234.5679
pub(super) const SSL_REQUEST: u32 = 80_877_103;
/// 1234.5680
const GSS_REQUEST: u32 = 80_877_104;
/// Before protocol 3.2 a key has four bytes; `MAX_CANCEL_KEY_LENGTH` in the documentation is 256.
const SECRET_MIN: usize = 4;
const SECRET_MAX: usize = 256;
const OPTION_PREFIX: &[u8] = b"_pq_.";
