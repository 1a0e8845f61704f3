//! The hash of a shape: two folded multiplications with keys of their own, eight bytes at a time.

use super::{Shape, ShapeKey};

/// Whether the case of letters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
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

/// A shape in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash {
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
    pub(super) fn new(key: ShapeKey) -> Self {
        let ShapeKey([first, second]) = key;
        let [a, b, ..] = PI;
        Self {
            a: a ^ first,
            b: b ^ second,
            key,
        }
    }

    /// Adds a token.
    pub(super) fn add(&mut self, kind: u8, bytes: &[u8], case: Case) {
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

    /// Adds eight bytes.
    pub(super) fn mix(&mut self, word: u64) {
        let ShapeKey([first, second]) = self.key;
        let [_, _, c, d] = PI;
        self.a = fold(self.a ^ word, c ^ first).wrapping_add(self.b.rotate_left(23));
        self.b = fold(self.b ^ word.rotate_left(32), d ^ second) ^ self.a.rotate_left(41);
    }

    /// The shape of what was added.
    pub(super) fn finish(mut self) -> Shape {
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

    #[test]
    fn each_byte_is_folded_by_itself() {
        for byte in 0..=u8::MAX {
            let word = u64::from_le_bytes([byte, b'Z', 0xFF, byte, b'@', b'[', b'A', byte]);
            let folded = to_lower(word).to_le_bytes();
            let lower = word.to_le_bytes().map(|byte| byte.to_ascii_lowercase());
            assert_eq!(folded, lower);
        }
    }
}
