//! Facts of texts that were seen before, bounded in bytes. Owned by its user, shared by sessions.
//!
//! Two levels: the exact text, and the shape of a query, so that a literal or a trace comment that
//! changes with each call does not cost a parse each time. A hit does not allocate.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use quick_cache::{Equivalent, Weighter, sync::Cache};

use super::TEXT_BYTES_MAX;
use super::facts::{Effect, Facts, Kind, Learned, Reading, Statement};
use super::known::Known;
use super::shape::{Shape, ShapeKey, shape};

/// Facts of texts that were seen before.
#[derive(Debug)]
pub struct FactsCache<J = ()> {
    texts: Cache<TextKey, Arc<Known<J>>, Weight, Keyed>,
    shapes: Cache<Shape, Arc<Known<J>>, Weight, Keyed>,
    key: ShapeKey,
}

/// Where the facts of a text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The text, or one of its shape, was seen before.
    Remembered,
    /// It was parsed now.
    Parsed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TextKey {
    text: Box<[u8]>,
    reading: Reading,
}

#[derive(Clone, Copy, Debug)]
struct TextRef<'a> {
    text: &'a [u8],
    reading: Reading,
}

impl<J> FactsCache<J> {
    /// An empty cache of so many bytes, with two random numbers of the process as its secret.
    pub fn new(bytes_max: u64, secret: [u64; 2]) -> Self {
        let half = bytes_max / 2;
        let entries = usize::try_from(half / ENTRY_BYTES).unwrap_or(usize::MAX);
        let hasher = Keyed(secret);
        Self {
            texts: Cache::with(entries, half, Weight, hasher, Default::default()),
            shapes: Cache::with(entries, half, Weight, hasher, Default::default()),
            key: ShapeKey(secret),
        }
    }

    /// The facts of a text: remembered, or found now and remembered.
    pub fn facts(&self, text: &[u8], reading: Reading) -> Arc<Known<J>> {
        self.look_up(text, reading).0
    }

    /// The same, and whether they were remembered.
    pub fn look_up(&self, text: &[u8], reading: Reading) -> (Arc<Known<J>>, Found) {
        if let Some(facts) = self.texts.get(&TextRef { text, reading }) {
            return (facts, Found::Remembered);
        }
        let shape = shape(self.key, text, reading);
        if let Some(facts) = shape.and_then(|shape| self.shapes.get(&shape)) {
            return (facts, Found::Remembered);
        }
        let facts = Arc::new(Known::new(Facts::of(text, reading)));
        match shape.filter(|_| facts.statements.iter().all(is_free_of_literals)) {
            Some(shape) => self.shapes.insert(shape, Arc::clone(&facts)),
            None => self.remember(text, reading, Arc::clone(&facts)),
        }
        // The first of a shape is remembered by its text too: most texts come again as they are.
        if shape.is_some() {
            self.remember(text, reading, Arc::clone(&facts));
        }
        (facts, Found::Parsed)
    }

    /// Remembers that a replica refused a text as a write.
    pub fn learn_write(&self, text: &[u8], reading: Reading) {
        let known = self.facts(text, reading);
        let facts = Arc::new(Known::new(Facts {
            learned: Learned::RefusedByReplica,
            ..Facts::clone(&known)
        }));
        if let Some(shape) = shape(self.key, text, reading)
            && facts.statements.iter().all(is_free_of_literals)
        {
            self.shapes.insert(shape, Arc::clone(&facts));
        }
        self.remember(text, reading, facts);
    }

    /// How many bytes it holds, about.
    pub fn bytes(&self) -> u64 {
        self.texts.weight().saturating_add(self.shapes.weight())
    }

    /// How many texts and shapes it holds.
    pub fn entries(&self) -> usize {
        self.texts.len().saturating_add(self.shapes.len())
    }

    fn remember(&self, text: &[u8], reading: Reading, facts: Arc<Known<J>>) {
        if text.len() <= TEXT_BYTES_MAX {
            self.texts.insert(
                TextKey {
                    text: text.into(),
                    reading,
                },
                facts,
            );
        }
    }
}

/// Whether another text of the same shape has the same facts.
pub(super) fn is_free_of_literals(statement: &Statement) -> bool {
    let is_query_or_dml = matches!(
        &statement.kind,
        Kind::Select | Kind::Values | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge
    );
    let has_value = |effect: &Effect| {
        matches!(
            effect,
            Effect::Setting { .. } | Effect::LocalSetting { .. } | Effect::Unknown
        )
    };
    is_query_or_dml && !statement.effects.iter().any(has_value)
}

/// A bare entry: the key, the list of statements, one statement with a name or two, and what was
/// judged of it.
const ENTRY_BYTES: u64 = 768;

#[derive(Clone, Copy, Debug)]
struct Weight;

impl<J> Weighter<TextKey, Arc<Known<J>>> for Weight {
    fn weight(&self, key: &TextKey, facts: &Arc<Known<J>>) -> u64 {
        weight(facts).saturating_add(u64::try_from(key.text.len()).unwrap_or(u64::MAX))
    }
}

