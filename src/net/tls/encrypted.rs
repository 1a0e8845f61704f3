//! The encrypted stream: rustls' machine, moved over a socket by attempts that never wait.
//!
//! A write counts as taken when all its ciphertext has gone to the socket. Until then the same
//! bytes have to be offered again, which a queue does by itself: so nothing is left in here that
//! somebody would have to come back for.

use std::fmt;
use std::future::Future;
use std::io::{self, BufRead, IoSlice, Write};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::Connection;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;

use super::certificate::end_point;
use super::{PeerCertificate, acceptor::ALPN};
use crate::net::Idle;

/// A connection with TLS, after its handshake.
pub struct Encrypted {
    tcp: TcpStream,
    connection: Connection,
    /// What was read from the socket and not decrypted yet.
    received: BytesMut,
    /// How much decrypted text waits to be taken.
    decrypted: usize,
    /// How much of what was offered last is encrypted, and not yet on its way.
    unsent: usize,
    /// The peer sends no more.
    ended: bool,
}

impl Encrypted {
    /// Shakes hands. `received` is what the peer has sent already.
    pub(super) async fn handshake(
        tcp: TcpStream,
        connection: Connection,
        received: BytesMut,
    ) -> io::Result<Self> {
        let mut stream = Self {
            tcp,
            connection,
            received,
            decrypted: 0,
            unsent: 0,
            ended: false,
        };
        loop {
            stream.flush_all().await?;
            if !stream.connection.is_handshaking() {
                return Ok(stream);
            }
            if stream.received.is_empty() {
                std::future::poll_fn(|context| stream.poll_fill(context, HANDSHAKE_READ)).await?;
            }
            if stream.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stream.decrypt()?;
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        loop {
            taken += self.take(buffer, max.saturating_sub(taken))?;
            let nothing_at_hand = self.received.is_empty() || self.ended;
            if taken == max || (taken > 0 && nothing_at_hand) {
                return Poll::Ready(Ok(taken));
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            if self.received.is_empty() {
                ready!(self.poll_fill(context, max))?;
            }
            if !self.ended {
                self.decrypt()?;
            }
        }
    }

    pub(crate) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.unsent == 0 {
            self.flush()?;
            self.unsent = self.connection.writer().write_vectored(slices)?;
        }
        self.flush()?;
        Ok(std::mem::take(&mut self.unsent))
    }

    /// Whether the peer has said something. Nothing is decrypted for it: whatever comes on a
    /// connection where nothing is expected ends it.
    pub(crate) fn check_idle(&self) -> Idle {
        if self.decrypted > 0 || !self.received.is_empty() {
            return Idle::Spoke;
        }
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peek = || SockRef::from(&self.tcp).peek(&mut byte);
        match self.tcp.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idle::Silent,
            Ok(0) | Err(_) => Idle::Closed,
            Ok(_) => Idle::Spoke,
        }
    }

    /// Gives the buffer of a silent stream back.
    pub(crate) fn trim(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// The socket, for its options and its readiness.
    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether both sides agreed by ALPN to speak PostgreSQL's protocol.
    pub(crate) fn is_agreed(&self) -> bool {
        self.connection.alpn_protocol() == Some(ALPN)
    }

    /// Whom the peer's certificate names, if it gave one. Of a client it has been verified.
    pub(crate) fn peer_certificate(&self) -> Option<PeerCertificate> {
        PeerCertificate::parse(self.connection.peer_certificates()?.first()?)
    }

    /// What `tls-server-end-point` binds to on a connection to a server.
    pub(crate) fn peer_end_point(&self) -> Option<Bytes> {
        let certificate = self.connection.peer_certificates()?.first()?;
        end_point(certificate).map(Bytes::from)
    }

    /// Moves decrypted text to the end of `buffer`.
    fn take(&mut self, buffer: &mut BytesMut, max: usize) -> io::Result<usize> {
        let mut taken = 0;
        while self.decrypted > 0 && taken < max {
            let mut reader = self.connection.reader();
            let chunk = reader.fill_buf()?;
            let part = chunk.get(..max - taken).unwrap_or(chunk);
            buffer.extend_from_slice(part);
            let length = part.len();
            reader.consume(length);
            taken += length;
            self.decrypted = self.decrypted.saturating_sub(length);
        }
        Ok(taken)
    }

    /// Reads from the socket; nothing is allocated for a peer that is silent.
    fn poll_fill(&mut self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<()>> {
        ready!(self.tcp.poll_read_ready(context))?;
        // With what the records add to the text, so that a full read gives a full read.
        let room = max + max / 64 + RECORD_OVERHEAD;
        self.received.reserve(room);
        let mut limited = (&mut self.received).limit(room);
        let read = std::pin::pin!(self.tcp.read_buf(&mut limited));
        if ready!(read.poll(context))? == 0 {
            // With or without a word of goodbye, as PostgreSQL: the messages inside say whether
            // something is missing.
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives rustls a part of what was received. To be called when all decrypted text is taken.
    fn decrypt(&mut self) -> io::Result<()> {
        let mut part = &self.received[..];
        let fed = self.connection.read_tls(&mut part)?;
        self.received.advance(fed);
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.decrypted = state.plaintext_bytes_to_read();
                self.ended |= state.peer_has_closed();
                Ok(())
            }
            Err(error) => {
                // The peer is told why, if its socket takes it at once.
                let _told = self.flush();
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Sends what is encrypted.
    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Now(&self.tcp))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    async fn flush_all(&mut self) -> io::Result<()> {
        loop {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp.writable().await?;
                }
                result => return result,
            }
        }
    }
}

/// Says goodbye, if the socket takes it at once.
impl Drop for Encrypted {
    fn drop(&mut self) {
        self.connection.send_close_notify();
        let _closed_already = self.flush();
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted")
            .field("tcp", &self.tcp)
            .field("version", &self.connection.protocol_version())
            .finish_non_exhaustive()
    }
}

/// A socket as rustls writes to it: what it takes now.
struct Now<'a>(&'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A flight of the handshake, mostly certificates.
const HANDSHAKE_READ: usize = 4096;
/// For a few short records.
const RECORD_OVERHEAD: usize = 256;
