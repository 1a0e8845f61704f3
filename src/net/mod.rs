//! Sockets: listening, connecting, and the stream that both ends of a session read and write.
//!
//! Nothing here knows a message of the protocol.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism"
)]

mod connect;
mod listen;
mod stream;
mod tls;
mod unix;

pub use connect::connect;
pub use listen::{Caller, Listener, listen, tune};
pub use stream::{Idle, Stream};
pub use tls::{
    AcceptorFiles, ConnectorFiles, Encrypted, PeerCertificate, TlsAcceptor, TlsConnector, TlsError,
    TlsFile, TlsMode, TlsStart, end_point, server_name,
};
pub use unix::{UnixDoor, listen_unix, socket_path, user_name};
