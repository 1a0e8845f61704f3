//! What a session has set, followed through its transactions and savepoints.
//!
//! Source: PostgreSQL 17, guc.c, `AtEOXact_GUC`: what is rolled back is as it was at the beginning of
//! the transaction, or at the savepoint; what is committed stays. SET LOCAL never stays.

use std::sync::Arc;

use super::values::{Change, Values, difference};
use crate::statement::{Chain, Verb};

/// What a session takes along. One that has set nothing has a pointer.
#[derive(Debug, Default)]
pub(in crate::session) struct Settings(Option<Box<Followed>>);

#[derive(Debug, Default)]
struct Followed {
    now: Option<Arc<Values>>,
    /// What the open transaction may go back to; `None` while it has changed and marked nothing.
    frame: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    before: Option<Arc<Values>>,
    savepoints: Vec<(Box<str>, Option<Arc<Values>>)>,
    marks: Marks,
}

/// What is known of the savepoints of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    /// All of them.
    Known,
    /// Not all.
    Unclear,
}

/// What commands have done, by their tags; of several, what weighs most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::session) enum Done {
    /// Nothing was.
    #[default]
    Nothing,
    /// Something that neither sets nor shapes a transaction.
    Other,
    /// `SET` or `RESET`.
    Set,
    /// A command that begins, marks or ends a transaction.
    Shaped,
    /// `ROLLBACK`, which is also the answer to COMMIT in a failed transaction.
    Rollback,
}

/// It is not known what the session has set: it has to stay where that is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct Doubt;

impl Done {
    /// What a command tag says.
    pub(in crate::session) fn of_tag(tag: Option<&[u8]>) -> Self {
        match tag {
            Some(b"SET" | b"RESET") => Self::Set,
            Some(b"ROLLBACK") => Self::Rollback,
            Some(
                b"BEGIN"
                | b"START TRANSACTION"
                | b"COMMIT"
                | b"SAVEPOINT"
                | b"RELEASE"
                | b"PREPARE TRANSACTION",
            ) => Self::Shaped,
            _ => Self::Other,
        }
    }
}

impl Settings {
    /// What a connection has to have for this session.
    pub(in crate::session) fn now(&self) -> Option<&Arc<Values>> {
        self.0.as_ref()?.now.as_ref()
    }

