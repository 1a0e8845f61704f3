//! Why there is no server connection for a session.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::{Epoch, ServerId};
use crate::wire::ErrorView;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the client asked for: its user, its database, its password.
    Client,
    /// The server's state or configuration.
    Server,
    /// The way between us and the server.
    Network,
    /// Our own limits or settings.
    Us,
}

/// Why a server could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens at the address.
    #[error("connection refused")]
    Refused,
    /// The connection ended before the login did.
    #[error("connection closed by the server during login")]
    Reset,
    /// The server did not accept us, or finish the login, in time.
    #[error("no login in time")]
    TimedOut,
    /// The name has no address, or there is no way to it.
    #[error("address unreachable: {0}")]
    Unreachable(io::ErrorKind),
    /// The server refused, in its own words.
    #[error("server refused the login: {0}")]
    Server(Box<ServerError>),
    /// The server asks for a proof that we cannot give with the secret we have.
    #[error("server asks for {method}, and we have {secret}")]
    AuthUnsupported {
        /// What it asks for.
        method: AuthMethod,
        /// What we have, as a word.
        secret: &'static str,
    },
    /// The server could not prove that it knows our verifier: it is not the server it should be.
    #[error("server did not prove that it knows the verifier")]
    ServerNotProven,
    /// The server broke the protocol.
    #[error("server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The login has a NUL in one of its parts, which the protocol cannot carry.
    #[error("a start-up parameter holds a NUL byte")]
    InvalidLogin,
    /// The server has no TLS, and we would not do without.
    #[error("server does not offer TLS, which cluster.*.tls requires")]
    TlsNotOffered,
    /// The handshake failed, most often because of the server's certificate.
    #[error("TLS handshake failed: {0}")]
    TlsFailed(String),
    /// A connection for writing was wanted, and the server is a hot standby.
    #[error("server is a hot standby, a primary was wanted")]
    WrongRole,
}

/// What a server may ask for in an authentication request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The password as it is.
    Cleartext,
    /// A salted hash.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
    /// SASL without a mechanism that we know.
    OtherSasl,
    /// Kerberos, GSSAPI, SSPI or what is not invented yet, by its code.
    Other(u32),
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleartext => f.write_str("a cleartext password"),
            Self::Md5 => f.write_str("an md5 password"),
            Self::Scram => f.write_str("SCRAM-SHA-256"),
            Self::OtherSasl => f.write_str("an unknown SASL mechanism"),
            Self::Other(code) => write!(f, "authentication method {code}"),
        }
    }
}

/// An `ErrorResponse` of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `FATAL`, `PANIC` or `ERROR`, not translated where the server tells (field `V`).
    pub severity: String,
    /// Five characters, such as `53300`.
    pub sqlstate: String,
    /// The primary message, for logs; bytes that are not UTF-8 are replaced.
    pub message: String,
    /// The body of the message as it came: to be shown to the client unchanged.
    pub body: Bytes,
}

impl ServerError {
    /// Reads the body of an `ErrorResponse`. What is missing or malformed stays empty.
    pub fn parse(body: Bytes) -> Self {
        let view = ErrorView::new(&body);
        let text =
            |field: Option<&[u8]>| String::from_utf8_lossy(field.unwrap_or_default()).into_owned();
        Self {
            severity: text(view.field(b'V').or_else(|| view.field(b'S'))),
            sqlstate: text(view.sqlstate()),
            message: text(view.message()),
            body,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)
    }
}

impl ConnectError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused
            | Self::Reset
            | Self::ServerNotProven
            | Self::Protocol(_)
            | Self::TlsNotOffered
            | Self::TlsFailed(_)
            | Self::WrongRole => Fault::Server,
            Self::TimedOut | Self::Unreachable(_) => Fault::Network,
            Self::Server(error) if error.is_of_the_client() => Fault::Client,
            Self::Server(_) => Fault::Server,
            Self::AuthUnsupported { .. } => Fault::Us,
            Self::InvalidLogin => Fault::Client,
        }
    }

    /// Whether the same login may succeed at another server, or here a little later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Refused
            | Self::Reset
            | Self::TimedOut
            | Self::Unreachable(_)
            | Self::Protocol(_)
            | Self::WrongRole => true,
            Self::Server(error) => !error.is_of_the_client(),
            Self::AuthUnsupported { .. }
            | Self::ServerNotProven
            | Self::TlsNotOffered
            | Self::TlsFailed(_)
            | Self::InvalidLogin => false,
        }
    }

    /// The server's own error, where it sent one.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }
}

