//! Takes connections in, and bounds how many there are.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::drive::Conversation;
use super::login::{Entered, TOO_MANY};
use super::peer::Peer;
use super::places::{Place, Places};
use super::{Proxy, login};
use crate::net::{Caller, Listener, Stream};
use crate::telemetry::LoginResult;
use crate::wire::{ErrorFields, Severity, SqlState, backend};

/// Accepts clients until `stop` resolves, then waits for the sessions that it started.
///
/// The sessions end by themselves after [`Proxy::drain`] or [`Proxy::kill`].
pub async fn serve(proxy: Arc<Proxy>, listener: Listener, stop: impl Future<Output = ()>) {
    let mut sessions = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_ended) = sessions.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, caller)) => match proxy.place_for_login(caller) {
                    Some(place) => {
                        sessions.spawn(session(Arc::clone(&proxy), stream, caller, place));
                    }
                    None => turn_away(&proxy, &stream),
                },
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
async fn session(proxy: Arc<Proxy>, stream: Stream, caller: Caller, place: Place) {
    let client = proxy.state.next_client.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = stream.tune(Some(KEEPALIVE), None) {
        debug!(client, error = %error, "client left before it began");
        return;
    }
    let peer = Peer::of(caller);
    // The future of a login is large and short: it is not part of the session's.
    match Box::pin(login::log_in(&proxy, stream, client, peer, place)).await {
        Some(Entered::Session(arrived)) => {
            Conversation::new(proxy, *arrived).run().await;
        }
        // Boxed: it is rare, and the future of every session would be as large.
        Some(Entered::Replication(tunnel, stream)) => Box::pin(tunnel.run(stream)).await,
        None => {}
    }
}

impl Proxy {
    /// A place for a connection that has not logged in yet: as many as clients may be connected,
    /// so that all of them may come back at once. A few more are kept for this machine's own, or
    /// nobody could look at the console while others only connect and say nothing.
    fn place_for_login(&self, caller: Caller) -> Option<Place> {
        let limit = self.settings.load().clients_max;
        let is_near = match caller {
            Caller::Host(peer) => peer.ip().to_canonical().is_loopback(),
            Caller::Local(_) => true,
        };
        let kept = if is_near { KEPT_FOR_THIS_MACHINE } else { 0 };
        Places::enter(&self.state.logging_in, limit + kept)
    }
}

/// Refuses a connection for which there is no place, without waiting for anything. What it has sent
/// is taken in first: closing with unread bytes would have the refusal thrown away with them.
fn turn_away(proxy: &Proxy, stream: &Stream) {
    let mut message = BytesMut::new();
    let state = SqlState::TOO_MANY_CONNECTIONS;
    let fields = ErrorFields::new(Severity::Fatal, state, TOO_MANY.to_owned());
    backend::error(&mut message, &fields);
    let socket = stream.raw();
    let mut unread = [0; 1024];
    let mut reader = &*socket;
    let told = match reader.read(&mut unread) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => socket.send(&message).map(drop),
    };
    if let Err(error) = told {
        debug!(error = %error, "a client that was turned away is gone");
    }
    proxy.telemetry.login_ended(LoginResult::TooManyClients);
}

/// A client that vanished without a word is noticed after this long, and a few probes.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How many may log in from this machine when nobody else may.
const KEPT_FOR_THIS_MACHINE: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
