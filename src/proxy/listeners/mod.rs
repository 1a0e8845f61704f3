//! LISTEN for sessions that have no connection of their own: one connection to the primary for
//! each database listens for all of them, and outlives its server.

mod board;
mod listener;
mod mailbox;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;

pub(super) use listener::Ear;
use listener::{Listener, Place};
use mailbox::Mailbox;

use super::doorbell::Doorbell;
use super::{Proxy, lock};
use crate::cluster::ServerId;
use crate::upstream::Login;

/// The listeners of all databases.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Mutex<BTreeMap<Place, (Arc<Listener>, AbortHandle)>>,
}

/// Who wants to listen.
pub(super) struct Caller<'a> {
    pub(super) client: u64,
    pub(super) login: &'a Arc<Login>,
    pub(super) encoding: &'a str,
    pub(super) bell: &'a Arc<Doorbell>,
}

/// A listener as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerView {
    /// What it listens in.
    pub database: String,
    /// How texts are written there.
    pub encoding: String,
    /// The server of its connection, while it has one.
    pub server: Option<ServerId>,
    /// How many sessions listen.
    pub sessions: usize,
    /// How many notifications came.
    pub heard: u64,
    /// How many of them did not reach a session that listens, because it did not take those before.
    pub dropped: u64,
    /// How often the connection was lost.
    pub lost: u64,
    /// The channels.
    pub channels: Vec<ChannelView>,
}

/// A channel as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// How many sessions listen to it.
    pub sessions: usize,
    /// Whether the connection does.
    pub is_subscribed: bool,
}

impl Listeners {
    /// A place at the listener of a database, which begins with the first.
    pub(super) fn join(&self, proxy: &Arc<Proxy>, caller: &Caller<'_>) -> Ear {
        let place = Place {
            database: caller.login.database.clone(),
            encoding: caller.encoding.to_owned(),
        };
        let mut open = lock(&self.open);
        let (listener, _) = open.entry(place).or_insert_with_key(|place| {
            let listener = Arc::new(Listener::new(place.clone()));
            let run = Arc::clone(&listener).run(Arc::clone(proxy), {
                let proxy = Arc::clone(proxy);
                move |listener| proxy.state.listeners.close_unused(listener)
            });
            // Ends when nobody listens any more, or is stopped with the router.
            (listener, tokio::spawn(run).abort_handle())
        });
        let mailbox = Arc::new(Mailbox::new(caller.bell));
        // With the lock held: a listener that is about to end sees that it is used.
        lock(&listener.board).join(caller.client, &mailbox, caller.login);
        Ear {
            client: caller.client,
            listener: Arc::clone(listener),
            mailbox,
        }
    }

    /// Forgets a listener that nobody uses; tells whether it did.
    fn close_unused(&self, listener: &Listener) -> bool {
        let mut open = lock(&self.open);
        let is_unused = lock(&listener.board).is_empty();
        if is_unused {
            open.remove(&listener.place);
        }
        is_unused
    }

    /// Tells them that the cluster changed.
    pub(super) fn wake(&self) {
        for (listener, _) in lock(&self.open).values() {
            listener.wake();
        }
    }

    /// Ends them all.
    pub(super) fn stop(&self) {
        for (_, task) in lock(&self.open).values() {
            task.abort();
        }
    }

    /// What they do.
    pub(super) fn views(&self) -> Vec<ListenerView> {
        let open = lock(&self.open);
        open.values().map(|(listener, _)| view(listener)).collect()
    }
}

fn view(listener: &Listener) -> ListenerView {
    let board = lock(&listener.board);
    let channels = board
        .channels()
        .map(|(name, sessions, is_subscribed)| ChannelView {
            name: name.to_string(),
            sessions,
            is_subscribed,
        });
    ListenerView {
        database: listener.place.database.clone(),
        encoding: listener.place.encoding.clone(),
        server: listener.server(),
        sessions: board.sessions(),
        heard: listener.counts.heard.load(Ordering::Relaxed),
        dropped: listener.counts.dropped.load(Ordering::Relaxed),
        lost: listener.counts.lost.load(Ordering::Relaxed),
        channels: channels.collect(),
    }
}
