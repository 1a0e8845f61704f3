//! When a connection is held that nothing good may come of any more: its server was the primary and
//! is not, hangs, or must not be used. Nobody waits for such a server, and nothing is sent there.

use std::time::Instant;

use super::machine::{Held, State};
use super::{Input, World};
use crate::cluster::{DownReason, HoldCause, ServerId, ServerState, Writes};
use crate::policy::Intent;

impl State {
    /// Whether a connection is held that nothing may come of any more.
    pub(super) fn is_given_up(&self, world: &World<'_>, input: &Input) -> bool {
        let (held, heard_at) = match self {
            Self::Running(running) => (Some(running.held()), running.heard_at),
            Self::Resting(held) | Self::Gathering(_, held) | Self::Draining(held) => {
                (held.as_ref(), None)
            }
            Self::Waiting(_) | Self::Subscribing(_) | Self::Closed => return false,
        };
        let Some(held) = held else {
            return false;
        };
        match server_standing(world, held.server) {
            Standing::Forbidden => true,
            _ if held.is_on_an_old_primary(world) => true,
            // Of a primary that hangs it is decided, or not, to replace it: see above. Until then
            // a write may still end well.
            Standing::Lost { since } if held.route.intent == Intent::Read => {
                // A server that speaks to us is only too busy to be asked how it is.
                !matches!(input, Input::Server(_)) && heard_at.is_none_or(|at| at < since)
            }
            Standing::Lost { .. } | Standing::Used => false,
        }
    }
}

/// Whether what runs on a server can still come to a good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Used,
    /// It has not answered anybody since then.
    Lost {
        since: Instant,
    },
    /// It answers, and not with the truth.
    Forbidden,
}

/// What the cluster's view says of a server.
pub(super) fn server_standing(world: &World<'_>, server: ServerId) -> Standing {
    let Some(view) = world.snapshot.server(server) else {
        return Standing::Forbidden;
    };
    match view.state {
        ServerState::Quarantined(_) => Standing::Forbidden,
        ServerState::Down(DownReason::Lost) => Standing::Lost { since: view.since },
        ServerState::Down(
            DownReason::Refused
            | DownReason::Silent
            | DownReason::StartingUp
            | DownReason::LoginRefused
            | DownReason::Failing,
        )
        | ServerState::Unknown
        | ServerState::Primary
        | ServerState::Serving
        | ServerState::Out(_) => Standing::Used,
    }
}

impl Held {
    /// Whether its server was the primary, and is not or is being replaced: it may be cut off and
    /// still take writes that nobody will ever see.
    fn is_on_an_old_primary(&self, world: &World<'_>) -> bool {
        let Some(reign) = self.reign else {
            return false;
        };
        match world.snapshot.writes {
            Writes::Open(primary) => reign < world.snapshot.epoch && primary != self.server,
            Writes::Held { cause, .. } => {
                reign < world.snapshot.epoch || cause == HoldCause::Promotion
            }
        }
    }
}

impl Input {
    /// Whether it brings bytes from or for a server, or news of one.
    pub(super) const fn concerns_server(&self) -> bool {
        matches!(
            self,
            Self::Client(_) | Self::Server(_) | Self::SnapshotChanged
        )
    }
}
