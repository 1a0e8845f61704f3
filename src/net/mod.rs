//! Sockets: listening, connecting, and the stream that both ends of a session read and write.
//!
//! Nothing here knows a message of the protocol.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod connect;
mod line;
mod listen;
mod stream;
mod tls;
mod unix;

pub use connect::connect;
pub use line::Line;
pub use listen::{Caller, Listener, Spare, inherit, listen, tune};
pub use stream::{Idle, Stream};
pub use tls::{
    AcceptorFiles, ConnectorFiles, Encrypted, PeerCertificate, TlsAcceptor, TlsConnector, TlsError,
    TlsFile, TlsMode, TlsStart, end_point, server_name,
};
pub use unix::{
    FileClaim, UnixDoor, connect_unix, inherit_unix, listen_unix, socket_path, user_name,
};
