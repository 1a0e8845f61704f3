//! The clients. Today a client is a write that goes wherever the snapshot says and is acknowledged
//! by a server that lives; the session machine is to be joined here: it takes the same snapshot
//! and the same virtual time, and its leases go to the nodes of the world.

use pgherd::cluster::{Epoch, Lsn, ServerId};

/// A write that its client believes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) at_ms: u64,
    pub(crate) epoch: Epoch,
    pub(crate) server: ServerId,
    pub(crate) end: Lsn,
}
