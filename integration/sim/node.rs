//! A played PostgreSQL server: WAL positions, timelines, a WAL receiver, a promotion.

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It answers.
    Up,
    /// Nothing listens.
    Dead,
    /// `57P03` until then.
    Starting(u64),
    /// Everything in it stands still; connections are accepted and nothing comes back.
    Hung,
}

/// What a receiver is pointed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conninfo {
    Node(usize),
    CutOff,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) life: Life,
    pub(crate) in_recovery: bool,
    /// The timelines that its WAL went through, each with the position where it began.
    pub(crate) history: Vec<(u32, u64)>,
    /// The end of its WAL.
    pub(crate) wal: u64,
    pub(crate) replay: u64,
    pub(crate) conninfo: Conninfo,
    /// Our role may not change what it is pointed at.
    pub(crate) refuses: bool,
    /// Where WAL comes from at this moment.
    pub(crate) receives_from: Option<usize>,
    pub(crate) latest_end: u64,
    pub(crate) last_message: u64,
    /// When a promotion that was begun ends.
    pub(crate) promoted_at: Option<u64>,
    /// Bytes of WAL replayed in a tick.
    pub(crate) replay_rate: u64,
    pub(crate) retry_at: u64,
}

impl Node {
    pub(crate) fn timeline(&self) -> u32 {
        self.history.last().map_or(1, |(timeline, _)| *timeline)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life == Life::Up
    }

    /// Where another server's history leaves the one that this node is on; `None` when the other
    /// never was on it.
    fn leaves_at(&self, other: &Self) -> Option<u64> {
        let place = other
            .history
            .iter()
            .position(|entry| Some(entry) == self.history.last())?;
        Some(
            other
                .history
                .get(place + 1)
                .map_or(u64::MAX, |(_, began)| *began),
        )
    }

    /// Follows `source` for one tick. Returns whether it could.
    pub(crate) fn receive(&mut self, source: &Self, from: usize, now: u64) -> bool {
        let Some(leaves_at) = self.leaves_at(source) else {
            return false;
        };
        // PostgreSQL: "new timeline forked off current database system timeline before current
        // recovery point". What was received and not replayed is dropped.
        if self.replay > leaves_at {
            return false;
        }
        if source.history.len() > self.history.len() {
            self.history.clone_from(&source.history);
            self.wal = self.wal.min(leaves_at);
        }
        if source.wal > self.wal || source.wal != self.latest_end {
            self.last_message = now;
        }
        self.wal = self.wal.max(source.wal);
        self.latest_end = source.wal;
        self.receives_from = Some(from);
        true
    }

    pub(crate) fn tick(&mut self, now: u64) {
        if let Life::Starting(until) = self.life
            && now >= until
        {
            self.life = Life::Up;
        }
        if !self.is_up() {
            return;
        }
        if !self.in_recovery {
            self.replay = self.wal;
            return;
        }
        self.replay = self.wal.min(self.replay + self.replay_rate);
        if self.promoted_at.is_some_and(|at| now >= at) {
            self.promoted_at = None;
            self.in_recovery = false;
            self.receives_from = None;
            self.replay = self.wal;
            let next = self.timeline() + 1;
            self.history.push((next, self.wal));
            self.wal += 48;
        }
    }

    /// The process is gone; what is on disk stays.
    pub(crate) fn kill(&mut self) {
        self.life = Life::Dead;
        self.receives_from = None;
        self.promoted_at = None;
    }
}
