//! A throw-away cluster from the PostgreSQL of this system.