impl<J> Weighter<Shape, Arc<Known<J>>> for Weight {
    fn weight(&self, _: &Shape, facts: &Arc<Known<J>>) -> u64 {
        weight(facts)
    }
}

/// An upper estimate: names are short, and each has a box of its own.
fn weight(facts: &Facts) -> u64 {
    let names = |statement: &Statement| {
        let symbols = &statement.symbols;
        let names = [
            statement.functions.len(),
            statement.relations.len(),
            statement.effects.len(),
            symbols.operators.len(),
            symbols.attributes.len(),
            symbols.types.len(),
        ];
        names.iter().sum::<usize>().saturating_mul(NAME_BYTES)
    };
    let statements = facts
        .statements
        .len()
        .saturating_mul(size_of::<Statement>());
    let names: usize = facts.statements.iter().map(names).sum();
    ENTRY_BYTES.saturating_add(u64::try_from(statements.saturating_add(names)).unwrap_or(u64::MAX))
}

const NAME_BYTES: usize = 72;

impl Equivalent<TextKey> for TextRef<'_> {
    fn equivalent(&self, key: &TextKey) -> bool {
        self.reading == key.reading && *self.text == *key.text
    }
}

impl Hash for TextKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        TextRef {
            text: &self.text,
            reading: self.reading,
        }
        .hash(state);
    }
}

impl Hash for TextRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.reading.hash(state);
        state.write(self.text);
    }
}

/// Hashes keys of the cache. Keys are compared in full, so it only has to be quick, and secret
/// enough that nobody can fill one shard on purpose.
#[derive(Clone, Copy, Debug)]
struct Keyed([u64; 2]);

impl BuildHasher for Keyed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        let Self([start, factor]) = *self;
        Folded {
            state: start,
            factor: factor | 1,
        }
    }
}

#[derive(Debug)]
struct Folded {
    state: u64,
    factor: u64,
}

impl Folded {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.factor ^ MIXED));
        let high = u64::try_from(product >> 64).unwrap_or_default();
        let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or_default();
        self.state = high ^ low;
    }
}

const MIXED: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0_u8; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.mix(u64::from_le_bytes(last) ^ u64::try_from(bytes.len()).unwrap_or_default() << 56);
    }

    fn finish(&self) -> u64 {
        self.state ^ self.state >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> FactsCache {
        FactsCache::new(1 << 20, [11, 13])
    }

    fn facts(cache: &FactsCache, text: &str) -> Arc<Known<()>> {
        cache.facts(text.as_bytes(), Reading::STANDARD)
    }

    #[test]
    fn a_text_is_read_once() {
        let cache = cache();
        let first = facts(&cache, "SHOW work_mem");
        assert!(Arc::ptr_eq(&first, &facts(&cache, "SHOW work_mem")));
        assert!(!Arc::ptr_eq(&first, &facts(&cache, "SHOW  work_mem")));
    }

    #[test]
    fn texts_that_differ_in_literals_share_their_facts() {
        let cache = cache();
        let first = facts(&cache, "SELECT a FROM t WHERE id = 1 /* trace 1 */");
        let second = facts(&cache, "select a from T where id = 2 /* trace 2 */");
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn texts_whose_facts_are_made_of_literals_do_not() {
        let cache = cache();
        let first = facts(&cache, "SELECT set_config('a', 'b', false)");
        let second = facts(&cache, "SELECT set_config('c', 'd', false)");
        assert_ne!(**first, **second);
        let plain = facts(&cache, "SELECT 1");
        let hinted = facts(&cache, "/* pgherd: primary */ SELECT 1");
        assert_ne!(**plain, **hinted);
    }

    #[test]
    fn a_text_is_not_shared_between_sessions_that_read_it_differently() {
        let cache = cache();
        let text = br"SELECT '\' || '; DELETE FROM t; --'";
        let off = Reading::of_settings("off", "UTF8");
        assert_eq!(
            cache.facts(text, off).unparsed,
            Some(crate::statement::Unparsed::Reading)
        );
        assert_eq!(cache.facts(text, Reading::STANDARD).unparsed, None);
    }

    #[test]
    fn what_a_replica_refused_is_remembered_for_the_text_and_its_like() {
        let cache = cache();
        let refused = Learned::RefusedByReplica;
        facts(&cache, "SELECT f(1)");
        cache.learn_write(b"SELECT f(2)", Reading::STANDARD);
        assert_eq!(facts(&cache, "SELECT f(2)").learned, refused);
        assert_eq!(facts(&cache, "SELECT f(3)").learned, refused);
        assert_eq!(facts(&cache, "SELECT g(3)").learned, Learned::Nothing);
    }

    #[test]
    fn the_cache_stays_within_its_bytes() {
        let cache = FactsCache::new(256 << 10, [1, 2]);
        for number in 0..2_000 {
            facts(&cache, &format!("SHOW setting_{number}"));
            facts(&cache, &format!("SELECT column_{number} FROM t"));
        }
        assert!(cache.bytes() <= 256 << 10, "{} bytes", cache.bytes());
        assert!(cache.entries() > 50);
    }
}
