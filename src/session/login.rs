//! From the first byte of a client to the moment when we know who it is.
//!
//! No password is needed to check one: the client proves that it knows the key behind the verifier
//! that the cluster stores, and the proof gives us that key, with which we log in to the servers as
//! the same user. A user that does not exist is asked for a proof as well, and fails alike.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Credential, Identity, Secured, replication, reply};
use crate::policy::{AccessMethod, AccessRules, Origin};
use crate::wire::frontend::SaslInitialResponse;
use crate::wire::scram::{ScramError, ServerExchange, ServerKey, Verifier};
use crate::wire::{
    CancelKey, ErrorFields, FirstPacket, Frame, Md5Hash, Severity, SqlState, Startup, StartupError,
    backend, startup,
};

/// What a client that asks for TLS is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    /// There is none.
    No,
    /// It may have it.
    Offered,
    /// It must have it.
    Required,
}

/// What a login needs from outside. All of it is random or configured.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// Who may come in, and how it proves who it is.
    pub access: Arc<AccessRules>,
    /// Whether passwords stand in a file: they open the servers also to those who prove who they
    /// are in another way.
    pub has_file: bool,
    /// Random, fresh for each login.
    pub nonce: [u8; 18],
    /// Random, the same for the life of the process.
    pub mock_secret: [u8; 32],
    /// Whether clients may or must encrypt.
    pub tls: TlsOffer,
    /// Where the client comes from.
    pub origin: Origin,
}

/// One login.
#[derive(Debug)]
pub struct Login {
    pub(super) settings: LoginSettings,
    /// Once the connection is encrypted.
    pub(super) secured: Option<Secured>,
    /// What the rules ask for, once it is known who wants to come in.
    pub(super) method: AccessMethod,
    state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// Nothing was said but requests for encryption.
    Greeting(Asked),
    /// A handshake of TLS is going on.
    Securing {
        /// It began without a request.
        direct: bool,
    },
    /// The verifier was asked for.
    LookingUp(Startup),
    /// The client has to choose a mechanism and to begin.
    AwaitFirst {
        startup: Startup,
        known: Known,
        exchange: ServerExchange,
    },
    /// The client has to prove that it knows the key.
    AwaitProof {
        startup: Startup,
        known: Known,
        exchange: ServerExchange,
    },
    /// The client has to answer to the salt.
    AwaitMd5 {
        startup: Startup,
        hash: Md5Hash,
        secret: Credential,
    },
    /// The answer was wrong, and what is stored may have been changed.
    Rechecking {
        startup: Startup,
        answer: Bytes,
    },
    Done,
}

/// The kinds of encryption that a client has asked for, each of them once at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    tls: bool,
    gss: bool,
}

/// What is known of the user that logs in.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// There is no such user, or it has no password.
    Nobody,
    /// The servers hold the same verifier.
    Verifier(ServerKey),
    /// A password stands in the file of users.
    Password(String),
}

/// What a login is told.
#[derive(Debug)]
pub enum LoginInput {
    /// The first packet, or the one after a request for encryption.
    Packet(Result<FirstPacket, StartupError>),
    /// The handshake of TLS has succeeded.
    Secured(Secured),
    /// A message of the client.
    Message(Frame),
    /// What is stored for the user: a verifier, a password, or nothing.
    Stored(Option<String>),
    /// What is stored for the user cannot be found out now.
    LookUpFailed,
}

/// What a login wants done.
#[derive(Debug)]
pub enum LoginOutput {
    /// Send this to the client.
    ToClient(Bytes),
    /// No encryption: tell so by this byte, and end the connection if the client has already sent
    /// something behind its request.
    NoEncryption(Bytes),
    /// Begin TLS: answer by this byte, which is missing when the client did not ask. With an
    /// answer, end the connection if the client has already sent something behind its request.
    StartTls(Option<Bytes>),
    /// Find what is stored for this user.
    LookUp(String),
    /// A proof did not fit what is stored for this user: it may have been changed since it was read.
    Doubt(String),
    /// Stop what this key belongs to, and end the connection.
    Cancel(CancelKey),
    /// The client is who it says it is.
    LoggedIn(Box<Identity>),
    /// End the connection.
    Close,
}

