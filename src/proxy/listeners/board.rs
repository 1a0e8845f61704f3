//! Who listens to what in one database, and what its connection has to be told for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::mailbox::{Delivery, Mailbox};
use crate::session::Channel;
use crate::upstream::Login;

/// The sessions of one listener and their channels.
#[derive(Debug, Default)]
pub(super) struct Board {
    members: BTreeMap<u64, Member>,
    ears: BTreeMap<Channel, BTreeSet<u64>>,
    /// What the connection has said that it listens to.
    subscribed: BTreeSet<Channel>,
    /// The members that may have missed something since the connection was lost.
    shaken: BTreeSet<u64>,
}

#[derive(Debug)]
struct Member {
    mailbox: Arc<Mailbox>,
    login: Arc<Login>,
    /// How many channels it listens to.
    channels: usize,
}

/// What a connection is told at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    listen: Vec<Channel>,
    unlisten: Vec<Channel>,
}

/// How many sessions a notification reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) kept: u64,
    pub(super) dropped: u64,
}

impl Board {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn join(&mut self, client: u64, mailbox: &Arc<Mailbox>, login: &Arc<Login>) {
        let member = Member {
            mailbox: Arc::clone(mailbox),
            login: Arc::clone(login),
            channels: 0,
        };
        self.members.insert(client, member);
    }

    pub(super) fn leave(&mut self, client: u64) {
        self.members.remove(&client);
        self.shaken.remove(&client);
        self.ears.retain(|_, ears| {
            ears.remove(&client);
            !ears.is_empty()
        });
    }

    pub(super) fn add(&mut self, client: u64, channels: &[Channel]) {
        let Some(member) = self.members.get_mut(&client) else {
            return;
        };
        for channel in channels {
            let ears = self.ears.entry(channel.clone()).or_default();
            member.channels += usize::from(ears.insert(client));
        }
    }

    /// A session does not listen to these any more; tells how many are left to it.
    pub(super) fn remove(&mut self, client: u64, channels: &[Channel]) -> usize {
        let Some(member) = self.members.get_mut(&client) else {
            return 0;
        };
        for channel in channels {
            if let Some(ears) = self.ears.get_mut(channel) {
                member.channels -= usize::from(ears.remove(&client));
                if ears.is_empty() {
                    self.ears.remove(channel);
                }
            }
        }
        member.channels
    }

    /// Whether all of these are subscribed to.
    pub(super) fn has_all(&self, channels: &[Channel]) -> bool {
        channels
            .iter()
            .all(|channel| self.subscribed.contains(channel))
    }

    /// One of the identities of those who listen: another one with each attempt.
    pub(super) fn login(&self, attempt: usize) -> Option<Arc<Login>> {
        let count = self.members.len().max(1);
        let member = self.members.values().nth(attempt % count)?;
        Some(Arc::clone(&member.login))
    }

    /// What the connection has to be told; `None` when it knows everything. From then on nobody
    /// misses anything any more.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let is_known = |channel: &&Channel| self.subscribed.contains(*channel);
        let is_wanted = |channel: &&Channel| self.ears.contains_key(*channel);
        let listen = self.ears.keys().filter(|channel| !is_known(channel));
        let unlisten = self.subscribed.iter().filter(|channel| !is_wanted(channel));
        let batch = Batch {
            listen: listen.take(BATCH_MAX).cloned().collect(),
            unlisten: unlisten.take(BATCH_MAX).cloned().collect(),
        };
        if batch == Batch::default() {
            return None;
        }
        // From here on nobody may rely on them.
        for channel in &batch.unlisten {
            self.subscribed.remove(channel);
        }
        Some(batch)
    }

    /// The connection has done what it was told.
    pub(super) fn done(&mut self, batch: Batch) {
        self.subscribed.extend(batch.listen);
    }

    /// The connection knows everything again: whoever may have missed something is told.
    pub(super) fn settle(&mut self) {
        for client in std::mem::take(&mut self.shaken) {
            if let Some(member) = self.members.get(&client) {
                member.mailbox.put_gap();
            }
        }
    }

    /// The connection is lost.
    pub(super) fn lose(&mut self) {
        for channel in std::mem::take(&mut self.subscribed) {
            self.shaken
                .extend(self.ears.get(&channel).into_iter().flatten());
        }
    }

    /// Gives a notification to those who listen to its channel.
    pub(super) fn hear(&self, channel: &[u8], frame: &Bytes, limit: usize) -> Reached {
        let ears = std::str::from_utf8(channel).ok();
        let ears = ears.and_then(|channel| self.ears.get(channel));
        let mut reached = Reached::default();
        for member in ears
            .into_iter()
            .flatten()
            .filter_map(|client| self.members.get(client))
        {
            match member.mailbox.put(frame, limit) {
                Delivery::Kept => reached.kept += 1,
                Delivery::Dropped => reached.dropped += 1,
            }
        }
        reached
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.members.len()
    }

    /// The channels, how many listen to each, and whether the connection does.
    pub(super) fn channels(&self) -> impl Iterator<Item = (&Channel, usize, bool)> {
        self.ears
            .iter()
            .map(|(channel, ears)| (channel, ears.len(), self.subscribed.contains(channel)))
    }
}

