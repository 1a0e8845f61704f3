//! How much a set of counters grew in the last minute, from a few remembered samples.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Samples of a list of counters, the oldest about a minute old.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: Mutex<VecDeque<(Instant, Vec<u64>)>>,
}

/// What "1m" means.
const WINDOW: Duration = Duration::from_secs(60);
/// Samples closer to each other than this are not kept, so that the list stays short.
const SPACING: Duration = Duration::from_secs(1);

impl Rates {
    /// Remembers the counters as they are now.
    pub(super) fn sample(&self, now: Instant, counters: Vec<u64>) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples
            .back()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) < SPACING)
        {
            return;
        }
        samples.push_back((now, counters));
        // The second oldest is old enough: then the oldest is not needed.
        while samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            samples.pop_front();
        }
    }

    /// How much each counter grew since the oldest sample of the last minute.
    pub(super) fn growth(&self, mut counters: Vec<u64>) -> Vec<u64> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = samples.front() {
            for (counter, before) in counters.iter_mut().zip(before) {
                *counter = counter.saturating_sub(*before);
            }
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_from_a_minute_ago() {
        let rates = Rates::default();
        let start = Instant::now();
        for second in 0..=100_u64 {
            rates.sample(start + Duration::from_secs(second), vec![second * 10]);
        }
        assert_eq!(rates.growth(vec![1_000]), vec![600]);
    }

    #[test]
    fn without_samples_everything_is_recent() {
        assert_eq!(Rates::default().growth(vec![7]), vec![7]);
    }
}
