//! Statements and portals that the session does not know by name: its server may know them, and
//! those of other sessions on the same connection are none of its own.

use super::gather::malformed;
use super::pins::Pin;
use super::prepared::is_server_name;
use super::unit::{Expected, Step, Unit};
use super::{Refusal, Session, reply};
use crate::wire::backend;
use crate::wire::frame::Frame;
use crate::wire::frontend::{Close, What};
use crate::wire::sqlstate::SqlState;

impl Session {
    /// What has no name here is closed already, unless a server may know it.
    pub(super) fn take_close(&mut self, unit: &mut Unit, frame: &Frame) -> Result<(), Refusal> {
        let Ok(close) = Close::parse(frame.body()) else {
            return Err(malformed("Close"));
        };
        let ours = match close.what {
            What::Statement if self.names.get(close.name).is_some() => {
                self.names.remove(close.name);
                true
            }
            // PostgreSQL does not complain about a name that does not exist. A session that is
            // pinned may have made this one by SQL.
            What::Statement => self.pins.is_empty() || is_server_name(close.name),
            What::Portal => self.names.remove_portal(close.name),
        };
        if ours || self.transaction.is_lost() {
            unit.push(Step::Local(reply::message(backend::close_complete)));
            return Ok(());
        }
        self.take_unknown(unit, frame, Expected::Close)
    }

    /// A message about something that we do not know by name: the server knows it, or says that
    /// it does not.
    pub(super) fn take_unknown(
        &mut self,
        unit: &mut Unit,
        frame: &Frame,
        expect: Expected,
    ) -> Result<(), Refusal> {
        match self.refusal_in_lost_transaction() {
            Some(refusal) => unit.push(Step::Fail(refusal)),
            None => unit.push(Step::Raw {
                bytes: frame.bytes.clone(),
                expect,
            }),
        }
        Ok(())
    }

    /// Sees to it that a statement that the session does not have is not another session's of the
    /// same connection. One without a name that was too long to hold may be the session's own.
    pub(super) fn hide_others(&self, unit: &mut Unit, name: &[u8]) {
        let unnamed_is_ours =
            self.pins.has(Pin::LargeStatement) || unit.leaves.has(Pin::LargeStatement);
        if self.transaction.is_lost() {
            // Nothing of it goes to a server.
        } else if is_server_name(name) {
            let name = String::from_utf8_lossy(name);
            unit.push(Step::Fail(Refusal::BadCommand {
                sqlstate: SqlState::INVALID_SQL_STATEMENT_NAME,
                message: format!("prepared statement \"{name}\" does not exist"),
                hint: None,
            }));
        } else if name.is_empty() && !unnamed_is_ours {
            unit.push(Step::DropUnnamed);
        }
    }
}
