//! The channels that a session listens to, followed through its transactions and savepoints.
//!
//! A LISTEN counts from its COMMIT on, and not at all when it is rolled back. The shared listener
//! subscribes before it is answered all the same, so that nothing is missed between the COMMIT
//! and the news of it. Where it cannot be told what became of a transaction, a channel stays: one
//! too many is a message that nobody waits for, one too few is a message that is lost.
//!
//! Source: PostgreSQL 17, async.c, `PreCommit_Notify` and `AtSubAbort_Notify`.

use std::collections::BTreeSet;
use std::mem;

use super::settings::Done;
use crate::statement::{Chain, Effect, Facts, Verb};

/// The name of a channel, as the server has it.
pub type Channel = Box<str>;

/// What a statement does to the channels of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// LISTEN.
    Listen(Channel),
    /// UNLISTEN.
    Unlisten(Channel),
    /// UNLISTEN *.
    UnlistenAll,
}

/// The channels of a session. One that never listened has a pointer.
#[derive(Debug, Default)]
pub(super) struct Channels(Option<Box<Followed>>);

#[derive(Debug, Default)]
struct Followed {
    /// Those that are listened to.
    now: BTreeSet<Channel>,
    /// Those that the shared listener has subscribed to for this session: also what an open
    /// transaction has asked for.
    subscribed: BTreeSet<Channel>,
    /// What the open transaction does when it commits, in order.
    pending: Vec<Wish>,
    /// Its savepoints since the first of these, with how many there were.
    savepoints: Vec<(Box<str>, usize)>,
    marks: Marks,
    /// Whether the open transaction may have notified.
    notified: bool,
}

/// What is known of the savepoints of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Marks {
    /// All of them.
    #[default]
    Known,
    /// Not all.
    Unclear,
}

impl Wish {
    /// What a statement with this effect does, if anything.
    pub(super) fn of(effect: &Effect) -> Option<Self> {
        match effect {
            Effect::Listen { channel } => Some(Self::Listen(cut(channel))),
            Effect::Unlisten {
                channel: Some(name),
            } => Some(Self::Unlisten(cut(name))),
            Effect::Unlisten { channel: None } => Some(Self::UnlistenAll),
            Effect::Setting { .. }
            | Effect::LocalSetting { .. }
            | Effect::ResetAll
            | Effect::Role
            | Effect::SessionAuthorization
            | Effect::PreparedStatement { .. }
            | Effect::Deallocate { .. }
            | Effect::TempObject
            | Effect::OpenCursor { .. }
            | Effect::HoldCursor { .. }
            | Effect::CloseCursor { .. }
            | Effect::AdvisoryLock
            | Effect::AdvisoryUnlock
            | Effect::AdvisoryUnlockAll
            | Effect::LargeObject
            | Effect::Load
            | Effect::Sequence
            | Effect::Connection { .. }
            | Effect::Unknown
            | Effect::DiscardAll
            | Effect::DiscardTemp
            | Effect::DiscardSequences
            | Effect::DiscardPlans => None,
        }
    }

    /// What the statements of a text do, in order.
    pub(super) fn all_of(facts: &Facts) -> Vec<Self> {
        facts.session_effects().filter_map(Self::of).collect()
    }

    /// The tag of its command.
    pub(super) const fn tag(&self) -> &'static str {
        match self {
            Self::Listen(_) => "LISTEN",
            Self::Unlisten(_) | Self::UnlistenAll => "UNLISTEN",
        }
    }

    /// The channel that it wants.
    const fn wanted(&self) -> Option<&Channel> {
        match self {
            Self::Listen(channel) => Some(channel),
            Self::Unlisten(_) | Self::UnlistenAll => None,
        }
    }
}

impl Channels {
    /// Whether the session has nothing to do with any channel.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Those that the session listens to.
    pub(super) fn now(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter().flat_map(|followed| followed.now.iter())
    }

