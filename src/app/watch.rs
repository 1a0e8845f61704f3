//! What follows from a change of the cluster for those who hold connections: waiting statements
//! are woken, pools of servers that lost their part are emptied.

use std::sync::Arc;

use super::Pools;
use crate::cluster::{ServerState, Snapshot};
use crate::monitor::MonitorHandle;
use crate::proxy::Proxy;

/// Follows the snapshots, one after the other.
pub(super) async fn follow(monitor: MonitorHandle, proxy: Arc<Proxy>, upstreams: Arc<Pools>) {
    let mut changes = monitor.changes.clone();
    let mut known = monitor.snapshot.load_full();
    while changes.changed().await.is_ok() {
        let new = monitor.snapshot.load_full();
        apply(&known, &new, &proxy, &upstreams);
        known = new;
    }
}

fn apply(old: &Snapshot, new: &Snapshot, proxy: &Proxy, upstreams: &Pools) {
    if old.epoch != new.epoch {
        // Whoever was the primary, or might have been, is not written to any more. The new
        // primary's connections are begun anew as well: as a replica it was in recovery.
        for server in &new.servers {
            upstreams.fence(server.id, new.epoch);
        }
    }
    let mut states_changed = false;
    for (was, is) in old.servers.iter().zip(&new.servers) {
        if same_state(was.state, is.state) {
            continue;
        }
        states_changed = true;
        if matches!(is.state, ServerState::Down(_) | ServerState::Quarantined(_)) {
            upstreams.retire(is.id);
        }
    }
    if states_changed || old.writes != new.writes || old.epoch != new.epoch {
        proxy.cluster_changed();
    }
}

/// Whether two states are the same but for their measures.
fn same_state(was: ServerState, is: ServerState) -> bool {
    was.as_str() == is.as_str() && was.reason() == is.reason()
}
