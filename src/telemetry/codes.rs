//! The closed lists that become labels. Each variant knows its code and its number.

macro_rules! codes {
    ($(#[doc = $outer:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $code:literal,)+ }) => {
        $(#[doc = $outer])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used as a metric label, in logs and in the console.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }
    };
}
pub(super) use codes;

codes! {
    /// How a client's login ended.
    LoginResult {
        /// It is in.
        Succeeded = "succeeded",
        /// The password, or the proof of it, was wrong, or there is no such user.
        Rejected = "rejected",
        /// It asked for a database that is not served here.
        NoSuchDatabase = "no_such_database",
        /// The limit of clients is reached.
        TooManyClients = "too_many_clients",
        /// It took too long.
        TimedOut = "timed_out",
        /// Its bytes were not the protocol.
        ProtocolViolation = "protocol_violation",
        /// The handshake of TLS failed, or its certificate was not good.
        TlsFailed = "tls_failed",
        /// No server could answer what the login needs to know.
        NoServer = "no_server",
        /// It went away before the login ended.
        Disconnected = "disconnected",
    }
}

codes! {
    /// Why the router sent a unit of work a second time.
    RetryCause {
        /// A replica refused it as a write (25006).
        RefusedByReplica = "refused_by_replica",
        /// A replica cancelled it because of a conflict with recovery.
        RecoveryConflict = "recovery_conflict",
        /// The connection was lost before anything was executed.
        ConnectionLost = "connection_lost",
        /// The server did not take new work: starting up, shutting down, out of connections.
        ServerUnavailable = "server_unavailable",
        /// A replica has not replayed the schema yet, or cannot read the relation.
        MissingOnReplica = "missing_on_replica",
        /// A connection's prepared statement was gone, or planned for a schema that has changed.
        StaleStatement = "stale_statement",
    }
}

codes! {
    /// Who made an error that a client got.
    ErrorOrigin {
        /// A PostgreSQL server; it was passed through.
        Server = "server",
        /// The router.
        Router = "router",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_code_is_its_place_in_the_list() {
        for (place, result) in LoginResult::ALL.iter().enumerate() {
            assert_eq!(*result as usize, place);
        }
        for (place, cause) in RetryCause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, place);
        }
    }
}
