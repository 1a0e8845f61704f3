//! Every error that we ourselves may show to a client: the closed list. A server's own error
//! passes through untouched and is none of these.

use std::time::Duration;

use crate::wire::fields::{ErrorFields, Severity};
use crate::wire::sqlstate::SqlState;

/// An error of ours, with what the client needs to know and nothing about our insides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client broke the protocol.
    Protocol(String),
    /// A frame is longer than allowed.
    FrameTooLong(String),
    /// No primary was found in time.
    NoPrimary {
        /// How long the statement waited.
        waited: Duration,
    },
    /// No server can answer: neither a replica in its bounds nor a primary.
    NoServer,
    /// Every replica is out of its lag bounds, and the configuration wants an error then.
    AllLagging,
    /// The pool of this user and database is full.
    PoolFull {
        /// What is full, for people.
        pool: String,
        /// How many wait.
        waiting: usize,
    },
    /// The servers could not be reached for this unit of work.
    CannotConnect(String),
    /// The connection was lost with a transaction open. The transaction is gone.
    TransactionLost,
    /// The connection was lost while a write without a transaction block, or a COMMIT, ran.
    OutcomeUnknown,
    /// The connection was lost while a read ran, and it could not be tried elsewhere.
    ReadLost,
    /// The connection was lost that held state of this session.
    PinnedLost {
        /// What state.
        pin: &'static str,
    },
    /// The same, while a write without a transaction block, or a COMMIT, ran.
    PinnedOutcomeUnknown {
        /// What state.
        pin: &'static str,
    },
    /// The transaction was lost before; only its end is accepted.
    InLostTransaction,
    /// A client held more than it may of something.
    LimitReached {
        /// Of what.
        what: &'static str,
        /// The setting that bounds it.
        setting: &'static str,
    },
    /// The router stops.
    ShuttingDown,
    /// An operator ends the session.
    Killed,
    /// An operator paused the database, and did not resume it in time.
    Paused {
        /// How long the unit of work waited.
        waited: Duration,
    },
    /// The client was silent for too long.
    IdleTooLong,
    /// The client left a transaction open and was silent for too long.
    IdleInTransaction,
    /// The client cancelled a unit of work that waited.
    Canceled,
    /// The unit of work ran for too long.
    QueryTimeout,
    /// The transaction lasted for too long.
    TransactionTimeout,
    /// A statement of the console or of ours that makes no sense.
    BadCommand {
        /// Which SQLSTATE fits.
        sqlstate: SqlState,
        /// What is wrong.
        message: String,
        /// What would be right.
        hint: Option<String>,
    },
    /// An invariant of ours does not hold.
    Internal(&'static str),
}

impl Refusal {
    /// One of each, for docs/errors.md and for whoever wants to look at all of them.
    pub fn examples() -> Vec<Self> {
        vec![
            Self::Protocol("invalid frontend message type 33".to_owned()),
            Self::FrameTooLong("message Z is too long".to_owned()),
            Self::NoPrimary {
                waited: Duration::from_secs(10),
            },
            Self::NoServer,
            Self::AllLagging,
            Self::PoolFull {
                pool: "app/bench on server 0".to_owned(),
                waiting: 7,
            },
            Self::CannotConnect("connection refused".to_owned()),
            Self::TransactionLost,
            Self::OutcomeUnknown,
            Self::ReadLost,
            Self::PinnedLost { pin: "listen" },
            Self::PinnedOutcomeUnknown { pin: "listen" },
            Self::InLostTransaction,
            Self::LimitReached {
                what: "prepared statements",
                setting: "limits.prepared_statements",
            },
            Self::ShuttingDown,
            Self::Killed,
            Self::Paused {
                waited: Duration::from_secs(120),
            },
            Self::IdleTooLong,
            Self::IdleInTransaction,
            Self::Canceled,
            Self::QueryTimeout,
            Self::TransactionTimeout,
            Self::BadCommand {
                sqlstate: SqlState::UNDEFINED_OBJECT,
                message: "unrecognized configuration parameter \"pgherd.colour\"".to_owned(),
                hint: Some("Known are pgherd.explain, ...".to_owned()),
            },
            Self::Internal("unasked lease"),
        ]
    }

