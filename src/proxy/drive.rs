//! The loop between a client's socket, its session and the server connection that it is lent. It
//! reads, lets the session decide, carries out what it decided, and writes. It holds no rule.
//!
//! Both directions are read and written as they are ready, so that neither side can block the
//! other; a side that does not take what it is sent stops the reading of the other.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until};
use tracing::debug;

use super::doorbell::ring;
use super::lent::Lent;
use super::listeners::Ear;
use super::login::{Arrived, Console, Presence};
use super::orders::Given;
use super::queue::Queue;
use super::seen::{Seen, view};
use super::{Proxy, notes};
use crate::clock;
use crate::net::Stream;
use crate::session::{
    Catalog, Channel, ConsoleReply, Input, Note, Output, OwnNumbers, Refusal, Route, ServerSide,
    Session, When, World,
};
use crate::telemetry::{ClientEntry, ClientState, ErrorOrigin, Hold};
use crate::upstream::{self, PoolHandle};
use crate::wire::{FrameError, Splitter, backend};

/// What is counted and shown of a session.
pub(super) struct Card {
    pub(super) client: u64,
    pub(super) database: String,
    pub(super) entry: ClientEntry,
    pub(super) state: ClientState,
    /// While a statement waits for a primary.
    pub(super) hold: Option<Hold>,
}

/// A session with its sockets.
pub(super) struct Conversation {
    pub(super) proxy: Arc<Proxy>,
    pub(super) session: Session,
    pub(super) card: Card,
    pub(super) client: Stream,
    pub(super) client_input: BytesMut,
    pub(super) client_cut: Splitter,
    to_client: Queue,
    pub(super) to_server: Queue,
    pub(super) server: Option<Lent>,
    /// The place of a session that listens at the shared listener.
    pub(super) ear: Option<Box<Ear>>,
    pub(super) pools: Vec<PoolHandle<Option<Box<ServerSide>>>>,
    pub(super) login: Arc<upstream::Login>,
    console: Console,
    /// What came of an order that took its time, for the session that asks for it next.
    told: Option<Box<ConsoleReply>>,
    catalog: Arc<ArcSwapOption<Catalog>>,
    /// What is known of the world; given back with the buffers of an idle session.
    seen: Option<Seen>,
    pub(super) presence: Presence,
    /// Cancels of our own that are on their way to a server.
    pub(super) cancelling: Option<Box<JoinSet<()>>>,
    alarm: Option<Pin<Box<Sleep>>>,
    outputs: Vec<Output>,
    /// The time when the conversation was last woken: one reading for all that follows from it.
    pub(super) now: Instant,
    pub(super) end: End,
}

/// How near the end of the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It goes on.
    No,
    /// The client sends no more.
    ClientDone,
    /// What waits for the client is written, then it is over.
    Closing,
}

/// What a session wants that takes its time.
pub(super) enum Wanted {
    Lease(Route),
    Listen(Vec<Channel>),
    CatchUp(When),
}

/// What woke the conversation.
#[derive(Clone, Copy, Debug, Default)]
struct Woken {
    server_gone: bool,
    rung: u8,
    alarm: bool,
}

impl Conversation {
    pub(super) fn new(proxy: Arc<Proxy>, arrived: Arrived) -> Self {
        let catalog = match arrived.console {
            Console::No => proxy.catalogs.of(&arrived.login.database),
            Console::Watcher | Console::Admin => Arc::default(),
        };
        arrived.entry.set_state(ClientState::Idle, clock::now());
        Self {
            session: Session::new(arrived.client, arrived.settings),
            card: Card {
                client: arrived.client,
                database: arrived.login.database.clone(),
                entry: arrived.entry,
                state: ClientState::Idle,
                hold: None,
            },
            client: arrived.stream,
            client_input: arrived.input,
            client_cut: arrived.splitter,
            to_client: Queue::default(),
            to_server: Queue::default(),
            server: None,
            ear: None,
            pools: Vec::new(),
            login: arrived.login,
            console: arrived.console,
            told: None,
            catalog,
            seen: None,
            presence: arrived.presence,
            cancelling: None,
            alarm: None,
            outputs: Vec::new(),
            now: clock::now(),
            end: End::No,
            proxy,
        }
    }

