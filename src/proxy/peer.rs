//! Where a client comes from.

use std::net::SocketAddr;

use crate::net::{Caller, user_name};
use crate::session::Origin;

/// Where a client comes from.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its address; none at a Unix socket.
    pub(super) address: Option<SocketAddr>,
    /// What the rules of access see.
    pub(super) origin: Origin,
}

impl Peer {
    pub(super) fn of(caller: Caller) -> Self {
        match caller {
            Caller::Host(address) => Self {
                address: Some(address),
                origin: Origin::Host(address.ip()),
            },
            Caller::Local(uid) => Self {
                address: None,
                origin: Origin::Local {
                    user: uid.and_then(user_name),
                    is_ours: uid == Some(rustix::process::geteuid().as_raw()),
                },
            },
        }
    }
}
