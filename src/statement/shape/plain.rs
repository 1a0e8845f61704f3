//! The shape of a plain text, in one pass over its bytes.
//!
//! Most statements are words, numbers, simple strings and punctuation in ASCII. Their bytes are
//! hashed as they stand, with literals replaced and each token ended by a zero byte, which says the
//! same as the list of their tokens. Everything else (comments, strings with a letter in front,
//! dollar quotes, odd numbers, other alphabets) is left to the lexer: the same statement written so
//! has another shape, and is only parsed once more.

use super::hash::Hash;
use super::{Shape, ShapeKey, VERBS};

/// The shape of a text; `None` when it is not plain, or has no shape.
pub(super) fn shape(key: ShapeKey, text: &[u8]) -> Option<Shape> {
    // What is not ASCII might not be UTF-8 either.
    if !text.is_ascii() {
        return None;
    }
    let mut sink = Sink::new(key);
    let mut rest = text.trim_ascii_start();
    let (verb, _) = word(rest);
    if !VERBS
        .iter()
        .any(|known| verb.eq_ignore_ascii_case(known.as_bytes()))
    {
        return None;
    }
    while let Some(&first) = rest.first() {
        rest = match first {
            b' ' | b'\n' | b'\t' | b'\r' => rest.get(1..)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => name(rest, &mut sink)?,
            b'0'..=b'9' => {
                let after = number(rest)?;
                sink.token(NUMBER);
                after
            }
            b'$' => {
                let after = digits(rest.get(1..)?);
                if after.len() + 1 == rest.len() || after.first().is_some_and(is_name_part) {
                    return None;
                }
                sink.token(PARAM);
                after
            }
            b'\'' => {
                let after = quoted(rest, b'\'')?;
                sink.token(STRING);
                after
            }
            b'"' => {
                let after = quoted(rest, b'"')?;
                sink.verbatim(rest.get(..rest.len() - after.len())?);
                after
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' => {
                sink.token(first);
                rest.get(1..)?
            }
            b'.' => {
                let after = rest.get(1..)?;
                if after.first().is_some_and(u8::is_ascii_digit) {
                    return None;
                }
                sink.token(first);
                after
            }
            b':' => {
                let (colons, after) = split_at_first(rest, |byte| *byte != b':');
                if colons.len() > 2 {
                    return None;
                }
                sink.verbatim(colons);
                after
            }
            _ => operator(rest, &mut sink)?,
        };
    }
    Some(sink.finish())
}

/// What stands for a literal. No token of a plain text begins with one of these.
const NUMBER: u8 = 1;
const STRING: u8 = 2;
const PARAM: u8 = 3;

/// Collects eight bytes for each step of the hash.
struct Sink {
    hash: Hash,
    word: u64,
    bits: u32,
}

impl Sink {
    fn new(key: ShapeKey) -> Self {
        let mut hash = Hash::new(key);
        // The lexer's shapes begin otherwise, so no plain text has the shape of another.
        hash.mix(u64::MAX);
        Self {
            hash,
            word: 0,
            bits: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        self.word |= u64::from(byte) << self.bits;
        self.bits += 8;
        if self.bits == u64::BITS {
            self.hash.mix(self.word);
            self.word = 0;
            self.bits = 0;
        }
    }

    /// Ends a token.
    fn end(&mut self) {
        self.push(0);
    }

    /// Adds a token whose every byte counts.
    fn verbatim(&mut self, token: &[u8]) {
        token.iter().for_each(|byte| self.push(*byte));
        self.end();
    }

    /// Adds a token of one byte.
    fn token(&mut self, byte: u8) {
        self.push(byte);
        self.end();
    }

    fn finish(mut self) -> Shape {
        self.hash.mix(self.word);
        self.hash.mix(u64::from(self.bits));
        self.hash.finish()
    }
}

/// A name or a keyword.
fn name<'a>(rest: &'a [u8], sink: &mut Sink) -> Option<&'a [u8]> {
    let mut length = 0;
    for byte in rest {
        match folded(*byte) {
            0 => break,
            folded => sink.push(folded),
        }
        length += 1;
    }
    sink.end();
    let after = rest.get(length..)?;
    match after {
        // A string with a letter in front, or a name with escapes.
        [b'\'', ..] | [b'&', b'\'' | b'"', ..] => None,
        _ => Some(after),
    }
}

/// A run of operator characters, as it stands: how it is cut depends on nothing else.
fn operator<'a>(rest: &'a [u8], sink: &mut Sink) -> Option<&'a [u8]> {
    let (run, after) = split_at_first(rest, |byte| !is_operator(*byte));
    let opens_comment = run.windows(2).any(|pair| matches!(pair, b"--" | b"/*"));
    if run.is_empty() || opens_comment {
        return None;
    }
    sink.verbatim(run);
    Some(after)
}

