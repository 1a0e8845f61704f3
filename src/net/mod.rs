//! Sockets and listeners.