impl Login {
    /// A login that has just been connected.
    pub const fn new(settings: LoginSettings) -> Self {
        Self {
            settings,
            secured: None,
            method: AccessMethod::Reject,
            state: State::Greeting(Asked {
                tls: false,
                gss: false,
            }),
        }
    }

    /// Whether the next bytes of the client are a packet without a tag.
    pub const fn is_greeting(&self) -> bool {
        matches!(self.state, State::Greeting(_))
    }

    /// Handles one input. What has to be done is appended to `out`.
    pub fn handle(&mut self, input: LoginInput, out: &mut Vec<LoginOutput>) {
        let state = std::mem::replace(&mut self.state, State::Done);
        self.state = match (state, input) {
            (State::Greeting(asked), LoginInput::Packet(packet)) => {
                self.greeted(asked, packet, out)
            }
            (State::Securing { direct }, LoginInput::Secured(secured)) => {
                self.encrypted(direct, secured, out)
            }
            (State::LookingUp(startup), LoginInput::Stored(stored)) => {
                self.challenge(startup, stored, out)
            }
            (
                State::AwaitMd5 {
                    startup,
                    hash,
                    secret,
                },
                LoginInput::Message(frame),
            ) => self.md5_answered(startup, &hash, secret, &frame, out),
            (State::Rechecking { startup, answer }, LoginInput::Stored(stored)) => {
                self.rechecked(&startup, &answer, stored, out)
            }
            (State::Rechecking { startup, .. }, LoginInput::LookUpFailed) => {
                wrong_password(&startup, out)
            }
            (State::LookingUp(_), LoginInput::LookUpFailed) => refuse(
                out,
                SqlState::CANNOT_CONNECT_NOW,
                "no server can be asked for the password of this user now".to_owned(),
            ),
            (
                State::AwaitFirst {
                    startup,
                    known,
                    exchange,
                },
                LoginInput::Message(frame),
            ) => first(startup, known, exchange, &frame, out),
            (
                State::AwaitProof {
                    startup,
                    known,
                    exchange,
                },
                LoginInput::Message(frame),
            ) => proof(&startup, known, exchange, &frame, out),
            (State::Done, _) => State::Done,
            (
                State::Greeting(_)
                | State::Securing { .. }
                | State::LookingUp(_)
                | State::AwaitFirst { .. }
                | State::AwaitProof { .. }
                | State::AwaitMd5 { .. }
                | State::Rechecking { .. },
                _,
            ) => refuse(
                out,
                SqlState::PROTOCOL_VIOLATION,
                "message out of order during login".to_owned(),
            ),
        };
    }

    fn greeted(
        &mut self,
        asked: Asked,
        packet: Result<FirstPacket, StartupError>,
        out: &mut Vec<LoginOutput>,
    ) -> State {
        match packet {
            Ok(FirstPacket::SslRequest) if !asked.tls => self.ask_tls(asked, out),
            Ok(FirstPacket::GssRequest) if !asked.gss && self.secured.is_none() => {
                out.push(LoginOutput::NoEncryption(Bytes::from_static(b"N")));
                State::Greeting(Asked { gss: true, ..asked })
            }
            // Source: PostgreSQL 17, `ProcessStartupPacket`: a request that was answered before is
            // taken for the version that its number would be.
            Ok(FirstPacket::SslRequest) => self.greeted(asked, Err(SSL_AS_VERSION), out),
            Ok(FirstPacket::GssRequest) => self.greeted(asked, Err(GSS_AS_VERSION), out),
            Ok(FirstPacket::DirectTls) => self.direct_tls(asked, out),
            Ok(FirstPacket::Cancel(key)) => {
                out.push(LoginOutput::Cancel(key));
                State::Done
            }
            Ok(FirstPacket::Startup(startup)) => self.started(startup, out),
            Err(error) if error.is_silent() => {
                out.push(LoginOutput::Close);
                State::Done
            }
            Err(error) => refuse(out, error.sqlstate(), error.to_string()),
        }
    }

