//! What is known of the verifiers of clients: bounded, and with an age for each.
//!
//! Pure: the caller says what time it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The verifiers that were looked up, by user.
#[derive(Debug, Default)]
pub(super) struct Verifiers {
    known: BTreeMap<String, Known>,
}

/// One answer.
#[derive(Clone)]
pub(super) struct Known {
    /// `None`: there is no such user, or it has no password.
    pub(super) verifier: Option<String>,
    at: Instant,
    /// A client's proof did not fit it: the password may have been changed.
    doubted: bool,
}

/// Not the verifier itself.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("exists", &self.verifier.is_some())
            .field("at", &self.at)
            .field("doubted", &self.doubted)
            .finish()
    }
}

impl Known {
    fn is_younger_than(&self, age: Duration, now: Instant) -> bool {
        let limit = match self.verifier {
            Some(_) => age,
            None => age.min(UNKNOWN_TTL),
        };
        now.saturating_duration_since(self.at) <= limit
    }
}

impl Verifiers {
    /// The answer for a user, when it need not be asked for: it is no older than `age` and was not
    /// doubted. A doubted one is good for [`ASK_AGAIN_AFTER`] all the same, so that guessing
    /// passwords does not become a load on the servers.
    pub(super) fn find(&self, user: &str, now: Instant, age: Duration) -> Option<Known> {
        let known = self.known.get(user)?;
        let age = match known.doubted {
            true => age.min(ASK_AGAIN_AFTER),
            false => age,
        };
        known.is_younger_than(age, now).then(|| known.clone())
    }

    /// The answer for a user while nobody can be asked: a doubt does not matter then, or guessing
    /// passwords would lock a user out.
    pub(super) fn find_stale(&self, user: &str, now: Instant, age: Duration) -> Option<Known> {
        let known = self.known.get(user)?;
        known.is_younger_than(age, now).then(|| known.clone())
    }

    /// Remembers an answer. Beyond `limit` entries the oldest goes, unknown users first: a flood of
    /// names that do not exist displaces nobody who does.
    pub(super) fn insert(
        &mut self,
        user: &str,
        verifier: Option<String>,
        now: Instant,
        limit: usize,
    ) {
        if !self.known.contains_key(user) && self.known.len() >= limit {
            let oldest = self
                .known
                .iter()
                .min_by_key(|(_, known)| (known.verifier.is_some(), known.at))
                .map(|(user, _)| user.clone());
            if let Some(oldest) = oldest {
                self.known.remove(&oldest);
            }
        }
        let known = Known {
            verifier,
            at: now,
            doubted: false,
        };
        self.known.insert(user.to_owned(), known);
    }

    /// A client's proof did not fit what is known of a user.
    pub(super) fn doubt(&mut self, user: &str) {
        if let Some(known) = self.known.get_mut(user) {
            known.doubted = true;
        }
    }

    /// A server refused what is known of a user: it is wrong.
    pub(super) fn forget(&mut self, user: &str) {
        self.known.remove(user);
    }
}

/// How long it is remembered that a user does not exist: a role that was just created should soon
/// be able to log in.
const UNKNOWN_TTL: Duration = Duration::from_secs(2);
/// A user that fails to prove who it is is asked for once in this time.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_unknown_user_is_remembered_for_a_shorter_time() {
        let mut verifiers = Verifiers::default();
        let start = clock::now();
        verifiers.insert("alice", Some("v".into()), start, 9);
        verifiers.insert("nobody", None, start, 9);
        let find = |user, after| {
            let known = verifiers.find(user, start + after, 10 * SECOND)?;
            Some(known.verifier.unwrap_or_default())
        };
        assert_eq!(find("alice", 9 * SECOND), Some("v".into()));
        assert_eq!(find("alice", 11 * SECOND), None);
        assert_eq!(find("nobody", 2 * SECOND), Some(String::new()));
        assert_eq!(find("nobody", 3 * SECOND), None);
    }

    #[test]
    fn a_flood_of_unknown_names_displaces_no_known_user() {
        let mut verifiers = Verifiers::default();
        let start = clock::now();
        verifiers.insert("alice", Some("v".into()), start, 3);
        for number in 0..100_u32 {
            verifiers.insert(&number.to_string(), None, start + SECOND * number, 3);
        }
        assert_eq!(verifiers.known.len(), 3);
        assert!(verifiers.known.contains_key("alice"));
    }

    #[test]
    fn a_doubted_answer_is_asked_for_again_but_not_more_than_once_a_second() {
        let mut verifiers = Verifiers::default();
        let start = clock::now();
        verifiers.insert("alice", Some("v".into()), start, 3);
        verifiers.doubt("alice");
        let is_good = |verifiers: &Verifiers, after| {
            let known = verifiers.find("alice", start + after, 60 * SECOND);
            known.is_some()
        };
        assert!(is_good(&verifiers, SECOND));
        assert!(!is_good(&verifiers, SECOND * 3 / 2));
        verifiers.insert("alice", Some("w".into()), start + 2 * SECOND, 3);
        assert!(is_good(&verifiers, 30 * SECOND), "asked for anew");
    }

    #[test]
    fn a_doubted_answer_is_good_while_nobody_can_be_asked_and_a_refused_one_is_not() {
        let mut verifiers = Verifiers::default();
        let start = clock::now();
        verifiers.insert("alice", Some("v".into()), start, 3);
        verifiers.doubt("alice");
        let later = start + 600 * SECOND;
        assert!(verifiers.find("alice", later, 60 * SECOND).is_none());
        assert!(
            verifiers
                .find_stale("alice", later, 3600 * SECOND)
                .is_some()
        );
        assert!(verifiers.find_stale("alice", later, 60 * SECOND).is_none());
        verifiers.forget("alice");
        assert!(
            verifiers
                .find_stale("alice", later, 3600 * SECOND)
                .is_none()
        );
    }

    #[test]
    fn a_verifier_is_never_printed() {
        let mut verifiers = Verifiers::default();
        verifiers.insert("alice", Some("SCRAM-SHA-256$".into()), clock::now(), 3);
        assert!(!format!("{verifiers:?}").contains("SCRAM"));
    }
}
