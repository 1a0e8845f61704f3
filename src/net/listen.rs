//! Listening sockets, and the options that every socket of ours gets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{Stream, UnixDoor};

/// A listening socket for clients.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// In the file system of this machine.
    Unix(UnixDoor),
}

/// Who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody at this address.
    Host(SocketAddr),
    /// A process of this machine, of the user with this number if the kernel tells it.
    Local(Option<u32>),
}

impl Listener {
    /// Waits for the next connection. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// What the socket says; it may go on working.
    pub async fn accept(&self) -> io::Result<(Stream, Caller)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Plain(stream), Caller::Host(peer)))
            }
            Self::Unix(door) => {
                let (stream, _unnamed) = door.listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Stream::Unix(stream), Caller::Local(uid)))
            }
        }
    }
}

/// Opens a listening socket.
///
/// The address may be taken again at once after a restart; a version six address does not take
/// the version four port with it, so that both can be configured.
///
/// # Errors
///
/// When the address is in use, is not one of this machine's, or needs a privilege.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A second hold on a listening socket, to be given to another process. The queue of those who
/// wait at it lives as long as anybody holds it.
#[derive(Debug)]
pub struct Spare {
    socket: OwnedFd,
    /// Of a Unix socket: whether its file stays when we close.
    pub(super) file_stays: Option<Arc<AtomicBool>>,
}

impl Spare {
    /// Of a TCP listener.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn of_tcp(listener: &TcpListener) -> io::Result<Self> {
        Self::of(listener, None)
    }

    pub(super) fn of(socket: impl AsFd, file: Option<Arc<AtomicBool>>) -> io::Result<Self> {
        Ok(Self {
            socket: socket.as_fd().try_clone_to_owned()?,
            file_stays: file,
        })
    }

    /// The socket, to be sent.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket is another's now: its file stays when we close it.
    pub fn given_away(self) {
        if let Some(stays) = &self.file_stays {
            stays.store(true, Ordering::Release);
        }
    }
}

/// A TCP listener that another process has opened.
///
/// # Errors
///
/// When it is none.
pub fn inherit(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    listener.local_addr()?;
    TcpListener::from_std(listener)
}

/// Sets the options of a connected socket: no delay of small writes, and the two time-outs by
/// which a peer that vanished is noticed.
///
/// `keepalive` is the silence after which the peer is asked for a sign of life, again every third
/// of it, three times; `user_timeout` is how long what we sent may stay unacknowledged.
///
/// # Errors
///
/// When the socket is closed already.
pub fn tune(
    stream: &TcpStream,
    keepalive: Option<Duration>,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(silence) = keepalive {
        // The kernel counts in seconds and refuses zero.
        let silence = silence.max(Duration::from_secs(1));
        let probes = TcpKeepalive::new()
            .with_time(silence)
            .with_interval((silence / KEEPALIVE_PROBES).max(Duration::from_secs(1)))
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&probes)?;
    }
    #[cfg(target_os = "linux")]
    if user_timeout.is_some() {
        socket.set_tcp_user_timeout(user_timeout)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _unused = user_timeout;
    Ok(())
}

/// Connections that the kernel holds while we are busy; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// Unanswered questions after which the kernel gives a silent peer up.
const KEEPALIVE_PROBES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_takes_connections_on_the_port_it_got() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let client = client.unwrap();
        assert_eq!(server.unwrap().1, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_tuned_socket_reports_its_options() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let limit = Duration::from_secs(9);
        tune(&client, Some(limit), Some(limit)).unwrap();
        assert!(client.nodelay().unwrap());
        let socket = SockRef::from(&client);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limit);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limit));
    }
}
