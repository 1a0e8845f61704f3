//! Positions in the write-ahead log, and the distance between two of them.

use std::fmt;
use std::str::FromStr;

/// A position in the WAL of one timeline, in bytes since its beginning.
///
/// Two positions may be compared only when both are known to lie on the same timeline, or below
/// the point where their timelines parted.
///
/// Source: PostgreSQL 17, datatype-pg-lsn.html.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

/// A number of bytes, such as the distance between two positions.
///
/// `Display` spells it as PostgreSQL does, with 1 kB = 1024 B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

/// A text that is not a WAL position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a WAL position like 0/16B3740, got {0:?}")]
pub struct LsnError(String);

impl Lsn {
    /// The position before every record.
    pub const ZERO: Self = Self(0);

    /// The position that is `bytes` after the beginning of the WAL.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The distance from the beginning of the WAL, in bytes.
    pub const fn to_bytes(self) -> u64 {
        self.0
    }

    /// How far this position is behind `ahead`; zero when it is not behind.
    pub const fn behind(self, ahead: Self) -> ByteCount {
        ByteCount(ahead.0.saturating_sub(self.0))
    }

    /// The same position without the page header that an insert position may already include.
    ///
    /// When the last record ends exactly at the end of a page, the insert position points past the
    /// header of the next page (24 bytes, or 40 at the start of a segment) while the flushed and
    /// replayed positions stand at the boundary: an idle replica would never reach it.
    ///
    /// **Units**: `segment_bytes` is `wal_segment_size` in bytes.
    #[must_use]
    pub const fn without_page_header(self, segment_bytes: u64) -> Self {
        let in_segment = if segment_bytes == 0 {
            self.0
        } else {
            self.0 % segment_bytes
        };
        match (in_segment, self.0 % PAGE_BYTES) {
            (LONG_HEADER_BYTES, _) => Self(self.0.saturating_sub(LONG_HEADER_BYTES)),
            (_, SHORT_HEADER_BYTES) => Self(self.0.saturating_sub(SHORT_HEADER_BYTES)),
            _ => self,
        }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let error = || LsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(error)?;
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain
                .then(|| u32::from_str_radix(digits, 16).ok())
                .flatten()
                .ok_or_else(error)
        };
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 10 << 10 => write!(f, "{bytes} B"),
            bytes if bytes < 10 << 20 => write!(f, "{} kB", bytes >> 10),
            bytes if bytes < 10 << 30 => write!(f, "{} MB", bytes >> 20),
            bytes => write!(f, "{} GB", bytes >> 30),
        }
    }
}

/// `XLOG_BLCKSZ` of every build that we have met; a server built otherwise only loses the shortcut.
const PAGE_BYTES: u64 = 8192;
/// `SizeOfXLogShortPHD`. Source: PostgreSQL 17, `access/xlog_internal.h`.
const SHORT_HEADER_BYTES: u64 = 24;
/// `SizeOfXLogLongPHD`, the header of the first page of a segment.
const LONG_HEADER_BYTES: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_what_it_prints() {
        for text in ["0/0", "0/16B3740", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_position_is_refused() {
        for text in [
            "",
            "/",
            "0",
            "0/",
            "/0",
            "0/+1",
            "0/1/2",
            "100000000/0",
            "x/1",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_insert_position_past_a_page_header_is_rounded_to_the_boundary() {
        let segment = 16 << 20;
        let at = Lsn::from_bytes;
        assert_eq!(at(8192 * 5 + 24).without_page_header(segment), at(8192 * 5));
        assert_eq!(
            at(segment * 3 + 40).without_page_header(segment),
            at(segment * 3)
        );
        assert_eq!(
            at(8192 * 5 + 32).without_page_header(segment),
            at(8192 * 5 + 32)
        );
    }

    #[test]
    fn distance_never_goes_below_zero() {
        assert_eq!(Lsn::from_bytes(10).behind(Lsn::from_bytes(4)), ByteCount(0));
        assert_eq!(Lsn::from_bytes(4).behind(Lsn::from_bytes(10)), ByteCount(6));
    }
}
