//! What a setting is: a row of the table in `table.rs`.

use std::time::Duration;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where it stands in the file; `*` is a name that the operator chooses.
    pub key: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What it is when nobody writes it, as an environment variable would spell it; `None` when it
    /// must be written, or holds for one user or database only.
    pub default: Option<&'static str>,
    /// Whether a reload takes it.
    pub applies: Applies,
    /// One paragraph for an operator.
    pub doc: &'static str,
}

/// What may be written for a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A time with a unit.
    Duration {
        /// The shortest.
        min: Duration,
        /// Whether `""`, `"off"` and `"0s"` are allowed: no such timer, or no wait.
        off: bool,
    },
    /// A number of bytes with a unit, 1024-based as in PostgreSQL.
    Size {
        /// The smallest.
        min: u64,
        /// Whether `"any"` is allowed.
        any: bool,
    },
    /// A whole number, both ends included.
    Count {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// True or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// A list of texts; a single one may stand without brackets.
    List,
    /// A text that is never shown.
    Secret,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At the next reload.
    Reload,
    /// At the next start.
    Restart,
}

impl Applies {
    /// The word used in the console and in the docs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}

impl Setting {
    /// Whether it is about one user or one database: then it is only there where it is written.
    pub(super) fn is_own(&self) -> bool {
        self.key.starts_with("user.") || self.key.starts_with("database.")
    }

    /// Whether this row describes the key `path`.
    pub(super) fn matches(&self, path: &[String]) -> bool {
        self.key.split('.').count() == path.len() && self.covers(path)
    }

    /// Whether `path` is this key, or a table that it stands in.
    pub(super) fn covers(&self, path: &[String]) -> bool {
        let mut pattern = self.key.split('.');
        path.iter().all(|name| {
            pattern
                .next()
                .is_some_and(|part| part == "*" || part == name)
        })
    }
}

/// Longer than this is a typing error: PostgreSQL's own timers end near 24 days.
pub(super) const LONGEST: Duration = Duration::from_secs(20 * 86_400);
