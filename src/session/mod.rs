//! One client's conversation as a machine: messages in, messages out, no socket and no clock.
//!
//! [`Login`] is the part before the first statement, [`Session`] the rest. Both are told what
//! happened and answer with what has to be done; the driver in `proxy` does it and holds no rule.

#![deny(clippy::wildcard_enum_match_arm)]

mod again;
mod answer;
mod begun;
mod channels;
mod counted;
mod door;
mod echo;
mod follow;
mod foreign;
mod gather;
mod given_up;
mod heads;
mod identity;
mod input;
mod left;
mod listening;
mod local;
mod login;
mod login_md5;
mod machine;
mod names;
mod output;
mod pins;
mod prepared;
mod reading;
mod refusal;
mod replication;
mod reply;
mod rules;
mod running;
mod sender;
mod settings;
mod skipped;
mod spare;
mod stale;
mod texts;
mod timers;
mod transaction;
mod tuning;
mod unasked;
mod unit;
mod waiting;

#[cfg(test)]
mod tests;

pub use begun::Begun;
pub use channels::Channel;
pub use door::{CONSOLE_DATABASES, is_operator};
pub use echo::OwnNumbers;
pub use identity::{ClientCertificate, Credential, Identity, Secured};
pub use input::{ConsoleReply, Denial, Input, Missed, World};
pub use login::{Login, LoginInput, LoginOutput, LoginSettings, TlsOffer};
pub use machine::Session;
pub use output::{Condition, Note, Output, RetryCause, When};
pub use pins::{Pin, Pins};
pub use prepared::{Interner, Prepared, ServerSide, StatementId};
pub use reading::TextSettings;
pub use refusal::Refusal;
pub use replication::{NoSource, Replication, ReplicationMode, Source};
pub use rules::{OwnRules, Rules};
pub use settings::Values;
pub use texts::Texts;
pub use transaction::Transaction;
pub use unit::Judgement;

// What a driver has to name to give a session its world and to do what it wants.
pub use crate::policy::{AccessMethod, AccessRules, Intent, Origin, Route, RouteRules, Why};
pub use crate::statement::{Catalog, View};
