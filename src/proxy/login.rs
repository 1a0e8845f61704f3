//! Drives a login: bytes in and out, lookups, and the greeting that ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::{timeout, timeout_at};
use tracing::debug;

use super::cancel::CancelSlot;
use super::doorbell::Doorbell;
use super::greeting::{Greeting, console_greeting};
use super::peer::Peer;
use super::places::{Place, Places};
use super::tunnel::Tunnel;
use super::{Proxy, Settings};
use crate::clock;
use crate::cluster::{Address, ServerState};
use crate::net::Stream;
use crate::session::{
    CONSOLE_DATABASES, Credential, Identity, Login, LoginInput, LoginOutput, LoginSettings,
    ReplicationMode, TextSettings, TlsOffer, is_operator,
};
use crate::telemetry::{ClientEntry, ClientInfo, LoginResult};
use crate::upstream::{self, GetError, Secret};
use crate::wire::{
    Cut, ErrorFields, Limits, Phase, Severity, Splitter, SqlState, TransactionStatus, backend,
    first_packet,
};

/// A client that is logged in.
pub(super) struct Arrived {
    pub(super) client: u64,
    pub(super) stream: Stream,
    pub(super) login: Arc<upstream::Login>,
    pub(super) console: Console,
    pub(super) settings: TextSettings,
    /// What the client has already sent.
    pub(super) input: BytesMut,
    pub(super) splitter: Splitter,
    pub(super) presence: Presence,
    pub(super) entry: ClientEntry,
}

/// How a client came in.
pub(super) enum Entered {
    /// As one that has a session.
    Session(Box<Arrived>),
    /// As one that replicates.
    Replication(Box<Tunnel>, Stream),
}

/// What others find a session by: its bell and its cancel key. They are taken down with it,
/// however it ends.
pub(super) struct Presence {
    proxy: Arc<Proxy>,
    client: u64,
    _guest: Guest,
    pub(super) cancel: Arc<CancelSlot>,
    pub(super) bell: Arc<Doorbell>,
}

impl Presence {
    fn new(
        proxy: &Arc<Proxy>,
        client: u64,
        secret_bytes: usize,
        guest: Guest,
    ) -> std::io::Result<Self> {
        let bell = proxy.state.bells.hang(client);
        match proxy
            .state
            .cancels
            .issue(&proxy.settings.load().peers, secret_bytes, &bell)
        {
            Ok(cancel) => Ok(Self {
                proxy: Arc::clone(proxy),
                client,
                _guest: guest,
                cancel,
                bell,
            }),
            Err(no_entropy) => {
                proxy.state.bells.take_down(client);
                Err(no_entropy)
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.proxy.state.cancels.revoke(&self.cancel);
        self.proxy.state.bells.take_down(self.client);
    }
}

/// The places that a client has taken.
#[derive(Debug)]
pub(super) struct Guest {
    _place: Place,
    _of_user: Option<Place>,
    _of_database: Option<Place>,
}

/// Whether a session is one of the console, and what it may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Console {
    No,
    Watcher,
    Admin,
}

/// How a login that failed is counted.
pub(super) struct Failed(pub(super) LoginResult);

/// Logs a client in; `None` when it did not come so far. It has been told why.
pub(super) async fn log_in(
    proxy: &Arc<Proxy>,
    stream: Stream,
    client: u64,
    peer: Peer,
    place: Place,
) -> Option<Entered> {
    let limit = proxy.settings.load().session.login_timeout;
    let attempt = Attempt {
        proxy,
        stream,
        client,
        peer,
        _place: place,
        deadline: clock::now() + limit,
        input: BytesMut::new(),
        splitter: Splitter::client(Limits::default()),
    };
    match timeout(limit + LAST_WORD, attempt.run()).await {
        Ok(Ok(arrived)) => {
            proxy.telemetry.login_ended(LoginResult::Succeeded);
            Some(arrived)
        }
        Ok(Err(Failed(result))) => {
            debug!(client, result = result.code(), "login failed");
            proxy.telemetry.login_ended(result);
            None
        }
        Err(_elapsed) => {
            debug!(client, "login took too long");
            proxy.telemetry.login_ended(LoginResult::TimedOut);
            None
        }
    }
}

pub(super) struct Attempt<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) stream: Stream,
    pub(super) client: u64,
    pub(super) peer: Peer,
    /// Given up when the login ends.
    pub(super) _place: Place,
    /// When it has to be over.
    pub(super) deadline: Instant,
    /// What the client has sent and nobody has handled.
    pub(super) input: BytesMut,
    pub(super) splitter: Splitter,
}

