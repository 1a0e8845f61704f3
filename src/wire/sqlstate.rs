//! The SQLSTATEs that we send or look for. A closed list: texts are never matched on.

use std::fmt;

/// A five-character SQLSTATE.
///
/// Source: PostgreSQL 17, errcodes-appendix.html.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    /// `00000`
    pub const SUCCESSFUL_COMPLETION: Self = Self("00000");
    /// `01000`
    pub const WARNING: Self = Self("01000");
    /// `08000`
    pub const CONNECTION_EXCEPTION: Self = Self("08000");
    /// `08001`
    pub const CANNOT_CONNECT: Self = Self("08001");
    /// `08003`
    pub const CONNECTION_DOES_NOT_EXIST: Self = Self("08003");
    /// `08004`
    pub const CONNECTION_REJECTED: Self = Self("08004");
    /// `08006`
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `08007`: nobody knows whether the transaction took place.
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self("08007");
    /// `08P01`
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `0A000`
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// `22023`
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    /// `25000`
    pub const INVALID_TRANSACTION_STATE: Self = Self("25000");
    /// `25001`
    pub const ACTIVE_SQL_TRANSACTION: Self = Self("25001");
    /// `25006`: what a replica answers to a write.
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self("25006");
    /// `25P01`
    pub const NO_ACTIVE_SQL_TRANSACTION: Self = Self("25P01");
    /// `25P02`
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self("25P02");
    /// `25P03`
    pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: Self = Self("25P03");
    /// `25P04`
    pub const TRANSACTION_TIMEOUT: Self = Self("25P04");
    /// `26000`
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self("26000");
    /// `28000`
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `28P01`
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `34000`
    pub const INVALID_CURSOR_NAME: Self = Self("34000");
    /// `3D000`
    pub const INVALID_CATALOG_NAME: Self = Self("3D000");
    /// `40001`: also what a replica answers to a query that stands in the way of recovery.
    pub const SERIALIZATION_FAILURE: Self = Self("40001");
    /// `40003`
    pub const STATEMENT_COMPLETION_UNKNOWN: Self = Self("40003");
    /// `40P01`
    pub const DEADLOCK_DETECTED: Self = Self("40P01");
    /// `42501`
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `42601`
    pub const SYNTAX_ERROR: Self = Self("42601");
    /// `42622`
    pub const NAME_TOO_LONG: Self = Self("42622");
    /// `42704`
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    /// `42P01`
    pub const UNDEFINED_TABLE: Self = Self("42P01");
    /// `42P03`
    pub const DUPLICATE_CURSOR: Self = Self("42P03");
    /// `42P05`
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self("42P05");
    /// `53000`
    pub const INSUFFICIENT_RESOURCES: Self = Self("53000");
    /// `53200`
    pub const OUT_OF_MEMORY: Self = Self("53200");
    /// `53300`
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `53400`
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self("53400");
    /// `54000`
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    /// `55000`
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    /// `55P02`
    pub const CANT_CHANGE_RUNTIME_PARAM: Self = Self("55P02");
    /// `57014`
    pub const QUERY_CANCELED: Self = Self("57014");
    /// `57P01`
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `57P02`
    pub const CRASH_SHUTDOWN: Self = Self("57P02");
    /// `57P03`
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// `57P04`
    pub const DATABASE_DROPPED: Self = Self("57P04");
    /// `57P05`
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    /// `XX000`
    pub const INTERNAL_ERROR: Self = Self("XX000");
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A state compares with the bytes of a server's error field.
impl PartialEq<[u8]> for SqlState {
    fn eq(&self, other: &[u8]) -> bool {
        self.0.as_bytes() == other
    }
}
