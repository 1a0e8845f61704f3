//! A connection outside the pools, for what cannot share one: replication, and the connection that
//! listens for all sessions of a database.

use std::collections::BTreeMap;

use super::gate::Shared;
use super::login::log_in;
use super::{GetError, Login};
use crate::clock;
use crate::cluster::ServerId;
use crate::net::Stream;
use crate::telemetry::{ServerConnectionInfo, ServerEntry};
use crate::wire::CancelKey;

/// A connection that has one user for its life, logged in; it is closed when dropped.
#[derive(Debug)]
pub struct Direct {
    /// The socket. Nothing was read beyond the server's first `ReadyForQuery`.
    pub stream: Stream,
    /// The settings that the server reported.
    pub parameters: BTreeMap<String, String>,
    /// For cancelling what runs on it; `None` when the server gave no key.
    pub cancel_key: Option<CancelKey>,
    /// Its line in SHOW SERVERS.
    _entry: ServerEntry,
}

/// What a connection outside the pools is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Replication,
    Listening,
}

impl Direct {
    pub(super) async fn open(
        shared: &Shared,
        server: ServerId,
        login: &Login,
        purpose: Purpose,
    ) -> Result<Self, GetError> {
        let gate = shared.gate(server)?;
        let rules = shared.rules.load_full();
        let logged_in = log_in(&gate.address, &rules.tls, login, rules.connect_timeout).await?;
        let directory = shared.telemetry.directory();
        let entry = directory.register_server_connection(ServerConnectionInfo {
            server,
            user: login.user.as_str().into(),
            database: login.database.as_str().into(),
            backend_pid: logged_in
                .cancel_key
                .as_ref()
                .map(|key| key.pid.cast_signed()),
            connected_at: clock::wall(),
        });
        match purpose {
            Purpose::Replication => entry.replicate(),
            Purpose::Listening => entry.listen(),
        }
        Ok(Self {
            stream: logged_in.stream,
            parameters: logged_in.parameters,
            cancel_key: logged_in.cancel_key,
            _entry: entry,
        })
    }
}