impl Batch {
    /// The statements, as one text.
    pub(super) fn text(&self) -> String {
        let unlisten = self.unlisten.iter().map(|name| ("UNLISTEN", name));
        let listen = self.listen.iter().map(|name| ("LISTEN", name));
        unlisten
            .chain(listen)
            .map(|(verb, name)| format!("{verb} \"{}\";", name.replace('"', "\"\"")))
            .collect()
    }
}

/// So many channels are told to a connection at once: the text stays within what a socket takes
/// while its other end is busy sending.
const BATCH_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Input;
    use crate::upstream::Secret;

    fn login(user: &str) -> Arc<Login> {
        Arc::new(Login {
            database: "app".to_owned(),
            user: user.to_owned(),
            secret: Secret::None,
            parameters: BTreeMap::new(),
        })
    }

    fn board(members: &[(u64, &[&str])]) -> (Board, BTreeMap<u64, Arc<Mailbox>>) {
        let mut board = Board::default();
        let mut boxes = BTreeMap::new();
        for (client, channels) in members {
            let mailbox = Arc::new(Mailbox::new(&Arc::default()));
            board.join(*client, &mailbox, &login(&format!("user{client}")));
            board.add(*client, &names(channels));
            boxes.insert(*client, mailbox);
        }
        (board, boxes)
    }

    fn names(channels: &[&str]) -> Vec<Channel> {
        channels.iter().map(|name| (*name).into()).collect()
    }

    /// Tells the connection everything; what it was told.
    fn settle(board: &mut Board) -> String {
        let mut said = String::new();
        while let Some(batch) = board.next_batch() {
            said += &batch.text();
            board.done(batch);
        }
        board.settle();
        said
    }

    #[test]
    fn the_connection_is_told_each_channel_once() {
        let (mut board, _boxes) = board(&[(1, &["a", "B\"c"]), (2, &["a"])]);
        assert!(!board.has_all(&names(&["a"])));
        assert_eq!(settle(&mut board), "LISTEN \"B\"\"c\";LISTEN \"a\";");
        assert!(board.has_all(&names(&["a", "B\"c"])));
        assert_eq!(board.remove(1, &names(&["a", "z"])), 1);
        assert_eq!(settle(&mut board), "");
        board.leave(2);
        assert_eq!(settle(&mut board), "UNLISTEN \"a\";");
        assert!(!board.has_all(&names(&["a"])));
        board.leave(1);
        assert!(board.is_empty());
    }

    #[test]
    fn a_channel_that_is_wanted_again_while_it_is_given_up_is_subscribed_to_again() {
        let (mut board, _boxes) = board(&[(1, &["a"]), (2, &["b"])]);
        settle(&mut board);
        board.remove(1, &names(&["a"]));
        let under_way = board.next_batch().unwrap();
        board.add(2, &names(&["a"]));
        assert!(!board.has_all(&names(&["a"])));
        board.done(under_way);
        assert_eq!(settle(&mut board), "LISTEN \"a\";");
    }

    #[test]
    fn after_a_loss_those_who_listened_are_told_when_it_is_over() {
        let (mut board, boxes) = board(&[(1, &["a"])]);
        settle(&mut board);
        board.lose();
        let late = Arc::new(Mailbox::new(&Arc::default()));
        board.join(2, &late, &login("late"));
        board.add(2, &names(&["a"]));
        assert!(boxes[&1].is_empty());
        assert_eq!(settle(&mut board), "LISTEN \"a\";");
        assert!(matches!(boxes[&1].take(), Some(Input::Missed(_))));
        assert!(late.is_empty());
    }

    #[test]
    fn a_notification_reaches_those_who_listen_to_its_channel() {
        let (board, boxes) = board(&[(1, &["a"]), (2, &["b"])]);
        let frame = Bytes::from_static(b"hello");
        let reached = Reached {
            kept: 1,
            dropped: 0,
        };
        assert_eq!(board.hear(b"a", &frame, 1000), reached);
        assert!(boxes[&2].is_empty() && !boxes[&1].is_empty());
        assert_eq!(board.hear(b"c", &frame, 1000), Reached::default());
        assert_eq!(board.hear(&[0xFF], &frame, 1000), Reached::default());
    }

    #[test]
    fn each_attempt_to_connect_is_somebody_elses() {
        let (board, _boxes) = board(&[(1, &[]), (2, &[])]);
        let users = [0, 1, 2].map(|attempt| board.login(attempt).unwrap().user.clone());
        assert_eq!(users, ["user1", "user2", "user1"]);
    }
}
