//! What all pools share: where the servers are, and which connections may still be lent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::connection::Connection;
use super::{GetError, Rules};
use crate::cluster::{Address, Epoch, ServerId};
use crate::telemetry::Telemetry;

/// The part of the pools that has no connections in it.
pub(super) struct Shared {
    gates: Vec<Gate>,
    /// The newest epoch that anybody named.
    epoch: AtomicU64,
    pub(super) rules: ArcSwap<Rules>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// What decides whether a connection to one server may be lent.
pub(super) struct Gate {
    pub(super) address: Address,
    /// Connections begun under an older epoch are closed, and routes of an older one refused.
    floor: AtomicU64,
    /// Connections of another generation are closed.
    generation: AtomicU64,
}

impl Shared {
    pub(super) fn new(addresses: Vec<Address>, rules: Rules, telemetry: Arc<Telemetry>) -> Self {
        let gate = |address| Gate {
            address,
            floor: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        };
        Self {
            gates: addresses.into_iter().map(gate).collect(),
            epoch: AtomicU64::new(0),
            rules: ArcSwap::from_pointee(rules),
            telemetry,
        }
    }

    pub(super) fn gate(&self, server: ServerId) -> Result<&Gate, GetError> {
        self.gates
            .get(server.index())
            .ok_or(GetError::UnknownServer(server))
    }

    /// The epoch for a connection that is begun now.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Admits a route for writing, or refuses it because its epoch has ended for the server.
    ///
    /// The server is the primary of `epoch`. Connections begun earlier belong to an earlier reign,
    /// or to its time as a replica: from now on they are not lent any more.
    pub(super) fn admit(&self, server: ServerId, epoch: Epoch) -> Result<(), GetError> {
        let gate = self.gate(server)?;
        let fenced = gate.floor();
        if epoch < fenced {
            return Err(GetError::Fenced {
                server,
                route: epoch,
                fenced,
            });
        }
        // Nearly always nothing to do: look before writing, so that cores do not fight.
        if epoch > fenced {
            self.raise(gate, epoch);
        }
        Ok(())
    }

    /// Ends all epochs before `epoch` for the server.
    pub(super) fn fence(&self, server: ServerId, epoch: Epoch) {
        if let Ok(gate) = self.gate(server) {
            self.raise(gate, epoch);
        }
    }

    /// The epoch is raised before the floor: who sees the floor begins no connection under it.
    fn raise(&self, gate: &Gate, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
        gate.floor.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Begins a new generation of connections to the server.
    pub(super) fn retire(&self, server: ServerId) {
        if let Ok(gate) = self.gate(server) {
            gate.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Begins new generations of connections to all servers.
    pub(super) fn retire_all(&self) {
        for gate in &self.gates {
            gate.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether the server would still be lent over this connection.
    pub(super) fn is_current<S>(&self, connection: &Connection<S>) -> bool {
        connection.turn.is_current()
            && self.gate(connection.server).is_ok_and(|gate| {
                connection.epoch >= gate.floor() && connection.generation == gate.generation()
            })
    }

    /// Whether a connection that rests may stay.
    pub(super) fn may_rest<S>(&self, connection: &Connection<S>, now: Instant) -> bool {
        let rules = self.rules.load();
        let pid = connection.cancel_key.as_ref().map_or(0, |key| key.pid);
        let age = now.saturating_duration_since(connection.opened_at);
        let idle = now.saturating_duration_since(connection.last_used);
        self.is_current(connection)
            && age < lifetime(rules.lifetime, pid)
            && idle < rules.idle_timeout
    }
}

impl Gate {
    pub(super) fn floor(&self) -> Epoch {
        Epoch(self.floor.load(Ordering::Acquire))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// Up to a tenth less than the setting, by the number of the server process: connections that were
/// opened together do not all end together.
fn lifetime(setting: Duration, pid: u32) -> Duration {
    let sixteenths = pid % 16;
    setting.saturating_sub(setting / 160 * sixteenths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::tests::telemetry;

    fn shared() -> Shared {
        let address = "pg1".parse().unwrap();
        Shared::new(vec![address], Rules::default(), telemetry())
    }

    #[test]
    fn a_route_of_an_ended_epoch_is_refused() {
        let shared = shared();
        let server = ServerId(0);
        assert_eq!(shared.admit(server, Epoch(3)), Ok(()));
        shared.fence(server, Epoch(4));
        assert_eq!(
            shared.admit(server, Epoch(3)),
            Err(GetError::Fenced {
                server,
                route: Epoch(3),
                fenced: Epoch(4)
            })
        );
        assert_eq!(shared.admit(server, Epoch(4)), Ok(()));
        assert_eq!(shared.epoch(), Epoch(4));
    }

    #[test]
    fn a_fence_is_never_lowered() {
        let shared = shared();
        shared.fence(ServerId(0), Epoch(9));
        shared.fence(ServerId(0), Epoch(2));
        assert_eq!(shared.gate(ServerId(0)).unwrap().floor(), Epoch(9));
    }

    #[test]
    fn a_server_that_is_not_configured_is_named() {
        assert_eq!(
            shared().admit(ServerId(7), Epoch(1)),
            Err(GetError::UnknownServer(ServerId(7)))
        );
    }

    #[test]
    fn lifetimes_differ_by_a_tenth_at_most() {
        let hour = Duration::from_secs(3600);
        for pid in [0, 1, 15, 16, u32::MAX] {
            let lifetime = lifetime(hour, pid);
            assert!(lifetime <= hour && lifetime >= hour / 10 * 9);
        }
        assert_ne!(lifetime(hour, 1), lifetime(hour, 2));
    }
}
