//! One moment on both clocks, and times as people read them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The two clocks read together, so that an [`Instant`] can be shown as a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub now: Instant,
    /// The wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// The time of day of an instant; the moment itself for one that is still to come.
    pub fn wall_of(&self, instant: Instant) -> SystemTime {
        self.wall
            .checked_sub(self.age(instant))
            .unwrap_or(UNIX_EPOCH)
    }

    /// How long ago an instant was; zero for one that is still to come.
    pub fn age(&self, instant: Instant) -> Duration {
        self.now.saturating_duration_since(instant)
    }
}

/// A time as RFC 3339 writes it, in UTC with milliseconds: `2026-11-22T23:10:44.123Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since_epoch.as_secs() / SECONDS_PER_DAY);
    let (hour, minute, second) = clock(since_epoch.as_secs());
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// A time as PgBouncer's console writes it: `2026-11-22 23:10:44 UTC`.
pub fn utc(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (year, month, day) = civil(seconds / SECONDS_PER_DAY);
    let (hour, minute, second) = clock(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

const fn clock(seconds: u64) -> (u64, u64, u64) {
    let seconds = seconds % SECONDS_PER_DAY;
    (seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day of a number of days since 1970.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`; only
/// for days after the epoch, which spares the signed arithmetic.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_EPOCH;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01, where the algorithm's years begin, to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;
/// Days of 400 years.
const DAYS_PER_ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(at(951_782_400)), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(at(1_735_689_599)), "2024-12-31 23:59:59 UTC");
        assert_eq!(utc(at(4_107_542_400)), "2100-03-01 00:00:00 UTC");
        let time = at(1_795_389_044) + Duration::from_millis(123);
        assert_eq!(rfc3339(time), "2026-11-22T23:10:44.123Z");
    }

    #[test]
    fn an_instant_is_shown_at_its_time_of_day() {
        let start = Instant::now();
        let moment = Moment {
            now: start + Duration::from_secs(5),
            wall: at(100),
        };
        assert_eq!(moment.wall_of(start), at(95));
        assert_eq!(moment.wall_of(start + Duration::from_secs(9)), at(100));
    }
}
