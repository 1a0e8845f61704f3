//! What a client sends: views of the messages that matter, builders for those that we send to a
//! server in a client's place.
//!
//! A view borrows from the body of one frame and is checked to its end. Of a frame that is too long
//! to hold only the beginning is there: the `…Head` views read the names and leave the rest.

mod builders;
mod views;

pub use builders::{
    bind_for, bind_head_for, cancel_request, close, copy_fail, describe, execute, flush, parse,
    parse_head_for, password, query, sasl_initial_response, sasl_response, ssl_request, startup,
    sync, terminate,
};
pub use views::{
    Bind, BindHead, Close, Describe, Execute, Parse, ParseHead, Query, SaslInitialResponse, What,
    password_text,
};

/// The types of the messages.
pub mod tag {
    /// Bind
    pub const BIND: u8 = b'B';
    /// Close
    pub const CLOSE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail
    pub const COPY_FAIL: u8 = b'f';
    /// Describe
    pub const DESCRIBE: u8 = b'D';
    /// Execute
    pub const EXECUTE: u8 = b'E';
    /// Flush
    pub const FLUSH: u8 = b'H';
    /// FunctionCall
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse
    pub const PASSWORD: u8 = b'p';
    /// Query
    pub const QUERY: u8 = b'Q';
    /// Sync
    pub const SYNC: u8 = b'S';
    /// Terminate
    pub const TERMINATE: u8 = b'X';
}

/// The parameter types of a Parse that names none: a count of zero.
pub const NO_TYPES: &[u8] = &[0, 0];
