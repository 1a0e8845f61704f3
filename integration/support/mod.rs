//! What the tests stand on: servers, a router in front of them, a client that chooses its bytes.

mod certificates;
mod cluster;
mod frames;
mod link;
mod router;
mod wait;

pub(crate) use certificates::{Authority, Files, psql};
pub(crate) use cluster::{shared, start, test, test_alone, test_within};
pub(crate) use frames::play;
pub(crate) use link::{Message, Raw, fields, tags};
pub(crate) use router::{Listener, Router, Row, config_text, get, memory_kb, rows, value};
pub(crate) use wait::{eventually, wait_until};
