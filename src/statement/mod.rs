//! What a piece of SQL is: text in, [`Facts`] out.
//!
//! A text is cut into tokens by our own reader of PostgreSQL's lexical rules. Commands are told by
//! their first words, as PostgreSQL's grammar does. Only what may turn out to be a read is given
//! to the parser crate, and its tree is believed only where the tokens agree. What is not
//! understood is a write.

#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::as_conversions,
    clippy::cast_possible_truncation
)]

mod cache;
mod catalog;
mod facts;
mod functions;
mod known;
mod lexer;
mod parse;
mod query;
mod read;
mod settings;
mod shape;
mod verbs;

pub use cache::{FactsCache, Found};
pub use catalog::{
    CastContext, CastRow, Catalog, CatalogRows, FunctionRow, OperatorRow, Persistence, RelationRow,
    Storage, Takes, UseRow, Used, Verdict, Volatility,
};
pub use facts::{
    Access, Chain, Change, Effect, Encoding, Explain, Facts, FunctionUse, Hint, Hold, Isolation,
    Kind, Learned, Modes, Reading, RelationName, SetScope, SetValue, Statement, Strings, Symbols,
    Unparsed, Verb,
};
pub use functions::{Builtin, Syntax, builtin, syntax, without_catalog};
pub use known::{Known, View};
pub use read::{JOINS_MAX, NESTING_MAX, STATEMENTS_MAX, TEXT_BYTES_MAX, TOKENS_MAX, first_word_is};

#[cfg(test)]
mod cases;
#[cfg(test)]
mod hostile;
