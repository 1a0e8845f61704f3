//! The shape of a text: 128 bits that stay the same when literals and comments change.
//!
//! Two texts of one shape have the same tokens but for the values of their literals, so they have
//! the same facts, unless a fact is made of a literal. The hash is keyed: a client that does not
//! know the key cannot make its text share the shape of another's.

mod hash;
mod plain;

use self::hash::{Case, Hash};
use super::facts::Reading;
use super::lexer::{Lexeme, Lexer, TokenKind};
use super::read::{TEXT_BYTES_MAX, hint_in};

/// What has shapes. Other commands are made of their values, or not worth it.
const VERBS: [&str; 7] = [
    "select", "with", "values", "insert", "update", "delete", "merge",
];

/// A shape.
pub(super) type Shape = u128;

/// The secret of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShapeKey(pub(super) [u64; 2]);

/// The shape of a text; `None` when it has none that could be shared.
pub(super) fn shape(key: ShapeKey, text: &[u8], reading: Reading) -> Option<Shape> {
    if text.len() > TEXT_BYTES_MAX || reading != Reading::STANDARD {
        return None;
    }
    plain::shape(key, text).or_else(|| of_tokens(key, text))
}

/// The shape of any text that the lexer can cut.
fn of_tokens(key: ShapeKey, text: &[u8]) -> Option<Shape> {
    if text.contains(&0) {
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
        if is_first && !token.is_any(&VERBS) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Shape> {
        shape(ShapeKey([1, 2]), text.as_bytes(), Reading::STANDARD)
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
