//! What is set for one user or one database.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Own;
use crate::{session, upstream};

use super::build::Builder;
use super::table::SETTINGS;
use super::value::Value;

/// One part of what a name has, in its turn for users and for databases.
type OfName<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Value>>;

impl Builder<'_> {
    /// The limits of sessions.
    pub(super) fn own_session(&mut self) -> Own<session::OwnRules> {
        self.read_own(|of| session::OwnRules {
            idle_timeout: time(of, "idle_timeout"),
            idle_in_transaction_timeout: time(of, "idle_in_transaction_timeout"),
            query_timeout: time(of, "query_timeout"),
            transaction_timeout: time(of, "transaction_timeout"),
        })
    }

    /// The limits of pools.
    pub(super) fn own_pools(&mut self) -> Own<upstream::OwnRules> {
        self.read_own(|of| upstream::OwnRules {
            size: count(of, "pool_size"),
            queue_max: count(of, "pool_queue"),
            wait_timeout: time(of, "wait_timeout"),
        })
    }

    /// How many clients there may be.
    pub(super) fn own_clients(&mut self) -> Own<usize> {
        let limits = self.read_own(|of| count(of, "max_clients"));
        let known = |limits: BTreeMap<String, Option<usize>>| {
            let known = limits.into_iter();
            known.filter_map(|(name, limit)| Some((name, limit?)))
        };
        Own {
            users: known(limits.users).collect(),
            databases: known(limits.databases).collect(),
        }
    }

    fn read_own<T: PartialEq + Default>(
        &mut self,
        read: impl Fn(&BTreeMap<&str, &Value>) -> T,
    ) -> Own<T> {
        for row in SETTINGS.iter().filter(|row| row.is_own()) {
            self.note_read(row.key);
        }
        let of = |what| {
            let mut names = OfName::new();
            for entry in self.entries.iter().filter(|e| e.setting.is_own()) {
                if let [scope, name, key] = entry.path.as_slice()
                    && scope == what
                {
                    let values = names.entry(name).or_default();
                    values.insert(key, &entry.value);
                }
            }
            let names = names.iter().map(|(name, of)| (*name, read(of)));
            // A name that only has other things of its own has nothing here.
            let names = names.filter(|(_, own)| *own != T::default());
            names.map(|(name, own)| (name.to_owned(), own)).collect()
        };
        Own {
            users: of("user"),
            databases: of("database"),
        }
    }
}

fn time(of: &BTreeMap<&str, &Value>, key: &str) -> Option<Duration> {
    match of.get(key) {
        Some(Value::Duration(length)) => Some(*length),
        _ => None,
    }
}

fn count(of: &BTreeMap<&str, &Value>, key: &str) -> Option<usize> {
    match of.get(key) {
        Some(Value::Count(number)) => Some(usize::try_from(*number).unwrap_or(usize::MAX)),
        _ => None,
    }
}
