//! Several routers behind one address: which of them made a key to cancel with.
//!
//! The client of a session cancels on a new connection, which may come to another router than the
//! session did. So the number in a key tells the router that made it.

use std::collections::BTreeMap;

use super::Address;

/// The routers that clients reach by the same address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// This one; `None` when it is alone.
    pub own: Option<RouterId>,
    /// All others.
    pub others: BTreeMap<RouterId, Address>,
}

/// A router among its peers: from 1 to [`RouterId::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouterId(u8);

impl RouterId {
    /// The greatest.
    pub const MAX: u8 = 63;

    /// The router of this number, if it is one.
    pub fn new(number: u64) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }
}

impl Peers {
    /// The number of a new key, made of random bits.
    ///
    /// libpq takes it for a process: it is positive. No server's process has so high a one, so that
    /// a notification of another is never taken for one's own.
    pub fn number(&self, random: u32) -> u32 {
        let number = random & RANDOM_BITS | OURS;
        match self.own {
            None => number,
            Some(RouterId(own)) => number & !ROUTER_BITS | u32::from(own) << ROUTER_SHIFT,
        }
    }

    /// Where the router listens that made a key of this number; nowhere if that was this one, or
    /// none that is known.
    pub fn maker(&self, number: u32) -> Option<&Address> {
        let is_made = number & (OURS | PASSED_ON) == OURS;
        let router = u64::from((number & ROUTER_BITS) >> ROUTER_SHIFT);
        self.others.get(&RouterId::new(router).filter(|_| is_made)?)
    }

    /// The number as one router tells it another. It is not passed on once more.
    pub const fn passed_on(number: u32) -> u32 {
        number | PASSED_ON
    }

    /// The number as it was made.
    pub const fn as_made(number: u32) -> u32 {
        number & !PASSED_ON
    }
}

/// No client has a number with this bit.
const PASSED_ON: u32 = 0x8000_0000;
const OURS: u32 = 0x4000_0000;
const RANDOM_BITS: u32 = 0x3FFF_FFFF;
const ROUTER_SHIFT: u32 = 24;
const ROUTER_BITS: u32 = 0x3F00_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(own: u64, others: &[u64]) -> Peers {
        let other = |number: &u64| {
            let address = format!("router{number}").parse().unwrap();
            (RouterId::new(*number).unwrap(), address)
        };
        Peers {
            own: RouterId::new(own),
            others: others.iter().map(other).collect(),
        }
    }

    #[test]
    fn a_key_tells_the_others_who_made_it() {
        for own in [1, 2, 63] {
            for random in [0, u32::MAX, 0x1234_5678] {
                let number = peers(own, &[]).number(random);
                assert!(number.cast_signed() >= 0x4000_0000);
                let found = peers(7, &[1, 2, 63]).maker(number).cloned();
                assert_eq!(found, Some(format!("router{own}").parse().unwrap()));
                assert_eq!(peers(own, &[7]).maker(number), None, "its own");
            }
        }
    }

    #[test]
    fn what_was_passed_on_goes_no_further() {
        let number = peers(1, &[]).number(5);
        let told = Peers::passed_on(number);
        assert_eq!(peers(2, &[1]).maker(told), None);
        assert_eq!(Peers::as_made(told), number);
        assert_eq!(Peers::as_made(number), number);
    }

    #[test]
    fn the_process_of_a_server_is_nobodys_key() {
        for number in [0, 1, 0x0100_0000, 0x013F_FFFF] {
            assert_eq!(peers(2, &[1]).maker(number), None);
        }
    }

    #[test]
    fn one_that_is_alone_has_all_bits_for_itself() {
        assert_eq!(Peers::default().number(u32::MAX), 0x7FFF_FFFF);
    }

    #[test]
    fn there_are_sixty_three_of_them() {
        assert_eq!(RouterId::new(0), None);
        assert!(RouterId::new(63).is_some());
        assert_eq!(RouterId::new(64), None);
        assert_eq!(RouterId::new(257), None);
    }
}