    /// Drives the session to its end.
    pub(super) async fn run(mut self) {
        if self.proxy.is_draining() {
            self.presence.bell.ring(ring::DRAIN);
        }
        if let Err(error) = self.drive().await {
            debug!(session = self.card.client, error = %error, "client connection broke");
            self.to_client.clear();
        }
        if let Some(lent) = self.server.take() {
            self.proxy.count_returned(lent.lease.server);
        }
        // Nobody waits for ever for a client that does not take its last word.
        let taken = self.to_client.write_all(&mut self.client, LAST_WORD_MAX);
        if let Err(error) = taken.await {
            debug!(session = self.card.client, error = %error, "client did not take its last word");
        }
        // What was to be cancelled would run on without anybody who wants it.
        let cancelling = self.cancelling.take();
        drop(self);
        if let Some(mut cancelling) = cancelling {
            while cancelling.join_next().await.is_some() {}
        }
    }

    /// Until it is over, or the client's connection breaks.
    async fn drive(&mut self) -> io::Result<()> {
        loop {
            let starved = self.work().await;
            let sent = self.to_client.write(&mut self.client)?;
            self.card.entry.add_sent(sent as u64);
            if let Some(lent) = &mut self.server
                && !self.to_server.is_empty()
                && self.to_server.write(&mut lent.lease.stream).is_err()
            {
                self.tell(Input::ServerLost).await;
                continue;
            }
            if self.end == End::Closing {
                return Ok(());
            }
            // A client that only stopped sending still gets its answers. One whose next message is
            // waited for, in the middle of a COPY or of a unit, holds a server for nothing.
            if self.end == End::ClientDone && starved && self.to_client.is_empty() {
                return Ok(());
            }
            self.show_state();
            let woken = poll_fn(|context| self.poll_wait(context)).await?;
            self.now = clock::now();
            self.attend(woken).await;
        }
    }

    /// Handles everything that was read, until more is needed; tells whether it is the client's
    /// turn and nothing whole of it is here.
    async fn work(&mut self) -> bool {
        let mut letters = 0;
        loop {
            if self.end == End::Closing {
                return false;
            }
            if letters < LETTERS_MAX
                && self.takes_mail()
                && let Some(letter) = self.next_letter()
            {
                letters += 1;
                self.tell(letter).await;
                continue;
            }
            if self.to_client.len() < QUEUE_HIGH
                && let Some(lent) = &mut self.server
            {
                match lent.cut.next(&mut lent.lease.input) {
                    Ok(Some(cut)) => {
                        self.tell(Input::Server(cut)).await;
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(server = %lent.lease.server, error = %error,
                            "a server broke the protocol");
                        self.tell(Input::ServerLost).await;
                        continue;
                    }
                }
            }
            if self.session.wants_client() && self.to_server.len() < QUEUE_HIGH {
                match self.client_cut.next(&mut self.client_input) {
                    Ok(Some(cut)) => {
                        if self.console == Console::Admin {
                            let order = Given {
                                cut: &cut,
                                bell: &self.presence.bell,
                                client: &mut self.client,
                                input: &mut self.client_input,
                            };
                            self.told = Box::pin(self.proxy.take_order(order)).await;
                            self.now = clock::now();
                        }
                        self.tell(Input::Client(cut)).await;
                        letters = 0;
                        continue;
                    }
                    Ok(None) if letters > 0 && self.takes_mail() => {
                        letters = 0;
                        continue;
                    }
                    Ok(None) if self.session.wants_pause() => {
                        self.tell(Input::Pause).await;
                        continue;
                    }
                    Ok(None) => return true,
                    Err(error) => self.break_off(&error),
                }
            }
            return false;
        }
    }

    /// Ends a conversation in which the client's bytes make no sense.
    fn break_off(&mut self, error: &FrameError) {
        let refusal = match error {
            FrameError::TooLong { .. } => Refusal::FrameTooLong(error.to_string()),
            FrameError::UnknownTag(_) | FrameError::BadLength { .. } => {
                Refusal::Protocol(error.to_string())
            }
        };
        self.say_last(&refusal);
    }

    /// Tells the client why it is over, unless that would be taken for the rest of a message.
    fn say_last(&mut self, refusal: &Refusal) {
        let sqlstate = refusal.sqlstate().0;
        let telemetry = &self.proxy.telemetry;
        telemetry.error_returned(ErrorOrigin::Router, sqlstate);
        let is_inside = |lent: &Lent| !lent.cut.is_between_frames();
        if !self.server.as_ref().is_some_and(is_inside) {
            let mut message = BytesMut::new();
            backend::error(&mut message, &refusal.fields());
            self.to_client.push(message.freeze());
        }
        self.end = End::Closing;
    }