    /// Whether the session listens to a channel.
    pub(super) fn has(&self, channel: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|followed| {
            std::str::from_utf8(channel).is_ok_and(|name| followed.now.contains(name))
        })
    }

    /// How many channels are subscribed to, and how much is remembered of an open transaction.
    pub(super) fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |followed| {
            followed.subscribed.len().max(followed.pending.len())
        })
    }

    /// The open transaction may have notified, if somebody listens.
    pub(super) fn note_notified(&mut self) {
        if let Some(followed) = &mut self.0 {
            followed.notified = true;
        }
    }

    /// Whether it may have; it is over.
    pub(super) fn take_notified(&mut self) -> bool {
        let followed = self.0.as_mut();
        followed.is_some_and(|followed| mem::take(&mut followed.notified))
    }

    /// The channels that have to be subscribed to before these wishes are answered.
    pub(super) fn missing(&self, wishes: &[Wish]) -> Vec<Channel> {
        let subscribed = self.0.as_ref().map(|followed| &followed.subscribed);
        let is_new = |name: &&Channel| subscribed.is_none_or(|known| !known.contains(*name));
        let wanted = wishes.iter().filter_map(Wish::wanted);
        let missing: BTreeSet<_> = wanted.filter(is_new).cloned().collect();
        missing.into_iter().collect()
    }

    /// The shared listener has subscribed to these.
    pub(super) fn subscribed(&mut self, channels: Vec<Channel>) {
        if !channels.is_empty() {
            let followed = self.0.get_or_insert_default();
            followed.subscribed.extend(channels);
        }
    }

    /// Statements that were run, and did not fail.
    pub(super) fn done(&mut self, wishes: Vec<Wish>, in_transaction: bool) {
        let followed = self.0.get_or_insert_default();
        followed.pending.extend(wishes);
        if !in_transaction {
            followed.commit();
        }
    }

    /// Statements that may have been run, and may be committed.
    pub(super) fn done_in_doubt(&mut self, wishes: Vec<Wish>) {
        self.0.get_or_insert_default().keep(wishes);
    }

    /// A command about a transaction is done.
    pub(super) fn shape(&mut self, verb: &Verb, done: Done, in_transaction: bool) {
        let Some(followed) = &mut self.0 else {
            return;
        };
        match verb {
            Verb::Savepoint(name) if in_transaction => followed.mark(name),
            Verb::Release(name) => followed.release(name),
            Verb::RollbackTo(name) => followed.roll_back_to(name),
            Verb::Rollback(Chain::Chain | Chain::NoChain) => followed.roll_back(),
            Verb::Commit(_) | Verb::PrepareTransaction if done == Done::Rollback => {
                followed.roll_back();
            }
            Verb::Commit(_) | Verb::PrepareTransaction => followed.commit(),
            Verb::Begin(_)
            | Verb::SetTransaction(_)
            | Verb::SetSnapshot
            | Verb::SetConstraints
            | Verb::Savepoint(_)
            | Verb::FinishPrepared => {}
        }
    }

    /// Something was done that may have begun, marked or ended transactions.
    pub(super) fn shape_unseen(&mut self) {
        if let Some(followed) = &mut self.0 {
            let pending = mem::take(&mut followed.pending);
            followed.keep(pending);
            followed.end();
        }
    }

    /// The transaction is gone.
    pub(super) fn roll_back(&mut self) {
        if let Some(followed) = &mut self.0 {
            followed.roll_back();
        }
    }

    /// Nothing is listened to any more: DISCARD ALL.
    pub(super) fn clear(&mut self) {
        if let Some(followed) = &mut self.0 {
            followed.now.clear();
            followed.roll_back();
        }
    }

    /// The channels that are subscribed to and not needed any more; they are forgotten.
    pub(super) fn take_surplus(&mut self) -> Vec<Channel> {
        let Some(followed) = &mut self.0 else {
            return Vec::new();
        };
        let pending: BTreeSet<_> = followed.pending.iter().filter_map(Wish::wanted).collect();
        let is_needed = |name: &Channel| followed.now.contains(name) || pending.contains(name);
        let surplus = followed.subscribed.iter().filter(|name| !is_needed(name));
        let surplus: Vec<_> = surplus.cloned().collect();
        for name in &surplus {
            followed.subscribed.remove(name);
        }
        if followed.subscribed.is_empty() && followed.pending.is_empty() {
            self.0 = None;
        }
        surplus
    }
}

