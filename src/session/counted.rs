//! What is counted of a unit: how long it took, and the errors that its client got.

use bytes::Bytes;

use super::machine::Held;
use super::unit::Unit;
use super::{Note, Output, Refusal, World};
use crate::cluster::Role;
use crate::policy::{Intent, Why};
use crate::wire::ErrorView;

/// Notes that a server has answered all of a unit.
///
/// A unit of a transaction, or of a session that is pinned, counts as what its connection was asked
/// for: nobody could send it elsewhere.
pub(super) fn note_served(world: &World<'_>, unit: &Unit, held: &Held, out: &mut Vec<Output>) {
    let Some(asked_at) = unit.asked_at else {
        return;
    };
    let role = match held.reign {
        Some(_) => Role::Primary,
        None => Role::Replica,
    };
    // What found no replica is asked of the primary as if it wrote.
    let intent = match held.route.why == Why::NoReplica {
        true => Intent::Read,
        false => held.route.intent,
    };
    out.push(Output::Note(Note::Served {
        role,
        intent,
        took: world.now.saturating_duration_since(asked_at),
    }));
}

/// Notes an error of ours.
pub(super) fn note_refused(refusal: &Refusal, out: &mut Vec<Output>) {
    let sqlstate = code(Some(refusal.sqlstate().0.as_bytes()));
    out.push(Output::Note(Note::Refused { sqlstate }));
}

/// Notes an error of ours that is a message already.
pub(super) fn note_refused_as(message: &Bytes, out: &mut Vec<Output>) {
    let sqlstate = code(sqlstate_of(message));
    out.push(Output::Note(Note::Refused { sqlstate }));
}

/// Notes an error of a server that the client gets.
pub(super) fn note_failed(message: &Bytes, out: &mut Vec<Output>) {
    let sqlstate = code(sqlstate_of(message));
    out.push(Output::Note(Note::Failed { sqlstate }));
}

fn sqlstate_of(message: &[u8]) -> Option<&[u8]> {
    message
        .get(HEADER..)
        .and_then(|body| ErrorView::new(body).sqlstate())
}

fn code(sqlstate: Option<&[u8]>) -> [u8; 5] {
    sqlstate
        .and_then(|sqlstate| sqlstate.try_into().ok())
        .unwrap_or(INTERNAL)
}

/// The tag and the length of a message.
const HEADER: usize = 5;
/// What a server does not give a state is an internal error.
const INTERNAL: [u8; 5] = *b"XX000";
