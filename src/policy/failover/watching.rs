//! A replica that refuses to be cut off from its primary is watched instead: it has to be seen
//! without a receiver several times in a row.
//!
//! That says nothing of what comes. A receiver tries again every few seconds, and finds a primary
//! that only stood still the moment that it goes on. So it is enough for the one that is promoted,
//! which ends its receiver itself; for another, nobody may be left where the primary was.

use std::time::{Duration, Instant};

use crate::cluster::{DownReason, ServerId};
use crate::policy::facts::{Member, Stream, World};
use crate::policy::health::Verdict;

/// What was seen of such a replica since it refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Looks that were asked before this one do not count.
    last: Instant,
    /// The looks in a row that found no receiver.
    looks: u32,
    /// When the first of them was asked.
    first: Option<Instant>,
    /// When the next is to be asked for.
    next: Instant,
}

impl Watch {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            looks: 0,
            first: None,
            next: now,
        }
    }

    /// Takes the last answer in, if it is a new one.
    pub(super) fn look(&mut self, member: &Member) {
        let Some(asked_at) = member.asked_at.filter(|asked_at| *asked_at > self.last) else {
            return;
        };
        self.last = asked_at;
        match member.stream {
            Stream::Gone => {
                self.looks = self.looks.saturating_add(1);
                self.first.get_or_insert(asked_at);
            }
            Stream::Connected { .. } => {
                self.looks = 0;
                self.first = None;
            }
        }
    }

    /// Whether it is time for another look; the caller has it taken.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + LOOK_EVERY;
        }
        due
    }

    /// Whether it has been without a receiver for so long, and is now.
    pub(super) fn is_without_receiver(&self, now: Instant) -> bool {
        let lasted = self
            .first
            .is_some_and(|first| self.last.saturating_duration_since(first) >= LOOKS_LAST);
        self.looks >= LOOKS_MIN && lasted && is_fresh(self.last, now)
    }
}

/// Whether nothing listens where the primary was. It refused a connection a moment ago, so it needs
/// longer to be back than an order to promote takes.
pub(super) fn has_ended(world: &World<'_>, primary: ServerId, now: Instant) -> bool {
    world.member(primary).is_some_and(|member| {
        member.verdict == Verdict::Dead(DownReason::Refused)
            && member.failed_at.is_some_and(|asked| is_fresh(asked, now))
    })
}

fn is_fresh(asked_at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(asked_at) <= FRESH
}

/// How many looks in a row have to find no receiver.
const LOOKS_MIN: u32 = 3;
/// And how long from the first to the last of them.
const LOOKS_LAST: Duration = Duration::from_millis(500);
/// How often such a replica, and the primary, are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How old the last look may be.
const FRESH: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Role;
    use crate::policy::facts::Admission;

    /// What is seen after so many milliseconds: `-` no receiver, `+` one that is connected.
    fn watched(looks: &[(u64, char)], now: u64) -> bool {
        let zero = crate::clock::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut watch = Watch::new(zero);
        for (ms, what) in looks {
            watch.look(&Member {
                id: ServerId(1),
                address: "pg2".parse().unwrap(),
                admission: Admission::Candidate,
                verdict: Verdict::Alive,
                failures: 0,
                role: Role::Replica,
                times_primary: 0,
                system_id: None,
                timeline: None,
                furthest: None,
                replay_paused: false,
                failing_since: None,
                failed_at: None,
                stream: match what {
                    '-' => Stream::Gone,
                    _ => Stream::Connected {
                        progress_at: at(*ms),
                        sender: None,
                        timeline: None,
                    },
                },
                asked_at: Some(at(*ms)),
            });
        }
        watch.is_without_receiver(at(now))
    }

    #[test]
    fn it_takes_several_looks_over_a_while() {
        assert!(watched(&[(1, '-'), (250, '-'), (501, '-')], 510));
        assert!(!watched(&[(1, '-'), (501, '-')], 510), "two");
        assert!(!watched(&[(1, '-'), (2, '-'), (400, '-')], 410), "too soon");
        assert!(!watched(&[], 510), "none");
    }

    #[test]
    fn one_that_found_its_primary_in_between_begins_anew() {
        let looks = [(1, '-'), (250, '-'), (400, '+'), (501, '-'), (600, '-')];
        assert!(!watched(&looks, 610));
        let looks = [&looks[..], &[(900, '-'), (1001, '-')]].concat();
        assert!(watched(&looks, 1010));
    }

    #[test]
    fn one_answer_is_one_look_however_often_it_is_read() {
        assert!(!watched(&[(501, '-'), (501, '-'), (501, '-')], 510));
    }

    #[test]
    fn what_was_asked_before_it_refused_does_not_count() {
        assert!(!watched(&[(0, '-'), (250, '-'), (501, '-')], 510));
    }

    #[test]
    fn a_look_gets_old() {
        let looks = [(1, '-'), (250, '-'), (501, '-')];
        assert!(watched(&looks, 751));
        assert!(!watched(&looks, 752));
    }
}
