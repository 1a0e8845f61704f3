//! Bytes to messages of protocol 3.0 and 3.2, and back. No sockets.
//!
//! [`Splitter`] cuts and bounds every frame; borrowed views ([`frontend`], [`backend`], [`fields`])
//! read the few messages that matter; encoders make the messages that we send ourselves. Text is
//! bytes everywhere: a client encoding is none of our business.
//!
//! pgwire is used to make messages only. Its decoders never see a byte: they panic on malformed
//! frames and read past the end of one.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::cast_possible_truncation
    )
)]

pub mod backend;
mod edge;
pub mod fields;
pub mod frame;
pub mod frontend;
mod md5;
mod reader;
pub mod scram;
pub mod sqlstate;
pub mod startup;
mod writer;

#[cfg(test)]
mod checks;
#[cfg(test)]
mod tests;

pub use backend::TransactionStatus;
pub use edge::Edge;
pub use fields::{ErrorFields, ErrorView, Severity};
pub use frame::{Cut, Frame, FrameError, Head, Limits, Phase, Splitter};
pub use md5::{Md5Hash, NotMd5};
pub use reader::ViewError;
pub use sqlstate::SqlState;
pub use startup::{CancelKey, FirstPacket, Startup, StartupError, first_packet};
