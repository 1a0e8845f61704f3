//! Takes connections in, and bounds how many there are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::drive::Conversation;
use super::login::Entered;
use super::{Proxy, login};
use crate::net::Stream;

/// Accepts clients until `stop` resolves, then waits for the sessions that it started.
///
/// The sessions end by themselves after [`Proxy::drain`] or [`Proxy::kill`].
pub async fn serve(proxy: Arc<Proxy>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let mut sessions = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_ended) = sessions.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    sessions.spawn(session(Arc::clone(&proxy), stream));
                }
                Err(error) => {
                    // Out of descriptors, most likely: accepting at once again would spin.
                    warn!(error = %error, "could not accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

/// One client, from its first byte to its last.
async fn session(proxy: Arc<Proxy>, stream: TcpStream) {
    let client = proxy.state.next_client.fetch_add(1, Ordering::Relaxed);
    let peer = stream.peer_addr().ok();
    let stream = Stream::Plain(stream);
    if let Err(error) = stream.tune(Some(KEEPALIVE), None) {
        debug!(client, error = %error, "client left before it began");
        return;
    }
    // The future of a login is large and short: it is not part of the session's.
    match Box::pin(login::log_in(&proxy, stream, client, peer)).await {
        Some(Entered::Session(arrived)) => {
            Conversation::new(proxy, *arrived).run().await;
        }
        // Boxed: it is rare, and the future of every session would be as large.
        Some(Entered::Replication(tunnel, stream)) => Box::pin(tunnel.run(stream)).await,
        None => {}
    }
}

/// A client that vanished without a word is noticed after this long, and a few probes.
const KEEPALIVE: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
