//! Is it fine? One word, one sentence, a few numbers.

use serde_json::{Value, json};

use super::sources::ConsoleSources;
use crate::cluster::{HoldCause, ServerState, ServerView, Snapshot, Writes};
use crate::telemetry::rfc3339;

/// How the cluster is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Every server does its work.
    Fine,
    /// Statements are served, and something is missing.
    Degraded,
    /// There is no primary to write to.
    NoWrites,
}

impl Condition {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Degraded => "degraded",
            Self::NoWrites => "no_writes",
        }
    }
}

/// The word for this moment.
pub(super) fn condition(snapshot: &Snapshot) -> Condition {
    let works =
        |server: &ServerView| matches!(server.state, ServerState::Primary | ServerState::Serving);
    match snapshot.writes {
        Writes::Held { .. } => Condition::NoWrites,
        Writes::Open(_) if snapshot.servers.iter().all(works) => Condition::Fine,
        Writes::Open(_) => Condition::Degraded,
    }
}

/// The sentence for this moment.
pub(super) fn sentence(snapshot: &Snapshot) -> String {
    let nodes = count(snapshot.servers.len(), "node");
    let replicas = count(serving(snapshot).count(), "replica");
    let lag = serving(snapshot)
        .filter_map(|server| server.lag)
        .map(|lag| lag.time)
        .max();
    let lag = lag.map_or_else(String::new, |lag| {
        format!(", lag up to {} ms", lag.as_millis())
    });
    let writes = match snapshot.writes {
        Writes::Open(primary) => format!("writes on {}", snapshot.name(primary)),
        Writes::Held { cause, .. } => match cause {
            HoldCause::NoPrimary => "writes wait: there is no primary".to_owned(),
            HoldCause::Failover | HoldCause::Promotion => "writes wait for the failover".to_owned(),
            HoldCause::Paused => "writes wait: an operator paused them".to_owned(),
        },
    };
    let troubles: Vec<_> = snapshot.servers.iter().filter_map(trouble).collect();
    let begin = match condition(snapshot) {
        Condition::Fine => "Fine.",
        Condition::Degraded => "Degraded.",
        Condition::NoWrites => "No writes.",
    };
    let mut sentence = format!("{begin} {nodes}, {writes}, reads on {replicas}{lag}");
    for trouble in troubles {
        sentence.push_str("; ");
        sentence.push_str(&trouble);
    }
    sentence
}

/// What `/api/v1/summary` says.
pub(super) fn summary(sources: &ConsoleSources) -> Value {
    let snapshot = (sources.snapshot)();
    let moment = (sources.clock)();
    let router = (sources.router)();
    let telemetry = &sources.telemetry;
    let primary = snapshot.primary().map(|primary| snapshot.name(primary));
    json!({
        "v": 1,
        "cluster": telemetry.cluster(),
        "state": condition(&snapshot).as_str(),
        "sentence": sentence(&snapshot),
        "primary": primary,
        "replicas_serving": serving(&snapshot).count(),
        "nodes": snapshot.servers.len(),
        "epoch": snapshot.epoch.0,
        "clients": telemetry.directory().clients(moment.now).len(),
        "clients_max": router.max_clients,
        "clients_held": telemetry.clients_held(),
        "draining": router.draining,
        "at": rfc3339(moment.wall),
        "started_at": rfc3339(telemetry.started().wall),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn serving(snapshot: &Snapshot) -> impl Iterator<Item = &ServerView> {
    let servers = snapshot.servers.iter();
    servers.filter(|server| server.state == ServerState::Serving)
}

fn trouble(server: &ServerView) -> Option<String> {
    match server.state {
        ServerState::Primary | ServerState::Serving => None,
        ServerState::Unknown => Some(format!("{} was not asked yet", server.name)),
        ServerState::Out(_) | ServerState::Down(_) | ServerState::Quarantined(_) => {
            Some(format!("{} is {}", server.name, server.state))
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::cluster::DownReason;

    #[test]
    fn a_healthy_cluster_is_fine() {
        let snapshot = fixture::snapshot();
        assert_eq!(condition(&snapshot), Condition::Fine);
        let expected = "Fine. 3 nodes, writes on pg1, reads on 2 replicas, lag up to 12 ms";
        assert_eq!(sentence(&snapshot), expected);
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut snapshot = fixture::snapshot();
        snapshot.servers[2].state = ServerState::Down(DownReason::Refused);
        assert_eq!(condition(&snapshot), Condition::Degraded);
        let expected = "Degraded. 3 nodes, writes on pg1, reads on 1 replica, lag up to 12 ms; \
                        pg3 is down: refused";
        assert_eq!(sentence(&snapshot), expected);
    }

    #[test]
    fn without_a_primary_there_are_no_writes() {
        let mut snapshot = fixture::snapshot();
        let since = snapshot.servers[0].since;
        snapshot.writes = Writes::Held {
            since,
            cause: HoldCause::Failover,
        };
        assert_eq!(condition(&snapshot), Condition::NoWrites);
        assert!(
            sentence(&snapshot).starts_with("No writes. 3 nodes, writes wait for the failover")
        );
    }
}
