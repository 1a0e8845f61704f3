//! Cancel requests for sessions of the process that this one has taken over from, which it keeps
//! until they leave. It has a door of its own for them, where nothing else is answered.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Proxy, lock};
use crate::cluster::Peers;
use crate::net::{self, Listener, Stream, UnixDoor};
use crate::upstream;
use crate::wire::{CancelKey, FirstPacket, first_packet};

impl Proxy {
    /// Cancels are passed on to these doors from now on.
    pub fn follow_on(&self, doors: Vec<PathBuf>) {
        *lock(&self.state.forebears) = doors;
    }

    /// The doors of those processes whose sessions may still be there.
    pub fn forebears(&self) -> Vec<PathBuf> {
        lock(&self.state.forebears).clone()
    }

    /// Asks all earlier processes, of which the one that made the key cancels.
    pub(super) async fn pass_back(&self, key: &CancelKey) {
        let doors = self.forebears();
        if doors.is_empty() {
            return;
        }
        let asking = async {
            let _place = self.state.passing_on.acquire().await;
            join_all(doors.into_iter().map(|door| self.ask_forebear(door, key))).await
        };
        if timeout(LIMIT, asking).await.is_err() {
            debug!("a cancel was not passed back in time");
        }
    }

    async fn ask_forebear(&self, door: PathBuf, key: &CancelKey) {
        match net::connect_unix(&door).await {
            Ok(stream) => {
                if let Err(error) = upstream::cancel_by(stream, key, LIMIT).await {
                    debug!(error = %error, "could not pass a cancel back");
                }
            }
            Err(error) if is_gone(&error) => {
                lock(&self.state.forebears).retain(|known| *known != door);
            }
            Err(error) => debug!(error = %error, "could not reach an earlier process"),
        }
    }
}

/// Answers cancel requests for sessions of this process until it is dropped.
pub async fn serve_cancels(proxy: Arc<Proxy>, door: UnixDoor) {
    let door = Listener::Unix(door);
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut requests = JoinSet::new();
    loop {
        while requests.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match door.accept().await {
            Ok((stream, _caller)) => {
                let proxy = Arc::clone(&proxy);
                requests.spawn(async move {
                    if timeout(LIMIT, answer(&proxy, stream)).await.is_err() {
                        debug!("a cancel that was passed back took too long");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(error = %error, "could not accept a cancel that is passed back");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(proxy: &Proxy, mut stream: Stream) {
    let mut input = BytesMut::new();
    loop {
        match first_packet(&mut input) {
            Ok(Some(FirstPacket::Cancel(key))) => {
                let made = CancelKey {
                    pid: Peers::as_made(key.pid),
                    secret: key.secret,
                };
                proxy.cancel_own(&made).await;
                return;
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return,
        }
        if !matches!(stream.read(&mut input, READ_BYTES).await, Ok(1..)) {
            return;
        }
    }
}

/// Whether the process has ended, and its door with it.
fn is_gone(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused
}

/// How long one may take: a server has five seconds to answer.
const LIMIT: Duration = Duration::from_secs(6);
/// So many are answered at once; the others wait.
const AT_ONCE_MAX: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 512;
