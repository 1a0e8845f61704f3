//! What a unit has left on its connection, now that the server is done with it.
//!
//! A statement that failed, or whose transaction was rolled back, has left nothing of what a
//! rollback undoes. Where it cannot be told which of several statements was undone, all of it was
//! left: a session is pinned for nothing then, and never free with something left.

use std::mem;

use super::pins::{Pin, Pins};
use super::unit::{Traits, Unit};
use super::{Note, Output, Session, Transaction};
use crate::wire::{ErrorView, SqlState};

/// How a unit came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The server did not even understand it.
    NothingRan,
    /// Its one statement failed outside a transaction.
    Failed,
    /// The transaction that was open before it was undone by its one statement.
    RolledBack,
    /// It is a part of a transaction that is open.
    InTransaction,
    /// All that was done is committed, or may be.
    Committed,
}

impl Session {
    /// Pins the session by what a unit left, or frees it. `before` is the transaction that the unit
    /// found.
    pub(super) fn note_left(&mut self, unit: &Unit, before: &Transaction, out: &mut Vec<Output>) {
        let was_free = self.pins.is_empty();
        let mut pending = match before {
            Transaction::Open { .. } => mem::take(&mut self.pending),
            // A connection that was lost took it along.
            Transaction::None | Transaction::Begun(_) | Transaction::Lost { .. } => Pins::default(),
        };
        if unit.traits.has(Traits::DISCARDED_ALL) {
            self.pins.clear();
            pending.clear();
        }
        if self.follow(unit).is_err() {
            self.pins.insert(Pin::Setting);
        }
        match end_of(unit, before, &self.transaction) {
            End::NothingRan => {}
            End::Failed => self.pins.extend(unit.leaves.left_by_failure()),
            End::RolledBack => {
                pending.clear();
                self.pins.extend(unit.leaves.left_by_rollback());
            }
            End::InTransaction => {
                self.pins.extend(unit.leaves.left_by_rollback());
                pending.extend(unit.leaves.undone_by_rollback());
            }
            End::Committed => {
                self.pins.extend(unit.leaves);
                self.pins.extend(mem::take(&mut pending));
            }
        }
        self.pending = pending;
        match (was_free, self.pin()) {
            (true, Some(pin)) => out.push(Output::Note(Note::Pinned { pin })),
            (false, None) => out.push(Output::Note(Note::Unpinned)),
            (true, None) | (false, Some(_)) => {}
        }
    }
}

fn end_of(unit: &Unit, before: &Transaction, after: &Transaction) -> End {
    let has = |traits| unit.traits.has(traits);
    if has(Traits::NOT_UNDERSTOOD) {
        return End::NothingRan;
    }
    let is_one = !has(Traits::SEVERAL);
    let in_transaction = matches!(before, Transaction::Begun(_) | Transaction::Open { .. });
    match (before, after.is_none()) {
        (_, false) if in_transaction && !has(Traits::COMMITS) => End::InTransaction,
        // A COMMIT that fails, and one of a transaction that had failed, is a ROLLBACK.
        (Transaction::Begun(_) | Transaction::Open { .. }, true)
            if is_one && (before.is_failed() || unit.failed || has(Traits::ROLLS_BACK)) =>
        {
            End::RolledBack
        }
        (Transaction::None, true) if is_one && unit.failed && !has(Traits::COMMITS) => End::Failed,
        (
            Transaction::None
            | Transaction::Begun(_)
            | Transaction::Open { .. }
            | Transaction::Lost { .. },
            _,
        ) => End::Committed,
    }
}

/// Whether the server's grammar refused the text of a Query. It reads all of it before it runs
/// anything; the same error from inside of a statement tells where inside.
///
/// Source: PostgreSQL 17, postgres.c, `exec_simple_query`; scan.l, `scanner_yyerror`.
pub(super) fn is_not_understood(error: ErrorView<'_>) -> bool {
    let has = |field| error.field(field).is_some();
    error.is(SqlState::SYNTAX_ERROR)
        && error.field(b'R') == Some(b"scanner_yyerror")
        && has(b'P')
        && !has(b'W')
        && !has(b'p')
        && !has(b'q')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(fields: &[(u8, &str)]) -> bool {
        let mut body = Vec::new();
        for (field, text) in fields {
            body.push(*field);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        is_not_understood(ErrorView::new(&body))
    }

    #[test]
    fn an_error_of_the_grammar_counts_only_for_the_text_of_the_client() {
        let plain = [(b'C', "42601"), (b'P', "1"), (b'R', "scanner_yyerror")];
        assert!(is_refused(&plain));
        for inside in [(b'W', "PL/pgSQL function"), (b'q', "garbage"), (b'p', "1")] {
            assert!(!is_refused(&[&plain[..], &[inside]].concat()));
        }
        for missing in 0..plain.len() {
            let mut fields = plain.to_vec();
            fields.remove(missing);
            assert!(!is_refused(&fields));
        }
    }
}