impl Attempt<'_> {
    async fn run(self) -> Result<Entered, Failed> {
        let (this, identity) = self.identify().await?;
        this.admit(&identity).await
    }

    /// Lets a client in that has proved who it is, if there is room and a database.
    async fn admit(mut self, identity: &Identity) -> Result<Entered, Failed> {
        let settings = self.proxy.settings.load_full();
        if self.proxy.is_draining() {
            let text = "the router is shutting down";
            return Err(self
                .refuse(SqlState::CANNOT_CONNECT_NOW, text, FAILED_SERVER)
                .await);
        }
        // What replicates the whole server belongs to no database, whatever it names.
        let has_database = identity
            .replication
            .as_ref()
            .is_none_or(|wanted| wanted.mode == ReplicationMode::Logical);
        let is_console = has_database && CONSOLE_DATABASES.contains(&identity.database.as_str());
        if is_console && identity.replication.is_some() {
            let text = "the console has nothing to replicate";
            let state = SqlState::FEATURE_NOT_SUPPORTED;
            return Err(self.refuse(state, text, REJECTED).await);
        }
        let Some(console) = self.console(is_console, identity, &settings) else {
            let text = "this user may not use the console";
            let state = SqlState::INVALID_AUTHORIZATION;
            return Err(self.refuse(state, text, REJECTED).await);
        };
        let database = (has_database && !is_console).then_some(identity.database.as_str());
        let guest = match self.take_places(is_console, &identity.user, database, &settings) {
            Ok(guest) => guest,
            Err(text) => {
                let result = LoginResult::TooManyClients;
                let state = SqlState::TOO_MANY_CONNECTIONS;
                return Err(self.refuse(state, &text, result).await);
            }
        };
        let is_served = settings
            .databases
            .iter()
            .any(|name| name == "*" || *name == identity.database);
        if has_database && !is_console && !is_served {
            let text = format!("database \"{}\" is not served here", identity.database);
            let result = LoginResult::NoSuchDatabase;
            return Err(self
                .refuse(SqlState::INVALID_CATALOG_NAME, &text, result)
                .await);
        }
        if has_database && self.proxy.state.switches.is_disabled(&identity.database) {
            let name = &identity.database;
            let text = format!("database \"{name}\" is not currently accepting connections");
            let state = SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE;
            return Err(self.refuse(state, &text, REJECTED).await);
        }
        if let Some(wanted) = &identity.replication {
            let (tunnel, stream) = self.replicate(identity, wanted, guest).await?;
            return Ok(Entered::Replication(Box::new(tunnel), stream));
        }
        let login = Arc::new(to_upstream(identity));
        let greeting = match is_console {
            true => Arc::new(console_greeting()),
            false => self.greeting(&login).await?,
        };
        let presence = self.presence(identity, guest)?;
        let whom = (login, console);
        let arrived = self.welcome(identity, whom, &greeting, presence).await?;
        Ok(Entered::Session(Box::new(arrived)))
    }

    /// What a client may do in the console; `None` if it asks for the console and may not enter.
    fn console(
        &self,
        is_console: bool,
        identity: &Identity,
        settings: &Settings,
    ) -> Option<Console> {
        let user = &identity.user;
        if !is_console {
            return Some(Console::No);
        }
        let is_admin = settings.admins.contains(user)
            || is_operator(&self.peer.origin, user, &identity.database);
        if is_admin {
            return Some(Console::Admin);
        }
        settings.watchers.contains(user).then_some(Console::Watcher)
    }

    /// The places for one more client; if there is none, PostgreSQL's words for that.
    fn take_places(
        &self,
        is_console: bool,
        user: &str,
        database: Option<&str>,
        settings: &Settings,
    ) -> Result<Guest, String> {
        let state = &self.proxy.state;
        if is_console {
            let place = Places::enter(&state.consoles, settings.consoles_max);
            return Ok(Guest {
                _place: place.ok_or(TOO_MANY)?,
                _of_user: None,
                _of_database: None,
            });
        }
        let place = Places::enter(&state.guests, settings.clients_max).ok_or(TOO_MANY)?;
        let limits = &settings.own_clients;
        let limit = limits.users.get(user).copied();
        let of_user = state.of_users.enter(user, limit);
        if of_user.is_none() {
            return Err(format!("too many connections for role \"{user}\""));
        }
        let of_database = database.map(|name| {
            let limit = limits.databases.get(name).copied();
            let place = state.of_databases.enter(name, limit);
            place.ok_or_else(|| format!("too many connections for database \"{name}\""))
        });
        Ok(Guest {
            _place: place,
            _of_user: of_user,
            _of_database: of_database.transpose()?,
        })
    }

    /// Reads until the client has said, and proved, who it is.
    async fn identify(mut self) -> Result<(Self, Box<Identity>), Failed> {
        let settings = self.proxy.settings.load_full();
        let nonce = clock::random().map_err(|_no_entropy| Failed(FAILED_SERVER))?;
        let mut login = Login::new(LoginSettings {
            access: Arc::clone(&settings.access),
            has_file: settings.users.is_some(),
            nonce,
            mock_secret: self.proxy.mock_secret,
            tls: match self.peer.address {
                Some(_) => settings.tls_offer,
                // As PostgreSQL has it: nothing is between that could listen.
                None => TlsOffer::No,
            },
            origin: self.peer.origin.clone(),
        });
        self.splitter.set_phase(Phase::Login);
        let mut pending: Option<LoginInput> = None;
        loop {
            let input = match pending.take() {
                Some(input) => input,
                None => self.next_input(&login).await?,
            };
            let mut outputs = Vec::new();
            login.handle(input, &mut outputs);
            for output in outputs {
                match output {
                    LoginOutput::ToClient(bytes) => self.send(&bytes).await?,
                    LoginOutput::NoEncryption(answer) => self.answer(&answer).await?,
                    LoginOutput::StartTls(answer) => {
                        if let Some(answer) = answer {
                            self.answer(&answer).await?;
                        }
                        let secured;
                        (self, secured) = self.secure(settings.tls.as_ref()).await?;
                        pending = Some(LoginInput::Secured(secured));
                    }
                    LoginOutput::LookUp(user) => pending = Some(self.look_up(&user).await),
                    LoginOutput::Doubt(user) => self.proxy.verifiers.doubt(&user),
                    LoginOutput::Cancel(key) => {
                        self.proxy.pass_cancel(&key).await;
                        return Err(Failed(LoginResult::Disconnected));
                    }
                    LoginOutput::LoggedIn(identity) => return Ok((self, identity)),
                    LoginOutput::Close => return Err(Failed(REJECTED)),
                }
            }
        }
    }

    async fn next_input(&mut self, login: &Login) -> Result<LoginInput, Failed> {
        loop {
            if login.is_greeting() {
                match first_packet(&mut self.input) {
                    Ok(None) => {}
                    Ok(Some(packet)) => return Ok(LoginInput::Packet(Ok(packet))),
                    Err(error) => return Ok(LoginInput::Packet(Err(error))),
                }
            } else {
                match self.splitter.next(&mut self.input) {
                    Ok(None) => {}
                    Ok(Some(Cut::Message(frame))) => return Ok(LoginInput::Message(frame)),
                    Ok(Some(_)) | Err(_) => {
                        let text = "expected a password message";
                        let result = LoginResult::ProtocolViolation;
                        return Err(self
                            .refuse(SqlState::PROTOCOL_VIOLATION, text, result)
                            .await);
                    }
                }
            }
            let read = self.stream.read(&mut self.input, READ_BYTES);
            match timeout_at(self.deadline.into(), read).await {
                Ok(Ok(0) | Err(_)) => return Err(Failed(LoginResult::Disconnected)),
                Ok(Ok(_)) => {}
                Err(_elapsed) => return Err(self.out_of_time(login).await),
            }
        }
    }

    /// Ends a login that takes too long. As PostgreSQL does it: who has not said yet what protocol
    /// it speaks is told nothing.
    async fn out_of_time(&mut self, login: &Login) -> Failed {
        if login.is_greeting() {
            return Failed(LoginResult::TimedOut);
        }
        self.too_late().await
    }

    pub(super) async fn too_late(&mut self) -> Failed {
        let text = "canceling authentication due to timeout";
        self.refuse(SqlState::QUERY_CANCELED, text, LoginResult::TimedOut)
            .await
    }

    /// What is stored for a user.
    async fn look_up(&self, user: &str) -> LoginInput {
        let settings = self.proxy.settings.load_full();
        if let Some(users) = &settings.users {
            return LoginInput::Stored(users.get(user).cloned());
        }
        match self
            .proxy
            .verifiers
            .lookup(user, &self.lookup_order())
            .await
        {
            Ok(stored) => LoginInput::Stored(stored),
            Err(error) => {
                tracing::warn!(error = %error, "could not look up a user");
                LoginInput::LookUpFailed
            }
        }
    }

    /// The servers in the order in which they are asked for a verifier: the primary, the replicas
    /// that serve, then whoever else may answer.
    fn lookup_order(&self) -> Vec<Address> {
        let snapshot = self.proxy.snapshot.load();
        let rank = |state: ServerState| match state {
            ServerState::Primary => 0,
            ServerState::Serving => 1,
            ServerState::Out(_) | ServerState::Unknown => 2,
            ServerState::Down(_) => 3,
            ServerState::Quarantined(_) => 4,
        };
        let mut servers: Vec<_> = snapshot
            .servers
            .iter()
            .filter(|s| rank(s.state) < 4)
            .collect();
        servers.sort_by_key(|server| rank(server.state));
        servers
            .into_iter()
            .map(|server| server.address.clone())
            .collect()
    }

    /// Sends what ends a login, and hangs up what belongs to the session.
    async fn welcome(
        mut self,
        identity: &Identity,
        (login, console): (Arc<upstream::Login>, Console),
        greeting: &Greeting,
        presence: Presence,
    ) -> Result<Arrived, Failed> {
        let mut settings = TextSettings::default();
        let mut out = BytesMut::new();
        for (name, value) in greeting.iter() {
            // A session looks like one on a primary, wherever its greeting came from.
            let value = if name == "in_hot_standby" {
                "off"
            } else {
                value
            };
            settings.note(name.as_bytes(), value.as_bytes());
            backend::parameter_status(&mut out, name.as_bytes(), value.as_bytes());
        }
        backend::backend_key(&mut out, presence.cancel.key());
        backend::ready(&mut out, TransactionStatus::Idle);
        self.send(&out).await?;
        self.splitter.set_phase(Phase::Session);
        let entry = self.register(identity);
        Ok(Arrived {
            client: self.client,
            stream: self.stream,
            login,
            console,
            settings,
            input: self.input,
            splitter: self.splitter,
            presence,
            entry,
        })
    }

    /// Hangs up what others find the client by.
    pub(super) fn presence(&self, identity: &Identity, guest: Guest) -> Result<Presence, Failed> {
        let secret_bytes = if identity.minor >= 2 { 32 } else { 4 };
        Presence::new(self.proxy, self.client, secret_bytes, guest)
            .map_err(|_no_entropy| Failed(FAILED_SERVER))
    }

    /// Its line in SHOW CLIENTS.
    pub(super) fn register(&self, identity: &Identity) -> ClientEntry {
        let mut parameters = identity.parameters.iter();
        let application_name = parameters
            .find(|(name, _)| name == "application_name")
            .map(|(_, value)| value.as_str());
        let info = ClientInfo {
            id: self.client,
            user: identity.user.as_str().into(),
            database: identity.database.as_str().into(),
            application_name: application_name.unwrap_or_default().into(),
            address: self.peer.address,
            connected_at: clock::wall(),
        };
        let directory = self.proxy.telemetry.directory();
        directory.register_client(info, clock::now())
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|_gone| Failed(LoginResult::Disconnected))
    }

    pub(super) async fn refuse(
        &mut self,
        sqlstate: SqlState,
        text: &str,
        result: LoginResult,
    ) -> Failed {
        let mut out = BytesMut::new();
        let fields = ErrorFields::new(Severity::Fatal, sqlstate, text.to_owned());
        backend::error(&mut out, &fields);
        match self.send(&out).await {
            Ok(()) => Failed(result),
            Err(gone) => gone,
        }
    }

    /// Refuses a client in the words of the server that refused us, or in ours.
    pub(super) async fn refuse_by(&mut self, error: &GetError) -> Failed {
        if let GetError::Connect(connect) = error
            && let Some(server) = connect.server_error()
        {
            let message = super::lent::error_message(&server.body);
            let result = match server.sqlstate.as_str() {
                "3D000" => LoginResult::NoSuchDatabase,
                _ => REJECTED,
            };
            return match self.send(&message).await {
                Ok(()) => Failed(result),
                Err(gone) => gone,
            };
        }
        let sqlstate = match error.retry() {
            true => SqlState::CANNOT_CONNECT_NOW,
            false => SqlState::TOO_MANY_CONNECTIONS,
        };
        self.refuse(sqlstate, &error.to_string(), FAILED_SERVER)
            .await
    }
}

pub(super) fn to_upstream(identity: &Identity) -> upstream::Login {
    upstream::Login {
        database: identity.database.clone(),
        user: identity.user.clone(),
        secret: match &identity.secret {
            Credential::None => Secret::None,
            Credential::Password(password) => Secret::Password(password.clone()),
            Credential::Md5(hash) => Secret::Md5(hash.clone()),
            Credential::Keys { client, server } => Secret::ScramKeys {
                client_key: *client.as_bytes(),
                server_key: *server.as_bytes(),
            },
        },
        parameters: identity.parameters.iter().cloned().collect(),
    }
}

/// PostgreSQL's own words.
pub(super) const TOO_MANY: &str = "sorry, too many clients already";
/// What a login that is out of time has to be told so, or to come to the end of a lookup.
const LAST_WORD: Duration = Duration::from_secs(1);
const REJECTED: LoginResult = LoginResult::Rejected;
pub(super) const FAILED_SERVER: LoginResult = LoginResult::NoServer;
const READ_BYTES: usize = 4096;
