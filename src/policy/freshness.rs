//! How old the data of a replica is at most, and when it is too old to be read.
//!
//! Every probe of the primary brings a pair: the router's clock before the question, and the
//! flushed position in the answer. A replica that has replayed that position has everything that
//! was durable before that instant. So its age is at most `now` minus the newest such instant: an
//! upper bound, without a write, without the servers' clocks, and right for an idle cluster.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::LagRules;
use crate::cluster::{Lag, Lsn, OutReason, ServerState};

/// The primary's positions over time, on one timeline.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    asked_at: Instant,
    flushed: Lsn,
}

impl History {
    /// Adds what the primary said when it was asked at `asked_at`.
    ///
    /// A position below the last one means another history: everything before it is forgotten.
    pub fn record(&mut self, asked_at: Instant, flushed: Lsn) {
        match self.samples.back_mut() {
            Some(last) if asked_at < last.asked_at => return,
            // The newest instant of an equal position is the tightest bound.
            Some(last) if flushed == last.flushed => {
                last.asked_at = asked_at;
                return;
            }
            Some(last) if flushed < last.flushed => self.samples.clear(),
            Some(_) | None => {}
        }
        self.samples.push_back(Sample { asked_at, flushed });
        if self.samples.len() > SAMPLES_MAX {
            self.thin(asked_at);
        }
    }

    /// An upper bound of the age of a replica that has replayed up to `replayed`; `None` when no
    /// sample is that old.
    pub fn staleness(&self, replayed: Lsn, now: Instant) -> Option<Duration> {
        let covered = self
            .samples
            .partition_point(|sample| sample.flushed <= replayed);
        let sample = self.samples.get(covered.checked_sub(1)?)?;
        Some(now.saturating_duration_since(sample.asked_at))
    }

    /// The newest position, with the instant before which it was asked.
    pub fn latest(&self) -> Option<(Instant, Lsn)> {
        self.samples
            .back()
            .map(|sample| (sample.asked_at, sample.flushed))
    }

    /// Forgets everything: another timeline begins.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// Fewer samples make the bound looser, never wrong. What is older than a minute is kept by
    /// the second, what is older than an hour by the minute; what is left over goes oldest first.
    fn thin(&mut self, now: Instant) {
        let mut kept: Option<Instant> = None;
        self.samples.retain(|sample| {
            let age = now.saturating_duration_since(sample.asked_at);
            let step = match age {
                age if age < FINE => Duration::ZERO,
                age if age < COARSE => Duration::from_secs(1),
                _ => Duration::from_secs(60),
            };
            let far = kept.is_none_or(|kept| sample.asked_at.duration_since(kept) >= step);
            if far {
                kept = Some(sample.asked_at);
            }
            far
        });
        let excess = self.samples.len().saturating_sub(SAMPLES_MAX * 3 / 4);
        self.samples.drain(..excess);
    }
}

/// What is known of a replica when it is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Its WAL receiver streams, or the primary is in doubt and so nobody can stream.
    pub stream: Streaming,
    /// It is on the primary's timeline.
    pub right_timeline: bool,
    /// How far it is behind; `None` when that cannot be told.
    pub lag: Option<Lag>,
}

/// Whether a replica's WAL receiver streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It does not, and cannot: the primary itself is in doubt.
    Excused,
}

/// The hysteresis of one replica: out at once, back after a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    state: Gated,
    not_streaming_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Gated {
    /// Never judged: it may serve at once, so that a start is fast.
    #[default]
    New,
    In,
    Out,
    Returning(Instant),
}

impl Gate {
    /// Judges the replica at `now`.
    pub fn step(&mut self, now: Instant, reading: &Reading, rules: &LagRules) -> ServerState {
        if let Some(reason) = self.over(now, reading, rules) {
            // What was not known at first sight is no offence.
            let unknown = matches!(self.state, Gated::New) && reason == OutReason::LagUnknown;
            if !unknown {
                self.state = Gated::Out;
            }
            return ServerState::Out(reason);
        }
        let since = match self.state {
            Gated::New | Gated::In => {
                self.state = Gated::In;
                return ServerState::Serving;
            }
            Gated::Out => now,
            Gated::Returning(since) => since,
        };
        self.come_back(now, since, reading, rules)
    }

    fn come_back(
        &mut self,
        now: Instant,
        since: Instant,
        reading: &Reading,
        rules: &LagRules,
    ) -> ServerState {
        let below = reading
            .lag
            .is_some_and(|lag| lag.time <= rules.back_time && lag.bytes <= rules.back_bytes);
        let since = if below { since } else { now };
        if now.saturating_duration_since(since) >= rules.back_for && below {
            self.state = Gated::In;
            return ServerState::Serving;
        }
        self.state = Gated::Returning(since);
        ServerState::Out(OutReason::ComingBack {
            at: since + rules.back_for,
        })
    }

