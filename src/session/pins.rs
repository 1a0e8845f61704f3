//! Why a session must stay on its server connection: the state it left there that nobody carries
//! over. Not tracked means pinned; it never means leaked.

use super::Condition;
use crate::statement::Effect;

/// Kinds of state that a session may hold on its server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pin {
    /// A setting changed for the session.
    Setting,
    /// A statement prepared by SQL.
    PreparedStatement,
    /// A statement of the protocol that is too large to remember.
    LargeStatement,
    /// A temporary table, view or sequence.
    TempObject,
    /// A cursor declared WITH HOLD.
    HoldCursor,
    /// LISTEN.
    Listen,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A library loaded by LOAD.
    Load,
    /// SET ROLE or SET SESSION AUTHORIZATION.
    Authorization,
    /// What `currval` and `lastval` remember.
    Sequence,
    /// Something else that lives as long as the connection, such as the seed of `random`.
    Connection,
    /// A function of the user's own that is volatile: what it left is not known.
    Function,
    /// A statement that was not understood and may have left anything.
    NotUnderstood,
}

/// The pins of one session: a set in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pin {
    const ALL: [Self; 13] = [
        // Also a setting, and this says more.
        Self::Authorization,
        Self::Setting,
        Self::PreparedStatement,
        Self::LargeStatement,
        Self::TempObject,
        Self::HoldCursor,
        Self::Listen,
        Self::AdvisoryLock,
        Self::Load,
        Self::Sequence,
        Self::Connection,
        Self::Function,
        Self::NotUnderstood,
    ];

    /// The code shown in the console and counted in the metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::PreparedStatement => "prepared_statement",
            Self::LargeStatement => "large_statement",
            Self::TempObject => "temp_object",
            Self::HoldCursor => "hold_cursor",
            Self::Listen => "listen",
            Self::AdvisoryLock => "advisory_lock",
            Self::Load => "load",
            Self::Authorization => "authorization",
            Self::Sequence => "sequence",
            Self::Connection => "connection",
            Self::Function => "function",
            Self::NotUnderstood => "not_understood",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// In what condition a connection is that holds such state: some of it `DISCARD ALL` drops.
    ///
    /// Source: PostgreSQL 17, discard.c, `DiscardAll`.
    const fn condition(self) -> Condition {
        match self {
            Self::Setting
            | Self::PreparedStatement
            | Self::LargeStatement
            | Self::TempObject
            | Self::HoldCursor
            | Self::Listen
            | Self::AdvisoryLock
            | Self::Authorization
            | Self::Sequence => Condition::Reset,
            Self::Load | Self::Connection | Self::Function | Self::NotUnderstood => {
                Condition::Discard
            }
        }
    }
}

impl Pins {
    /// Whether the session is free to change its connection.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a reason.
    pub const fn insert(&mut self, pin: Pin) {
        self.0 |= pin.bit();
    }

    /// Forgets all reasons.
    pub const fn clear(&mut self) {
        self.0 = 0;
    }

    /// Adds the reasons of another set.
    pub const fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// In what condition a connection is that holds such state.
    pub fn condition(self) -> Condition {
        let worst = Pin::ALL.into_iter().filter(|pin| self.has(*pin));
        let worst = worst.map(Pin::condition).max();
        worst.unwrap_or(Condition::Clean)
    }

    /// Whether this is one of the reasons.
    pub(super) const fn has(self, pin: Pin) -> bool {
        self.0 & pin.bit() != 0
    }

    /// Those that are undone with the transaction that left them.
    ///
    /// An advisory lock of the session, a statement prepared by SQL, a library and what `currval`
    /// remembers are not.
    pub const fn undone_by_rollback(self) -> Self {
        Self(self.0 & Self::UNDONE)
    }

    /// Those that stay when the one statement that would have left them has failed.
    pub const fn left_by_failure(self) -> Self {
        Self(self.0 & !(Self::UNDONE | Pin::PreparedStatement.bit()))
    }