    /// Whether the session ends with this error.
    pub const fn ends_session(&self) -> bool {
        matches!(
            self,
            Self::Protocol(_)
                | Self::FrameTooLong(_)
                | Self::PinnedLost { .. }
                | Self::PinnedOutcomeUnknown { .. }
                | Self::ShuttingDown
                | Self::Killed
                | Self::IdleTooLong
                | Self::IdleInTransaction
                | Self::TransactionTimeout
                | Self::Internal(_)
        )
    }

    /// The class of the error.
    pub const fn sqlstate(&self) -> SqlState {
        match self {
            Self::Protocol(_) | Self::FrameTooLong(_) => SqlState::PROTOCOL_VIOLATION,
            Self::NoPrimary { .. } | Self::NoServer | Self::AllLagging | Self::Paused { .. } => {
                SqlState::CANNOT_CONNECT_NOW
            }
            Self::PoolFull { .. } => SqlState::TOO_MANY_CONNECTIONS,
            Self::CannotConnect(_) | Self::ReadLost | Self::PinnedLost { .. } => {
                SqlState::CONNECTION_FAILURE
            }
            Self::TransactionLost => SqlState::SERIALIZATION_FAILURE,
            Self::OutcomeUnknown | Self::PinnedOutcomeUnknown { .. } => {
                SqlState::TRANSACTION_RESOLUTION_UNKNOWN
            }
            Self::InLostTransaction => SqlState::IN_FAILED_SQL_TRANSACTION,
            Self::LimitReached { .. } => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::ShuttingDown | Self::Killed => SqlState::ADMIN_SHUTDOWN,
            Self::IdleTooLong => SqlState::IDLE_SESSION_TIMEOUT,
            Self::IdleInTransaction => SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            Self::TransactionTimeout => SqlState::TRANSACTION_TIMEOUT,
            Self::Canceled | Self::QueryTimeout => SqlState::QUERY_CANCELED,
            Self::BadCommand { sqlstate, .. } => *sqlstate,
            Self::Internal(_) => SqlState::INTERNAL_ERROR,
        }
    }

    /// The error in PostgreSQL's form.
    pub fn fields(&self) -> ErrorFields {
        let (message, detail, hint) = self.texts();
        ErrorFields {
            severity: if self.ends_session() {
                Severity::Fatal
            } else {
                Severity::Error
            },
            sqlstate: self.sqlstate(),
            message: message.into(),
            detail: detail.map(Into::into),
            hint: hint.map(Into::into),
        }
    }

