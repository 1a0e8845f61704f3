//! Cuts one direction of a connection into frames, and bounds each of them.
//!
//! Most bytes are never looked into: whole runs of DataRow and CopyData pass as one piece. A frame
//! that is not inert is held until it is whole; a very long one is not held either, but handed on
//! as a [`Head`] and pieces. What is checked here (tag, length, limit by tag and phase) is what the
//! rest of the house relies on: no view ever sees a byte beyond its frame.

use bytes::{Bytes, BytesMut};

use crate::wire::SqlState;

/// How much of a connection may be held, and how long a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// **Units**: bytes, header included. A longer frame that is not inert comes as a [`Head`]. At
    /// least 64, so that the names of a Bind with sane names are in the head.
    pub hold: usize,
    /// The largest length field, which counts itself but not the tag.
    pub frame_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold: 256 << 10,
            frame_max: LARGE_BACKEND_LENGTH,
        }
    }
}

/// What a client may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is asked for a password: nothing but `p`.
    Login,
    /// It is logged in: everything but `p`.
    Session,
}

/// A piece of one direction of a connection. All pieces together are all bytes of it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Inert bytes: DataRow and CopyData frames, and parts of them.
    Run(Bytes),
    /// One whole frame that matters.
    Message(Frame),
    /// The beginning of a frame that is too long to hold.
    Head(Head),
    /// More of the frame that a [`Head`] began.
    Rest {
        /// Never empty.
        bytes: Bytes,
        /// Whether the frame ends with these bytes.
        last: bool,
    },
}

/// One whole frame: tag, length, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type of the message.
    pub tag: u8,
    /// All of it, the five bytes of the header included.
    pub bytes: Bytes,
}

impl Frame {
    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// The first bytes of a frame that is longer than [`Limits::hold`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The type of the message.
    pub tag: u8,
    /// The length field as sent: the body and four more.
    pub length: u32,
    /// The header and the beginning of the body, `hold` bytes in all.
    pub bytes: Bytes,
}

impl Head {
    /// The beginning of the body.
    pub fn prefix(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// Bytes that are no frame, or one that is not allowed here. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A tag that this side does not send in this phase.
    #[error("invalid message type {0}")]
    UnknownTag(u8),
    /// A length field below four.
    #[error("invalid message length {length} in a message of type {tag}")]
    BadLength {
        /// The type of the message.
        tag: u8,
        /// The length field.
        length: u32,
    },
    /// A length field over the limit of its type.
    #[error("message of type {tag} has length {length}, the limit is {limit}")]
    TooLong {
        /// The type of the message.
        tag: u8,
        /// The length field.
        length: u32,
        /// The largest that is allowed.
        limit: u32,
    },
}

impl FrameError {
    /// Every one of them is a protocol violation.
    pub const fn sqlstate(self) -> SqlState {
        SqlState::PROTOCOL_VIOLATION
    }
}

/// Cuts one direction of a connection.
#[derive(Clone, Debug)]
pub struct Splitter {
    side: Side,
    hold: usize,
    frame_max: u32,
    inside: Inside,
}

impl Splitter {
    /// Cuts what a client sends after its first packet. It begins in [`Phase::Session`].
    pub fn client(limits: Limits) -> Self {
        Self::new(Side::Client(Phase::Session), limits)
    }

    /// Cuts what a server sends.
    pub fn server(limits: Limits) -> Self {
        Self::new(Side::Server, limits)
    }

    fn new(side: Side, limits: Limits) -> Self {
        Self {
            side,
            hold: limits.hold.max(HOLD_MIN),
            frame_max: limits.frame_max,
            inside: Inside::Nothing,
        }
    }

    /// Says what the client may send from the next frame on. Nothing changes for a server.
    pub fn set_phase(&mut self, phase: Phase) {
        if let Side::Client(current) = &mut self.side {
            *current = phase;
        }
    }

    /// Whether every frame that was begun has been handed out to its end. Bytes of a next one may
    /// wait in the buffer.
    pub const fn is_between_frames(&self) -> bool {
        matches!(self.inside, Inside::Nothing)
    }

    /// Cuts the next piece from the front of `buffer`; `None` when more bytes are needed.
    ///
    /// The buffer never has to hold more than [`Limits::hold`] bytes for that.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes at the front are not a frame that may come here. What came
    /// before them was handed out; asking again gives the same error.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Cut>, FrameError> {
        match self.inside {
            Inside::Streamed(left) => Ok(self.rest(left, buffer)),
            Inside::Inert(left) => self.run(left, buffer),
            Inside::Nothing => match self.header(buffer)? {
                Some(header) if header.inert => self.run(0, buffer),
                Some(header) => Ok(self.message(header, buffer)),
                None => Ok(None),
            },
        }
    }

