//! Settings and their values, and what makes one set of them into another.

use std::collections::BTreeMap;

/// The settings that differ from those of a new connection, each with the text that a client wrote
/// for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    values: BTreeMap<Box<str>, Box<str>>,
    bytes: usize,
}

/// One change of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum Change {
    /// `SET name TO text`.
    Set {
        /// Which.
        name: Box<str>,
        /// What may stand behind `TO`.
        text: Box<str>,
    },
    /// `RESET name`.
    Reset {
        /// Which.
        name: Box<str>,
    },
    /// `RESET ALL`.
    ResetAll,
}

impl Values {
    /// Whether a connection needs none of it to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether they are more than anybody should carry around.
    pub(super) fn is_too_much(&self) -> bool {
        self.values.len() > VALUES_MAX || self.bytes > BYTES_MAX
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Set { name, text } => {
                self.remove(name);
                self.bytes += name.len() + text.len();
                self.values.insert(name.clone(), text.clone());
            }
            Change::Reset { name } => self.remove(name),
            Change::ResetAll => *self = Self::default(),
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(text) = self.values.remove(name) {
            self.bytes = self.bytes.saturating_sub(name.len() + text.len());
        }
    }
}

/// The statements that make a connection with the settings `from` one with the settings `to`.
pub(super) fn difference(from: Option<&Values>, to: Option<&Values>) -> String {
    let (none, mut text) = (BTreeMap::new(), String::new());
    let from = from.map_or(&none, |values| &values.values);
    let to = to.map_or(&none, |values| &values.values);
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        text.push_str("RESET ");
        text.push_str(name);
        text.push(';');
    }
    for (name, value) in to.iter().filter(|(name, v)| from.get(*name) != Some(v)) {
        text.push_str("SET ");
        text.push_str(name);
        text.push_str(" TO ");
        text.push_str(value);
        text.push(';');
    }
    text
}

/// How many settings a session takes along. Nobody sets as many by hand.
const VALUES_MAX: usize = 64;
/// How many bytes of them: a search path of many schemas fits.
const BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn values(changes: &[(&str, &str)]) -> Values {
        let mut values = Values::default();
        for (name, text) in changes {
            values.apply(&Change::Set {
                name: (*name).into(),
                text: (*text).into(),
            });
        }
        values
    }

    #[test]
    fn only_what_differs_is_told() {
        let one = values(&[("lock_timeout", "5"), ("work_mem", "'9MB'")]);
        let other = values(&[("work_mem", "64"), ("application_name", "'a'")]);
        let told = difference(Some(&one), Some(&other));
        assert_eq!(
            told,
            "RESET lock_timeout;SET application_name TO 'a';SET work_mem TO 64;"
        );
        assert_eq!(
            difference(Some(&one), None),
            "RESET lock_timeout;RESET work_mem;"
        );
        assert_eq!(
            difference(None, Some(&one)),
            "SET lock_timeout TO 5;SET work_mem TO '9MB';"
        );
        assert_eq!(difference(Some(&one), Some(&one)), "");
    }

    #[test]
    fn what_was_reset_counts_no_more() {
        let mut changed = values(&[
            ("work_mem", "64"),
            ("work_mem", "65"),
            ("lock_timeout", "5"),
        ]);
        changed.apply(&Change::Reset {
            name: "work_mem".into(),
        });
        assert_eq!(changed, values(&[("lock_timeout", "5")]));
        changed.apply(&Change::ResetAll);
        assert_eq!(changed, Values::default());
    }

    #[test]
    fn too_many_and_too_long_are_too_much() {
        let long = "x".repeat(BYTES_MAX);
        assert!(values(&[("work_mem", &long)]).is_too_much());
        let names: Vec<_> = (0..=VALUES_MAX).map(|n| format!("a{n}")).collect();
        let mut many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert!(values(&many).is_too_much());
        many.pop();
        assert!(!values(&many).is_too_much());
    }
}
