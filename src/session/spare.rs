//! What is kept of a unit that is over: the next one needs the same room.

use std::collections::VecDeque;

use super::unit::{Expected, Unit};

/// Room that units use one after the other.
#[derive(Debug, Default)]
pub(super) struct Spare {
    pub(super) unit: Option<Box<Unit>>,
    pub(super) expected: VecDeque<Expected>,
}

impl Spare {
    /// Keeps the room of a unit that is over, unless it was a large one.
    pub(super) fn keep(&mut self, mut unit: Box<Unit>, mut expected: VecDeque<Expected>) {
        if unit.steps.len().max(expected.capacity()) > SPARE_STEPS_MAX {
            return;
        }
        unit.reset();
        expected.clear();
        *self = Self {
            unit: Some(unit),
            expected,
        };
    }
}

/// A unit of more steps is not kept for the next one.
const SPARE_STEPS_MAX: usize = 32;