    fn texts(&self) -> (String, Option<String>, Option<String>) {
        let plain = |message: &str| (message.to_owned(), None, None);
        let hinted = |message: String, hint: &str| (message, None, Some(hint.to_owned()));
        match self {
            Self::Protocol(what) | Self::FrameTooLong(what) => plain(what),
            Self::NoPrimary { waited } => hinted(
                format!(
                    "no primary took this statement within {} ms",
                    waited.as_millis()
                ),
                NOT_SENT,
            ),
            Self::NoServer => hinted("no server can answer now".to_owned(), NOT_SENT),
            Self::AllLagging => hinted(
                "every replica is out of its lag bounds".to_owned(),
                "Raise lag.max_time, or set lag.when_all_lag to \"primary\".",
            ),
            Self::PoolFull { pool, waiting } => (
                format!("no server connection became free in the pool {pool}"),
                Some(format!("{waiting} clients wait for it.")),
                Some(POOL_FULL.to_owned()),
            ),
            Self::CannotConnect(why) => {
                hinted(format!("could not connect to a server: {why}"), NOT_SENT)
            }
            Self::TransactionLost => hinted(
                "the connection to the server was lost and the transaction with it".to_owned(),
                "Nothing of the transaction was committed: it is safe to run it again.",
            ),
            Self::OutcomeUnknown => (
                "the connection to the server was lost before it answered".to_owned(),
                Some("Whether the statement was committed is not known.".to_owned()),
                Some("Look for its effect before you run it again.".to_owned()),
            ),
            Self::ReadLost => hinted(
                "the connection to the server was lost in the middle of an answer".to_owned(),
                "The statement only read: it is safe to run it again.",
            ),
            Self::PinnedLost { pin } => (
                "the connection to the server was lost, and state of this session with it"
                    .to_owned(),
                Some(format!("The session held: {pin}.")),
                Some("Connect again.".to_owned()),
            ),
            Self::PinnedOutcomeUnknown { pin } => pinned_in_doubt(pin),
            Self::InLostTransaction => hinted(
                "current transaction is aborted, commands ignored until end of transaction block"
                    .to_owned(),
                "Its connection to the server was lost.",
            ),
            Self::LimitReached { what, setting } => {
                hinted(format!("too many {what}"), &format!("Raise {setting}."))
            }
            Self::ShuttingDown => plain("terminating connection: the router is shutting down"),
            Self::Killed => plain("terminating connection due to administrator command"),
            Self::Paused { waited } => hinted(paused(*waited), NOT_SENT),
            Self::IdleTooLong => plain("terminating connection due to idle-session timeout"),
            Self::IdleInTransaction => {
                plain("terminating connection due to idle-in-transaction timeout")
            }
            Self::TransactionTimeout => plain("terminating connection due to transaction timeout"),
            Self::Canceled => plain("canceling statement due to user request"),
            Self::QueryTimeout => plain("canceling statement due to the router's query timeout"),
            Self::BadCommand { message, hint, .. } => (message.clone(), None, hint.clone()),
            Self::Internal(what) => (format!("internal error: {what}"), None, None),
        }
    }
}

fn paused(waited: Duration) -> String {
    let waited = waited.as_millis();
    format!("the database is paused: this statement waited for {waited} ms")
}

fn pinned_in_doubt(pin: &str) -> (String, Option<String>, Option<String>) {
    let message = "the connection to the server was lost before it answered, and state of this \
                   session with it";
    let detail =
        format!("Whether the statement was committed is not known. The session held: {pin}.");
    let hint = "Connect again, and look for its effect before you run it again.";
    (message.to_owned(), Some(detail), Some(hint.to_owned()))
}

const POOL_FULL: &str = "Raise pool.size or pool.wait_timeout, or what the user or the database has \
                         instead.";
const NOT_SENT: &str = "The statement was not sent to any server: it is safe to try it again.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of an example. A new variant does not compile until it has one.
    const fn place(refusal: &Refusal) -> usize {
        match refusal {
            Refusal::Protocol(_) => 0,
            Refusal::FrameTooLong(_) => 1,
            Refusal::NoPrimary { .. } => 2,
            Refusal::NoServer => 3,
            Refusal::AllLagging => 4,
            Refusal::PoolFull { .. } => 5,
            Refusal::CannotConnect(_) => 6,
            Refusal::TransactionLost => 7,
            Refusal::OutcomeUnknown => 8,
            Refusal::ReadLost => 9,
            Refusal::PinnedLost { .. } => 10,
            Refusal::PinnedOutcomeUnknown { .. } => 11,
            Refusal::InLostTransaction => 12,
            Refusal::LimitReached { .. } => 13,
            Refusal::ShuttingDown => 14,
            Refusal::Killed => 15,
            Refusal::Paused { .. } => 16,
            Refusal::IdleTooLong => 17,
            Refusal::IdleInTransaction => 18,
            Refusal::Canceled => 19,
            Refusal::QueryTimeout => 20,
            Refusal::TransactionTimeout => 21,
            Refusal::BadCommand { .. } => 22,
            Refusal::Internal(_) => PLACES - 1,
        }
    }

    const PLACES: usize = 24;

    #[test]
    fn there_is_one_example_of_each_refusal() {
        let places: Vec<_> = Refusal::examples().iter().map(place).collect();
        assert_eq!(places, (0..PLACES).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_that_ends_the_session_is_fatal_and_no_other_is() {
        for refusal in Refusal::examples() {
            let is_fatal = refusal.fields().severity == Severity::Fatal;
            assert_eq!(is_fatal, refusal.ends_session(), "{refusal:?}");
        }
    }
}