impl Followed {
    fn commit(&mut self) {
        for wish in mem::take(&mut self.pending) {
            match wish {
                Wish::Listen(channel) => {
                    self.now.insert(channel);
                }
                Wish::Unlisten(channel) => {
                    self.now.remove(&channel);
                }
                Wish::UnlistenAll => self.now.clear(),
            }
        }
        self.end();
    }

    /// What may have been committed: no channel is given up for it.
    fn keep(&mut self, wishes: Vec<Wish>) {
        let listens = |wish| match wish {
            Wish::Listen(channel) => Some(channel),
            Wish::Unlisten(_) | Wish::UnlistenAll => None,
        };
        self.now.extend(wishes.into_iter().filter_map(listens));
    }

    fn roll_back(&mut self) {
        self.pending.clear();
        self.end();
    }

    fn end(&mut self) {
        self.savepoints.clear();
        self.marks = Marks::Known;
    }

    fn mark(&mut self, name: &str) {
        // One before the first wish takes all of them back, and need not be known for that.
        if self.pending.is_empty() {
            return;
        }
        match self.savepoints.len() < SAVEPOINTS_MAX {
            true => self.savepoints.push((name.into(), self.pending.len())),
            false => self.marks = Marks::Unclear,
        }
    }

    fn release(&mut self, name: &str) {
        if let Some(at) = self.place_of(name) {
            self.savepoints.truncate(at);
        }
    }

    fn roll_back_to(&mut self, name: &str) {
        let kept = match self.place_of(name) {
            Some(at) => {
                self.savepoints.truncate(at + 1);
                self.savepoints.last().map_or(0, |(_, kept)| *kept)
            }
            None if self.marks == Marks::Unclear => {
                let pending = mem::take(&mut self.pending);
                self.keep(pending);
                0
            }
            None => {
                self.savepoints.clear();
                0
            }
        };
        self.pending.truncate(kept);
    }

    /// Where the savepoint is that a name means: the last one of that name.
    fn place_of(&self, name: &str) -> Option<usize> {
        self.savepoints
            .iter()
            .rposition(|(known, _)| **known == *name)
    }
}

/// A name as the server keeps it: so many bytes of it, in whole characters.
///
/// Source: PostgreSQL 17, scansup.c, `truncate_identifier`; `NAMEDATALEN`.
fn cut(name: &str) -> Channel {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or(name).into()
}

