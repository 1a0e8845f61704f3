//! TLS under the connections of the control plane, which tokio-postgres reads and writes itself.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, Error, Socket};

use crate::net::{self, TlsConnector, TlsMode, TlsStart};

/// How the control plane encrypts. Clones are the same; a reload puts another connector in.
#[derive(Clone, Debug, Default)]
pub struct ControlTls(Arc<ArcSwap<TlsConnector>>);

/// What was in force when a connection was begun.
#[derive(Debug)]
pub struct InForce(Arc<TlsConnector>);

/// The connection of a client: it moves the bytes, and has to be polled.
pub type ControlConnection = Connection<Socket, ControlStream>;

impl ControlTls {
    /// With this connector.
    pub fn new(connector: TlsConnector) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(connector)))
    }

    /// Connections that are begun from now on are encrypted by this one.
    pub fn set(&self, connector: TlsConnector) {
        if **self.0.load() != connector {
            self.0.store(Arc::new(connector));
        }
    }

    /// What connections are encrypted by, to ask later whether it is in force still.
    pub fn in_force(&self) -> InForce {
        InForce(self.0.load_full())
    }

    /// Whether nothing has changed since.
    pub fn is_in_force(&self, then: &InForce) -> bool {
        Arc::ptr_eq(&self.0.load(), &then.0)
    }

    /// Connects and logs in.
    ///
    /// # Errors
    ///
    /// Those of tokio-postgres.
    pub async fn connect(&self, config: &mut Config) -> Result<(Client, ControlConnection), Error> {
        let connector = self.0.load_full();
        let is_unix = |host: &Host| matches!(host, Host::Unix(_));
        config.ssl_mode(match connector.mode() {
            _ if config.get_hosts().iter().any(is_unix) => SslMode::Disable,
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        config.ssl_negotiation(match connector.start() {
            TlsStart::Asked => SslNegotiation::Postgres,
            TlsStart::Direct => SslNegotiation::Direct,
        });
        // Large, and rare.
        Box::pin(config.connect(Make(connector))).await
    }
}

/// Why a login failed, if it is because of TLS: the certificate, or a server that has none.
pub fn tls_failure(error: &Error) -> Option<String> {
    // tokio-postgres has no other name for it; a test says so when its words change.
    if !error.to_string().starts_with(HANDSHAKE) {
        return None;
    }
    let cause = std::error::Error::source(error)?;
    let broke = cause.downcast_ref::<io::Error>().is_some_and(|io| {
        !matches!(
            io.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
        )
    });
    (!broke).then(|| cause.to_string())
}

#[derive(Clone)]
struct Make(Arc<TlsConnector>);

impl MakeTlsConnect<Socket> for Make {
    type Stream = ControlStream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        Ok(Handshake {
            connector: Arc::clone(&self.0),
            host: host.to_owned(),
        })
    }
}

/// One handshake to come.
struct Handshake {
    connector: Arc<TlsConnector>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = ControlStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<ControlStream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let name = net::server_name(&self.host)?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(self.connector.config()));
            let stream = connector.connect(name, stream).await?;
            let is_agreed = stream.get_ref().1.alpn_protocol().is_some();
            self.connector.check_agreed(is_agreed)?;
            Ok(ControlStream(stream))
        })
    }
}

/// An encrypted connection of the control plane.
pub struct ControlStream(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for ControlStream {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.0.get_ref();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        match certificate.and_then(net::end_point) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl fmt::Debug for ControlStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlStream").finish_non_exhaustive()
    }
}

const HANDSHAKE: &str = "error performing TLS handshake";
