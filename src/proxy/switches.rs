//! Which databases an operator has paused or disabled. Looked at with every message, so that
//! nearly always, when there is none, looking costs one load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The switches of all databases.
#[derive(Debug, Default)]
pub(super) struct Switches {
    /// Whether anything at all is paused.
    is_any_paused: AtomicBool,
    state: Mutex<SwitchState>,
}

/// What is switched off now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchState {
    /// Whether all databases are paused.
    pub all_paused: bool,
    /// Databases that are paused by name.
    pub paused: BTreeSet<String>,
    /// Databases that take no new clients.
    pub disabled: BTreeSet<String>,
}

impl SwitchState {
    /// Whether statements of this database wait.
    pub fn is_paused(&self, database: &str) -> bool {
        self.all_paused || self.paused.contains(database)
    }
}

impl Switches {
    pub(super) fn is_paused(&self, database: &str) -> bool {
        self.is_any_paused.load(Ordering::Acquire) && self.lock().is_paused(database)
    }

    pub(super) fn is_disabled(&self, database: &str) -> bool {
        self.lock().disabled.contains(database)
    }

    pub(super) fn state(&self) -> SwitchState {
        self.lock().clone()
    }

    /// Pauses a database, or all. False when it was paused already.
    pub(super) fn pause(&self, database: Option<&str>) -> bool {
        self.change(|state| match database {
            Some(name) => state.paused.insert(name.to_owned()),
            None => !std::mem::replace(&mut state.all_paused, true),
        })
    }

    /// Ends the same pause: that of all ends none that was made by name. False when there is none.
    pub(super) fn resume(&self, database: Option<&str>) -> bool {
        self.change(|state| match database {
            Some(name) => state.paused.remove(name),
            None => std::mem::replace(&mut state.all_paused, false),
        })
    }

    /// Takes no new clients for a database. False when it took none already.
    pub(super) fn disable(&self, database: &str) -> bool {
        self.change(|state| state.disabled.insert(database.to_owned()))
    }

    /// Takes new clients again. False when it did.
    pub(super) fn enable(&self, database: &str) -> bool {
        self.change(|state| state.disabled.remove(database))
    }

    fn change(&self, change: impl FnOnce(&mut SwitchState) -> bool) -> bool {
        let mut state = self.lock();
        let changed = change(&mut state);
        let is_any = state.all_paused || !state.paused.is_empty();
        self.is_any_paused.store(is_any, Ordering::Release);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, SwitchState> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_all_ends_without_those_that_were_made_by_name() {
        let switches = Switches::default();
        assert!(switches.pause(Some("shop")));
        assert!(!switches.pause(Some("shop")), "twice");
        assert!(switches.pause(None));
        assert!(switches.is_paused("bank"));
        assert!(switches.resume(None));
        assert!(!switches.is_paused("bank"));
        assert!(switches.is_paused("shop"));
        assert!(switches.resume(Some("shop")));
        assert!(!switches.is_paused("shop"));
        assert!(!switches.resume(Some("shop")), "twice");
    }

    #[test]
    fn a_database_is_disabled_until_it_is_enabled() {
        let switches = Switches::default();
        assert!(switches.disable("shop"));
        assert!(switches.is_disabled("shop") && !switches.is_paused("shop"));
        assert!(switches.enable("shop") && !switches.is_disabled("shop"));
    }
}