/// One less than `NAMEDATALEN`.
pub(super) const NAME_BYTES_MAX: usize = 63;
/// How many savepoints of a transaction are followed. Bounds what a session may hold; beyond, what
/// was wanted before stays.
const SAVEPOINTS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{FactsCache, Reading};

    /// Runs texts one after another; `in_transaction` as after each of them.
    fn run(channels: &mut Channels, texts: &[&str]) {
        let cache = FactsCache::<()>::new(1 << 20, [1, 2]);
        let mut in_transaction = false;
        for text in texts {
            let facts = cache.facts(text.as_bytes(), Reading::STANDARD);
            let verb = facts.statements.first().and_then(|s| s.transaction());
            in_transaction |= matches!(verb, Some(Verb::Begin(_)));
            in_transaction &= !matches!(verb, Some(Verb::Commit(_) | Verb::Rollback(_)));
            let wishes = Wish::all_of(&facts);
            let missing = channels.missing(&wishes);
            channels.subscribed(missing);
            if !wishes.is_empty() {
                channels.done(wishes, in_transaction);
            }
            if let Some(verb) = verb {
                channels.shape(verb, Done::Shaped, in_transaction);
            }
        }
    }

    /// What is listened to after these texts, in order.
    fn after(texts: &[&str]) -> String {
        let mut channels = Channels::default();
        run(&mut channels, texts);
        let now = channels.0.map(|followed| followed.now).unwrap_or_default();
        now.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_name_is_folded_and_cut_as_the_server_does_it() {
        assert_eq!(after(&["LISTEN News", "LISTEN \"News\""]), "News news");
        let long = "x".repeat(70);
        assert_eq!(after(&[&format!("LISTEN {long}")]), "x".repeat(63));
        assert_eq!(
            after(&[&format!("LISTEN {long}"), &format!("UNLISTEN {long}y")]),
            ""
        );
        let wide = "ü".repeat(40);
        assert_eq!(after(&[&format!("LISTEN \"{wide}\"")]), "ü".repeat(31));
    }

    #[test]
    fn what_a_transaction_wanted_counts_when_it_is_committed() {
        assert_eq!(after(&["BEGIN", "LISTEN a"]), "");
        assert_eq!(after(&["BEGIN", "LISTEN a", "COMMIT"]), "a");
        assert_eq!(after(&["BEGIN", "LISTEN a", "ROLLBACK"]), "");
        assert_eq!(after(&["LISTEN a", "BEGIN", "UNLISTEN *", "ROLLBACK"]), "a");
        let order = [
            "BEGIN",
            "LISTEN a",
            "UNLISTEN *",
            "LISTEN b",
            "UNLISTEN b",
            "LISTEN c",
        ];
        assert_eq!(after(&[&order[..], &["COMMIT"]].concat()), "c");
    }

    #[test]
    fn a_savepoint_takes_back_what_came_after_it() {
        let begin = [
            "BEGIN",
            "SAVEPOINT s",
            "LISTEN a",
            "SAVEPOINT t",
            "LISTEN b",
        ];
        let ends = |end: &[&str]| after(&[&begin[..], end].concat());
        assert_eq!(ends(&["COMMIT"]), "a b");
        assert_eq!(ends(&["ROLLBACK TO t", "COMMIT"]), "a");
        assert_eq!(
            ends(&["ROLLBACK TO t", "LISTEN c", "ROLLBACK TO t", "COMMIT"]),
            "a"
        );
        assert_eq!(ends(&["ROLLBACK TO s", "COMMIT"]), "");
        assert_eq!(ends(&["ROLLBACK TO s", "LISTEN c", "COMMIT"]), "c");
        assert_eq!(ends(&["RELEASE t", "ROLLBACK TO s", "COMMIT"]), "");
        // The same name again hides the one before.
        let again = ["SAVEPOINT s", "LISTEN c", "ROLLBACK TO s", "COMMIT"];
        assert_eq!(ends(&again), "a b");
        let released = [
            "SAVEPOINT s",
            "LISTEN c",
            "RELEASE s",
            "ROLLBACK TO s",
            "COMMIT",
        ];
        assert_eq!(ends(&released), "");
    }

    #[test]
    fn in_doubt_a_channel_stays() {
        let mut channels = Channels::default();
        run(
            &mut channels,
            &["LISTEN a", "BEGIN", "LISTEN b", "UNLISTEN a"],
        );
        channels.shape_unseen();
        channels.roll_back();
        assert!(channels.has(b"a") && channels.has(b"b"));
    }

    #[test]
    fn what_is_not_needed_any_more_is_given_back_once() {
        let mut channels = Channels::default();
        run(&mut channels, &["LISTEN a", "BEGIN", "LISTEN b"]);
        assert!(channels.take_surplus().is_empty());
        channels.roll_back();
        assert_eq!(channels.take_surplus(), ["b".into()]);
        assert!(channels.take_surplus().is_empty());
        run(&mut channels, &["UNLISTEN a"]);
        assert_eq!(channels.take_surplus(), ["a".into()]);
        assert!(channels.is_empty());
    }

    #[test]
    fn more_savepoints_than_are_followed_lose_nothing() {
        let mut channels = Channels::default();
        run(&mut channels, &["BEGIN", "LISTEN a"]);
        let followed = channels.0.as_mut().unwrap();
        for at in 0..=SAVEPOINTS_MAX {
            followed.mark(&format!("s{at}"));
        }
        followed.roll_back_to(&format!("s{SAVEPOINTS_MAX}"));
        followed.roll_back();
        assert!(channels.has(b"a"));
    }
}