    /// Takes all inert bytes at the front: `left` of a frame that was begun, then frame after frame.
    fn run(&mut self, left: usize, buffer: &mut BytesMut) -> Result<Option<Cut>, FrameError> {
        let available = buffer.len();
        let mut end = left;
        while end < available {
            let ahead = buffer.get(end..).unwrap_or_default();
            match self.header(ahead) {
                Ok(Some(header)) if header.inert => end = end.saturating_add(header.total),
                // What is wrong behind the run is told when the run is gone.
                Ok(_) | Err(_) => break,
            }
        }
        let taken = end.min(available);
        self.inside = match end.saturating_sub(taken) {
            0 => Inside::Nothing,
            left => Inside::Inert(left),
        };
        if taken == 0 {
            return Ok(None);
        }
        Ok(Some(Cut::Run(buffer.split_to(taken).freeze())))
    }

    fn message(&mut self, header: Header, buffer: &mut BytesMut) -> Option<Cut> {
        let Header {
            tag, length, total, ..
        } = header;
        if buffer.len() < total.min(self.hold) {
            return None;
        }
        if total <= self.hold {
            let bytes = buffer.split_to(total).freeze();
            return Some(Cut::Message(Frame { tag, bytes }));
        }
        self.inside = Inside::Streamed(total.saturating_sub(self.hold));
        let bytes = buffer.split_to(self.hold).freeze();
        Some(Cut::Head(Head { tag, length, bytes }))
    }

    fn rest(&mut self, left: usize, buffer: &mut BytesMut) -> Option<Cut> {
        let taken = left.min(buffer.len());
        if taken == 0 {
            return None;
        }
        let last = taken == left;
        self.inside = if last {
            Inside::Nothing
        } else {
            Inside::Streamed(left.saturating_sub(taken))
        };
        let bytes = buffer.split_to(taken).freeze();
        Some(Cut::Rest { bytes, last })
    }

    /// Reads and checks the header at the front of `bytes`; `None` when it is not whole.
    #[inline]
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let Some(&tag) = bytes.first() else {
            return Ok(None);
        };
        let rule = self.side.rule(tag).ok_or(FrameError::UnknownTag(tag))?;
        let Some(&[_, a, b, c, d]) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length < LENGTH_MIN {
            return Err(FrameError::BadLength { tag, length });
        }
        let limit = rule.limit.min(self.frame_max);
        if length > limit {
            return Err(FrameError::TooLong { tag, length, limit });
        }
        Ok(Some(Header {
            tag,
            length,
            total: usize::try_from(length)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
            inert: rule.inert,
        }))
    }
}

/// The frame whose middle the splitter stands in, with the bytes that are missing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    Inert(usize),
    Streamed(usize),
}

#[derive(Clone, Copy, Debug)]
struct Header {
    tag: u8,
    length: u32,
    /// The whole frame, tag included.
    total: usize,
    inert: bool,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Client(Phase),
    Server,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    inert: bool,
    limit: u32,
}

impl Side {
    /// Source: PostgreSQL 17, `SocketBackend` in `tcop/postgres.c`; the types of a server from
    /// protocol-message-formats.html. A server's short types are not bounded more closely: libpq
    /// does so and breaks on the description of a statement with 7500 parameters.
    #[inline]
    const fn rule(self, tag: u8) -> Option<Rule> {
        let (inert, limit) = match (self, tag) {
            (Self::Server, b'D' | b'd') => (true, LARGE_BACKEND_LENGTH),
            (
                Self::Server,
                b'1' | b'2' | b'3' | b'A' | b'C' | b'E' | b'G' | b'H' | b'I' | b'K' | b'N' | b'R'
                | b'S' | b'T' | b'V' | b'W' | b'Z' | b'c' | b'n' | b's' | b't' | b'v',
            ) => (false, LARGE_BACKEND_LENGTH),
            (Self::Client(Phase::Login), b'p') => (false, PASSWORD_LENGTH),
            (Self::Client(Phase::Session), b'd') => (true, LARGE_LENGTH),
            (Self::Client(Phase::Session), b'Q' | b'P' | b'B' | b'F') => (false, LARGE_LENGTH),
            (
                Self::Client(Phase::Session),
                b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f',
            ) => (false, SMALL_LENGTH),
            _ => return None,
        };
        Some(Rule { inert, limit })
    }
}

const HEADER: usize = 5;
/// The length field counts itself.
const LENGTH_MIN: u32 = 4;
/// Room for a header and short names.
const HOLD_MIN: usize = 64;
/// `PQ_LARGE_MESSAGE_LIMIT`: `MaxAllocSize - 1`.
pub(super) const LARGE_LENGTH: u32 = 0x3FFF_FFFE;
/// `PQ_SMALL_MESSAGE_LIMIT`
const SMALL_LENGTH: u32 = 10_000;
/// `PG_MAX_AUTH_TOKEN_LENGTH`
const PASSWORD_LENGTH: u32 = 65_535;
/// The longest body that a server can build (`MaxAllocSize`), and the length field.
const LARGE_BACKEND_LENGTH: u32 = 0x4000_0003;
