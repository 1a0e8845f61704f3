//! What the promotion machine may know: one entry for each server, and the rules.

use std::time::{Duration, Instant};

use super::FailoverRules;
use super::candidate::Standing;
use super::health::Verdict;
use crate::cluster::{Address, DownReason, Lineage, Lsn, Role, ServerId, SystemId, Timeline};

/// What the machine may know of one server.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub id: ServerId,
    /// Where it listens.
    pub address: Address,
    /// What it may become.
    pub admission: Admission,
    /// What its probes add up to.
    pub verdict: Verdict,
    /// Failed probes in a row.
    pub failures: u32,
    /// What it said that it is, when it last answered.
    pub role: Role,
    /// How often in a row it said that it is the primary of its timeline.
    pub times_primary: u32,
    /// The cluster that it belongs to.
    pub system_id: Option<SystemId>,
    /// The timeline that it is on.
    pub timeline: Option<Timeline>,
    /// The greatest of received and replayed.
    pub furthest: Option<Lsn>,
    /// Its replay is paused.
    pub replay_paused: bool,
    /// When the first of the probes was asked that failed in a row.
    pub failing_since: Option<Instant>,
    /// When the last probe was asked, if it failed.
    pub failed_at: Option<Instant>,
    /// What its WAL receiver does.
    pub stream: Stream,
    /// When it was last asked and answered.
    pub asked_at: Option<Instant>,
}

/// What a server may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The primary.
    Candidate,
    /// A replica for ever: the configuration says so.
    ReplicaOnly,
    /// Nothing: it is quarantined.
    Quarantined,
}

/// What a WAL receiver does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// There is none, or it has no connection.
    Gone,
    /// It has a connection.
    Connected {
        /// When WAL or a message of the sender last came, as far as probes can tell.
        progress_at: Instant,
        /// Where from.
        sender: Option<Address>,
        /// The timeline that it gets.
        timeline: Option<Timeline>,
    },
}

/// Everything that a step may look at.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// One entry for each configured server.
    pub members: &'a [Member],
    /// The last flushed position that the current primary told, and when it was asked.
    pub known_flushed: Option<(Instant, Lsn)>,
    /// Every server was asked at least once, or had its time.
    pub everybody_asked: bool,
    /// The rules.
    pub rules: &'a FailoverRules,
}

impl<'a> World<'a> {
    /// One server.
    pub fn member(&self, id: ServerId) -> Option<&'a Member> {
        self.members.get(id.index())
    }

    /// Replicas that answer and belong to us.
    pub(super) fn witnesses(
        &self,
        primary: ServerId,
    ) -> impl Iterator<Item = &'a Member> + use<'a> {
        self.members.iter().filter(move |member| {
            member.id != primary
                && member.role == Role::Replica
                && member.verdict == Verdict::Alive
                && member.admission != Admission::Quarantined
        })
    }

    pub(super) fn reachable(&self) -> Vec<ServerId> {
        let alive = |member: &&Member| member.verdict == Verdict::Alive;
        self.members
            .iter()
            .filter(alive)
            .map(|member| member.id)
            .collect()
    }

    /// The primary does not answer, or is none any more. A probe that was asked before it was
    /// `crowned` may be answered after that, and tells of the replica that it was then.
    pub(super) fn is_lost(&self, primary: ServerId, crowned: Option<Instant>) -> bool {
        self.member(primary)
            .is_some_and(|member| match member.verdict {
                Verdict::Doubt(_) | Verdict::Dead(_) => true,
                Verdict::Alive => member.role != Role::Primary && member.asked_at > crowned,
                Verdict::Unknown | Verdict::Impaired(_) | Verdict::Shaky(_) => false,
            })
    }

    /// The primary answers as the primary of the history that we know.
    pub(super) fn is_back(&self, primary: ServerId, lineage: Option<Lineage>) -> bool {
        self.member(primary).is_some_and(|member| {
            let alive = match member.verdict {
                Verdict::Alive => true,
                // It answers, only not what we asked: it is not dead, and writes may try.
                Verdict::Impaired(reason) => reason == DownReason::Failing,
                Verdict::Unknown | Verdict::Shaky(_) | Verdict::Doubt(_) | Verdict::Dead(_) => {
                    false
                }
            };
            alive
                && member.role == Role::Primary
                && member.timeline == lineage.map(|lineage| lineage.timeline)
                && member.system_id == lineage.map(|lineage| lineage.system_id)
        })
    }

    /// The servers that say that they are the primary of the newest timeline of this cluster.
    pub(super) fn newest_primaries(&self, system_id: SystemId) -> Vec<&'a Member> {
        let primaries: Vec<_> = self
            .members
            .iter()
            .filter(|member| {
                member.role == Role::Primary
                    && member.verdict == Verdict::Alive
                    && member.system_id == Some(system_id)
            })
            .collect();
        let newest = primaries.iter().map(|member| member.timeline).max();
        primaries
            .into_iter()
            .filter(|member| Some(member.timeline) == newest && member.timeline.is_some())
            .collect()
    }

    /// The cluster that all servers that answer belong to.
    pub(super) fn common_system_id(&self) -> Option<SystemId> {
        let mut ids = self.members.iter().filter_map(|member| member.system_id);
        let first = ids.next()?;
        ids.all(|id| id == first).then_some(first)
    }
}

