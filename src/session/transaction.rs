//! The transaction that the client believes itself to be in.

use super::begun::Begun;
use crate::wire::backend::TransactionStatus;

/// The transaction of a session, as the client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// None is open.
    #[default]
    None,
    /// One was begun, and is on no server yet.
    Begun(Box<Begun>),
    /// One is open on the server that the session holds.
    Open {
        /// Whether it has failed and only its end is accepted.
        failed: bool,
    },
    /// One was open on a connection that is gone. Only its end is accepted.
    Lost {
        /// Whether the client has been told.
        told: bool,
    },
}

impl Transaction {
    /// What a server's `ReadyForQuery` says.
    pub const fn from_status(status: TransactionStatus) -> Self {
        match status {
            TransactionStatus::Idle => Self::None,
            TransactionStatus::Open => Self::Open { failed: false },
            TransactionStatus::Failed => Self::Open { failed: true },
        }
    }

    /// What our own `ReadyForQuery` has to say.
    pub const fn status(&self) -> TransactionStatus {
        match self {
            Self::None => TransactionStatus::Idle,
            Self::Begun(_) | Self::Open { failed: false } => TransactionStatus::Open,
            Self::Open { failed: true } | Self::Lost { .. } => TransactionStatus::Failed,
        }
    }

    /// Whether no transaction is open.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether it has failed on its server.
    pub const fn is_failed(&self) -> bool {
        matches!(self, Self::Open { failed: true })
    }

    /// What begins it, when it was begun and is on no server yet.
    pub fn begun(&self) -> Option<&Begun> {
        match self {
            Self::Begun(begun) => Some(begun),
            Self::None | Self::Open { .. } | Self::Lost { .. } => None,
        }
    }

    /// Whether one was begun, and is on no server yet.
    pub const fn is_begun(&self) -> bool {
        matches!(self, Self::Begun(_))
    }

    /// Whether the transaction is gone and the client has not ended it yet.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
