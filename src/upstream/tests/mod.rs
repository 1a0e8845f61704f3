//! A server that says what a script says, and what our side makes of it.

mod cluster;
mod fake;
mod fences;
mod logins;
mod pools;