impl Member {
    /// Whether WAL, or a sign of life of the sender, came within `limit` of the last answer.
    pub(super) fn receives(&self, limit: Duration) -> bool {
        match (&self.stream, self.asked_at) {
            (Stream::Gone, _) => false,
            (Stream::Connected { .. }, None) => true,
            (Stream::Connected { progress_at, .. }, Some(asked_at)) => {
                asked_at.saturating_duration_since(*progress_at) < limit
            }
        }
    }

    /// Whether it streams the current timeline.
    pub(super) fn streams(&self, lineage: Option<Lineage>) -> bool {
        match &self.stream {
            Stream::Gone => false,
            Stream::Connected { timeline, .. } => {
                *timeline == lineage.map(|lineage| lineage.timeline)
            }
        }
    }

    pub(super) fn standing(&self, primary: ServerId) -> Standing {
        match self.verdict {
            _ if self.id == primary => Standing::OldPrimary,
            _ if self.admission == Admission::Quarantined => Standing::Quarantined,
            Verdict::Alive if self.role != Role::Replica => Standing::Quarantined,
            Verdict::Alive if self.admission == Admission::ReplicaOnly => Standing::NotAllowed,
            Verdict::Alive => Standing::Ready,
            Verdict::Unknown
            | Verdict::Impaired(_)
            | Verdict::Shaky(_)
            | Verdict::Doubt(_)
            | Verdict::Dead(_) => Standing::NoAnswer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: ServerId = ServerId(0);

    /// Whether a primary that was crowned now counts as lost, when it says that it is a replica
    /// and was asked then.
    fn is_lost(asked_at: Instant, crowned: Option<Instant>) -> bool {
        let member = Member {
            id: PRIMARY,
            address: "pg1".parse().unwrap(),
            admission: Admission::Candidate,
            verdict: Verdict::Alive,
            failures: 0,
            role: Role::Replica,
            times_primary: 0,
            system_id: None,
            timeline: None,
            furthest: None,
            replay_paused: false,
            failing_since: None,
            failed_at: None,
            stream: Stream::Gone,
            asked_at: Some(asked_at),
        };
        let world = World {
            members: &[member],
            known_flushed: None,
            everybody_asked: true,
            rules: &FailoverRules::default(),
        };
        world.is_lost(PRIMARY, crowned)
    }

    #[test]
    fn an_answer_that_was_under_way_during_a_promotion_takes_nothing_back() {
        let crowned = crate::clock::now();
        let moment = Duration::from_millis(1);
        assert!(!is_lost(crowned, Some(crowned)));
        assert!(is_lost(crowned + moment, Some(crowned)));
        assert!(is_lost(crowned, None));
    }
}
