//! A prepared statement that the connection has lost, or planned for a schema that is no more.
//!
//! Server connections are shared, so neither is the client's doing: the statement is prepared again
//! on the same connection and the unit runs again, once. The error has undone all that the unit did,
//! and the client has nothing of its answer.
//!
//! A result that has changed is a surprise to a client that knows the columns from earlier. So that
//! error is hidden only from a unit that asks for them itself; others get it, as they would from a
//! server, and look again.

use std::sync::Arc;

use super::Prepared;
use super::running::{Running, Stage};
use super::unit::{Expected, Step, Traits, Unit};
use crate::wire::{ErrorView, SqlState};

/// Whether a unit has a prepared statement that may turn out to be stale, and was not repaired yet.
pub(super) fn may_be(unit: &Unit) -> bool {
    let barred = Traits::SEVERAL | Traits::QUERY | Traits::REPAIRED;
    !unit.traits.has(barred) && statement_of(unit).is_some()
}

/// The statement of the unit that is stale, when an error says so.
///
/// Source: PostgreSQL 17, plancache.c, `RevalidateCachedQuery`; prepare.c, `FetchPreparedStatement`.
pub(super) fn cause(running: &Running, error: ErrorView<'_>) -> Option<Arc<Prepared>> {
    let of_statement = matches!(
        running.expected.front(),
        Some(Expected::Bind | Expected::DescribeStatement)
    );
    if !of_statement || running.unit.traits.has(Traits::SEVERAL) {
        return None;
    }
    let is_gone = error.is(SqlState::INVALID_SQL_STATEMENT_NAME);
    match is_gone || is_changed(error) {
        true => statement_of(&running.unit).map(Arc::clone),
        false => None,
    }
}

/// Whether the unit can run again with its stale statement prepared anew.
pub(super) fn can_repair(running: &Running, error: ErrorView<'_>) -> bool {
    let unit = &running.unit;
    running.stage == Stage::Outside
        && may_be(unit)
        && (!is_changed(error) || asks_for_columns(unit))
}

/// Whether the columns of the statement are others than when it was prepared.
fn is_changed(error: ErrorView<'_>) -> bool {
    error.is(SqlState::FEATURE_NOT_SUPPORTED) && error.field(b'R') == Some(b"RevalidateCachedQuery")
}

/// Makes the unit prepare its statement again.
pub(super) fn renew(unit: &mut Unit) {
    unit.traits.set(Traits::REPAIRED);
    if let Some(statement) = statement_of(unit).map(Arc::clone) {
        unit.steps.insert(0, Step::Renew(statement));
    }
}

fn asks_for_columns(unit: &Unit) -> bool {
    unit.steps.iter().any(|step| {
        matches!(
            step,
            Step::Describe { .. }
                | Step::Raw {
                    expect: Expected::DescribePortal,
                    ..
                }
        )
    })
}

fn statement_of(unit: &Unit) -> Option<&Arc<Prepared>> {
    unit.steps.iter().find_map(|step| match step {
        Step::Bind { statement, .. } | Step::Describe { statement, .. } => Some(statement),
        Step::Raw { .. }
        | Step::Parse { .. }
        | Step::Probe(_)
        | Step::BindHead { .. }
        | Step::Renew(_)
        | Step::DropUnnamed
        | Step::Known(_)
        | Step::Local(_)
        | Step::Fail(_)
        | Step::More(_)
        | Step::Flush
        | Step::Sync => None,
    })
}