    /// Whether the session is to be given what the listener heard.
    pub(super) fn takes_mail(&self) -> bool {
        self.has_mail() && self.to_client.len() < QUEUE_HIGH && self.session.takes_notifications()
    }

    /// Acts on what woke the conversation.
    async fn attend(&mut self, woken: Woken) {
        if woken.rung & ring::KILL != 0 {
            self.say_last(match self.proxy.is_draining() {
                true => &Refusal::ShuttingDown,
                false => &Refusal::Killed,
            });
            return;
        }
        // First of all: what the others bring may take the alarm back.
        if woken.alarm {
            self.alarm = None;
            self.tell(Input::Timer).await;
        }
        if woken.server_gone {
            // What it sent before it went is handled first: it may be the whole answer.
            self.work().await;
            if self.server.is_some() {
                self.tell(Input::ServerLost).await;
            }
        }
        if woken.rung & ring::CANCEL != 0 {
            self.tell(Input::Cancel).await;
        }
        if woken.rung & ring::SNAPSHOT != 0 {
            self.tell(Input::SnapshotChanged).await;
        }
        if woken.rung & ring::TRIM != 0 {
            self.trim();
        }
        if woken.rung & ring::DRAIN != 0 {
            self.tell(Input::Drain).await;
        }
    }

    /// Lets the session handle an input, and carries out what it wants.
    async fn tell(&mut self, input: Input) {
        let mut wanted = self.handle(input);
        while let Some(output) = wanted {
            let input = match output {
                Wanted::Lease(route) => self.lease(&route).await,
                Wanted::Listen(channels) => self.listen(channels).await,
                Wanted::CatchUp(when) => self.catch_up(when).await,
            };
            wanted = self.handle(input);
        }
    }

