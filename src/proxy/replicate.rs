//! The end of the login of a client that replicates: where its connection leads, and whether there
//! is room for one more.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout_at;

use super::doorbell::ring;
use super::login::{Attempt, FAILED_SERVER, Failed, Guest, Presence, to_upstream};
use super::places::Places;
use super::tunnel::Tunnel;
use crate::clock;
use crate::net::Stream;
use crate::session::{Identity, NoSource, Replication, Source};
use crate::telemetry::LoginResult;
use crate::upstream;
use crate::wire::{SqlState, TransactionStatus, backend};

impl Attempt<'_> {
    /// Leads a client that replicates to its server, over a connection of its own that is begun
    /// with the parameters that the client began with.
    pub(super) async fn replicate(
        mut self,
        identity: &Identity,
        wanted: &Replication,
        guest: Guest,
    ) -> Result<(Tunnel, Stream), Failed> {
        let limit = self.proxy.settings.load().replication_max;
        let Some(place) = Places::enter(&self.proxy.state.replicating, limit) else {
            let text =
                "too many replication connections: limits.replication_connections bounds them";
            let result = LoginResult::TooManyClients;
            let state = SqlState::TOO_MANY_CONNECTIONS;
            return Err(self.refuse(state, text, result).await);
        };
        let presence = self.presence(identity, guest)?;
        let source = match self.source(&presence, wanted).await {
            Ok(source) => source,
            Err(problem) => {
                let state = match problem {
                    NoSource::NoPrimary => SqlState::CANNOT_CONNECT_NOW,
                    NoSource::UnknownNode(_) => SqlState::INVALID_PARAMETER_VALUE,
                    NoSource::Quarantined(_) => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                };
                let text = problem.to_string();
                return Err(self.refuse(state, &text, FAILED_SERVER).await);
            }
        };
        let login = login_for(identity, wanted);
        let opened = self.proxy.upstreams.open_direct(source.server, &login);
        let server = match opened.await {
            Ok(server) => server,
            Err(error) => {
                if error.retry() {
                    (self.proxy.on_loss)(source.server);
                }
                return Err(self.refuse_by(&error).await);
            }
        };
        if let Some(key) = &server.cancel_key {
            presence.cancel.aim(source.server, key.clone());
        }
        let mut out = BytesMut::new();
        for (name, value) in &server.parameters {
            backend::parameter_status(&mut out, name.as_bytes(), value.as_bytes());
        }
        backend::backend_key(&mut out, presence.cancel.key());
        backend::ready(&mut out, TransactionStatus::Idle);
        self.send(&out).await?;
        let entry = self.register(identity);
        entry.set_server(Some(source.server));
        let proxy = Arc::clone(self.proxy);
        let tunnel = Tunnel::new(proxy, source, server, presence, entry, self.input, place);
        Ok((tunnel, self.stream))
    }

    /// Finds the server, and waits for a primary as a statement would.
    async fn source(&self, presence: &Presence, wanted: &Replication) -> Result<Source, NoSource> {
        let deadline = clock::now() + self.proxy.settings.load().session.hold_clients;
        let bell = &presence.bell;
        loop {
            let found = Source::find(&self.proxy.snapshot.load(), wanted.node.as_deref());
            if found != Err(NoSource::NoPrimary) || self.proxy.is_draining() {
                return found;
            }
            let heard = bell.heard(ring::SNAPSHOT | ring::DRAIN | ring::KILL);
            if timeout_at(deadline.into(), heard).await.is_err() {
                return found;
            }
            bell.forget(ring::SNAPSHOT);
        }
    }
}

fn login_for(identity: &Identity, wanted: &Replication) -> upstream::Login {
    let mut login = to_upstream(identity);
    let mode = wanted.mode.as_str().to_owned();
    login.parameters.insert("replication".to_owned(), mode);
    login
}
