//! Tests of the whole session: conversations as scripts, and conversations of chance.
#![allow(
    clippy::disallowed_methods,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    reason = "a test: one reading of the clock gives the played one its zero"
)]

mod chaos;
mod scripts;
mod words;

pub(in crate::session) use scripts::snapshot;
