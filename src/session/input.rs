//! What a session is told.

use std::time::Instant;

use bytes::Bytes;

use super::echo::OwnNumbers;
use super::prepared::ServerSide;
use super::{Refusal, Rules, Texts};
use crate::cluster::{ServerId, Snapshot};
use crate::policy::RouteRules;
use crate::statement::{Catalog, View};
use crate::wire::backend::Table;
use crate::wire::frame::Cut;

/// What is true while one input is handled.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The time.
    pub now: Instant,
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// The limits of a session.
    pub rules: &'a Rules,
    /// Where statements go.
    pub route: &'a RouteRules,
    /// What is known of texts; shared by all sessions.
    pub texts: &'a Texts,
    /// What the session's database says of names; `None` until it was read.
    pub catalog: Option<&'a Catalog>,
    /// A number that is new whenever `route` or `catalog` is; zero remembers no judgement.
    pub view: View,
    /// How busy a server is.
    pub load: &'a dyn Fn(ServerId) -> u32,
    /// How many prepared statements a server connection may hold.
    pub server_statements_max: usize,
    /// Answers the statements of a console session; `None` in an ordinary one.
    pub console: Option<&'a dyn Fn(&str) -> ConsoleReply>,
    /// The numbers by which a notification of its own is known.
    pub own: OwnNumbers,
    /// Whether an operator paused the session's database: no unit begins that has no connection.
    pub paused: bool,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The client sent this.
    Client(Cut),
    /// The client has sent no more for now, in the middle of a unit that has its server already.
    /// Told when the session [asks](super::Session::wants_pause) for it.
    Pause,
    /// The server that is leased sent this.
    Server(Cut),
    /// The lease that was asked for.
    Granted {
        /// The server.
        server: ServerId,
        /// What its connection has prepared.
        side: Box<ServerSide>,
    },
    /// There is no such lease to be had.
    Denied(Denial),
    /// The connection to the leased server is gone.
    ServerLost,
    /// The client is gone, and a lease that was asked for is not to be had any more.
    ClientGone,
    /// The shared listener has done what was asked for, or will not.
    Listening(Result<(), Refusal>),
    /// The shared listener has heard this notification.
    Notified(Bytes),
    /// The same, and when it comes from the session's connection, it is its own.
    Echoed(Bytes),
    /// The shared listener has missed notifications, or may have.
    Missed(Missed),
    /// The snapshot changed.
    SnapshotChanged,
    /// The client cancels what it asked for, and nothing of it is on a server.
    Cancel,
    /// The armed deadline passed.
    Timer,
    /// The router stops: finish what runs, then close.
    Drain,
}

/// Why notifications are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The connection to the primary was lost, and is there again.
    Connection,
    /// The client did not take them.
    Overflow {
        /// How many.
        count: u64,
    },
}

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The server cannot be reached, or may not be written to any more. Another may do.
    Unreachable(ServerId),
    /// It makes no sense to try another server.
    Refused(Refusal),
    /// The server refused the login with this error message, as it came.
    Server(Bytes),
}

/// An answer of the console.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsoleReply {
    /// Rows.
    Table {
        /// The rows and their columns.
        table: Table,
        /// The command tag.
        tag: String,
        /// What was done, one NOTICE each.
        notices: Vec<String>,
    },
    /// Done.
    Done {
        /// The command tag.
        tag: String,
        /// What was done, one NOTICE each.
        notices: Vec<String>,
    },
    /// There was no command.
    Empty,
    /// Refused.
    Refused(Refusal),
}
