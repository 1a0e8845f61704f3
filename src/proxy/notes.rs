//! What a session notes becomes counters and log lines.

use tracing::{debug, info};

use super::Proxy;
use super::drive::Card;
use crate::clock;
use crate::cluster::{HoldCause, Role, ServerId, Writes};
use crate::session::{Note, RetryCause, Why};
use crate::telemetry::{self, ErrorOrigin};

/// Counts and logs one note.
pub(super) fn record(proxy: &Proxy, card: &mut Card, note: Note) {
    let telemetry = &proxy.telemetry;
    match note {
        Note::Routed { server, why } => {
            telemetry.routed(server, role_of(proxy, server), why);
            card.entry.count_query();
            debug!(session = card.client, server = %server, why = %why, "statement routed");
        }
        Note::Answered => {
            telemetry.not_routed(Why::AnsweredHere);
            card.entry.count_query();
        }
        Note::Held { why } => {
            telemetry.not_routed(why);
            let cause = match why {
                Why::HeldPaused => HoldCause::Paused,
                _ => hold_cause(proxy),
            };
            card.hold = Some(telemetry.hold(cause, clock::now()));
        }
        Note::Released { since } => {
            end_hold(card);
            debug!(session = card.client, waited_since = ?since, "statement goes on");
        }
        Note::Misrouted { server } => {
            telemetry.misrouted(Why::ReadOnly);
            info!(session = card.client, server = %server, "a replica refused a statement as a write");
        }
        Note::Retried { cause } => telemetry.retried(retry_of(cause)),
        Note::ServerLost { server } => {
            debug!(session = card.client, server = %server, "server connection lost");
            (proxy.on_loss)(server);
        }
        Note::Pinned { pin } => card.entry.set_pin(Some(pin)),
        Note::Unpinned => card.entry.set_pin(None),
        Note::SchemaChanged => proxy.catalogs.changed(&card.database),
        Note::Ended { server } => {
            telemetry.transaction_ended(role_of(proxy, server));
            card.entry.count_transaction();
        }
        Note::Served { role, intent, took } => telemetry.statement_ended(role, intent, took),
        Note::TextKnown => telemetry.parse_cache_hit(),
        Note::TextParsed { understood } => {
            telemetry.parse_cache_missed();
            if !understood {
                telemetry.parse_failed();
            }
        }
        Note::Failed { sqlstate } => count_error(proxy, ErrorOrigin::Server, sqlstate),
        Note::Refused { sqlstate } => {
            end_hold(card);
            count_error(proxy, ErrorOrigin::Router, sqlstate);
        }
    }
}

/// What is no text is counted as what is no SQLSTATE.
fn count_error(proxy: &Proxy, origin: ErrorOrigin, sqlstate: [u8; 5]) {
    let sqlstate = std::str::from_utf8(&sqlstate).unwrap_or_default();
    proxy.telemetry.error_returned(origin, sqlstate);
}

fn end_hold(card: &mut Card) {
    if let Some(hold) = card.hold.take() {
        hold.release(clock::now());
    }
}

/// Why statements for the primary wait now. When none does, this one could not reach it, which is
/// how a failover begins.
fn hold_cause(proxy: &Proxy) -> HoldCause {
    match proxy.snapshot.load().writes {
        Writes::Held { cause, .. } => cause,
        Writes::Open(_) => HoldCause::Failover,
    }
}

fn role_of(proxy: &Proxy, server: ServerId) -> Role {
    proxy
        .snapshot
        .load()
        .server(server)
        .map_or(Role::Unknown, |view| view.role)
}

const fn retry_of(cause: RetryCause) -> telemetry::RetryCause {
    match cause {
        RetryCause::ReadOnlyServer => telemetry::RetryCause::RefusedByReplica,
        RetryCause::Unreachable => telemetry::RetryCause::ServerUnavailable,
        RetryCause::ConnectionLost => telemetry::RetryCause::ConnectionLost,
        RetryCause::RecoveryConflict => telemetry::RetryCause::RecoveryConflict,
        RetryCause::MissingOnReplica => telemetry::RetryCause::MissingOnReplica,
        RetryCause::StaleStatement => telemetry::RetryCause::StaleStatement,
    }
}