    fn ask_tls(&self, asked: Asked, out: &mut Vec<LoginOutput>) -> State {
        match self.settings.tls {
            TlsOffer::No => {
                out.push(LoginOutput::NoEncryption(Bytes::from_static(b"N")));
                State::Greeting(Asked { tls: true, ..asked })
            }
            TlsOffer::Offered | TlsOffer::Required => {
                out.push(LoginOutput::StartTls(Some(Bytes::from_static(b"S"))));
                State::Securing { direct: false }
            }
        }
    }

    /// TLS at once is for the first byte of a connection. Whoever cannot have it is told nothing:
    /// it would not understand.
    fn direct_tls(&self, asked: Asked, out: &mut Vec<LoginOutput>) -> State {
        let is_first = !asked.tls && !asked.gss && self.secured.is_none();
        match self.settings.tls {
            TlsOffer::Offered | TlsOffer::Required if is_first => {
                out.push(LoginOutput::StartTls(None));
                State::Securing { direct: true }
            }
            TlsOffer::No | TlsOffer::Offered | TlsOffer::Required => {
                out.push(LoginOutput::Close);
                State::Done
            }
        }
    }

    fn encrypted(&mut self, direct: bool, secured: Secured, out: &mut Vec<LoginOutput>) -> State {
        if direct && !secured.agreed {
            // What began with TLS may be anything that speaks TLS.
            // Source: PostgreSQL 17, `ProcessSSLStartup`.
            out.push(LoginOutput::Close);
            return State::Done;
        }
        self.secured = Some(secured);
        State::Greeting(Asked {
            tls: true,
            gss: true,
        })
    }

    fn started(&mut self, startup: Startup, out: &mut Vec<LoginOutput>) -> State {
        if startup.needs_negotiation() {
            out.push(LoginOutput::ToClient(reply::message(|to| {
                startup::negotiate_protocol_version(to, &startup);
            })));
        }
        if let Err(problem) = replication::wanted(&startup) {
            return refuse(out, SqlState::INVALID_PARAMETER_VALUE, problem.to_string());
        }
        if std::str::from_utf8(startup.user()).is_err() {
            return refuse(
                out,
                SqlState::INVALID_AUTHORIZATION,
                "the user name is not valid UTF-8".to_owned(),
            );
        }
        self.at_the_door(startup, out)
    }

    fn challenge(
        &self,
        startup: Startup,
        stored: Option<String>,
        out: &mut Vec<LoginOutput>,
    ) -> State {
        if let Some(secret) = self.vouched_for(stored.as_deref()) {
            return admit(&startup, secret, out);
        }
        let ask_md5 = |stored: &str| self.ask_md5(&startup, stored, out);
        if let Some(asked) = stored.as_deref().and_then(ask_md5) {
            return asked;
        }
        let nobody = || {
            (
                Known::Nobody,
                Verifier::mock(&self.settings.mock_secret, startup.user()),
            )
        };
        let (known, verifier) = match stored {
            None => nobody(),
            Some(stored) => match stored.parse::<Verifier>() {
                Ok(verifier) => (Known::Verifier(verifier.server_key.clone()), verifier),
                Err(_) if stored.starts_with("SCRAM-SHA-256$") || stored.starts_with("md5") => {
                    nobody()
                }
                Err(_) => {
                    let salt = self.settings.nonce.get(..16).unwrap_or_default();
                    let verifier = Verifier::from_password(
                        stored.as_bytes(),
                        salt,
                        Verifier::DEFAULT_ITERATIONS,
                    );
                    (Known::Password(stored), verifier)
                }
            },
        };
        out.push(LoginOutput::ToClient(reply::message(|to| {
            backend::authentication_sasl(to, &[MECHANISM]);
        })));
        let exchange = ServerExchange::new(verifier, self.settings.nonce);
        State::AwaitFirst {
            startup,
            known,
            exchange,
        }
    }
}

