//! The shape of a text: 128 bits that stay the same when literals and comments change.
//!
//! Two texts of one shape have the same tokens but for the values of their literals, so they have
//! the same facts, unless a fact is made of a literal. The hash is keyed: a client that does not
//! know the key cannot make its text share the shape of another's.

use super::facts::Reading;
use super::lexer::{Lexeme, Lexer, TokenKind};
use super::read::{TEXT_BYTES_MAX, hint_in};

/// A shape.
pub(super) type Shape = u128;

/// The secret of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShapeKey(pub(super) [u64; 2]);

/// The shape of a text; `None` when it has none that could be shared.
pub(super) fn shape(key: ShapeKey, text: &[u8], reading: Reading) -> Option<Shape> {
    if text.len() > TEXT_BYTES_MAX || reading != Reading::STANDARD || text.contains(&0) {
        return None;
    }
    let mut lexer = Lexer::new(std::str::from_utf8(text).ok()?);
    let mut hash = Hash::new(key);
    let mut is_first = true;
    while let Some(lexeme) = lexer.next().ok()? {
        let token = match lexeme {
            Lexeme::Token(token) => token,
            Lexeme::Comment(comment) if hint_in(comment).is_some() => return None,
            Lexeme::Comment(_) => continue,
        };
        // Other commands are made of their values, or not worth it.
        let verbs = [
            "select", "with", "values", "insert", "update", "delete", "merge",
        ];
        if is_first && !token.is_any(&verbs) {
            return None;
        }
        is_first = false;
        match token.kind {
            TokenKind::String => hash.add(1, &[], Case::Kept),
            TokenKind::Number => hash.add(2, &[], Case::Kept),
            TokenKind::Word => hash.add(3, token.text.as_bytes(), Case::Folded),
            TokenKind::Quoted => hash.add(4, token.text.as_bytes(), Case::Kept),
            TokenKind::Param => hash.add(5, &[], Case::Kept),
            TokenKind::Operator => hash.add(6, token.text.as_bytes(), Case::Kept),
            TokenKind::Mark => hash.add(7, token.text.as_bytes(), Case::Kept),
        }
    }
    (!is_first).then(|| hash.finish())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Kept,
    Folded,
}

impl Case {
    /// Eight characters, as far as their case counts.
    const fn of(self, word: u64) -> u64 {
        match self {
            Self::Kept => word,
            Self::Folded => to_lower(word),
        }
    }
}

/// Eight bytes at a time: sets bit 5 of those that are capital letters of ASCII. Adding to the low
/// seven bits of each byte cannot reach the next one.
const fn to_lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7F * EACH);
    // What is 0x80 from 'A' on, and from the one after 'Z' on.
    let from_a = low.wrapping_add((0x80 - 0x41) * EACH);
    let after_z = low.wrapping_add((0x80 - 0x5B) * EACH);
    let capitals = from_a & !after_z & !word & (0x80 * EACH);
    word | capitals >> 2
}

/// Two folded multiplications with keys of their own, eight bytes at a time.
#[derive(Debug)]
struct Hash {
    a: u64,
    b: u64,
    key: ShapeKey,
}

/// Odd constants with well mixed bits: the digits of pi.
const PI: [u64; 4] = [
    0x243F_6A88_85A3_08D3,
    0x1319_8A2E_0370_7344,
    0xA409_3822_299F_31D0,
    0x082E_FA98_EC4E_6C89,
];

impl Hash {
    fn new(key: ShapeKey) -> Self {
        let ShapeKey([first, second]) = key;
        let [a, b, ..] = PI;
        Self {
            a: a ^ first,
            b: b ^ second,
            key,
        }
    }

    fn add(&mut self, kind: u8, bytes: &[u8], case: Case) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.mix(u64::from(kind) << 56 ^ length);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(case.of(u64::from_le_bytes(*word)));
        }
        if !rest.is_empty() {
            let last = rest
                .iter()
                .rfold(0, |last, byte| last << 8 | u64::from(*byte));
            self.mix(case.of(last));
        }
    }

    fn mix(&mut self, word: u64) {
        let ShapeKey([first, second]) = self.key;
        let [_, _, c, d] = PI;
        self.a = fold(self.a ^ word, c ^ first).wrapping_add(self.b.rotate_left(23));
        self.b = fold(self.b ^ word.rotate_left(32), d ^ second) ^ self.a.rotate_left(41);
    }

    fn finish(mut self) -> Shape {
        self.mix(0);
        self.mix(0);
        u128::from(self.a) << 64 | u128::from(self.b)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    let high = u64::try_from(product >> 64).unwrap_or_default();
    let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or_default();
    high ^ low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Shape> {
        shape(ShapeKey([1, 2]), text.as_bytes(), Reading::STANDARD)
    }

    #[test]
    fn each_byte_is_folded_by_itself() {
        for byte in 0..=u8::MAX {
            let word = u64::from_le_bytes([byte, b'Z', 0xFF, byte, b'@', b'[', b'A', byte]);
            let folded = to_lower(word).to_le_bytes();
            let lower = word.to_le_bytes().map(|byte| byte.to_ascii_lowercase());
            assert_eq!(folded, lower);
        }
    }

    #[test]
    fn literals_comments_and_case_do_not_change_a_shape() {
        let first = of("SELECT a FROM t WHERE id = 17 AND name = 'x' /* trace 1 */");
        assert!(first.is_some());
        assert_eq!(
            first,
            of("select A from T where ID=99 and NAME='it''s' -- trace 2")
        );
    }

    #[test]
    fn names_and_the_number_of_tokens_do() {
        let texts = [
            "SELECT f(1)",
            "SELECT g(1)",
            "SELECT f(1, 2)",
            "SELECT f('1')",
            "SELECT \"F\"(1)",
            "SELECT f(1) FROM t",
            "SELECT ab, c",
            "SELECT a, bc",
            "SELECT f($1)",
        ];
        let shapes: std::collections::BTreeSet<_> = texts.iter().map(|text| of(text)).collect();
        assert_eq!(shapes.len(), texts.len());
    }

    #[test]
    fn a_text_with_a_hint_or_of_another_kind_has_no_shape() {
        for text in [
            "/* pgherd: primary */ SELECT 1",
            "SET a = 1",
            "BEGIN",
            "",
            "SELECT 'x",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}
