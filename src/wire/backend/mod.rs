//! What a server sends: views of the messages that matter, encoders for those that we send to a
//! client ourselves.

mod encoders;
mod table;
mod views;

pub use encoders::{
    authentication_cleartext, authentication_md5, authentication_ok, authentication_sasl,
    authentication_sasl_continue, authentication_sasl_final, backend_key, bind_complete,
    close_complete, command_complete, empty_query, error, no_data, notice, notification,
    parameter_description, parameter_status, parse_complete, ready,
};
pub use table::{Column, Kind, Table};
pub use views::{
    Authentication, BackendKey, Mechanisms, NegotiateProtocolVersion, Notification,
    ParameterStatus, TransactionStatus, command_tag,
};

/// The types of the messages.
pub mod tag {
    /// Authentication…
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData
    pub const BACKEND_KEY: u8 = b'K';
    /// BindComplete
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyBothResponse
    pub const COPY_BOTH: u8 = b'W';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse
    pub const COPY_IN: u8 = b'G';
    /// CopyOutResponse
    pub const COPY_OUT: u8 = b'H';
    /// DataRow
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse
    pub const ERROR: u8 = b'E';
    /// FunctionCallResponse
    pub const FUNCTION_CALL: u8 = b'V';
    /// NegotiateProtocolVersion
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse
    pub const NOTICE: u8 = b'N';
    /// NotificationResponse
    pub const NOTIFICATION: u8 = b'A';
    /// ParameterDescription
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery
    pub const READY: u8 = b'Z';
    /// RowDescription
    pub const ROW_DESCRIPTION: u8 = b'T';
}