fn first(
    startup: Startup,
    known: Known,
    exchange: ServerExchange,
    frame: &Frame,
    out: &mut Vec<LoginOutput>,
) -> State {
    let response = match SaslInitialResponse::parse(frame.body()) {
        Ok(response) if response.mechanism == MECHANISM.as_bytes() => response,
        Ok(_) => {
            return refuse(
                out,
                SqlState::PROTOCOL_VIOLATION,
                "client selected an invalid SASL authentication mechanism".to_owned(),
            );
        }
        Err(_) => return malformed(out),
    };
    match exchange.first(response.data.unwrap_or_default()) {
        Ok((exchange, answer)) => {
            out.push(LoginOutput::ToClient(reply::message(|to| {
                backend::authentication_sasl_continue(to, &answer);
            })));
            State::AwaitProof {
                startup,
                known,
                exchange,
            }
        }
        Err(error) => refuse(out, error.sqlstate(), error.to_string()),
    }
}

fn proof(
    startup: &Startup,
    known: Known,
    exchange: ServerExchange,
    frame: &Frame,
    out: &mut Vec<LoginOutput>,
) -> State {
    let (answer, client) = match exchange.finish(frame.body()) {
        Ok(proved) => proved,
        Err(ScramError::WrongProof) => return doubted(startup, out),
        Err(error) => return refuse(out, error.sqlstate(), error.to_string()),
    };
    let secret = match known {
        Known::Nobody => return doubted(startup, out),
        Known::Verifier(server) => Credential::Keys { client, server },
        Known::Password(password) => Credential::Password(password),
    };
    out.push(LoginOutput::ToClient(reply::message(|to| {
        backend::authentication_sasl_final(to, &answer);
    })));
    admit(startup, secret, out)
}

pub(super) fn admit(startup: &Startup, secret: Credential, out: &mut Vec<LoginOutput>) -> State {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let parameters = startup
        .parameters
        .iter()
        .filter(|(name, _)| !matches!(name.as_ref(), b"user" | b"database" | b"replication"))
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    out.push(LoginOutput::ToClient(reply::message(
        backend::authentication_ok,
    )));
    out.push(LoginOutput::LoggedIn(Box::new(Identity {
        user: text(startup.user()),
        database: text(startup.database()),
        parameters,
        secret,
        minor: startup.accepted_minor(),
        // What makes no sense was refused at the beginning.
        replication: replication::wanted(startup).unwrap_or_default(),
    })));
    State::Done
}

pub(super) fn wrong_password(startup: &Startup, out: &mut Vec<LoginOutput>) -> State {
    let user = String::from_utf8_lossy(startup.user());
    let text = format!("password authentication failed for user \"{user}\"");
    refuse(out, SqlState::INVALID_PASSWORD, text)
}

/// The same for a proof that does not fit what was read some time ago. The exchange cannot be
/// repeated on the same connection: the salt may be another one.
fn doubted(startup: &Startup, out: &mut Vec<LoginOutput>) -> State {
    out.push(LoginOutput::Doubt(
        String::from_utf8_lossy(startup.user()).into_owned(),
    ));
    wrong_password(startup, out)
}

fn malformed(out: &mut Vec<LoginOutput>) -> State {
    refuse(
        out,
        SqlState::PROTOCOL_VIOLATION,
        "malformed SCRAM message".to_owned(),
    )
}

