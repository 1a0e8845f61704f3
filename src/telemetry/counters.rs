//! Counters in arrays of atomics: the place of each is arithmetic on enum numbers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A fixed table of counters with `columns` places in each row.
#[derive(Debug)]
pub(super) struct CounterTable {
    columns: usize,
    cells: Box<[AtomicU64]>,
}

impl CounterTable {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let cells = (0..rows * columns).map(|_| AtomicU64::new(0)).collect();
        Self { columns, cells }
    }

    /// Adds one. A place outside the table is nobody's, and is not counted.
    pub(super) fn increment(&self, row: usize, column: usize) {
        if column < self.columns
            && let Some(cell) = self.cells.get(row * self.columns + column)
        {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn value(&self, row: usize, column: usize) -> u64 {
        self.cells
            .get(row * self.columns + column)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// All values, row after row.
    pub(super) fn values(&self) -> Vec<u64> {
        self.cells
            .iter()
            .map(|cell| cell.load(Ordering::Relaxed))
            .collect()
    }
}

/// Numbers for codes that other modules own: the first time a code is seen it gets a place, and
/// keeps it. Without a lock; when all places are taken the rest shares the last one.
#[derive(Debug)]
pub(super) struct CodeNumbers {
    codes: [OnceLock<&'static str>; CODES_MAX],
}

/// More than any of the lists in this program has.
const CODES_MAX: usize = 32;

/// The code of what did not fit.
const OTHER: &str = "other";

impl CodeNumbers {
    pub(super) fn new() -> Self {
        Self {
            codes: [const { OnceLock::new() }; CODES_MAX],
        }
    }

    pub(super) fn number(&self, code: &'static str) -> u8 {
        let place = self
            .codes
            .iter()
            .take(CODES_MAX - 1)
            .position(|slot| *slot.get_or_init(|| code) == code)
            .unwrap_or(CODES_MAX - 1);
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    pub(super) fn code(&self, number: u8) -> &'static str {
        self.codes
            .get(usize::from(number))
            .and_then(|slot| slot.get().copied())
            .unwrap_or(OTHER)
    }
}

/// Counts by the class of an SQLSTATE: its first two characters, digits or capital letters.
#[derive(Debug)]
pub(super) struct ClassCounters {
    table: CounterTable,
}

impl ClassCounters {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            table: CounterTable::new(rows, DIGITS.len() * DIGITS.len()),
        }
    }

    pub(super) fn increment(&self, row: usize, sqlstate: &str) {
        let digit = |place: usize| {
            let byte = sqlstate.as_bytes().get(place)?;
            DIGITS.iter().position(|digit| digit == byte)
        };
        // What is no SQLSTATE is an internal error's class, as PostgreSQL itself does.
        let (high, low) = match (digit(0), digit(1)) {
            (Some(high), Some(low)) => (high, low),
            _ => (X_DIGIT, X_DIGIT),
        };
        self.table.increment(row, high * DIGITS.len() + low);
    }

    /// Each class that was counted at least once, with its count.
    pub(super) fn counted(&self, row: usize) -> impl Iterator<Item = (String, u64)> {
        let classes = DIGITS
            .iter()
            .flat_map(|high| DIGITS.iter().map(move |low| (*high, *low)));
        classes
            .enumerate()
            .map(move |(place, class)| (class, self.table.value(row, place)))
            .filter(|(_, count)| *count > 0)
            .map(|((high, low), count)| {
                ([char::from(high), char::from(low)].iter().collect(), count)
            })
    }
}

const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// The place of `X` in [`DIGITS`].
const X_DIGIT: usize = 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_outside_the_table_counts_nothing() {
        let table = CounterTable::new(2, 3);
        table.increment(0, 3);
        table.increment(2, 0);
        assert_eq!(table.values(), vec![0; 6]);
        table.increment(1, 2);
        assert_eq!(table.value(1, 2), 1);
    }

    #[test]
    fn a_code_keeps_its_number() {
        let numbers = CodeNumbers::new();
        let listen = numbers.number("listen");
        let temp = numbers.number("temp_table");
        assert_ne!(listen, temp);
        assert_eq!(numbers.number("listen"), listen);
        assert_eq!(numbers.code(temp), "temp_table");
    }

    #[test]
    fn codes_that_do_not_fit_share_the_last_place() {
        let numbers = CodeNumbers::new();
        for number in 0..100_u32 {
            numbers.number(String::leak(format!("code{number}")));
        }
        assert_eq!(numbers.code(numbers.number("one more")), "other");
    }

    #[test]
    fn errors_are_counted_by_the_class_of_their_sqlstate() {
        let errors = ClassCounters::new(1);
        for sqlstate in ["42P01", "42601", "XX000", "", "é"] {
            errors.increment(0, sqlstate);
        }
        let counted: Vec<_> = errors.counted(0).collect();
        assert_eq!(counted, vec![("42".to_owned(), 2), ("XX".to_owned(), 3)]);
    }
}
