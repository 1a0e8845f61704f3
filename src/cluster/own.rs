//! What is set for one user or one database instead of for everybody.

use std::collections::BTreeMap;

/// Values by the user and by the database that they are meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own<T> {
    /// By user.
    pub users: BTreeMap<String, T>,
    /// By database.
    pub databases: BTreeMap<String, T>,
}

impl<T> Own<T> {
    /// Whether nobody has anything of its own.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.databases.is_empty()
    }

    /// What a user has in a database, the database's first: as with settings of roles and databases
    /// in PostgreSQL, the last word is the user's.
    pub fn of(&self, user: &str, database: &str) -> impl Iterator<Item = &T> {
        let database = self.databases.get(database).into_iter();
        database.chain(self.users.get(user))
    }

    /// The last word on one thing.
    pub fn last<V: Copy>(
        &self,
        user: &str,
        database: &str,
        value: impl Fn(&T) -> Option<V>,
    ) -> Option<V> {
        self.of(user, database).filter_map(value).last()
    }
}

impl<T> Default for Own<T> {
    fn default() -> Self {
        Self {
            users: BTreeMap::new(),
            databases: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_last_word_and_only_on_what_it_speaks_of() {
        let mut own: Own<[Option<u8>; 2]> = Own::default();
        assert!(own.is_empty());
        own.databases.insert("app".into(), [Some(1), Some(2)]);
        own.users.insert("alice".into(), [Some(3), None]);
        let last = |user, database| [0, 1].map(|at: usize| own.last(user, database, |v| v[at]));
        assert_eq!(last("alice", "app"), [Some(3), Some(2)]);
        assert_eq!(last("bob", "app"), [Some(1), Some(2)]);
        assert_eq!(last("alice", "other"), [Some(3), None]);
        assert_eq!(last("bob", "other"), [None, None]);
    }
}