/// Tells the client why it may not come in.
pub(super) fn refuse(out: &mut Vec<LoginOutput>, sqlstate: SqlState, text: String) -> State {
    let mut message = BytesMut::new();
    backend::error(
        &mut message,
        &ErrorFields::new(Severity::Fatal, sqlstate, text),
    );
    out.push(LoginOutput::ToClient(message.freeze()));
    out.push(LoginOutput::Close);
    State::Done
}

/// The one mechanism that we offer.
const MECHANISM: &str = "SCRAM-SHA-256";
const SSL_AS_VERSION: StartupError = StartupError::Version {
    major: 1234,
    minor: 5679,
};
const GSS_AS_VERSION: StartupError = StartupError::Version {
    major: 1234,
    minor: 5680,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frontend;
    use crate::wire::scram::ClientExchange;

    const SECRET: [u8; 32] = [7; 32];

    fn login(method: AccessMethod) -> Login {
        Login::new(LoginSettings {
            access: Arc::new(AccessRules::everybody(method, true)),
            has_file: false,
            nonce: [1; 18],
            mock_secret: SECRET,
            tls: TlsOffer::No,
            origin: Origin::Host([10, 0, 0, 1].into()),
        })
    }

    fn startup(parameters: &[(&'static str, &'static str)]) -> LoginInput {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        LoginInput::Packet(Ok(FirstPacket::Startup(Startup {
            minor: 0,
            parameters: parameters
                .iter()
                .map(|(n, v)| (bytes(n), bytes(v)))
                .collect(),
            protocol_options: Vec::new(),
        })))
    }

    fn step(login: &mut Login, input: LoginInput) -> Vec<LoginOutput> {
        let mut out = Vec::new();
        login.handle(input, &mut out);
        out
    }

    fn message(write: impl FnOnce(&mut BytesMut)) -> LoginInput {
        LoginInput::Message(Frame {
            tag: b'p',
            bytes: reply::message(write),
        })
    }

    fn body_of(output: &LoginOutput) -> Bytes {
        let LoginOutput::ToClient(bytes) = output else {
            panic!("not a message: {output:?}");
        };
        bytes.slice(9..)
    }

    /// Plays a login with this password against what is stored.
    fn play(stored: Option<String>, password: &[u8]) -> Vec<LoginOutput> {
        let mut login = login(AccessMethod::Scram);
        step(&mut login, startup(&[("user", "ann")]));
        step(&mut login, LoginInput::Stored(stored));
        let exchange = ClientExchange::with_password(password, [2; 18]);
        let first = exchange.first().unwrap();
        let input = message(|to| {
            frontend::sasl_initial_response(to, MECHANISM.as_bytes(), &first);
        });
        let out = step(&mut login, input);
        let (_, proof) = exchange.proof(&body_of(&out[0])).unwrap();
        step(
            &mut login,
            message(|to| frontend::sasl_response(to, &proof)),
        )
    }

    fn verifier() -> String {
        Verifier::from_password(b"secret", b"saltsaltsaltsalt", 16).to_string()
    }

    fn is_logged_in(out: &[LoginOutput]) -> bool {
        out.iter()
            .any(|output| matches!(output, LoginOutput::LoggedIn(_)))
    }

    #[test]
    fn the_right_password_comes_in_with_the_keys_for_the_servers() {
        let out = play(Some(verifier()), b"secret");
        let LoginOutput::LoggedIn(identity) = out.last().unwrap() else {
            panic!("refused: {out:?}");
        };
        assert!(matches!(identity.secret, Credential::Keys { .. }));
        assert_eq!(
            (identity.user.as_str(), identity.database.as_str()),
            ("ann", "ann")
        );
    }

    #[test]
    fn a_password_from_the_file_of_users_comes_in_too() {
        assert!(is_logged_in(&play(Some("secret".to_owned()), b"secret")));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
        let wrong = play(Some(verifier()), b"Secret");
        let unknown = play(None, b"secret");
        assert!(!is_logged_in(&wrong) && !is_logged_in(&unknown));
        for out in [&wrong, &unknown] {
            assert!(matches!(&out[0], LoginOutput::Doubt(user) if user == "ann"));
            assert!(matches!(out[2], LoginOutput::Close));
        }
        assert_eq!(body_of(&wrong[1]), body_of(&unknown[1]));
    }

    #[test]
    fn a_verifier_that_we_cannot_read_is_no_password() {
        assert!(!is_logged_in(&play(Some("md5abc".to_owned()), b"md5abc")));
        assert!(!is_logged_in(&play(
            Some("SCRAM-SHA-256$x".to_owned()),
            b"SCRAM-SHA-256$x"
        )));
    }

    /// Plays an md5 login; what is stored is another thing when it is asked for again.
    fn play_md5(
        method: AccessMethod,
        stored: &str,
        stored_later: Option<&str>,
        password: &str,
    ) -> Vec<LoginOutput> {
        let mut login = login(method);
        step(&mut login, startup(&[("user", "ann")]));
        let asked = step(&mut login, LoginInput::Stored(Some(stored.to_owned())));
        let LoginOutput::ToClient(asked) = &asked[0] else {
            panic!("{asked:?}");
        };
        assert_eq!(asked[5..], [0, 0, 0, 5, 1, 1, 1, 1], "an md5 challenge");
        let answer = Md5Hash::of_password(password.as_bytes(), b"ann").answer([1; 4]);
        let mut out = step(
            &mut login,
            message(|to| frontend::password(to, answer.as_bytes())),
        );
        if matches!(out.last(), Some(LoginOutput::LookUp(_))) {
            assert!(matches!(out[0], LoginOutput::Doubt(_)));
            out = step(
                &mut login,
                LoginInput::Stored(stored_later.map(str::to_owned)),
            );
        }
        out
    }

    fn md5_of(password: &str) -> String {
        let hash = Md5Hash::of_password(password.as_bytes(), b"ann");
        hash.as_str().to_owned()
    }

    #[test]
    fn a_stored_md5_hash_is_proved_by_md5_and_opens_the_servers() {
        for method in [AccessMethod::Md5, AccessMethod::Stored] {
            let out = play_md5(method, &md5_of("secret"), None, "secret");
            let Some(LoginOutput::LoggedIn(identity)) = out.last() else {
                panic!("{out:?}");
            };
            assert!(matches!(identity.secret, Credential::Md5(_)));
        }
        let old = md5_of("secret");
        assert!(!is_logged_in(&play_md5(
            AccessMethod::Md5,
            &old,
            Some(&old),
            "wrong"
        )));
        assert!(!is_logged_in(&play_md5(
            AccessMethod::Md5,
            &old,
            None,
            "wrong"
        )));
    }

    #[test]
    fn an_md5_hash_that_was_changed_is_read_again_within_the_login() {
        let (old, new) = (md5_of("old"), md5_of("new"));
        let out = play_md5(AccessMethod::Stored, &old, Some(&new), "new");
        assert!(is_logged_in(&out), "{out:?}");
    }

    #[test]
    fn a_password_in_the_file_of_users_is_good_for_md5_where_md5_is_asked_for() {
        let out = play_md5(AccessMethod::Md5, "secret", None, "secret");
        let Some(LoginOutput::LoggedIn(identity)) = out.last() else {
            panic!("{out:?}");
        };
        assert!(matches!(identity.secret, Credential::Password(_)));
    }

    #[test]
    fn where_scram_is_asked_for_an_md5_hash_lets_nobody_in() {
        assert!(!is_logged_in(&play(Some(md5_of("secret")), b"secret")));
    }

    #[test]
    fn trust_asks_for_nothing() {
        let out = step(&mut login(AccessMethod::Trust), startup(&[("user", "ann")]));
        assert!(is_logged_in(&out));
    }

    fn greet(login: &mut Login, packet: FirstPacket) -> Vec<LoginOutput> {
        step(login, LoginInput::Packet(Ok(packet)))
    }

    fn with_tls(tls: TlsOffer) -> Login {
        let mut login = login(AccessMethod::Trust);
        login.settings.tls = tls;
        login
    }

    fn text_of(output: &LoginOutput) -> String {
        let LoginOutput::ToClient(bytes) = output else {
            panic!("not a message: {output:?}");
        };
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn tls_is_begun_on_request_and_the_login_goes_on_inside() {
        let mut login = with_tls(TlsOffer::Required);
        let out = greet(&mut login, FirstPacket::GssRequest);
        assert!(matches!(&out[..], [LoginOutput::NoEncryption(_)]));
        let out = greet(&mut login, FirstPacket::SslRequest);
        assert!(matches!(&out[..], [LoginOutput::StartTls(Some(answer))] if answer == "S"));
        assert!(!login.is_greeting());
        // A client that asked needs not name the protocol.
        let out = step(&mut login, LoginInput::Secured(Secured::default()));
        assert!(out.is_empty() && login.is_greeting());
        let out = step(&mut login, startup(&[("user", "ann")]));
        assert!(is_logged_in(&out));
    }

    #[test]
    fn tls_at_once_needs_the_name_of_the_protocol_and_comes_first() {
        for agreed in [false, true] {
            let mut login = with_tls(TlsOffer::Offered);
            let out = greet(&mut login, FirstPacket::DirectTls);
            assert!(matches!(&out[..], [LoginOutput::StartTls(None)]));
            let secured = Secured {
                agreed,
                ..Secured::default()
            };
            let out = step(&mut login, LoginInput::Secured(secured));
            assert_eq!(out.is_empty(), agreed, "{out:?}");
        }
        let mut late = with_tls(TlsOffer::Offered);
        greet(&mut late, FirstPacket::GssRequest);
        for mut login in [late, with_tls(TlsOffer::No)] {
            let out = greet(&mut login, FirstPacket::DirectTls);
            assert!(matches!(&out[..], [LoginOutput::Close]));
        }
    }

    #[test]
    fn no_encryption_is_asked_for_twice() {
        for packet in [FirstPacket::SslRequest, FirstPacket::GssRequest] {
            let mut login = with_tls(TlsOffer::No);
            greet(&mut login, packet.clone());
            let out = greet(&mut login, packet.clone());
            assert!(text_of(&out[0]).contains("unsupported frontend protocol 1234.56"));
            let mut login = with_tls(TlsOffer::Offered);
            greet(&mut login, FirstPacket::SslRequest);
            step(&mut login, LoginInput::Secured(Secured::default()));
            let out = greet(&mut login, packet);
            assert!(text_of(&out[0]).contains("unsupported frontend protocol 1234.56"));
        }
    }

    #[test]
    fn where_tls_is_required_a_plain_client_may_only_cancel() {
        let mut login = with_tls(TlsOffer::Required);
        let out = step(
            &mut login,
            startup(&[("user", "ann"), ("database", "shop")]),
        );
        let said = text_of(&out[0]);
        let words = "no pg_hba.conf entry for host \"10.0.0.1\", user \"ann\", database \"shop\", \
                     no encryption";
        assert!(said.contains("C28000") && said.contains(words), "{said}");
        let key = CancelKey {
            pid: 1,
            secret: Bytes::from_static(b"1234"),
        };
        let out = greet(&mut with_tls(TlsOffer::Required), FirstPacket::Cancel(key));
        assert!(matches!(&out[..], [LoginOutput::Cancel(_)]));
    }

    #[test]
    fn a_message_at_the_wrong_moment_ends_the_login() {
        let mut login = login(AccessMethod::Scram);
        step(&mut login, startup(&[("user", "ann")]));
        let out = step(
            &mut login,
            message(|to| frontend::sasl_response(to, b"n,,")),
        );
        assert!(matches!(out.last(), Some(LoginOutput::Close)));
    }
}
