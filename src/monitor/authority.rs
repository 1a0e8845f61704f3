//! Who may promote: this process, or the one that has taken over from it.
//!
//! A process that gave the right away goes on looking at the servers, as `failover.mode = "observe"`
//! does, for the clients that are still with it; it follows what the other one does. Neither a
//! reload nor an order of its console gives it the right back.

use tokio::sync::oneshot;

use crate::policy::transitions::Stage;
use crate::policy::{FailoverMode, Rules};

/// Who may promote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// This process, if its rules let it.
    Ours,
    /// Another; and what our rules say.
    Given(Option<FailoverMode>),
}

/// Why the right to promote cannot be given away now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// It would be left half done.
    #[error("a failover is under way, or waits for a person")]
    FailoverUnderWay,
    /// The other would not read it.
    #[error("the state file is being written")]
    StateNotWritten,
    /// It gives no answers any more.
    #[error("the monitor has stopped")]
    Stopped,
}

/// A question to the brain.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) wanted: Authority,
    pub(super) answer: oneshot::Sender<Result<(), AuthorityError>>,
}

/// Whether it can be given away: never in the middle of something.
pub(super) const fn may_give(stage: Stage, is_written: bool) -> Result<(), AuthorityError> {
    match stage {
        Stage::Collecting | Stage::Promoting | Stage::Halted => {
            Err(AuthorityError::FailoverUnderWay)
        }
        Stage::Searching | Stage::Steady | Stage::Doubt | Stage::Settling if is_written => Ok(()),
        Stage::Searching | Stage::Steady | Stage::Doubt | Stage::Settling => {
            Err(AuthorityError::StateNotWritten)
        }
    }
}

impl Authority {
    /// New rules, as far as they are in force here.
    pub(super) fn limit(&mut self, mut rules: Rules) -> Rules {
        if let Self::Given(mode) = self {
            *mode = Some(rules.failover.mode);
            rules.failover.mode = FailoverMode::Observe;
        }
        rules
    }

    /// Changes it. Takes and gives the rules that are in force.
    pub(super) fn change(&mut self, wanted: Self, mut rules: Rules) -> Rules {
        if let Self::Given(Some(mode)) = *self {
            rules.failover.mode = mode;
        }
        *self = match wanted {
            Self::Ours => Self::Ours,
            Self::Given(_) => Self::Given(None),
        };
        rules
    }
}

/// One process asks at a time.
pub(super) const ASKS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(mode: FailoverMode) -> Rules {
        let mut rules = Rules::default();
        rules.failover.mode = mode;
        rules
    }

    #[test]
    fn who_gave_it_away_only_observes_until_it_is_taken_back() {
        let mut authority = Authority::Ours;
        let auto = rules(FailoverMode::Auto);
        assert_eq!(authority.limit(auto.clone()), auto);
        let given = authority.change(Authority::Given(None), auto.clone());
        assert_eq!(authority.limit(given), rules(FailoverMode::Observe));
        // A reload meanwhile is remembered, and not more.
        let reloaded = authority.limit(rules(FailoverMode::Manual));
        assert_eq!(reloaded, rules(FailoverMode::Observe));
        let taken = authority.change(Authority::Ours, reloaded);
        assert_eq!(authority.limit(taken), rules(FailoverMode::Manual));
    }

    #[test]
    fn nothing_is_given_away_in_the_middle_of_a_failover() {
        for stage in [Stage::Collecting, Stage::Promoting, Stage::Halted] {
            let told = may_give(stage, true);
            assert_eq!(told, Err(AuthorityError::FailoverUnderWay));
        }
        for stage in [
            Stage::Searching,
            Stage::Steady,
            Stage::Doubt,
            Stage::Settling,
        ] {
            assert_eq!(may_give(stage, true), Ok(()));
            let told = may_give(stage, false);
            assert_eq!(told, Err(AuthorityError::StateNotWritten));
        }
    }
}
