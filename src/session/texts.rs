//! What all sessions of a process know of texts together.

use super::prepared::Interner;
use super::unit::Judgement;
use crate::statement::FactsCache;

/// The facts of texts, and the numbers of prepared statements. Both only remember what could be
/// found out again.
#[derive(Debug)]
pub struct Texts {
    pub(crate) facts: FactsCache<Judgement>,
    pub(crate) interner: Interner,
}

impl Texts {
    /// Remembers so many bytes of facts. `secret` is random, so that nobody can aim at a place in
    /// the cache.
    pub fn new(bytes_max: u64, secret: [u64; 2]) -> Self {
        Self {
            facts: FactsCache::new(bytes_max, secret),
            interner: Interner::new(INTERNED_MAX),
        }
    }
}

/// Distinct prepared statements that keep their number. Each holds its text once.
const INTERNED_MAX: usize = 10_000;
