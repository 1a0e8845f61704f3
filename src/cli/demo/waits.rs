//! How long clients waited: a histogram whose buckets double, and its picture.

use std::io::{self, Write};
use std::time::Duration;

/// Durations by power of two.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    /// What is not longer than 0.25 ms, 0.5 ms, 1 ms and so on; the last one takes all the rest.
    counts: [u64; BUCKETS],
    longest: Duration,
}

impl Waits {
    pub(super) fn add(&mut self, wait: Duration) {
        let steps = wait.as_micros().div_ceil(FIRST.as_micros()).max(1);
        let place = steps.next_power_of_two().trailing_zeros() as usize;
        if let Some(count) = self.counts.get_mut(place.min(BUCKETS - 1)) {
            *count += 1;
        }
        self.longest = self.longest.max(wait);
    }

    /// One line for each bucket between the first and the last that hold anything.
    pub(super) fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let filled = |count: &u64| *count > 0;
        let Some(first) = self.counts.iter().position(filled) else {
            return writeln!(out, "      nobody asked for anything");
        };
        let last = self.counts.iter().rposition(filled).unwrap_or(first);
        let rows = self.counts.iter().enumerate();
        for (place, count) in rows.take(last + 1).skip(first) {
            writeln!(
                out,
                "    {} {count:>8}  {}",
                label(place),
                bar(*count, most)
            )?;
        }
        writeln!(out, "    longest {}", milliseconds(self.longest))
    }
}

/// As long as its share of the longest; whatever is there at all is seen.
fn bar(count: u64, most: u64) -> String {
    let cells = (count * WIDTH).div_ceil(most.max(1));
    (0..cells).map(|_| '█').collect()
}

fn label(place: usize) -> String {
    let bound = |place: usize| {
        let factor = 1_u32.checked_shl(u32::try_from(place).unwrap_or(u32::MAX));
        milliseconds(FIRST.saturating_mul(factor.unwrap_or(u32::MAX)))
    };
    match place {
        last if last + 1 >= BUCKETS => format!("> {:>9}", bound(BUCKETS - 2)),
        place => format!("≤ {:>9}", bound(place)),
    }
}

/// A duration for people: `0.25 ms`, `812 ms`, `2.31 s`.
pub(super) fn milliseconds(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 2.0 {
        format!("{millis:.2} ms")
    } else if millis < 2_000.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.2} s", millis / 1e3)
    }
}

const FIRST: Duration = Duration::from_micros(250);
const BUCKETS: usize = 17;
const WIDTH: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(waits: &[Duration]) -> String {
        let mut histogram = Waits::default();
        waits.iter().for_each(|wait| histogram.add(*wait));
        let mut out = Vec::new();
        histogram.draw(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_wait_is_drawn_beside_the_first_bound_that_holds_it() {
        let waits = [250, 251, 500, 501].map(Duration::from_micros);
        let drawn = picture(&waits);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(
            lines[0].starts_with("    ≤   0.25 ms        1  █"),
            "{drawn}"
        );
        assert!(
            lines[1].starts_with("    ≤   0.50 ms        2  █"),
            "{drawn}"
        );
        assert!(
            lines[2].starts_with("    ≤   1.00 ms        1  █"),
            "{drawn}"
        );
        assert_eq!(lines[3], "    longest 0.50 ms");
    }

    #[test]
    fn one_wait_among_a_million_is_still_seen() {
        assert_eq!(bar(1, 1_000_000), "█");
        assert_eq!(bar(0, 1_000_000), "");
        assert_eq!(bar(7, 7).chars().count(), 40);
    }

    #[test]
    fn a_wait_longer_than_all_bounds_is_in_the_last_row() {
        assert!(picture(&[Duration::from_secs(3600)]).starts_with("    >    8.19 s        1"));
    }
}