impl ServerError {
    /// Whether every server of the cluster would answer this login so: a bad password, role,
    /// database or parameter (classes 22, 28, 3D and 42).
    fn is_of_the_client(&self) -> bool {
        matches!(self.sqlstate.get(..2), Some("22" | "28" | "3D" | "42"))
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Unreachable(kind),
        }
    }
}

/// A pool that has no connection free: which one, and how full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    /// The server.
    pub server: ServerId,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// How many connections the pool may have.
    pub size: usize,
    /// How many of them are open; the others are being opened. When none is, it is rather the
    /// server that is slow than the pool that is small.
    pub open: usize,
    /// How many clients wait for one, without the one that is told.
    pub waiting: usize,
    /// How long the one that is told waited.
    pub waited: Duration,
    /// The setting that an operator would change, as the configuration names it.
    pub setting: String,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no free connection to server {} for user \"{}\" and database \"{}\": {} of {} are \
             open and in use, {} clients wait (setting {})",
            self.server, self.user, self.database, self.open, self.size, self.waiting, self.setting
        )
    }
}

/// Why a session was not lent a server connection. That a pool is full says nothing about the
/// health of its server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// No connection became free in time.
    #[error("waited too long: {0}")]
    WaitTimedOut(Box<Full>),
    /// Too many clients wait already.
    #[error("queue is full: {0}")]
    QueueFull(Box<Full>),
    /// There are as many pools as there may be.
    #[error("more than {limit} pools of server connections")]
    TooManyPools {
        /// The limit.
        limit: usize,
    },
    /// A new connection was needed and could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The route was decided under an epoch that has ended for this server: decide again.
    #[error("server {server} is fenced: the route is of epoch {route}, now is {fenced}")]
    Fenced {
        /// The server.
        server: ServerId,
        /// The epoch under which the route was decided.
        route: Epoch,
        /// The epoch below which the server is fenced.
        fenced: Epoch,
    },
    /// There is no such server.
    #[error("no server {0}")]
    UnknownServer(ServerId),
}

impl GetError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Connect(error) => error.fault(),
            Self::WaitTimedOut(_) | Self::QueueFull(_) | Self::TooManyPools { .. } => Fault::Us,
            Self::Fenced { .. } => Fault::Server,
            Self::UnknownServer(_) => Fault::Us,
        }
    }

    /// Whether the same request may succeed after a new look at the cluster, or at another server.
    pub fn retry(&self) -> bool {
        match self {
            Self::Connect(error) => error.retry(),
            Self::Fenced { .. } => true,
            Self::WaitTimedOut(_)
            | Self::QueueFull(_)
            | Self::TooManyPools { .. }
            | Self::UnknownServer(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_server_error_are_read_and_its_body_kept() {
        let body = Bytes::from_static(b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients\0\0");
        let error = ServerError::parse(body.clone());
        assert_eq!(error.to_string(), "FATAL 53300: sorry, too many clients");
        assert_eq!(error.body, body);
    }

    #[test]
    fn a_translated_severity_gives_way_to_the_plain_one() {
        let parse = |body: &'static [u8]| ServerError::parse(Bytes::from_static(body)).severity;
        assert_eq!(parse(b"SFATALE\0VFATAL\0\0"), "FATAL");
        assert_eq!(parse(b"VFATAL\0SFATALE\0\0"), "FATAL");
        assert_eq!(parse(b"SFATALE\0\0"), "FATALE");
    }

    #[test]
    fn a_body_without_an_end_is_read_as_far_as_it_goes() {
        let error = ServerError::parse(Bytes::from_static(b"C57P03\0Mthe database"));
        assert_eq!(error.sqlstate, "57P03");
        assert_eq!(ServerError::parse(Bytes::new()), ServerError::default());
    }

    #[test]
    fn a_bad_password_is_the_clients_and_a_full_server_is_the_servers() {
        let refused = |sqlstate: &str| {
            ConnectError::Server(Box::new(ServerError {
                sqlstate: sqlstate.into(),
                ..ServerError::default()
            }))
        };
        assert_eq!(refused("28P01").fault(), Fault::Client);
        assert!(!refused("28P01").retry());
        assert_eq!(refused("53300").fault(), Fault::Server);
        assert!(refused("53300").retry());
    }
}
