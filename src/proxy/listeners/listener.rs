//! The connection on which one database is listened to: opened for the first session that listens,
//! told what is wanted, opened again on whichever server is the primary, closed after the last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{debug, info};

use super::board::{Batch, Board};
use super::mailbox::Mailbox;
use crate::cluster::ServerId;
use crate::proxy::{Proxy, lock};
use crate::session::{Channel, Refusal};
use crate::upstream::{ConnectError, Direct, GetError, Login};
use crate::wire::backend::{Notification, tag};
use crate::wire::{Cut, Frame, Limits, Splitter, frontend};

/// What is listened to together: the texts of one database in one encoding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) database: String,
    pub(super) encoding: String,
}

/// What the sessions of one place share.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) board: Mutex<Board>,
    /// The board or the cluster has changed.
    changed: Notify,
    /// The connection has got further, or cannot be had.
    progress: Notify,
    trouble: Mutex<Trouble>,
    /// Those who want to know when everything that was notified so far is heard.
    echoes: Mutex<Vec<oneshot::Sender<()>>>,
    pub(super) counts: Counts,
}

/// Why there is no connection.
#[derive(Debug, Default)]
struct Trouble {
    /// How often a server refused us for a reason that trying again does not change.
    refused: u64,
    last: String,
}

/// What was counted of a listener.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) heard: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) lost: AtomicU64,
    /// The server of the connection and one; zero while there is none.
    server: AtomicU64,
}

/// Why a connection is not used any more.
enum Over {
    /// Nobody listens.
    Unused,
    /// It is lost, or leads to a server that is not the primary.
    Lost(&'static str),
}

impl Listener {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            board: Mutex::default(),
            changed: Notify::new(),
            progress: Notify::new(),
            trouble: Mutex::default(),
            echoes: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Has the connection look at the board, or at the cluster.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// The server of the connection, while there is one.
    pub(super) fn server(&self) -> Option<ServerId> {
        let place = self.counts.server.load(Ordering::Relaxed).checked_sub(1)?;
        u16::try_from(place).ok().map(ServerId)
    }

    /// Waits until the connection listens to all of these.
    ///
    /// # Errors
    ///
    /// When a server refused the login meanwhile.
    pub(super) async fn heard_all(&self, channels: &[Channel]) -> Result<(), Refusal> {
        let before = lock(&self.trouble).refused;
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if lock(&self.board).has_all(channels) {
                return Ok(());
            }
            {
                let trouble = lock(&self.trouble);
                if trouble.refused != before {
                    return Err(Refusal::CannotConnect(trouble.last.clone()));
                }
            }
            progress.await;
        }
    }

    /// Runs the connection until `is_over` says that nobody needs it.
    pub(super) async fn run(self: Arc<Self>, proxy: Arc<Proxy>, is_over: impl Fn(&Self) -> bool) {
        let mut attempt = 0;
        while !is_over(&self) {
            match self.connect(&proxy, attempt).await {
                Ok((server, link)) => {
                    attempt = 0;
                    let over = Link::new(server, link).serve(&self, &proxy).await;
                    self.counts.server.store(0, Ordering::Relaxed);
                    lock(&self.board).lose();
                    // They are told that there is none by being forgotten.
                    lock(&self.echoes).clear();
                    if let Over::Lost(why) = over {
                        self.counts.lost.fetch_add(1, Ordering::Relaxed);
                        proxy.telemetry.listener_lost();
                        info!(database = self.place.database, server = %server, why,
                            "the connection that listens is lost");
                    }
                }
                Err(pause) => {
                    attempt += 1;
                    // A new primary, or somebody else who listens, is worth a try at once.
                    let _woken = timeout(pause, self.changed.notified()).await;
                }
            }
        }
    }

