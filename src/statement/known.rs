//! Facts that were found once, with what a later layer made of them.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Facts;

/// The facts of a text, and the last judgement of them. `J` is the judge's own; nothing here looks
/// into it.
#[derive(Debug)]
pub struct Known<J> {
    facts: Facts,
    judged: ArcSwapOption<(View, J)>,
}

/// Under which rules and which catalog a judgement holds: a number that is new whenever one of them
/// is. Zero is no view that holds for any longer than one judgement.
pub type View = u64;

impl<J> Known<J> {
    /// Facts that nobody has judged.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            judged: ArcSwapOption::empty(),
        }
    }

    /// Uses the judgement of these facts: the last one if it is of this view, else a new one.
    pub fn judged<R>(
        &self,
        view: View,
        judge: impl FnOnce(&Facts) -> J,
        r#use: impl FnOnce(&J) -> R,
    ) -> R {
        if view != 0
            && let Some(last) = &*self.judged.load()
            && last.0 == view
        {
            return r#use(&last.1);
        }
        let judged = Arc::new((view, judge(&self.facts)));
        self.judged.store(Some(Arc::clone(&judged)));
        r#use(&judged.1)
    }
}

impl<J> Deref for Known<J> {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_holds_for_its_view_only() {
        let known = Known::new(Facts::default());
        let judged = |view, now| known.judged(view, |_| now, |judged| *judged);
        assert_eq!(judged(1, "a"), "a");
        assert_eq!(judged(1, "b"), "a");
        assert_eq!(judged(2, "c"), "c");
        assert_eq!(judged(0, "d"), "d");
        assert_eq!(judged(0, "e"), "e");
    }
}
