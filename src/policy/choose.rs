//! Which server a unit of work goes to: a decision, a snapshot and the load in; one choice out.
//!
//! Nothing here allocates but [`considered`], which is for people.

use super::{
    Considered, Decision, Intent, Need, ReadTargets, Refused, Route, RouteRules, WhenAllLag, Why,
};
use crate::cluster::{
    ByteCount, HoldCause, Lsn, OutReason, ServerId, ServerState, ServerView, Snapshot, Writes,
};

/// What is done with a unit of work now.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// It goes there.
    Go(Route),
    /// It waits for another snapshot.
    Wait(Why),
    /// It is refused.
    Refuse(Why),
}

/// What the choice among several servers is made by.
#[derive(Clone, Copy)]
pub struct Balance<'a> {
    /// The caller's rotating or random number.
    pub pick: u64,
    /// How busy a server is: the connections in use there.
    pub load: &'a dyn Fn(ServerId) -> u32,
}

impl std::fmt::Debug for Balance<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balance")
            .field("pick", &self.pick)
            .finish_non_exhaustive()
    }
}

/// Which server a unit of work goes to.
pub fn choose(
    decision: &Decision,
    need: Need,
    snapshot: &Snapshot,
    rules: &RouteRules,
    balance: Balance<'_>,
) -> Choice {
    if decision.intent == Intent::Write {
        return to_primary(snapshot, Intent::Write, decision.why);
    }
    if rules.reads == ReadTargets::PrimaryOnly {
        return to_primary(snapshot, Intent::Read, Why::PolicyPrimary);
    }
    let need = resolve(need, snapshot);
    let go = |server: ServerId, why: Why| {
        Choice::Go(Route {
            server,
            epoch: snapshot.epoch,
            intent: Intent::Read,
            why,
        })
    };
    if decision.why == Why::HintNode {
        let is_named = |server: &&ServerView| Some(&*server.name) == decision.detail.as_deref();
        let named = snapshot.servers.iter().find(is_named);
        let usable = named.filter(|server| {
            snapshot.primary() == Some(server.id) || refusal(server, need).is_none()
        });
        if let Some(server) = usable {
            return go(server.id, Why::HintNode);
        }
    }
    let why = if decision.why == Why::HintNode {
        Why::ReadOnly
    } else {
        decision.why
    };
    let may_read = |server: &&ServerView| is_candidate(server, need, rules);
    if let Some(server) = least_busy(snapshot.servers.iter().filter(may_read), balance) {
        return go(server, why);
    }
    let cause = why_no_replica(snapshot, need);
    match (cause, rules.when_all_lag) {
        (Why::AllLagging, WhenAllLag::LeastLag) => match least_lagging(snapshot, need) {
            Some(server) => go(server, Why::AllLagging),
            None => to_primary(snapshot, Intent::Read, cause),
        },
        (Why::AllLagging, WhenAllLag::Error) => Choice::Refuse(cause),
        _ => to_primary(snapshot, Intent::Read, cause),
    }
}

/// The need with what the snapshot knows of the primary put in.
pub fn resolve(need: Need, snapshot: &Snapshot) -> Need {
    match (need, &snapshot.primary_sample) {
        (Need::SampleAfter(written_at), Some(sample)) if sample.asked_at >= written_at => {
            Need::Replayed(sample.position)
        }
        _ => need,
    }
}

/// Every server, and why a read of this need would not go there.
pub fn considered(need: Need, snapshot: &Snapshot, rules: &RouteRules) -> Vec<Considered> {
    let need = resolve(need, snapshot);
    let found = |server: &ServerView| Considered {
        server: server.id,
        refused: if is_candidate(server, need, rules) {
            None
        } else if server.state == ServerState::Primary {
            (rules.reads != ReadTargets::PrimaryOnly).then_some(Refused::Primary)
        } else {
            refusal(server, need)
        },
    };
    snapshot.servers.iter().map(found).collect()
}

fn is_candidate(server: &ServerView, need: Need, rules: &RouteRules) -> bool {
    match (rules.reads, server.state) {
        (ReadTargets::PrimaryOnly, _) => false,
        (ReadTargets::ReplicasAndPrimary, ServerState::Primary) => server.weight > 0,
        _ => refusal(server, need).is_none(),
    }
}

