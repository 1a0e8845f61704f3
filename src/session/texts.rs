//! What all sessions of a process know of texts together.

use std::sync::Arc;

use super::prepared::Interner;
use super::unit::Judgement;
use super::{Note, Output, Session, World};
use crate::statement::{FactsCache, Found, Known};

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

impl Session {
    /// What is known of a text of the client, which is read as its session reads texts.
    pub(super) fn facts(
        &self,
        world: &World<'_>,
        text: &[u8],
        out: &mut Vec<Output>,
    ) -> Arc<Known<Judgement>> {
        let (facts, found) = world.texts.facts.look_up(text, self.reading);
        out.push(Output::Note(match found {
            Found::Remembered => Note::TextKnown,
            Found::Parsed => Note::TextParsed {
                understood: facts.unparsed.is_none(),
            },
        }));
        facts
    }
}

/// Distinct prepared statements that keep their number. Each holds its text once.
const INTERNED_MAX: usize = 10_000;
