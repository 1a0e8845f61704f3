//! What a server says without being asked.

use super::echo::as_given;
use super::machine::{Held, State};
use super::{Output, Session, World};
use crate::wire::backend::ParameterStatus;
use crate::wire::frame::{Cut, Frame};

impl Session {
    /// A message that a server sends without being asked: a notice, a notification, a changed
    /// setting, or the reason why it is about to hang up.
    pub(super) fn unasked(
        &mut self,
        world: &World<'_>,
        held: Held,
        cut: Cut,
        out: &mut Vec<Output>,
        stay: impl FnOnce(Held) -> State,
    ) -> State {
        match cut {
            Cut::Message(frame) if self.is_heard_twice(&frame) => stay(held),
            Cut::Message(frame) if matches!(frame.tag, b'N' | b'A' | b'S') => {
                self.note_setting(&frame);
                out.push(Output::ToClient(match frame.tag {
                    b'A' => as_given(world, frame.bytes),
                    _ => frame.bytes,
                }));
                stay(held)
            }
            // Anything else is the last word of a server that hangs up.
            Cut::Message(_) | Cut::Run(_) | Cut::Head(_) | Cut::Rest { .. } => {
                let state = stay(held);
                self.server_lost(world, state, out)
            }
        }
    }

    /// Follows the reported settings that decide how a text is read.
    pub(super) fn note_setting(&mut self, frame: &Frame) {
        if frame.tag != b'S' {
            return;
        }
        if let Ok(setting) = ParameterStatus::parse(frame.body()) {
            self.settings.note(setting.name, setting.value);
            self.reading = self.settings.reading();
        }
    }
}
