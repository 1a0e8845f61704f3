//! Connecting: a name is resolved, and each of its addresses gets its share of the time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::{Stream, socket_path};
use crate::clock;
use crate::cluster::Address;

/// Connects to the first address of `address` that answers, within `limit` for all of them.
///
/// Each address gets an equal part of what time is left, so that a silent first one leaves time
/// for the second.
///
/// # Errors
///
/// The error of the last address that was tried; `TimedOut` when the time was up; `NotFound` when
/// the name has no address, or the resolver gave none.
pub async fn connect(address: &Address, limit: Duration) -> io::Result<Stream> {
    if let Some(directory) = address.directory() {
        let path = socket_path(Path::new(directory), address.port);
        return match timeout(limit, UnixStream::connect(path)).await {
            Ok(connected) => connected.map(Stream::Unix),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        };
    }
    let deadline = clock::now() + limit;
    let candidates = resolve(address, limit).await?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, candidate) in candidates.iter().enumerate() {
        let share = share(deadline, candidates.len().saturating_sub(tried));
        match timeout(share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => return Ok(Stream::Plain(stream)),
            Ok(Err(error)) => failure = error,
            Err(_elapsed) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

async fn resolve(address: &Address, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let found = timeout(limit, lookup_host((address.host.as_str(), address.port))).await;
    let not_found = |error: io::Error| io::Error::new(io::ErrorKind::NotFound, error);
    match found {
        Ok(addresses) => Ok(addresses.map_err(not_found)?.collect()),
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// What is left until `deadline`, divided by the addresses that are still to be tried.
fn share(deadline: Instant, addresses_left: usize) -> Duration {
    let left = deadline.saturating_duration_since(clock::now());
    left / u32::try_from(addresses_left).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_name_is_resolved_and_its_addresses_tried_in_order() {
        // `localhost` may mean ::1 first, where nobody listens on this port.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address {
            host: "localhost".into(),
            port,
        };
        connect(&address, Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let address = Address {
            host: "127.0.0.1".into(),
            port,
        };
        let error = connect(&address, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_not_found() {
        let address: Address = "no-such-host.invalid:5432".parse().unwrap();
        let error = connect(&address, Duration::from_secs(20))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
