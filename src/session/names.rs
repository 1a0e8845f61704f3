//! The prepared statements of one session, by the names that the client gave them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::local::Portal;
use super::prepared::Prepared;
use super::{Refusal, Rules};

/// What a client has prepared. The unnamed statement has the empty name.
#[derive(Debug, Default)]
pub(super) struct Names {
    statements: BTreeMap<Bytes, Arc<Prepared>>,
    bytes: u64,
    /// The portals of statements that we answer ourselves. They live until the next Sync.
    portals: BTreeMap<Bytes, Portal>,
}

impl Names {
    /// The statement with this name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        self.statements.get(name)
    }

    /// Remembers a statement; the unnamed one replaces the one before.
    ///
    /// # Errors
    ///
    /// When the client holds as many statements, or as many bytes of them, as it may.
    pub(super) fn insert(
        &mut self,
        name: &Bytes,
        statement: &Arc<Prepared>,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        self.remove(name);
        let refusal = |what, setting| Refusal::LimitReached { what, setting };
        if self.statements.len() >= rules.prepared_statements_max {
            return Err(refusal("prepared statements", "limits.prepared_statements"));
        }
        if self.bytes + weight(statement) > rules.prepared_bytes_max.0 {
            return Err(refusal(
                "bytes of prepared statements",
                "limits.prepared_bytes",
            ));
        }
        self.bytes += weight(statement);
        // The name owns its bytes: a slice would keep the whole read buffer alive.
        self.statements
            .insert(Bytes::copy_from_slice(name), Arc::clone(statement));
        Ok(())
    }

    /// Forgets a statement.
    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(statement) = self.statements.remove(name) {
            self.bytes = self.bytes.saturating_sub(weight(&statement));
        }
    }

    /// The portal of ours with this name.
    pub(super) fn portal(&self, name: &[u8]) -> Option<Portal> {
        self.portals.get(name).cloned()
    }

    /// Makes a portal of ours.
    pub(super) fn insert_portal(&mut self, name: &[u8], portal: Portal) {
        self.portals.insert(Bytes::copy_from_slice(name), portal);
    }

    /// Forgets a portal of ours; tells whether there was one.
    pub(super) fn remove_portal(&mut self, name: &[u8]) -> bool {
        !self.portals.is_empty() && self.portals.remove(name).is_some()
    }

    /// Forgets all portals of ours.
    pub(super) fn forget_portals(&mut self) {
        self.portals.clear();
    }

    /// Forgets all statements.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What a statement counts for: its text, although equal texts of all sessions share it.
fn weight(statement: &Prepared) -> u64 {
    u64::try_from(statement.text.len()).unwrap_or(u64::MAX)
}
