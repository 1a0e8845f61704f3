//! Prepared statements of the protocol: remembered by name for each session, kept once for each
//! distinct text and types, prepared on whichever server connection an Execute goes to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use quick_cache::sync::Cache;

use super::settings::Values;
use super::unit::Judgement;
use crate::statement::Known;

/// A statement that a client prepared.
#[derive(Debug)]
pub struct Prepared {
    /// Names it on the servers.
    pub id: StatementId,
    /// Its text, as the client sent it.
    pub text: Bytes,
    /// The parameter types as they stand in Parse: a count and that many OIDs.
    pub types: Bytes,
    /// What it is.
    pub facts: Arc<Known<Judgement>>,
}

/// The number of a distinct (text, parameter types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(u64);

impl StatementId {
    /// The name that this statement has on the servers.
    pub fn server_name(self) -> Bytes {
        let mut name = BytesMut::with_capacity(SERVER_NAME_PREFIX.len() + 20);
        self.write_name(&mut name);
        name.freeze()
    }

    fn write_name(self, out: &mut BytesMut) {
        out.put_slice(SERVER_NAME_PREFIX);
        let mut digits = [0_u8; 20];
        let mut rest = self.0;
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            used += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.put_slice(digits.get(digits.len() - used..).unwrap_or_default());
    }
}

/// Gives equal statements of all sessions one number, so that a server connection that prepared
/// one for a session has it for all. Bounded; a statement that fell out gets a new number, which
/// costs one more Parse.
#[derive(Debug)]
pub struct Interner {
    known: Cache<(Bytes, Bytes), Arc<Prepared>>,
    next: AtomicU64,
}

impl Interner {
    /// An interner that keeps `entries` statements.
    pub fn new(entries: usize) -> Self {
        Self {
            known: Cache::new(entries),
            next: AtomicU64::new(1),
        }
    }

    /// The statement with this text and these types.
    pub fn intern(
        &self,
        text: &Bytes,
        types: &Bytes,
        facts: &Arc<Known<Judgement>>,
    ) -> Arc<Prepared> {
        // The key owns its bytes: a slice would keep the whole read buffer alive.
        let key = (text.clone(), types.clone());
        if let Some(prepared) = self.known.get(&key) {
            return prepared;
        }
        let (text, types) = (Bytes::copy_from_slice(text), Bytes::copy_from_slice(types));
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed));
        let facts = Arc::clone(facts);
        let prepared = Arc::new(Prepared {
            id,
            text: text.clone(),
            types: types.clone(),
            facts,
        });
        self.known.insert((text, types), Arc::clone(&prepared));
        prepared
    }

    /// Gives the next statement with this text and these types another number: connections may hold
    /// this one planned for a schema that is no more.
    pub fn forget(&self, prepared: &Prepared) {
        let key = (prepared.text.clone(), prepared.types.clone());
        self.known.remove_if(&key, |known| known.id == prepared.id);
    }
}

/// What one server connection has prepared and set. It travels with the connection from session to
/// session, and dies with it.
#[derive(Debug, Default)]
pub struct ServerSide {
    named: BTreeMap<StatementId, u64>,
    /// What the unnamed statement is, if one of ours.
    pub unnamed: Option<StatementId>,
    /// The settings that differ from those of a new connection; `None` when none does.
    pub settings: Option<Arc<Values>>,
    clock: u64,
}

impl ServerSide {
    /// Whether the connection has this statement; marks it as used.
    pub fn has(&mut self, id: StatementId) -> bool {
        self.clock += 1;
        let clock = self.clock;
        self.named.get_mut(&id).map(|used| *used = clock).is_some()
    }

    /// Notes that the connection has this statement now.
    pub fn insert(&mut self, id: StatementId) {
        self.clock += 1;
        self.named.insert(id, self.clock);
    }

    /// Notes that the connection does not have this statement any more.
    pub fn remove(&mut self, id: StatementId) {
        self.named.remove(&id);
    }

    /// Notes that the connection has no statement any more.
    pub fn clear_statements(&mut self) {
        self.named.clear();
        self.unnamed = None;
    }

    /// Notes that the connection is like a new one.
    pub fn clear(&mut self) {
        self.clear_statements();
        self.settings = None;
    }

    /// The least used statement, forgotten here and to be closed on the server, when the
    /// connection holds `max` or more.
    pub fn evict(&mut self, max: usize) -> Option<StatementId> {
        if self.named.len() < max.max(1) {
            return None;
        }
        let (id, _) = self.named.iter().min_by_key(|(_, used)| **used)?;
        let id = *id;
        self.named.remove(&id);
        Some(id)
    }
}

/// The beginning of the names that statements have on the servers.
const SERVER_NAME_PREFIX: &[u8] = b"pgherd_";

/// Whether a statement may have this name on a server by our doing.
pub(super) fn is_server_name(name: &[u8]) -> bool {
    name.strip_prefix(SERVER_NAME_PREFIX)
        .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Facts;

    fn name(id: u64) -> String {
        let mut out = BytesMut::new();
        StatementId(id).write_name(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn server_names_are_plain_numbers() {
        assert_eq!(name(0), "pgherd_0");
        assert_eq!(name(907), "pgherd_907");
        assert!(is_server_name(name(907).as_bytes()));
        assert!(!is_server_name(b"pgherd_") && !is_server_name(b"pgherd_1a"));
        assert_eq!(name(u64::MAX), format!("pgherd_{}", u64::MAX));
    }

    #[test]
    fn equal_statements_of_two_sessions_are_one() {
        let interner = Interner::new(10);
        let facts = Arc::new(Known::new(Facts::default()));
        let text = Bytes::from_static(b"select 1");
        let first = interner.intern(&text, &Bytes::new(), &facts);
        let again = interner.intern(&Bytes::from_static(b"select 1"), &Bytes::new(), &facts);
        let other = interner.intern(&text, &Bytes::from_static(&[0, 1, 0, 0, 0, 23]), &facts);
        assert_eq!(first.id, again.id);
        assert_ne!(first.id, other.id);
    }

    #[test]
    fn the_least_used_statement_makes_room() {
        let mut side = ServerSide::default();
        side.insert(StatementId(1));
        side.insert(StatementId(2));
        assert!(side.has(StatementId(1)));
        assert_eq!(side.evict(3), None);
        assert_eq!(side.evict(2), Some(StatementId(2)));
        assert!(!side.has(StatementId(2)));
    }
}