/// Why a replica cannot answer a read of this need.
fn refusal(server: &ServerView, need: Need) -> Option<Refused> {
    if server.state != ServerState::Serving {
        return Some(Refused::State(server.state));
    }
    if server.weight == 0 {
        return Some(Refused::NoWeight);
    }
    (!has_replayed(server, need)).then_some(Refused::NotReplayed)
}

fn has_replayed(server: &ServerView, need: Need) -> bool {
    match need {
        Need::Bounded => true,
        Need::Replayed(position) => server.position.is_some_and(|at: Lsn| at >= position),
        Need::SampleAfter(_) => false,
    }
}

/// The server with the fewest connections in use for its weight; among equals, by weight and pick.
fn least_busy<'s>(
    candidates: impl Iterator<Item = &'s ServerView> + Clone,
    balance: Balance<'_>,
) -> Option<ServerId> {
    // Load per weight, compared crosswise so that it stays in integers.
    let is_less = |a: (u64, u64), b: (u64, u64)| a.0 * b.1 < b.0 * a.1;
    let cost = |server: &ServerView| {
        (
            u64::from((balance.load)(server.id)),
            u64::from(server.weight),
        )
    };
    let mut least: Option<(ServerId, (u64, u64))> = None;
    for server in candidates.clone() {
        let cost = cost(server);
        if least.is_none_or(|(_, least)| is_less(cost, least)) {
            least = Some((server.id, cost));
        }
    }
    let (first, least) = least?;
    let is_least = |server: &&ServerView| !is_less(least, cost(server));
    let total: u64 = candidates
        .clone()
        .filter(is_least)
        .map(|server| u64::from(server.weight))
        .sum();
    // The load may change while it is read; then the one that was found first will do.
    let Some(mut left) = balance.pick.checked_rem(total) else {
        return Some(first);
    };
    for server in candidates.filter(is_least) {
        match left.checked_sub(u64::from(server.weight)) {
            Some(rest) => left = rest,
            None => return Some(server.id),
        }
    }
    Some(first)
}

fn why_no_replica(snapshot: &Snapshot, need: Need) -> Why {
    let refusals = || {
        snapshot
            .servers
            .iter()
            .filter_map(|server| refusal(server, need))
    };
    if refusals().any(|refused| refused == Refused::NotReplayed) {
        return Why::SessionFence;
    }
    let is_lag = |refused: Refused| matches!(refused, Refused::State(state) if is_lagging(state));
    match refusals().any(is_lag) {
        true => Why::AllLagging,
        false => Why::NoReplica,
    }
}

fn is_lagging(state: ServerState) -> bool {
    match state {
        ServerState::Out(reason) => match reason {
            OutReason::LagUnknown
            | OutReason::LagTime { .. }
            | OutReason::LagBytes { .. }
            | OutReason::ComingBack { .. } => true,
            OutReason::NotStreaming | OutReason::WrongTimeline | OutReason::Drained => false,
        },
        ServerState::Unknown
        | ServerState::Primary
        | ServerState::Serving
        | ServerState::Down(_)
        | ServerState::Quarantined(_) => false,
    }
}

/// The replica that lags least. It is on the current timeline: any other state would not be lag.
fn least_lagging(snapshot: &Snapshot, need: Need) -> Option<ServerId> {
    snapshot
        .servers
        .iter()
        .filter(|server| is_lagging(server.state) && server.weight > 0)
        .filter(|server| has_replayed(server, need))
        .min_by_key(|server| server.lag.map_or(ByteCount(u64::MAX), |lag| lag.bytes))
        .map(|server| server.id)
}

fn to_primary(snapshot: &Snapshot, intent: Intent, why: Why) -> Choice {
    match snapshot.writes {
        Writes::Open(server) => Choice::Go(Route {
            server,
            epoch: snapshot.epoch,
            intent,
            why,
        }),
        Writes::Held { cause, .. } => Choice::Wait(match cause {
            HoldCause::Paused => Why::HeldPaused,
            HoldCause::NoPrimary | HoldCause::Failover => Why::HeldFailover,
        }),
    }
}
