//! pgherd: one PostgreSQL endpoint in front of a primary and its replicas.
//!
//! The house, from the ground up. What decides is pure: it takes values and the time, and returns
//! values. What acts is thin: it moves bytes and runs SQL, and decides nothing.
//!
//! | layer | modules | what |
//! |---|---|---|
//! | 0 words | [`cluster`], [`wire`] | what a cluster is; bytes and messages of the protocol |
//! | 1 decisions | [`statement`], [`policy`], [`session`] | what a text is; where it goes; one client's conversation |
//! | 2 mechanism | [`clock`], [`telemetry`], [`config`], [`net`], [`upstream`], [`monitor`], [`coordination`], [`local`] | sockets, SQL, files |
//! | 3 assembly | [`proxy`], [`admin`], [`cli`], [`app`] | the program |
//!
//! This library is public to its own binary, tests, benches and fuzz targets only.

pub mod cluster;
pub mod wire;

pub mod policy;
pub mod session;
pub mod statement;

pub mod clock;
pub mod config;
pub mod coordination;
pub mod local;
pub mod monitor;
pub mod net;
pub mod telemetry;
pub mod upstream;

pub mod admin;
pub mod app;
pub mod cli;
pub mod proxy;