    /// Whether a connection has what this session wants. Equal sets of two sessions are equal.
    pub(in crate::session) fn are_on(&self, connection: Option<&Arc<Values>>) -> bool {
        match (self.now(), connection) {
            (None, None) => true,
            (Some(wanted), Some(there)) => Arc::ptr_eq(wanted, there) || wanted == there,
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// What has to be told to a connection that has other settings.
    pub(in crate::session) fn told_to(&self, connection: Option<&Arc<Values>>) -> String {
        difference(connection.map(|v| &**v), self.now().map(|v| &**v))
    }

    /// Nothing is set any more, and no error takes that back: DISCARD ALL.
    pub(in crate::session) fn clear(&mut self) {
        self.0 = None;
    }

    /// A statement that changes settings is done.
    ///
    /// # Errors
    ///
    /// When they have become too much to be carried.
    pub(in crate::session) fn change(
        &mut self,
        changes: &[Change],
        in_transaction: bool,
    ) -> Result<(), Doubt> {
        let followed = self.0.get_or_insert_default();
        if in_transaction {
            followed.frame();
        }
        let mut values = followed.now.as_deref().cloned().unwrap_or_default();
        for change in changes {
            values.apply(change);
        }
        let is_too_much = values.is_too_much();
        followed.now = (!values.is_empty()).then(|| Arc::new(values));
        self.rest(in_transaction);
        match is_too_much {
            true => Err(Doubt),
            false => Ok(()),
        }
    }

    /// A command about a transaction is done.
    ///
    /// # Errors
    ///
    /// When what it goes back to is not known.
    pub(in crate::session) fn shape(
        &mut self,
        verb: &Verb,
        done: Done,
        in_transaction: bool,
    ) -> Result<(), Doubt> {
        let result = match verb {
            Verb::Savepoint(name) if in_transaction => self.0.get_or_insert_default().mark(name),
            Verb::Release(name) => self.followed(|followed| followed.release(name)),
            Verb::RollbackTo(name) => self.followed(|followed| followed.roll_back_to(name)),
            Verb::Rollback(_) => self.rolled_back(),
            Verb::Commit(_) | Verb::PrepareTransaction if done == Done::Rollback => {
                self.rolled_back()
            }
            Verb::Commit(Chain::Chain) => self.followed(|followed| {
                followed.frame = None;
                Ok(())
            }),
            Verb::Begin(_)
            | Verb::Commit(Chain::NoChain)
            | Verb::PrepareTransaction
            | Verb::SetTransaction(_)
            | Verb::SetSnapshot
            | Verb::SetConstraints
            | Verb::Savepoint(_)
            | Verb::FinishPrepared => Ok(()),
        };
        self.rest(in_transaction);
        result
    }

    /// Something was done that may have begun, marked or ended transactions.
    ///
    /// # Errors
    ///
    /// When it may have taken back or kept what was set.
    pub(in crate::session) fn shape_unseen(&mut self, in_transaction: bool) -> Result<(), Doubt> {
        let result = match &self.0 {
            Some(followed) if followed.is_changed() => Err(Doubt),
            Some(_) | None => Ok(()),
        };
        if in_transaction {
            self.0.get_or_insert_default().frame().marks = Marks::Unclear;
        }
        self.rest(in_transaction);
        result
    }

    /// The transaction is gone.
    pub(in crate::session) fn roll_back(&mut self) {
        if let Some(followed) = &mut self.0
            && let Some(frame) = followed.frame.take()
        {
            followed.now = frame.before;
        }
        self.rest(false);
    }

    fn rolled_back(&mut self) -> Result<(), Doubt> {
        self.followed(|followed| {
            if let Some(frame) = followed.frame.take() {
                followed.now = frame.before;
            }
            Ok(())
        })
    }

    fn followed(
        &mut self,
        act: impl FnOnce(&mut Followed) -> Result<(), Doubt>,
    ) -> Result<(), Doubt> {
        match &mut self.0 {
            Some(followed) => act(followed),
            None => Ok(()),
        }
    }

    /// Forgets what is not needed any more.
    fn rest(&mut self, in_transaction: bool) {
        if let Some(followed) = &mut self.0 {
            if !in_transaction {
                followed.frame = None;
            }
            if followed.frame.is_none() && followed.now.is_none() {
                self.0 = None;
            }
        }
    }
}

impl Followed {
    /// What the transaction may go back to. Before its first change that is what there is.
    fn frame(&mut self) -> &mut Frame {
        let before = &self.now;
        self.frame.get_or_insert_with(|| Frame {
            before: before.clone(),
            savepoints: Vec::new(),
            marks: Marks::Known,
        })
    }

    /// Whether the open transaction has changed something since it began or was marked.
    fn is_changed(&self) -> bool {
        let differs = |frame: &Frame| frame.before != self.now;
        let has_marked = |frame: &Frame| frame.savepoints.iter().any(|(_, was)| *was != self.now);
        self.frame
            .as_ref()
            .is_some_and(|frame| differs(frame) || has_marked(frame))
    }

    fn mark(&mut self, name: &str) -> Result<(), Doubt> {
        let (now, is_changed) = (self.now.clone(), self.is_changed());
        let frame = self.frame();
        if frame.savepoints.len() < SAVEPOINTS_MAX {
            frame.savepoints.push((name.into(), now));
            return Ok(());
        }
        frame.marks = Marks::Unclear;
        match is_changed {
            true => Err(Doubt),
            false => Ok(()),
        }
    }

    fn release(&mut self, name: &str) -> Result<(), Doubt> {
        match self.place_of(name)? {
            Some(at) => {
                self.frame().savepoints.truncate(at);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn roll_back_to(&mut self, name: &str) -> Result<(), Doubt> {
        if let Some(at) = self.place_of(name)? {
            let frame = self.frame();
            // The savepoint itself stays.
            frame.savepoints.truncate(at + 1);
            self.now = match frame.savepoints.last() {
                Some((_, was)) => was.clone(),
                None => return Err(Doubt),
            };
        }
        Ok(())
    }

    /// Where the savepoint is that a name means: the last one of that name. `None` when nothing was
    /// changed around it.
    fn place_of(&self, name: &str) -> Result<Option<usize>, Doubt> {
        let Some(frame) = &self.frame else {
            return Ok(None);
        };
        if frame.marks == Marks::Unclear {
            return match self.is_changed() {
                true => Err(Doubt),
                false => Ok(None),
            };
        }
        match frame
            .savepoints
            .iter()
            .rposition(|(known, _)| **known == *name)
        {
            Some(at) => Ok(Some(at)),
            // The server knew it: something was done that was not seen.
            None => Err(Doubt),
        }
    }
}

/// How many savepoints of a transaction are followed. Bounds what a session may hold; beyond, a
/// transaction that has changed settings keeps its connection.
const SAVEPOINTS_MAX: usize = 1000;