    /// The same up to where a connection is needed, which is the only thing to wait for. What the
    /// session wants behind it, the answer to it brings.
    pub(super) fn handle(&mut self, input: Input) -> Option<Wanted> {
        let mut outputs = mem::take(&mut self.outputs);
        let seen = self
            .seen
            .get_or_insert_with(|| Seen::new(&self.proxy, &self.catalog));
        let settings = seen.settings.load();
        let is_admin = self.console == Console::Admin;
        let told = Cell::new(self.told.take());
        let answer = |text: &str| match told.take() {
            Some(told) => *told,
            None => (self.proxy.console)(text, is_admin),
        };
        let catalog = seen.catalog.load().as_deref();
        let world = World {
            now: self.now,
            snapshot: seen.snapshot.load(),
            rules: seen.own.of(settings, &self.login),
            route: &settings.route,
            texts: &self.proxy.texts,
            catalog,
            view: view(settings, catalog),
            load: &|server| self.proxy.load(server),
            server_statements_max: settings.server_statements_max,
            console: match self.console {
                Console::No => None,
                Console::Watcher | Console::Admin => Some(&answer),
            },
            own: OwnNumbers {
                client: self.presence.cancel.key().pid,
                server: self.server.as_ref().and_then(Lent::pid),
            },
            paused: self.console == Console::No
                && self.proxy.state.switches.is_paused(&self.card.database),
        };
        let mut input = Some(input);
        while let Some(next) = input.take() {
            let is_answer = matches!(next, Input::Server(_));
            let from = outputs.len();
            self.session.handle(&world, next, &mut outputs);
            // An answer is most often several messages that came in one piece.
            if is_answer && goes_on(&outputs, from) {
                input = self.server.as_mut().and_then(Lent::next_whole);
            }
        }
        let mut wanted = None;
        for output in outputs.drain(..) {
            match output {
                Output::Lease(route) => wanted = Some(Wanted::Lease(route)),
                Output::Listen(channels) => wanted = Some(Wanted::Listen(channels)),
                Output::Echo(when) => wanted = Some(Wanted::CatchUp(when)),
                other => self.perform(other),
            }
        }
        self.outputs = outputs;
        wanted
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::ToClient(bytes) => {
                if self.end != End::Closing {
                    self.to_client.push(bytes);
                }
            }
            Output::ToServer(bytes) => self.to_server.push(bytes),
            Output::Release { condition, side } => self.give_back(condition, side),
            Output::Note(note) => {
                if let (Note::Routed { .. }, Some(lent)) = (note, &self.server) {
                    lent.lease.count_query();
                }
                notes::record(&self.proxy, &mut self.card, note);
            }
            other => self.perform_rarely(other),
        }
    }

    /// What few statements want is kept out of the way of all others.
    #[cold]
    #[inline(never)]
    fn perform_rarely(&mut self, output: Output) {
        match output {
            Output::Arm(None) => self.alarm = None,
            Output::Arm(Some(at)) => self.alarm = Some(Box::pin(sleep_until(at.into()))),
            Output::CancelServer => self.cancel_own(),
            Output::Unlisten(channels) => self.unlisten(&channels),
            Output::Close => self.end = End::Closing,
            Output::ToClient(_)
            | Output::ToServer(_)
            | Output::Release { .. }
            | Output::Note(_)
            | Output::Lease(_)
            | Output::Listen(_)
            | Output::Echo(_) => {
                debug_assert!(false, "what takes time is asked for where it can wait");
            }
        }
    }

    /// Gives the buffers of an idle session back.
    fn trim(&mut self) {
        if self.session.is_idle() && self.client_input.is_empty() {
            self.client_input = BytesMut::new();
            self.outputs = Vec::new();
            self.session.trim();
            self.seen = None;
            self.to_client.trim();
            self.to_server.trim();
            self.client.trim();
            self.presence.bell.slim_down();
        }
    }

    fn show_state(&mut self) {
        let state = if self.session.is_waiting() {
            ClientState::Waiting
        } else if self.session.is_active() {
            ClientState::Active
        } else if self.server.is_some() {
            ClientState::InTransaction
        } else {
            ClientState::Idle
        };
        if state != self.card.state {
            self.card.state = state;
            if state != ClientState::Waiting {
                self.card.hold = None;
            }
            self.card.entry.set_state(state, self.now);
        }
    }

    /// Waits until there is something to do, and reads what has come.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Woken>> {
        let mut woken = Woken::default();
        let mut ready = false;
        if self.end == End::No && self.client_input.len() < self.client_limit() {
            match self
                .client
                .poll_read(context, &mut self.client_input, READ_MIN)
            {
                Poll::Ready(Ok(0)) => {
                    self.end = End::ClientDone;
                    ready = true;
                }
                Poll::Ready(Ok(read)) => {
                    self.card.entry.add_received(read as u64);
                    self.presence.bell.grow_fat();
                    ready = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if !self.to_client.is_empty() && self.client.poll_writable(context)?.is_ready() {
            ready = true;
        }
        if let Some(lent) = &mut self.server {
            match lent.poll(context, self.to_client.len(), !self.to_server.is_empty()) {
                Poll::Ready(Ok(())) => ready = true,
                Poll::Ready(Err(_gone)) => {
                    woken.server_gone = true;
                    ready = true;
                }
                Poll::Pending => {}
            }
        }
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(context).is_ready()
        {
            woken.alarm = true;
            ready = true;
        }
        woken.rung = self.presence.bell.answer(context.waker());
        match ready || woken.rung != 0 {
            true => Poll::Ready(Ok(woken)),
            false => Poll::Pending,
        }
    }

    /// How much of what the client sends is taken in now. While it is not its turn, only so much
    /// that its going away is noticed.
    fn client_limit(&self) -> usize {
        match self.session.wants_client() && self.to_server.len() < QUEUE_HIGH {
            true => usize::MAX,
            false => READ_AHEAD_MAX,
        }
    }
}

/// Whether what is wanted from here on leaves the connection as it is, so that its next message can
/// be handled before anything is done.
fn goes_on(outputs: &[Output], from: usize) -> bool {
    let leaves = |output: &Output| matches!(output, Output::ToClient(_) | Output::Note(_));
    outputs.len() < TOGETHER_MAX && outputs.iter().skip(from).all(leaves)
}

/// So many notifications are given to a client before its next message has its turn.
const LETTERS_MAX: usize = 64;
/// So much is wanted at once before it is done.
const TOGETHER_MAX: usize = 32;
/// What a session reads at a time. Most messages fit.
pub(super) const READ_MIN: usize = 8 << 10;
/// One side is not read while so many bytes wait for the other.
pub(super) const QUEUE_HIGH: usize = 256 << 10;
/// What is taken in of a client while it is not its turn.
pub(super) const READ_AHEAD_MAX: usize = 64 << 10;
/// How long a client may take to read why it is over, and what came before that.
const LAST_WORD_MAX: Duration = Duration::from_secs(10);
