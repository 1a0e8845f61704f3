//! What the shared listener heard and one session has not taken yet: bounded, so that a client that
//! does not read loses its own messages, is told so, and holds nobody up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::proxy::doorbell::{Doorbell, ring};
use crate::proxy::lock;
use crate::session::{Input, Missed};

/// The mailbox of one session.
#[derive(Debug)]
pub(in crate::proxy) struct Mailbox {
    mail: Mutex<Mail>,
    /// Whether there is mail: looked at with every message of a session that listens.
    is_full: AtomicBool,
    bell: Arc<Doorbell>,
}

#[derive(Debug, Default)]
struct Mail {
    letters: VecDeque<Letter>,
    bytes: usize,
    /// How many letters were taken.
    taken: u64,
    /// From which letter on what the session's connection notified is its own; `None` when it is not
    /// about to notify.
    own_from: Option<u64>,
    /// How many did not find room behind the letters.
    dropped: u64,
}

#[derive(Debug)]
enum Letter {
    Heard(Bytes),
    /// What came meanwhile is not known.
    Gap,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Kept,
    Dropped,
}

impl Mailbox {
    pub(super) fn new(bell: &Arc<Doorbell>) -> Self {
        Self {
            mail: Mutex::default(),
            is_full: AtomicBool::new(false),
            bell: Arc::clone(bell),
        }
    }

    /// Puts in a notification, unless more than `limit` bytes would wait. After one that was
    /// dropped all are, until the client has taken those before: it is told once, and in order.
    pub(super) fn put(&self, frame: &Bytes, limit: usize) -> Delivery {
        let mut mail = lock(&self.mail);
        let weight = frame.len() + LETTER_BYTES;
        let delivery = match mail.dropped == 0 && mail.bytes + weight <= limit {
            true => {
                mail.bytes += weight;
                mail.letters.push_back(Letter::Heard(frame.clone()));
                Delivery::Kept
            }
            false => {
                mail.dropped += 1;
                Delivery::Dropped
            }
        };
        drop(mail);
        self.announce();
        delivery
    }

    /// Something may be missing here.
    pub(super) fn put_gap(&self) {
        let mut mail = lock(&self.mail);
        if !matches!(mail.letters.back(), Some(Letter::Gap)) {
            mail.letters.push_back(Letter::Gap);
        }
        drop(mail);
        self.announce();
    }

    /// Whether nothing is there. What is put in meanwhile rings.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        !self.is_full.load(Ordering::Acquire)
    }

    /// The next letter.
    pub(in crate::proxy) fn take(&self) -> Option<Input> {
        let mut mail = lock(&self.mail);
        let letter = mail.letters.pop_front();
        let is_own = mail.own_from.is_some_and(|from| mail.taken >= from);
        mail.taken += u64::from(letter.is_some());
        let input = match letter {
            Some(Letter::Heard(frame)) => {
                mail.bytes = mail.bytes.saturating_sub(frame.len() + LETTER_BYTES);
                Some(match is_own {
                    true => Input::Echoed(frame),
                    false => Input::Notified(frame),
                })
            }
            Some(Letter::Gap) => Some(Input::Missed(Missed::Connection)),
            None if mail.dropped > 0 => {
                let count = std::mem::take(&mut mail.dropped);
                Some(Input::Missed(Missed::Overflow { count }))
            }
            None => None,
        };
        if mail.letters.is_empty() && mail.dropped == 0 {
            mail.letters = VecDeque::new();
            self.is_full.store(false, Ordering::Release);
        }
        input
    }

    /// What comes from here on may be the session's own.
    pub(in crate::proxy) fn begin_own(&self) {
        let mut mail = lock(&self.mail);
        let next = mail.taken + mail.letters.len() as u64;
        mail.own_from.get_or_insert(next);
    }

    /// What comes from here on is not.
    pub(in crate::proxy) fn end_own(&self) {
        lock(&self.mail).own_from = None;
    }

    fn announce(&self) {
        if !self.is_full.swap(true, Ordering::AcqRel) {
            self.bell.ring(ring::MAIL);
        }
    }
}

/// What a letter costs beside its bytes.
const LETTER_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn mailbox() -> Mailbox {
        Mailbox::new(&Arc::default())
    }

    /// What is taken, in words.
    fn take_all(mailbox: &Mailbox) -> Vec<String> {
        std::iter::from_fn(|| mailbox.take())
            .map(|input| match input {
                Input::Notified(frame) => String::from_utf8_lossy(&frame).into_owned(),
                Input::Echoed(frame) => format!("own {}", String::from_utf8_lossy(&frame)),
                Input::Missed(missed) => format!("{missed:?}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn letters_come_out_in_order_and_then_there_is_none() {
        let mailbox = mailbox();
        assert!(mailbox.is_empty());
        mailbox.put(&heard("a"), 1000);
        mailbox.put(&heard("b"), 1000);
        assert!(!mailbox.is_empty());
        assert_eq!(take_all(&mailbox), ["a", "b"]);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_behind_what_did() {
        let mailbox = mailbox();
        let limit = LETTER_BYTES + 1;
        assert_eq!(mailbox.put(&heard("a"), limit), Delivery::Kept);
        assert_eq!(mailbox.put(&heard("b"), limit), Delivery::Dropped);
        assert!(mailbox.take().is_some());
        // There is room again, but the client was not told of the gap yet.
        assert_eq!(mailbox.put(&heard("c"), limit), Delivery::Dropped);
        assert_eq!(take_all(&mailbox), ["Overflow { count: 2 }"]);
        assert_eq!(mailbox.put(&heard("d"), limit), Delivery::Kept);
        assert_eq!(take_all(&mailbox), ["d"]);
    }

    #[test]
    fn what_may_be_the_sessions_own_is_told_apart_from_what_came_before() {
        let mailbox = mailbox();
        mailbox.put(&heard("a"), 1000);
        mailbox.put(&heard("b"), 1000);
        mailbox.take();
        mailbox.begin_own();
        mailbox.put(&heard("c"), 1000);
        // Twice in one transaction: it began with the first.
        mailbox.begin_own();
        mailbox.put(&heard("d"), 1000);
        assert_eq!(take_all(&mailbox), ["b", "own c", "own d"]);
        mailbox.end_own();
        mailbox.put(&heard("e"), 1000);
        assert_eq!(take_all(&mailbox), ["e"]);
    }

    #[test]
    fn gaps_one_behind_the_other_are_one() {
        let mailbox = mailbox();
        mailbox.put(&heard("a"), 1000);
        mailbox.put_gap();
        mailbox.put_gap();
        mailbox.put(&heard("b"), 1000);
        assert_eq!(take_all(&mailbox), ["a", "Connection", "b"]);
    }
}