/// What follows digits, with a point among them or not, if that is all the number.
fn number(rest: &[u8]) -> Option<&[u8]> {
    let mut after = digits(rest);
    if let [b'.', behind @ ..] = after {
        after = digits(behind);
        if after.len() == behind.len() {
            return None;
        }
    }
    match after.first() {
        Some(byte) if is_name_part(byte) || *byte == b'.' => None,
        _ => Some(after),
    }
}

/// What follows the closing quote; a doubled one does not close.
fn quoted(rest: &[u8], quote: u8) -> Option<&[u8]> {
    let mut inside = rest.get(1..)?;
    loop {
        let end = memchr::memchr2(quote, 0, inside)?;
        let after = inside.get(end..)?;
        match after {
            [0, ..] => return None,
            [_, second, ..] if *second == quote => inside = after.get(2..)?,
            _ => return after.get(1..),
        }
    }
}

fn word(rest: &[u8]) -> (&[u8], &[u8]) {
    split_at_first(rest, |byte| !is_name_part(byte))
}

fn digits(rest: &[u8]) -> &[u8] {
    split_at_first(rest, |byte| !byte.is_ascii_digit()).1
}

fn split_at_first(rest: &[u8], is_end: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    rest.split_at_checked(end).unwrap_or((rest, &[]))
}

fn is_name_part(byte: &u8) -> bool {
    folded(*byte) != 0
}

/// A byte of a name in lower case; 0 for what is in no name.
fn folded(byte: u8) -> u8 {
    FOLDED.get(usize::from(byte)).copied().unwrap_or_default()
}

const FOLDED: [u8; 256] = {
    let mut table = [0; 256];
    let parts = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$";
    let mut rest: &[u8] = parts;
    while let [byte, others @ ..] = rest {
        #[expect(
            clippy::as_conversions,
            clippy::indexing_slicing,
            reason = "a byte of 256"
        )]
        {
            table[*byte as usize] = byte.to_ascii_lowercase();
        }
        rest = others;
    }
    table
};

const fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'%'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::statement::cache::is_free_of_literals;
    use crate::statement::{Facts, Reading};

    fn of(text: &str) -> Option<Shape> {
        shape(ShapeKey([1, 2]), text.as_bytes())
    }

    #[test]
    fn literals_case_and_white_space_do_not_count() {
        let first = of("SELECT a.b FROM t WHERE id = 17 AND name='x' LIMIT $1");
        assert!(first.is_some());
        let same = "select A.B\nfrom T  where ID=9.5 and NAME = 'it''s -- /* \\' limit $2";
        assert_eq!(first, of(same));
    }

    #[test]
    fn each_token_counts() {
        let texts = [
            "SELECT f(1)",
            "SELECT f('1')",
            "SELECT f($1)",
            "SELECT f(1, 2)",
            "SELECT g(1)",
            "SELECT f",
            "SELECT \"f\"(1)",
            "SELECT \"F\"(1)",
            "SELECT \"f\"\"\"(1)",
            "SELECT ab, c",
            "SELECT a, bc",
            "SELECT a b",
            "SELECT ab",
            "SELECT a::b",
            "SELECT a:b",
            "SELECT a: :b",
            "SELECT a.b",
            "SELECT a<-b",
            "SELECT a< -b",
            "SELECT [a]",
        ];
        let shapes: std::collections::BTreeSet<_> = texts.iter().map(|text| of(text)).collect();
        assert!(!shapes.contains(&None));
        assert_eq!(shapes.len(), texts.len());
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_lexer() {
        for text in [
            "SELECT 1 -- a",
            "SELECT 1 /* a */",
            "SELECT e'a'",
            "SELECT u&'a'",
            "SELECT U&\"a\"",
            "SELECT $$a$$",
            "SELECT $a$b$a$",
            "SELECT 1e5",
            "SELECT .5",
            "SELECT 1.",
            "SELECT 1..2",
            "SELECT 1a",
            "SELECT $1a",
            "SELECT 'a",
            "SELECT \"a",
            "SELECT 'a\0'",
            "SELECT '\u{e4}'",
            "SELECT {a}",
            "SELECT a\\b",
            "SELECT :::a",
            "SET a = 1",
            "",
            "  ",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    /// Every line of the cases that has a shape, with all its literals changed, is what it was.
    #[test]
    fn equal_shapes_have_equal_facts() {
        let mut known = BTreeMap::new();
        let mut lines = 0;
        for (_, cases) in crate::statement::cases::FILES {
            for line in cases.lines() {
                let Some(shape) = of(line) else { continue };
                let facts = Facts::of(line.as_bytes(), Reading::STANDARD);
                if !facts.statements.iter().all(is_free_of_literals) {
                    continue;
                }
                lines += 1;
                let changed = line.replace(['1', '2'], "3");
                if of(&changed) == Some(shape) {
                    let other = Facts::of(changed.as_bytes(), Reading::STANDARD);
                    assert_eq!(facts, other, "{line}");
                }
                let first = known.entry(shape).or_insert_with(|| facts.clone());
                assert_eq!(*first, facts, "{line}");
            }
        }
        assert!(lines > 90, "{lines}");
    }
}