    /// Those that stay when the transaction that left them is rolled back.
    pub const fn left_by_rollback(self) -> Self {
        Self(self.0 & !Self::UNDONE)
    }

    const UNDONE: u16 = Pin::Setting.bit()
        | Pin::Authorization.bit()
        | Pin::TempObject.bit()
        | Pin::HoldCursor.bit()
        | Pin::Listen.bit();

    /// The first reason, for people.
    pub fn first(self) -> Option<Pin> {
        Pin::ALL.into_iter().find(|pin| self.has(*pin))
    }

    /// What the effects of a text leave behind.
    pub fn left_by<'a>(effects: impl Iterator<Item = &'a Effect>) -> Self {
        let mut pins = Self::default();
        for pin in effects.filter_map(pin_of) {
            pins.insert(pin);
        }
        pins
    }
}

/// What an effect leaves on the connection when its transaction is over. What takes state away
/// again (CLOSE, UNLISTEN, an unlock) frees nobody: whether it was the last is not tracked.
fn pin_of(effect: &Effect) -> Option<Pin> {
    match effect {
        // Which is a setting in name only, and nothing resets it.
        Effect::Setting { name, .. } if &**name == "seed" => Some(Pin::Connection),
        Effect::Setting { .. } | Effect::ResetAll => Some(Pin::Setting),
        Effect::PreparedStatement { .. } => Some(Pin::PreparedStatement),
        Effect::TempObject => Some(Pin::TempObject),
        Effect::HoldCursor { .. } => Some(Pin::HoldCursor),
        Effect::Listen { .. } => Some(Pin::Listen),
        Effect::AdvisoryLock => Some(Pin::AdvisoryLock),
        Effect::Load => Some(Pin::Load),
        Effect::Role | Effect::SessionAuthorization => Some(Pin::Authorization),
        Effect::Sequence => Some(Pin::Sequence),
        Effect::Connection { .. } => Some(Pin::Connection),
        Effect::Unknown => Some(Pin::NotUnderstood),
        Effect::LocalSetting { .. }
        | Effect::Deallocate { .. }
        | Effect::OpenCursor { .. }
        | Effect::CloseCursor { .. }
        | Effect::Unlisten { .. }
        | Effect::AdvisoryUnlock
        | Effect::AdvisoryUnlockAll
        | Effect::LargeObject
        | Effect::DiscardAll
        | Effect::DiscardTemp
        | Effect::DiscardSequences
        | Effect::DiscardPlans => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::SetValue;

    #[test]
    fn what_ends_with_its_transaction_pins_nothing() {
        let local = Effect::LocalSetting {
            name: "a".into(),
            value: SetValue::Default,
        };
        let cursor = Effect::OpenCursor { name: "c".into() };
        assert!(Pins::left_by([local, cursor].iter()).is_empty());
    }

    #[test]
    fn a_connection_is_as_bad_as_the_worst_that_is_on_it() {
        let set = |name: &str| Effect::Setting {
            name: name.into(),
            value: SetValue::Default,
        };
        let left_by = |effects: &[Effect]| Pins::left_by(effects.iter()).condition();
        assert_eq!(left_by(&[]), Condition::Clean);
        assert_eq!(left_by(&[set("work_mem")]), Condition::Reset);
        let listen = Effect::Listen {
            channel: "c".into(),
        };
        assert_eq!(left_by(&[set("work_mem"), listen]), Condition::Reset);
        assert_eq!(left_by(&[set("seed"), set("work_mem")]), Condition::Discard);
        assert_eq!(left_by(&[Effect::Load, set("a")]), Condition::Discard);
    }

    #[test]
    fn each_kind_of_state_is_a_reason_of_its_own() {
        for pin in Pin::ALL {
            let mut pins = Pins::default();
            pins.insert(pin);
            assert_eq!(pins.first(), Some(pin));
        }
    }
}
