//! The lending of a server connection to a session: the wait for one, and its way back.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::FutureExt;

use super::doorbell::ring;
use super::drive::{Conversation, End, READ_AHEAD_MAX, READ_MIN};
use super::lent::{Lent, denial};
use super::parting::Parting;
use crate::clock;
use crate::cluster::ServerId;
use crate::net::Stream;
use crate::session::{Condition, Input, Intent, Route, ServerSide};
use crate::upstream::{GetError, Lease, PoolHandle};

/// How the wait for a connection ended.
enum Wait {
    Over(Got),
    ClientGone,
    CalledOff,
}

type Got = Result<Lease<Option<Box<ServerSide>>>, GetError>;

impl Conversation {
    /// Gets a server connection, or says why there is none. A client that goes away meanwhile is
    /// noticed.
    pub(super) async fn lease(&mut self, route: &Route) -> Input {
        let server = route.server;
        let pool = match self.pool(server) {
            Ok(pool) => pool,
            Err(error) => return Input::Denied(denial(server, &error)),
        };
        let epoch = (route.intent == Intent::Write).then_some(route.epoch);
        let deadline = self.proxy.deadline(&self.login, self.now);
        let got = {
            let mut get = std::pin::pin!(pool.get(epoch, deadline, self.now));
            if let Some(got) = get.as_mut().now_or_never() {
                return self.leased(server, got);
            }
            let client = std::pin::pin!(read_ahead(&mut self.client, &mut self.client_input));
            let called_off = std::pin::pin!(self.presence.bell.heard(ring::CANCEL | ring::KILL));
            tokio::select! {
                biased;
                got = get => Wait::Over(got),
                () = client => Wait::ClientGone,
                () = called_off => Wait::CalledOff,
            }
        };
        self.now = clock::now();
        match got {
            Wait::ClientGone => {
                self.end = End::Closing;
                Input::ClientGone
            }
            Wait::CalledOff => {
                self.presence.bell.forget(ring::CANCEL);
                Input::Cancel
            }
            Wait::Over(got) => self.leased(server, got),
        }
    }

    /// What the session is told of the connection that it asked for.
    fn leased(&mut self, server: ServerId, got: Got) -> Input {
        match got {
            Err(error) => {
                if let GetError::Connect(connect) = &error
                    && connect.retry()
                {
                    (self.proxy.on_loss)(server);
                }
                self.proxy.note_refused_secret(&self.login, &error);
                Input::Denied(denial(server, &error))
            }
            Ok(mut lease) => {
                self.proxy.count_lent(server);
                let side = lease.state.take().unwrap_or_default();
                self.take_up(Lent::new(lease));
                Input::Granted { server, side }
            }
        }
    }

    fn pool(&mut self, server: ServerId) -> Result<PoolHandle<Option<Box<ServerSide>>>, GetError> {
        if let Some(pool) = self.pools.iter().find(|pool| pool.server() == server) {
            return Ok(pool.clone());
        }
        let pool = self.proxy.upstreams.pool(server, &self.login)?;
        self.pools.push(pool.clone());
        Ok(pool)
    }

    pub(super) fn give_back(&mut self, condition: Condition, side: Box<ServerSide>) {
        let Some(Lent { lease, cut, .. }) = self.server.take() else {
            debug_assert!(false, "a connection is given back that nobody has");
            return;
        };
        self.end_own();
        self.proxy.count_returned(lease.server);
        self.card.entry.set_server(None);
        if !cut.is_between_frames() {
            // The client has a part of a message, and takes whatever comes next for its rest.
            self.end = End::Closing;
        }
        // A client may be in the middle of copy data that its server does not want any more. Nobody
        // else may get a connection that waits for the rest of a frame.
        let at_rest = self.to_server.is_empty()
            && cut.is_between_frames()
            && self.client_cut.is_between_frames();
        self.to_server.clear();
        let parting = Parting {
            lease,
            side,
            condition: if at_rest {
                condition
            } else {
                Condition::Discard
            },
            flights: self.presence.cancel.put_down(),
        };
        parting.begin(self.now);
    }

    /// Runs on a connection from now on.
    fn take_up(&mut self, lent: Lent) {
        let server = lent.lease.server;
        self.card.entry.set_server(Some(server));
        if let Some(key) = &lent.lease.cancel_key {
            self.presence.cancel.aim(server, key.clone());
        }
        self.server = Some(lent);
    }

    /// Cancels what the session runs, because it took too long.
    pub(super) fn cancel_own(&mut self) {
        let Some(flight) = self.presence.cancel.begin() else {
            return;
        };
        let proxy = Arc::clone(&self.proxy);
        let cancelling = self.cancelling.get_or_insert_default();
        while cancelling.try_join_next().is_some() {}
        cancelling.spawn(async move { flight.fly(&proxy).await });
    }
}

/// Takes in what a client sends while it waits for a connection, up to a bound; resolves when the
/// client is gone.
pub(super) async fn read_ahead(client: &mut Stream, input: &mut BytesMut) {
    loop {
        if input.len() >= READ_AHEAD_MAX {
            return std::future::pending().await;
        }
        match client.read(input, READ_MIN).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
