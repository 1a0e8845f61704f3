//! Health checks, with the meanings that Kubernetes and Patroni gave them.

use std::time::Duration;

use super::sources::RouterView;
use crate::cluster::{ByteCount, Lag, ServerState, Snapshot, Writes};

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) passed: bool,
    pub(super) detail: String,
}

/// How far behind a replica may be, from `?lag=10MB` or `?lag=500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LagBound {
    Time(Duration),
    Bytes(ByteCount),
}

/// Whether clients should be sent here: each check must pass.
pub(super) fn readiness(snapshot: &Snapshot, router: &RouterView) -> Vec<Check> {
    let writes = can_write(snapshot);
    let reads = can_read(snapshot);
    vec![
        Check {
            name: "accepting",
            passed: !router.draining,
            detail: if router.draining { "draining" } else { "ok" }.to_owned(),
        },
        Check {
            name: "cluster",
            passed: writes || reads,
            detail: match (writes, reads) {
                (true, _) => "writes and reads",
                (false, true) => "reads only",
                (false, false) => "no server can be used",
            }
            .to_owned(),
        },
    ]
}

/// Whether writes would be sent on now.
pub(super) fn can_write(snapshot: &Snapshot) -> bool {
    matches!(snapshot.writes, Writes::Open(_))
}

/// Whether any server answers reads now.
pub(super) fn can_read(snapshot: &Snapshot) -> bool {
    can_write(snapshot) || has_replica(snapshot, None)
}

/// Whether a replica answers reads now, and is not further behind than that. The state is the one
/// that the router uses, with its hysteresis: a load balancer does not see it flap.
pub(super) fn has_replica(snapshot: &Snapshot, bound: Option<LagBound>) -> bool {
    let within = |lag: Option<Lag>| match (bound, lag) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(LagBound::Time(bound)), Some(lag)) => lag.time <= bound,
        (Some(LagBound::Bytes(bound)), Some(lag)) => lag.bytes <= bound,
    };
    let mut servers = snapshot.servers.iter();
    servers.any(|server| server.state == ServerState::Serving && within(server.lag))
}

/// Reads a number with a unit; a bare number is bytes, as in Patroni.
pub(super) fn lag_bound(text: &str) -> Option<LagBound> {
    let digits = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let bytes = |shift: u32| {
        let factor = 1_u64 << shift;
        number
            .checked_mul(factor)
            .map(|bytes| LagBound::Bytes(ByteCount(bytes)))
    };
    match unit {
        "" | "B" => bytes(0),
        "kB" => bytes(10),
        "MB" => bytes(20),
        "GB" => bytes(30),
        "ms" => Some(LagBound::Time(Duration::from_millis(number))),
        "s" => Some(LagBound::Time(Duration::from_secs(number))),
        "m" | "min" => {
            let seconds = number.checked_mul(60)?;
            Some(LagBound::Time(Duration::from_secs(seconds)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn a_lag_bound_is_time_or_bytes() {
        let time = |millis| Some(LagBound::Time(Duration::from_millis(millis)));
        let bytes = |bytes| Some(LagBound::Bytes(ByteCount(bytes)));
        for (text, expected) in [
            ("500ms", time(500)),
            ("2s", time(2_000)),
            ("1min", time(60_000)),
            ("1048576", bytes(1 << 20)),
            ("10MB", bytes(10 << 20)),
            ("16kB", bytes(16 << 10)),
            ("", None),
            ("MB", None),
            ("-1s", None),
            ("1 s", None),
            ("10TB", None),
            ("99999999999999999999", None),
            ("18446744073709551615GB", None),
        ] {
            assert_eq!(lag_bound(text), expected, "{text}");
        }
    }

    #[test]
    fn a_replica_must_be_within_the_bound() {
        let mut snapshot = fixture::snapshot();
        assert!(has_replica(&snapshot, lag_bound("12ms")));
        assert!(!has_replica(&snapshot, lag_bound("1ms")));
        assert!(!has_replica(&snapshot, lag_bound("1kB")));
        for server in &mut snapshot.servers {
            server.lag = None;
        }
        assert!(has_replica(&snapshot, None));
        assert!(!has_replica(&snapshot, lag_bound("1min")));
    }
}
