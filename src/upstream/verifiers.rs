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
}

/// Not the verifier itself.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("exists", &self.verifier.is_some())
            .field("at", &self.at)
            .finish()
    }
}

impl Verifiers {
    /// The answer for a user, when it is no older than `age` (or `unknown_age`, when the answer was
    /// that there is none).
    pub(super) fn find(
        &self,
        user: &str,
        now: Instant,
        age: Duration,
        unknown_age: Duration,
    ) -> Option<Known> {
        let known = self.known.get(user)?;
        let limit = match known.verifier {
            Some(_) => age,
            None => unknown_age,
        };
        (now.saturating_duration_since(known.at) <= limit).then(|| known.clone())
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
        self.known
            .insert(user.to_owned(), Known { verifier, at: now });
    }

    /// Forgets the answer for a user when it is at least `age` old.
    pub(super) fn forget(&mut self, user: &str, now: Instant, age: Duration) {
        let is_old = |known: &Known| now.saturating_duration_since(known.at) >= age;
        if self.known.get(user).is_some_and(is_old) {
            self.known.remove(user);
        }
    }
}

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
            let known = verifiers.find(user, start + after, 10 * SECOND, SECOND)?;
            Some(known.verifier.unwrap_or_default())
        };
        assert_eq!(find("alice", 9 * SECOND), Some("v".into()));
        assert_eq!(find("alice", 11 * SECOND), None);
        assert_eq!(find("nobody", SECOND), Some(String::new()));
        assert_eq!(find("nobody", 2 * SECOND), None);
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
    fn a_young_answer_is_not_forgotten() {
        let mut verifiers = Verifiers::default();
        let start = clock::now();
        verifiers.insert("alice", Some("v".into()), start, 3);
        verifiers.forget("alice", start, SECOND);
        assert!(verifiers.known.contains_key("alice"));
        verifiers.forget("alice", start + SECOND, SECOND);
        assert!(!verifiers.known.contains_key("alice"));
    }

    #[test]
    fn a_verifier_is_never_printed() {
        let mut verifiers = Verifiers::default();
        verifiers.insert("alice", Some("SCRAM-SHA-256$".into()), clock::now(), 3);
        assert!(!format!("{verifiers:?}").contains("SCRAM"));
    }
}
