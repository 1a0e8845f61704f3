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
    let mut left = share(balance.pick, total);
    for server in candidates.filter(is_least) {
        match left.checked_sub(u64::from(server.weight)) {
            Some(rest) => left = rest,
            None => return Some(server.id),
        }
    }
    // The load may change while it is read; then the one that was found first will do.
    Some(first)
}

/// A number below `total` for each of a row of numbers, so that each short stretch of the row is
/// spread over all of them: the fractions of the multiples of the golden ratio.
fn share(pick: u64, total: u64) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let fraction = u128::from(pick.wrapping_mul(GOLDEN));
    u64::try_from((fraction * u128::from(total)) >> 64).unwrap_or(0)
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
            HoldCause::NoPrimary | HoldCause::Failover | HoldCause::Promotion => Why::HeldFailover,
        }),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a snapshot needs some instant, and any will do"
)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cluster::{Address, Epoch, Lag, PrimarySample, Role, Timeline};

    const PRIMARY: ServerId = ServerId(0);
    const NEAR: ServerId = ServerId(1);
    const FAR: ServerId = ServerId(2);

    fn server(id: ServerId, state: ServerState, position: u64) -> ServerView {
        ServerView {
            id,
            name: format!("pg{}", id.0 + 1).into(),
            address: Address {
                host: "localhost".into(),
                port: 5432,
            },
            weight: 100,
            role: Role::Replica,
            state,
            since: Instant::now(),
            timeline: None,
            position: Some(Lsn::from_bytes(position)),
            lag: Some(Lag {
                time: Duration::ZERO,
                bytes: ByteCount(1000 - position),
            }),
            last_seen: None,
            version_num: None,
        }
    }

    fn lagging() -> ServerState {
        ServerState::Out(OutReason::LagBytes {
            lag: ByteCount(2),
            limit: ByteCount(1),
        })
    }

    fn cluster(near: ServerState, far: ServerState) -> Snapshot {
        Snapshot {
            epoch: Epoch(7),
            servers: vec![
                server(PRIMARY, ServerState::Primary, 1000),
                server(NEAR, near, 900),
                server(FAR, far, 500),
            ],
            writes: Writes::Open(PRIMARY),
            lineage: None,
            primary_sample: None,
        }
    }

    fn healthy() -> Snapshot {
        cluster(ServerState::Serving, ServerState::Serving)
    }

    fn decision(intent: Intent, why: Why) -> Decision {
        Decision {
            intent,
            why,
            detail: (why == Why::HintNode).then(|| "pg3".into()),
        }
    }

    fn read(snapshot: &Snapshot, need: Need) -> Choice {
        with_rules(snapshot, need, &RouteRules::default())
    }

    fn with_rules(snapshot: &Snapshot, need: Need, rules: &RouteRules) -> Choice {
        let balance = Balance {
            pick: 0,
            load: &|_| 0,
        };
        choose(
            &decision(Intent::Read, Why::ReadOnly),
            need,
            snapshot,
            rules,
            balance,
        )
    }

    fn go(server: ServerId, intent: Intent, why: Why) -> Choice {
        Choice::Go(Route {
            server,
            epoch: Epoch(7),
            intent,
            why,
        })
    }

    #[test]
    fn a_write_goes_to_the_primary_with_its_own_reason() {
        let balance = Balance {
            pick: 0,
            load: &|_| 0,
        };
        let write = decision(Intent::Write, Why::Ddl);
        let choice = choose(
            &write,
            Need::Bounded,
            &healthy(),
            &RouteRules::default(),
            balance,
        );
        assert_eq!(choice, go(PRIMARY, Intent::Write, Why::Ddl));
    }

    #[test]
    fn without_a_primary_a_write_waits_and_a_read_does_not() {
        let mut snapshot = healthy();
        snapshot.writes = Writes::Held {
            since: Instant::now(),
            cause: HoldCause::Paused,
        };
        let balance = Balance {
            pick: 0,
            load: &|_| 0,
        };
        let write = decision(Intent::Write, Why::Write);
        let choice = choose(
            &write,
            Need::Bounded,
            &snapshot,
            &RouteRules::default(),
            balance,
        );
        assert_eq!(choice, Choice::Wait(Why::HeldPaused));
        assert_eq!(
            read(&snapshot, Need::Bounded),
            go(NEAR, Intent::Read, Why::ReadOnly)
        );
    }

    #[test]
    fn a_read_goes_to_the_least_busy_replica_for_its_weight() {
        let mut snapshot = healthy();
        let busy = |near: u32, far: u32| {
            move |id: ServerId| match id {
                NEAR => near,
                FAR => far,
                ServerId(_) => 0,
            }
        };
        let target = |snapshot: &Snapshot, near: u32, far: u32, pick: u64| {
            let load = busy(near, far);
            let balance = Balance { pick, load: &load };
            let rules = RouteRules::default();
            match choose(
                &decision(Intent::Read, Why::ReadOnly),
                Need::Bounded,
                snapshot,
                &rules,
                balance,
            ) {
                Choice::Go(route) => route.server,
                Choice::Wait(why) | Choice::Refuse(why) => panic!("{why}"),
            }
        };
        assert_eq!(target(&snapshot, 3, 2, 0), FAR);
        assert_eq!(target(&snapshot, 2, 3, 0), NEAR);
        let near_of = |snapshot: &Snapshot, picks: std::ops::Range<u64>| {
            let is_near = |pick: &u64| target(snapshot, 2, 2, *pick) == NEAR;
            picks.filter(is_near).count()
        };
        for from in 0..200 {
            let near = near_of(&snapshot, from..from + 10);
            assert!((4..=6).contains(&near), "{near} of ten from {from} on");
        }
        snapshot.servers[1].weight = 300;
        assert_eq!(
            target(&snapshot, 3, 2, 0),
            NEAR,
            "3 of 300 is less than 2 of 100"
        );
        // In use by each alike, the heavier has less load for its weight.
        assert_eq!(near_of(&snapshot, 0..9), 9);
        let shares = (0..400).filter(|pick| target(&snapshot, 0, 0, *pick) == NEAR);
        assert!((298..=302).contains(&shares.count()));
        snapshot.servers[1].weight = 0;
        assert_eq!(target(&snapshot, 0, 9, 0), FAR);
    }

    #[test]
    fn a_read_after_a_write_goes_only_where_the_write_is() {
        let snapshot = healthy();
        let need = |position| Need::Replayed(Lsn::from_bytes(position));
        assert_eq!(
            read(&snapshot, need(900)),
            go(NEAR, Intent::Read, Why::ReadOnly)
        );
        assert_eq!(
            read(&snapshot, need(901)),
            go(PRIMARY, Intent::Read, Why::SessionFence)
        );
    }

    #[test]
    fn a_write_without_a_later_sample_keeps_reads_on_the_primary() {
        let mut snapshot = healthy();
        let written_at = Instant::now();
        let need = Need::SampleAfter(written_at);
        assert_eq!(
            read(&snapshot, need),
            go(PRIMARY, Intent::Read, Why::SessionFence)
        );
        let sample = |asked_at| PrimarySample {
            asked_at,
            position: Lsn::from_bytes(600),
            timeline: Timeline(1),
        };
        snapshot.primary_sample = Some(sample(written_at - Duration::from_millis(1)));
        assert_eq!(resolve(need, &snapshot), need);
        snapshot.primary_sample = Some(sample(written_at));
        assert_eq!(
            resolve(need, &snapshot),
            Need::Replayed(Lsn::from_bytes(600))
        );
        assert_eq!(read(&snapshot, need), go(NEAR, Intent::Read, Why::ReadOnly));
    }

    #[test]
    fn what_is_done_when_all_lag_is_the_operators_choice() {
        let snapshot = cluster(lagging(), lagging());
        let rules = |when_all_lag| RouteRules {
            when_all_lag,
            ..RouteRules::default()
        };
        let choice = |when| with_rules(&snapshot, Need::Bounded, &rules(when));
        assert_eq!(
            choice(WhenAllLag::Primary),
            go(PRIMARY, Intent::Read, Why::AllLagging)
        );
        assert_eq!(
            choice(WhenAllLag::LeastLag),
            go(NEAR, Intent::Read, Why::AllLagging)
        );
        assert_eq!(choice(WhenAllLag::Error), Choice::Refuse(Why::AllLagging));
    }

    #[test]
    fn without_a_replica_a_read_goes_to_the_primary() {
        let down = ServerState::Down(crate::cluster::DownReason::Refused);
        let choice = read(
            &cluster(down, ServerState::Out(OutReason::Drained)),
            Need::Bounded,
        );
        assert_eq!(choice, go(PRIMARY, Intent::Read, Why::NoReplica));
    }

    #[test]
    fn the_policy_may_keep_reads_on_the_primary_or_share_them() {
        let rules = |reads| RouteRules {
            reads,
            ..RouteRules::default()
        };
        let choice = with_rules(&healthy(), Need::Bounded, &rules(ReadTargets::PrimaryOnly));
        assert_eq!(choice, go(PRIMARY, Intent::Read, Why::PolicyPrimary));
        let shared = rules(ReadTargets::ReplicasAndPrimary);
        let choice = with_rules(&healthy(), Need::Replayed(Lsn::from_bytes(950)), &shared);
        assert_eq!(choice, go(PRIMARY, Intent::Read, Why::ReadOnly));
    }

    #[test]
    fn a_hint_chooses_only_among_servers_that_may_answer() {
        let hinted = decision(Intent::Read, Why::HintNode);
        let target = |snapshot: &Snapshot, need| {
            let balance = Balance {
                pick: 0,
                load: &|_| 0,
            };
            choose(&hinted, need, snapshot, &RouteRules::default(), balance)
        };
        assert_eq!(
            target(&healthy(), Need::Bounded),
            go(FAR, Intent::Read, Why::HintNode)
        );
        let fenced = Need::Replayed(Lsn::from_bytes(800));
        assert_eq!(
            target(&healthy(), fenced),
            go(NEAR, Intent::Read, Why::ReadOnly)
        );
        let out = cluster(ServerState::Serving, lagging());
        assert_eq!(
            target(&out, Need::Bounded),
            go(NEAR, Intent::Read, Why::ReadOnly)
        );
    }

    #[test]
    fn every_server_is_considered_with_its_reason() {
        let mut snapshot = cluster(ServerState::Serving, lagging());
        let refused = |snapshot: &Snapshot, need| {
            considered(need, snapshot, &RouteRules::default())
                .into_iter()
                .map(|considered| considered.refused)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            refused(&snapshot, Need::Bounded),
            [
                Some(Refused::Primary),
                None,
                Some(Refused::State(lagging()))
            ]
        );
        snapshot.servers[2].state = ServerState::Serving;
        snapshot.servers[1].weight = 0;
        assert_eq!(
            refused(&snapshot, Need::Replayed(Lsn::from_bytes(501))),
            [
                Some(Refused::Primary),
                Some(Refused::NoWeight),
                Some(Refused::NotReplayed)
            ]
        );
    }
}
