//! A replication connection: passed on byte for byte in both directions, with bounded buffers, for
//! as long as it leads where the client asked.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::time::timeout;
use tracing::{debug, info};

use super::Proxy;
use super::doorbell::ring;
use super::login::Presence;
use super::places::Place;
use crate::clock;
use crate::net::Stream;
use crate::session::Source;
use crate::telemetry::{ClientEntry, ClientState};
use crate::upstream::Direct;
use crate::wire::{Edge, ErrorFields, Severity, SqlState, backend};

/// A client that replicates, and the server that it has to itself.
pub(super) struct Tunnel {
    proxy: Arc<Proxy>,
    source: Source,
    server: Direct,
    presence: Presence,
    entry: ClientEntry,
    /// What was read of one side and not written to the other.
    to_client: BytesMut,
    to_server: BytesMut,
    /// Where the messages to the client end.
    edge: Edge,
    /// Nothing more is taken of the client.
    client_done: bool,
    _place: Place,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ClientGone,
    ServerGone,
    /// The server is not what the client asked for any more.
    WrongSource,
    /// An operator, or the end of the router.
    Killed,
}

impl Tunnel {
    #[expect(clippy::too_many_arguments, reason = "all that a login gathered")]
    pub(super) fn new(
        proxy: Arc<Proxy>,
        source: Source,
        server: Direct,
        presence: Presence,
        entry: ClientEntry,
        sent_already: BytesMut,
        place: Place,
    ) -> Self {
        entry.set_state(ClientState::Replication, clock::now());
        Self {
            proxy,
            source,
            server,
            presence,
            entry,
            to_client: BytesMut::new(),
            to_server: sent_already,
            edge: Edge::default(),
            client_done: false,
            _place: place,
        }
    }

    /// Passes everything on, to the end of one side or of the connection's right to be.
    pub(super) async fn run(mut self, mut client: Stream) {
        let end = self.pass_on(&mut client).await;
        let name = self
            .proxy
            .snapshot
            .load()
            .name(self.source.server)
            .to_owned();
        match end {
            End::ClientGone | End::ServerGone => debug!(?end, server = name, "replication ended"),
            End::WrongSource | End::Killed => {
                info!(?end, server = name, "replication connection closed");
                self.say_last(end);
            }
        }
        // No cancel may find the server's process any more; whoever is on its way has no aim.
        let _nobody_shares_the_connection = self.presence.cancel.put_down();
        let taken = async {
            while !self.to_client.is_empty() {
                client.writable().await?;
                self.write_client(&mut client)?;
            }
            io::Result::Ok(())
        };
        // Nobody waits for ever for a client that does not take its last word.
        if !matches!(timeout(LAST_WORD_MAX, taken).await, Ok(Ok(()))) {
            debug!(server = name, "client did not take its last word");
        }
    }

    async fn pass_on(&mut self, client: &mut Stream) -> End {
        loop {
            if !self.source.is_right(&self.proxy.snapshot.load()) {
                return End::WrongSource;
            }
            if self.client_done && self.to_server.is_empty() {
                return End::ClientGone;
            }
            let woken = poll_fn(|context| self.poll(context, client)).await;
            match woken {
                Ok(rung) if rung & ring::KILL != 0 => return End::Killed,
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    /// Moves what can be moved; ready when something was, or the bell rang.
    fn poll(&mut self, context: &mut Context<'_>, client: &mut Stream) -> Poll<Result<u8, End>> {
        let from_server = self.poll_server(context, client)?;
        let from_client = self.poll_client(context, client)?;
        let rung = self.presence.bell.answer(context.waker());
        match from_server.is_ready() || from_client.is_ready() || rung != 0 {
            true => Poll::Ready(Ok(rung)),
            false => Poll::Pending,
        }
    }

    /// From the server to the client.
    fn poll_server(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Stream,
    ) -> Poll<Result<(), End>> {
        let mut moved = Poll::Pending;
        if self.to_client.len() < HIGH {
            let before = self.to_client.len();
            let stream = &mut self.server.stream;
            match stream.poll_read(context, &mut self.to_client, READ) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(End::ServerGone)),
                Poll::Ready(Ok(_)) => {
                    let read = self.to_client.get(before..).unwrap_or_default();
                    self.edge.follow(read);
                    moved = Poll::Ready(Ok(()));
                }
                Poll::Pending => {}
            }
        }
        if !self.to_client.is_empty() && is_writable(client, context, End::ClientGone)? {
            self.write_client(client)
                .map_err(|_broken| End::ClientGone)?;
            moved = Poll::Ready(Ok(()));
        }
        moved
    }

    /// From the client to the server.
    fn poll_client(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Stream,
    ) -> Poll<Result<(), End>> {
        let mut moved = Poll::Pending;
        if !self.client_done && self.to_server.len() < HIGH {
            match client.poll_read(context, &mut self.to_server, READ) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    // Its goodbye may still wait for the server.
                    self.client_done = true;
                    moved = Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(read)) => {
                    self.entry.add_received(read as u64);
                    moved = Poll::Ready(Ok(()));
                }
                Poll::Pending => {}
            }
        }
        let server = &mut self.server.stream;
        if !self.to_server.is_empty() && is_writable(server, context, End::ServerGone)? {
            match write(server, &mut self.to_server) {
                Ok(_) => moved = Poll::Ready(Ok(())),
                // What it said before it closed is read first: it may be the reason.
                Err(_broken) => self.to_server.clear(),
            }
        }
        moved
    }

    fn write_client(&mut self, client: &mut Stream) -> io::Result<()> {
        let written = write(client, &mut self.to_client)?;
        self.entry.add_sent(written as u64);
        Ok(())
    }

    /// Tells the client why, unless that would be taken for the rest of a message.
    fn say_last(&mut self, end: End) {
        if !self.edge.is_between_messages() {
            return;
        }
        let text = match end {
            End::WrongSource => {
                "terminating replication connection: its server is not the primary any more"
            }
            End::Killed | End::ClientGone | End::ServerGone => {
                "terminating replication connection due to administrator command"
            }
        };
        let fields = ErrorFields::new(Severity::Fatal, SqlState::ADMIN_SHUTDOWN, text.to_owned());
        backend::error(&mut self.to_client, &fields);
    }
}

fn is_writable(stream: &Stream, context: &mut Context<'_>, broken: End) -> Result<bool, End> {
    match stream.poll_writable(context) {
        Poll::Ready(Ok(())) => Ok(true),
        Poll::Ready(Err(_)) => Err(broken),
        Poll::Pending => Ok(false),
    }
}

/// Writes what the peer takes now.
fn write(stream: &mut Stream, bytes: &mut BytesMut) -> io::Result<usize> {
    match stream.try_write(bytes) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(written) => {
            bytes.advance(written);
            Ok(written)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// What is read at a time: a base backup is large.
const READ: usize = 64 << 10;
/// One side is not read while so many bytes wait for the other.
const HIGH: usize = 256 << 10;
/// How long a client may take to read what came last.
const LAST_WORD_MAX: std::time::Duration = std::time::Duration::from_secs(10);
