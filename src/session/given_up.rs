//! When a connection is held that nothing good may come of any more: its server was the primary and
//! is not, hangs, or must not be used. Nobody waits for such a server, and nothing is sent there.

use std::time::{Duration, Instant};

use super::machine::{Held, State};
use super::running::Running;
use super::{Input, World};
use crate::cluster::{DownReason, HoldCause, ServerId, ServerState, Writes};
use crate::policy::Intent;

impl State {
    /// Whether a connection is held that nothing may come of any more.
    pub(super) fn is_given_up(&self, world: &World<'_>, input: &Input) -> bool {
        let (held, running) = match self {
            Self::Running(running) => (Some(running.held()), Some(running)),
            Self::Resting(held) | Self::Gathering(_, held) | Self::Draining(held) => {
                (held.as_ref(), None)
            }
            Self::Waiting(_) | Self::Subscribing(_) | Self::Closed => return false,
        };
        let Some(held) = held else {
            return false;
        };
        match (server_standing(world, held.server), running) {
            (Standing::Forbidden, _) => true,
            _ if held.is_on_an_old_primary(world) => true,
            (Standing::Lost { since }, Some(running)) => {
                // A server that speaks to us is only too busy to be asked how it is.
                let is_silent = !matches!(input, Input::Server(_));
                is_silent && running.is_hopeless_from(world, since) <= world.now
            }
            // A write is tried: the error of one that fails is clearer than that of a lost session.
            (Standing::Lost { .. }, None) => held.route.intent == Intent::Read,
            (Standing::Used, _) => false,
        }
    }
}

impl Running {
    /// When it is given up because its server has not answered anybody for too long.
    pub(super) fn given_up_at(&self, world: &World<'_>) -> Option<Instant> {
        match server_standing(world, self.held.server) {
            Standing::Lost { since } => Some(self.is_hopeless_from(world, since)),
            Standing::Used | Standing::Forbidden => None,
        }
    }

    /// The same, of a server that is lost since then.
    fn is_hopeless_from(&self, world: &World<'_>, since: Instant) -> Instant {
        let heard_at = self.heard_at.filter(|at| *at >= since);
        match (self.held.route.intent, heard_at) {
            (Intent::Read, None) => since,
            (Intent::Read, Some(at)) => at + STALL_MAX,
            // It may be decided to replace a primary that hangs: see above. If not, a write may
            // end well for as long as a new one would wait.
            (Intent::Write, _) => {
                let from = heard_at.unwrap_or(since).max(self.began_at);
                from + world.rules.hold_clients.max(STALL_MAX)
            }
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
            | DownReason::TlsFailed
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
            Self::Client(_) | Self::Server(_) | Self::SnapshotChanged | Self::Timer
        )
    }
}

/// How long a server that answers nobody else may be silent in the middle of an answer.
const STALL_MAX: Duration = Duration::from_secs(5);
