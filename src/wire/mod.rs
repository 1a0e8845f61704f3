//! Bytes to messages of protocol 3.0 and 3.2, and back. No sockets.
