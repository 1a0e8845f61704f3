//! A listener with limits: so many connections at once, and so long for each question.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// What an operator, a scraper and a few load balancers need; the rest waits in the backlog.
const CONNECTIONS_MAX: usize = 64;

/// From one answer to the end of the next: a client that dawdles makes room for others.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);

/// Takes a limited number of connections.
pub(super) struct LimitedListener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    exchange_max: Duration,
}

/// A connection that holds one of the places until it closes.
pub(super) struct LimitedStream {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    exchange_max: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl LimitedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            exchange_max: EXCHANGE_MAX,
        }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = LimitedStream {
            stream,
            deadline: Box::pin(tokio::time::sleep(self.exchange_max)),
            exchange_max: self.exchange_max,
            _permit: permit,
        };
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl LimitedStream {
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_deadline(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            let deadline = Instant::now() + self.exchange_max;
            self.deadline.as_mut().reset(deadline);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::*;

    async fn limited(places: usize, exchange_max: Duration) -> LimitedListener {
        LimitedListener {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            permits: Arc::new(Semaphore::new(places)),
            exchange_max,
        }
    }

    #[tokio::test]
    async fn a_client_that_asks_nothing_is_cut_off() {
        let mut listener = limited(1, Duration::from_millis(10)).await;
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (mut stream, _) = listener.accept().await;
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_a_place() {
        let mut listener = limited(1, Duration::from_secs(60)).await;
        let address = listener.local_addr().unwrap();
        let _first = TcpStream::connect(address).await;
        let _second = TcpStream::connect(address).await;
        let (stream, _) = listener.accept().await;
        assert_eq!(listener.permits.available_permits(), 0);
        let too_early = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(too_early.is_err());
        drop(stream);
        listener.accept().await;
    }
}