    /// Connects to the primary; how long to wait before the next attempt when that fails.
    async fn connect(&self, proxy: &Proxy, attempt: usize) -> Result<(ServerId, Direct), Duration> {
        let login = lock(&self.board).login(attempt).ok_or(Duration::ZERO)?;
        let pause = RETRY_MIN
            * u32::try_from(attempt + 1)
                .unwrap_or(u32::MAX)
                .min(RETRIES_MAX);
        let server = proxy.snapshot.load().primary().ok_or(pause)?;
        let own = self.login_as(&login);
        match proxy.upstreams.open_listener(server, &own).await {
            Ok(link) => Ok((server, link)),
            Err(error) => {
                debug!(database = self.place.database, server = %server, error = %error,
                    "could not connect to listen");
                self.note_refused(&error);
                Err(pause)
            }
        }
    }

    fn note_refused(&self, error: &GetError) {
        let will_do = |error: &ConnectError| error.retry();
        if let GetError::Connect(connect) = error
            && will_do(connect)
        {
            return;
        }
        let mut trouble = lock(&self.trouble);
        trouble.refused += 1;
        trouble.last = error.to_string();
        drop(trouble);
        self.progress.notify_waiters();
    }

    /// The same identity with settings of ours: what a client set for itself is none of this
    /// connection's, and it may be silent for as long as nobody notifies.
    fn login_as(&self, login: &Login) -> Login {
        let parameters = [
            ("application_name", "pgherd listener"),
            ("client_encoding", self.place.encoding.as_str()),
            ("idle_session_timeout", "0"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Login {
            parameters: parameters
                .map(owned)
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            ..login.clone()
        }
    }
}

/// What a connection was told.
enum Told {
    /// To listen, or not to any more.
    Batch(Batch),
    /// To answer, which it does behind all that was notified until then.
    Echo(Vec<oneshot::Sender<()>>),
}

impl Told {
    fn text(&self) -> String {
        match self {
            Self::Batch(batch) => batch.text(),
            Self::Echo(_) => String::new(),
        }
    }
}

/// A connection that listens.
struct Link {
    server: ServerId,
    direct: Direct,
    input: BytesMut,
    cut: Splitter,
    /// What it was told and has not done yet, and when it has to have done it.
    told: Option<(Told, Instant)>,
    /// Whether what it was told was refused.
    refused: bool,
}

impl Link {
    fn new(server: ServerId, direct: Direct) -> Self {
        Self {
            server,
            direct,
            input: BytesMut::new(),
            cut: Splitter::server(Limits::default()),
            told: None,
            refused: false,
        }
    }

    async fn serve(mut self, listener: &Listener, proxy: &Proxy) -> Over {
        let place = u64::from(self.server.0) + 1;
        listener.counts.server.store(place, Ordering::Relaxed);
        loop {
            if lock(&listener.board).is_empty() {
                return Over::Unused;
            }
            let primary = proxy.snapshot.load().primary();
            if primary.is_some_and(|primary| primary != self.server) {
                return Over::Lost("another server is the primary");
            }
            if let Err(why) = self.tell(listener).await {
                return Over::Lost(why);
            }
            let limit = self.told.as_ref().map(|(_, until)| *until);
            let silent = async {
                match limit {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            // Each arm can be dropped: reading leaves what it has read, and a wake-up that nobody
            // waits for is kept.
            tokio::select! {
                read = self.direct.stream.read(&mut self.input, READ_BYTES) => {
                    if !matches!(read, Ok(1..)) {
                        return Over::Lost("the server closed it");
                    }
                }
                () = listener.changed.notified() => {}
                () = silent => return Over::Lost("the server does not answer"),
            }
            if let Err(why) = self.take_in(listener, proxy) {
                return Over::Lost(why);
            }
        }
    }

    /// Tells the server what it does not know, one thing after the other.
    async fn tell(&mut self, listener: &Listener) -> Result<(), &'static str> {
        if self.told.is_some() {
            return Ok(());
        }
        let Some(told) = next_told(listener) else {
            return Ok(());
        };
        let mut out = BytesMut::new();
        frontend::query(&mut out, told.text().as_bytes());
        let until = Instant::now() + ANSWER_LIMIT;
        self.told = Some((told, until));
        match timeout_at(until, self.direct.stream.write_all(&out)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("the server closed it"),
            Err(_elapsed) => Err("the server does not answer"),
        }
    }

    /// Handles what was read.
    fn take_in(&mut self, listener: &Listener, proxy: &Proxy) -> Result<(), &'static str> {
        loop {
            match self.cut.next(&mut self.input) {
                Ok(Some(Cut::Message(frame))) => self.message(&frame, listener, proxy)?,
                Ok(None) => return Ok(()),
                Ok(Some(Cut::Run(_) | Cut::Head(_) | Cut::Rest { .. })) | Err(_) => {
                    return Err("the server broke the protocol");
                }
            }
        }
    }

    fn message(
        &mut self,
        frame: &Frame,
        listener: &Listener,
        proxy: &Proxy,
    ) -> Result<(), &'static str> {
        match frame.tag {
            tag::NOTIFICATION => hear(frame, listener, proxy),
            tag::ERROR => self.refused = true,
            tag::READY => {
                if self.refused {
                    return Err("the server refused to listen");
                }
                match self.told.take() {
                    Some((Told::Batch(batch), _)) => lock(&listener.board).done(batch),
                    Some((Told::Echo(asked), _)) => {
                        for one in asked {
                            // Whoever does not wait any more needs no answer.
                            let _gone = one.send(());
                        }
                    }
                    None => {}
                }
                listener.progress.notify_waiters();
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a connection has to be told next.
fn next_told(listener: &Listener) -> Option<Told> {
    let mut board = lock(&listener.board);
    if let Some(batch) = board.next_batch() {
        return Some(Told::Batch(batch));
    }
    board.settle();
    let asked = std::mem::take(&mut *lock(&listener.echoes));
    (!asked.is_empty()).then_some(Told::Echo(asked))
}

/// Gives a notification to those whom it concerns. Its bytes are copied once: a part of what was
/// read would keep all of it alive for as long as one of them does not take it.
fn hear(frame: &Frame, listener: &Listener, proxy: &Proxy) {
    let Ok(heard) = Notification::parse(frame.body()) else {
        return;
    };
    let limit = proxy.settings.load().session.notifications_max.0;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let bytes = Bytes::copy_from_slice(&frame.bytes);
    let reached = lock(&listener.board).hear(heard.channel, &bytes, limit);
    proxy.telemetry.notified(reached.dropped);
    listener.counts.heard.fetch_add(1, Ordering::Relaxed);
    listener
        .counts
        .dropped
        .fetch_add(reached.dropped, Ordering::Relaxed);
}

/// A session's place at a listener, given up when dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Ear {
    pub(super) client: u64,
    pub(super) listener: Arc<Listener>,
    pub(in crate::proxy) mailbox: Arc<Mailbox>,
}

impl Ear {
    /// Listens to more channels, and waits until that is so.
    ///
    /// # Errors
    ///
    /// When a server refuses the login of the listener.
    pub(in crate::proxy) async fn listen(&self, channels: &[Channel]) -> Result<(), Refusal> {
        lock(&self.listener.board).add(self.client, channels);
        self.listener.wake();
        self.listener.heard_all(channels).await
    }

    /// Waits until all that was notified so far is heard; without a connection, that is nothing.
    pub(in crate::proxy) async fn catch_up(&self) {
        let (told, asked) = oneshot::channel();
        lock(&self.listener.echoes).push(told);
        if self.listener.server().is_none() {
            return;
        }
        self.listener.wake();
        // Dropped when the connection is lost.
        let _heard = asked.await;
    }

    /// Listens to these no more; tells whether any is left.
    pub(in crate::proxy) fn unlisten(&self, channels: &[Channel]) -> bool {
        let left = lock(&self.listener.board).remove(self.client, channels);
        self.listener.wake();
        left > 0
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        lock(&self.listener.board).leave(self.client);
        self.listener.wake();
    }
}

/// A server that listens to a few hundred channels answers within milliseconds. One that takes so
/// long hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a failed attempt, so often as long as attempts failed, up to a bound.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRIES_MAX: u32 = 20;
const READ_BYTES: usize = 16 << 10;
