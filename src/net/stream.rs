//! One connection, to a client or to a server.
//!
//! The driver of a session waits for several streams at once and then reads or writes what is
//! possible: so the stream offers readiness and attempts that never wait, and only a login, which
//! has nothing else to do, uses the two that wait.

use std::future::Future;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

use super::tls::{Encrypted, PeerCertificate};

/// A connected byte stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP without encryption.
    Plain(TcpStream),
    /// TCP with TLS. What was once offered for writing has to be offered again until it is taken.
    Tls(Box<Encrypted>),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Polls for bytes and reads at most `max` of them to the end of `buffer`. A read that did not
    /// fill its room is known to have emptied the socket, so no system call is spent to learn it.
    ///
    /// `Ok(0)` means that the peer closed its side.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => {
                if buffer.capacity().saturating_sub(buffer.len()) < max {
                    // Nothing is allocated for a peer that is silent.
                    std::task::ready!(stream.poll_read_ready(context))?;
                    buffer.reserve(max);
                }
                let mut room = buffer.limit(max);
                let read = std::pin::pin!(stream.read_buf(&mut room));
                read.poll(context)
            }
            Self::Tls(stream) => stream.poll_read(context, buffer, max),
            Self::Unix(stream) => {
                if buffer.capacity().saturating_sub(buffer.len()) < max {
                    std::task::ready!(stream.poll_read_ready(context))?;
                    buffer.reserve(max);
                }
                let mut room = buffer.limit(max);
                let read = std::pin::pin!(stream.read_buf(&mut room));
                read.poll(context)
            }
        }
    }

    /// Writes what the socket takes of `bytes`, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it takes nothing, else what the socket says.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write_vectored(&[IoSlice::new(bytes)]),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Writes what the socket takes of several slices in one call, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it takes nothing, else what the socket says.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Whether the peer has sent something, or closed, since the last read; without waiting and,
    /// when nothing came, without a system call.
    pub fn check_idle(&self) -> Idle {
        let mut byte = [0];
        let read = match self {
            Self::Plain(stream) => stream.try_read(&mut byte),
            Self::Tls(stream) => return stream.check_idle(),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idle::Silent,
            Ok(0) | Err(_) => Idle::Closed,
            Ok(_) => Idle::Spoke,
        }
    }

    /// Waits until a write may succeed. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// When the runtime shuts down.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.writable().await,
            Self::Tls(stream) => stream.socket().writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    /// Polls what [`Stream::writable`] waits for. One task at a time is woken.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_ready(context),
            Self::Tls(stream) => stream.socket().poll_write_ready(context),
            Self::Unix(stream) => stream.poll_write_ready(context),
        }
    }

    /// Waits for bytes and reads at most `max` of them; `Ok(0)` means that the peer closed. Losing
    /// the future loses no byte.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn read(&mut self, buffer: &mut BytesMut, max: usize) -> io::Result<usize> {
        std::future::poll_fn(|context| self.poll_read(context, buffer, max)).await
    }

    /// Writes all of `bytes`. How much was written is unknown when the future is dropped.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sets the options of the socket; see [`super::tune`].
    ///
    /// # Errors
    ///
    /// When the socket is closed already.
    pub fn tune(
        &self,
        keepalive: Option<Duration>,
        user_timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self {
            Self::Plain(stream) => super::tune(stream, keepalive, user_timeout),
            Self::Tls(stream) => super::tune(stream.socket(), keepalive, user_timeout),
            // No network is between, and the kernel knows of each other's end.
            Self::Unix(_) => Ok(()),
        }
    }

    /// Gives the buffers of a silent stream back.
    pub fn trim(&mut self) {
        match self {
            Self::Plain(_) | Self::Unix(_) => {}
            Self::Tls(stream) => stream.trim(),
        }
    }

    /// Whether it is encrypted, and both sides agreed by ALPN to speak PostgreSQL's protocol.
    pub fn is_agreed(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Unix(_) => false,
            Self::Tls(stream) => stream.is_agreed(),
        }
    }

    /// Whom the certificate of the peer names, if it gave one. That of a client has been verified
    /// against `client_ca_file`; that of a server as far as `tls` says.
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.peer_certificate(),
        }
    }

    /// What the channel binding `tls-server-end-point` binds to on a connection to a server.
    pub fn peer_end_point(&self) -> Option<Bytes> {
        match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.peer_end_point(),
        }
    }

    /// The socket itself, for what is neither read nor written in order.
    pub fn raw(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.socket()),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }
}

/// What a peer from whom nothing is expected has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Nothing, as far as we were told.
    Silent,
    /// It sent something; one byte of it is lost, so the stream cannot be used any more.
    Spoke,
    /// It closed, or the connection broke.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (Stream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Stream::Plain(near.unwrap()), Stream::Plain(far.unwrap().0))
    }

    #[tokio::test]
    async fn a_read_takes_no_more_than_it_may() {
        let (mut near, mut far) = pair().await;
        far.write_all(b"0123456789").await.unwrap();
        let mut buffer = BytesMut::new();
        while buffer.len() < 10 {
            assert!(near.read(&mut buffer, 4).await.unwrap() <= 4);
        }
        assert_eq!(&buffer[..], b"0123456789");
    }

    #[tokio::test]
    async fn several_slices_arrive_as_one_stream() {
        let (mut near, mut far) = pair().await;
        far.writable().await.unwrap();
        let written = far.try_write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]);
        assert_eq!(written.unwrap(), 4);
        let mut buffer = BytesMut::new();
        while buffer.len() < 4 {
            near.read(&mut buffer, 64).await.unwrap();
        }
        assert_eq!(&buffer[..], b"abcd");
    }

    #[tokio::test]
    async fn an_idle_stream_tells_silence_speech_and_end_apart() {
        let (mut near, mut far) = pair().await;
        assert_eq!(near.check_idle(), Idle::Silent);
        far.write_all(b"N").await.unwrap();
        let Stream::Plain(socket) = &near else {
            panic!("it is plain");
        };
        socket.readable().await.unwrap();
        assert_eq!(near.check_idle(), Idle::Spoke);
        drop(far);
        let mut buffer = BytesMut::new();
        assert_eq!(near.read(&mut buffer, 1).await.unwrap(), 0);
        assert_eq!(near.check_idle(), Idle::Closed);
    }
}
