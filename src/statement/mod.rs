//! What a piece of SQL is.
