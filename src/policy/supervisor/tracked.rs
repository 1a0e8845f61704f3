//! The books of one server: what it said, and what follows from that alone.

use std::time::Instant;

use super::event::Configured;
use crate::cluster::{
    Lag, Lsn, Observation, QuarantineReason, Receiver, ReceiverStatus, Role, ServerId, ServerState,
    Sighting, Timeline,
};
use crate::policy::facts::{Admission, Member, Stream};
use crate::policy::freshness::Gate;
use crate::policy::health::{Health, Verdict};

/// The books of one server.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) configured: Configured,
    pub(super) health: Health,
    pub(super) gate: Gate,
    pub(super) state: ServerState,
    pub(super) since: Instant,
    pub(super) lag: Option<Lag>,
    pub(super) timeline: Option<Timeline>,
    pub(super) stream: Stream,
    latest_end: Option<Lsn>,
    times_primary: u32,
    pub(super) quarantine: Option<QuarantineReason>,
    pub(super) is_drained: bool,
}

impl Tracked {
    pub(super) fn new(
        configured: Configured,
        quarantine: Option<QuarantineReason>,
        now: Instant,
    ) -> Self {
        Self {
            configured,
            health: Health::default(),
            gate: Gate::default(),
            state: ServerState::Unknown,
            since: now,
            lag: None,
            timeline: None,
            stream: Stream::Gone,
            latest_end: None,
            times_primary: 0,
            quarantine,
            is_drained: false,
        }
    }

    pub(super) fn sighting(&self) -> Option<&Sighting> {
        self.health.seen().map(|seen| &seen.sighting)
    }

    pub(super) fn role(&self) -> Role {
        match self.sighting() {
            None => Role::Unknown,
            Some(sighting) if sighting.in_recovery => Role::Replica,
            Some(_) => Role::Primary,
        }
    }

    pub(super) fn learn(&mut self, observation: &Observation, sighting: &Sighting) {
        let received = sighting
            .receiver
            .as_ref()
            .and_then(|receiver| receiver.timeline);
        let timeline = match received {
            Some(timeline) => Some(timeline),
            // Without a receiver a replica can only tell what it last wrote to its control file,
            // which may be late.
            None if sighting.in_recovery => self.timeline.max(sighting.timeline),
            None => sighting.timeline,
        };
        self.times_primary = match sighting.in_recovery {
            true => 0,
            false if timeline == self.timeline => self.times_primary.saturating_add(1),
            false => 1,
        };
        self.timeline = timeline;
        // A receiver whose state is hidden from our role may well stream.
        let streaming = sighting.receiver.as_ref().filter(|receiver| {
            receiver.status == ReceiverStatus::Streaming || receiver.timeline.is_none()
        });
        self.stream = match streaming {
            None => Stream::Gone,
            Some(receiver) => self.connected(observation, receiver),
        };
        self.latest_end = streaming.and_then(|receiver| receiver.latest_end);
    }

    /// Progress is a position that moved, or a message that came; what cannot be told counts as
    /// progress, since a living primary must not be replaced.
    fn connected(&self, observation: &Observation, receiver: &Receiver) -> Stream {
        let message = match receiver.last_message_age {
            Some(age) => observation.answered_at.checked_sub(age),
            None => None,
        };
        let before = match &self.stream {
            Stream::Connected { progress_at, .. } => Some(*progress_at),
            Stream::Gone => None,
        };
        let hidden = receiver.latest_end.is_none() && receiver.last_message_age.is_none();
        let moved = receiver.latest_end > self.latest_end && before.is_some();
        let progress_at = match hidden || moved {
            true => observation.answered_at,
            false => message.max(before).unwrap_or(observation.answered_at),
        };
        Stream::Connected {
            progress_at,
            sender: receiver.sender.clone(),
            timeline: receiver.timeline,
        }
    }

    pub(super) fn member(&self, id: ServerId, verdict: Verdict) -> Member {
        let sighting = self.sighting();
        Member {
            id,
            address: self.configured.address.clone(),
            admission: match (self.quarantine, self.configured.candidate) {
                (Some(_), _) => Admission::Quarantined,
                (None, true) => Admission::Candidate,
                (None, false) => Admission::ReplicaOnly,
            },
            verdict,
            failures: self.health.failures(),
            failing_since: self.health.failing_since(),
            failed_at: self.health.failed_at(),
            role: self.role(),
            times_primary: self.times_primary,
            system_id: sighting.map(|sighting| sighting.system_id),
            timeline: self.timeline,
            furthest: sighting.map(|sighting| sighting.furthest),
            replay_paused: sighting.is_some_and(|sighting| sighting.replay_paused),
            stream: self.stream.clone(),
            asked_at: self.health.seen().map(|seen| seen.asked_at),
        }
    }
}