    /// Why the replica must not serve, if it must not.
    fn over(&mut self, now: Instant, reading: &Reading, rules: &LagRules) -> Option<OutReason> {
        if !reading.right_timeline {
            return Some(OutReason::WrongTimeline);
        }
        if rules.require_streaming && self.lost_stream(now, reading.stream) {
            return Some(OutReason::NotStreaming);
        }
        let Some(lag) = reading.lag else {
            return Some(OutReason::LagUnknown);
        };
        if lag.time > rules.max_time {
            return Some(OutReason::LagTime {
                lag: lag.time,
                limit: rules.max_time,
            });
        }
        (lag.bytes > rules.max_bytes).then_some(OutReason::LagBytes {
            lag: lag.bytes,
            limit: rules.max_bytes,
        })
    }

    /// A replica that serves keeps its place for a moment without a stream: when the primary dies
    /// its replicas notice first, and reads should go on there. The lag bounds hold all the while.
    fn lost_stream(&mut self, now: Instant, stream: Streaming) -> bool {
        match stream {
            Streaming::Yes => {
                self.not_streaming_since = None;
                false
            }
            Streaming::Excused => {
                self.not_streaming_since = None;
                matches!(self.state, Gated::Out | Gated::Returning(_))
            }
            Streaming::No => {
                let since = *self.not_streaming_since.get_or_insert(now);
                let grace = match self.state {
                    Gated::In => STREAM_GRACE,
                    Gated::New | Gated::Out | Gated::Returning(_) => Duration::ZERO,
                };
                now.saturating_duration_since(since) >= grace
            }
        }
    }
}

/// Three minutes at ten a second, 32 kB.
const SAMPLES_MAX: usize = 2048;
/// Samples younger than this are all kept.
const FINE: Duration = Duration::from_secs(60);
/// Samples older than this are kept by the minute.
const COARSE: Duration = Duration::from_secs(3600);
/// The time in which our own probe of a dead primary fails, with a margin.
const STREAM_GRACE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays one line; returns what was found where the line expects something.
    fn play(history: &mut History, gate: &mut Gate, zero: Instant, line: &str) -> Option<String> {
        let left = line.split(" = ").next().unwrap_or(line);
        let words: Vec<_> = left.split(' ').collect();
        let at = zero + Duration::from_millis(words[0].parse().expect(line));
        let position: Lsn = words[2].parse().expect(line);
        if words[1] == "primary" {
            history.record(at, position);
            return None;
        }
        let flag = words.get(3).copied().unwrap_or("");
        let newest = history.latest().map_or(position, |(_, newest)| newest);
        let reading = Reading {
            stream: match flag {
                "no_stream" => Streaming::No,
                "excused" => Streaming::Excused,
                _ => Streaming::Yes,
            },
            right_timeline: flag != "other_timeline",
            lag: history.staleness(position, at).map(|time| Lag {
                time,
                bytes: position.behind(newest),
            }),
        };
        let state = gate.step(at, &reading, &LagRules::default());
        let words = format!("{} {}", state.as_str(), state.reason());
        Some(words.trim_end().to_owned())
    }

    #[test]
    fn replicas_are_judged_as_the_cases_say() {
        let zero = crate::clock::now();
        let (mut history, mut gate) = (History::default(), Gate::default());
        let mut cases = 0;
        for line in include_str!("testdata/freshness.txt").lines() {
            if line.is_empty() {
                (history, gate) = (History::default(), Gate::default());
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let found = play(&mut history, &mut gate, zero, line);
            let expected = line
                .split_once(" = ")
                .map(|(_, expected)| expected.to_owned());
            assert_eq!(found, expected, "{line}");
            cases += 1;
        }
        assert!(cases > 40);
    }

    #[test]
    fn thinning_loosens_the_bound_and_never_tightens_it() {
        let zero = crate::clock::now();
        let mut history = History::default();
        let mut exact = Vec::new();
        // Ten samples a second for two hours.
        for step in 0..72_000_u64 {
            let at = zero + Duration::from_millis(step * 100);
            let flushed = Lsn::from_bytes(step * 10);
            history.record(at, flushed);
            exact.push((at, flushed));
        }
        assert!(history.samples.len() <= SAMPLES_MAX);
        let (now, _) = exact[exact.len() - 1];
        for (at, flushed) in exact.iter().step_by(97) {
            let truth = now.duration_since(*at);
            if let Some(bound) = history.staleness(*flushed, now) {
                assert!(bound >= truth, "{bound:?} is below {truth:?}");
                let step = if truth < FINE { 0 } else { 61 };
                assert!(
                    bound <= truth + Duration::from_secs(step),
                    "{bound:?} {truth:?}"
                );
            }
        }
        let minute = exact[exact.len() - 600];
        assert_eq!(
            history.staleness(minute.1, now),
            Some(now.duration_since(minute.0))
        );
    }

    #[test]
    fn a_position_that_goes_back_is_another_history() {
        let zero = crate::clock::now();
        let mut history = History::default();
        history.record(zero, Lsn::from_bytes(100));
        history.record(zero + Duration::from_secs(1), Lsn::from_bytes(50));
        assert_eq!(history.staleness(Lsn::from_bytes(49), zero), None);
    }
}
