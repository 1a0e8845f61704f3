//! The metrics as text, put together from the counters and the snapshot when somebody scrapes.
//!
//! Written by `prometheus-client` from a collector of our own: the hot path keeps its bare
//! atomics, and a gauge that the snapshot knows is not stored a second time.

mod page;
mod traffic;

use std::fmt;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::meters::{PROBE_FAILURES, Telemetry};
use super::process;
use super::time::Moment;
use page::{Labels, Page, float, seconds, truth};

use crate::cluster::{Role, ServerState, ServerView, Snapshot};

/// The content type of what [`Telemetry::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Telemetry {
    /// All metrics in the OpenMetrics text format.
    pub fn render(self: &Arc<Self>, snapshot: &Arc<Snapshot>, moment: Moment) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape {
            telemetry: Arc::clone(self),
            snapshot: Arc::clone(snapshot),
            moment,
        }));
        let mut text = String::with_capacity(16 << 10);
        // A String takes whatever is written, so there is no error to report.
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }
}

/// One scrape: the counters, the snapshot, the time.
#[derive(Debug)]
struct Scrape {
    telemetry: Arc<Telemetry>,
    snapshot: Arc<Snapshot>,
    moment: Moment,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder };
        self.router(&mut page)?;
        self.nodes(&mut page)?;
        self.replication(&mut page)?;
        self.probes(&mut page)?;
        self.statements(&mut page)?;
        self.clients(&mut page)?;
        self.pools(&mut page)?;
        self.failovers(&mut page)
    }
}

impl Scrape {
    fn router(&self, page: &mut Page<'_>) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        page.family(
            "pgherd_build",
            "The version of the router.",
            MetricType::Info,
        )?
        .encode_info(&version)?;
        page.gauge(
            "process_start_time_seconds",
            "When the router started, since 1970.",
            [(vec![], seconds(self.telemetry.started.wall))],
        )?;
        let used = process::read();
        page.gauge(
            "process_resident_memory_bytes",
            "Resident memory of the router.",
            used.resident_bytes.map(|bytes| (vec![], float(bytes))),
        )?;
        page.gauge(
            "process_open_fds",
            "Open file descriptors of the router.",
            used.open_files.map(|files| (vec![], float(files))),
        )?;
        let reload = self.telemetry.reload.lock();
        let reload = *reload.unwrap_or_else(PoisonError::into_inner);
        page.gauge(
            "pgherd_config_last_reload_successful",
            "Whether the configuration was valid when it was last read again.",
            reload.map(|reload| (vec![], truth(reload.succeeded))),
        )?;
        page.gauge(
            "pgherd_config_last_reload_timestamp_seconds",
            "When the configuration was last read again, since 1970.",
            reload.map(|reload| (vec![], seconds(reload.at))),
        )
    }

    fn nodes(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "pgherd_node_up",
            "Whether the server answers probes.",
            self.each_node(|node| {
                let up = !matches!(node.state, ServerState::Down(_) | ServerState::Unknown);
                vec![(vec![], truth(up))]
            }),
        )?;
        let roles = [Role::Primary, Role::Replica, Role::Unknown];
        page.gauge(
            "pgherd_node_role",
            "What the server says it is: 1 for its role, 0 for the others.",
            self.each_node(|node| {
                let role = |role: Role| (vec![("role", role.as_str())], truth(node.role == role));
                roles.iter().map(|known| role(*known)).collect()
            }),
        )?;
        page.gauge(
            "pgherd_node_state",
            "How the router uses the server: 1 for its state, 0 for the others.",
            self.each_node(|node| {
                let is = |state: &'static str| truth(node.state.as_str() == state);
                let states = STATES.iter();
                states
                    .map(|state| (vec![("state", *state)], is(state)))
                    .collect()
            }),
        )?;
        page.gauge(
            "pgherd_node_eligible",
            "Whether statements of this kind may go to the server now.",
            self.each_node(|node| {
                let reads = matches!(node.state, ServerState::Primary | ServerState::Serving);
                let writes = self.snapshot.primary() == Some(node.id);
                vec![
                    (vec![("kind", "read")], truth(reads && node.weight > 0)),
                    (vec![("kind", "write")], truth(writes)),
                ]
            }),
        )?;
        page.gauge(
            "pgherd_node_timeline",
            "The timeline that the server is on.",
            self.each_node(|node| {
                let timeline = node.timeline.iter();
                timeline
                    .map(|timeline| (vec![], f64::from(timeline.0)))
                    .collect()
            }),
        )
    }

    fn replication(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "pgherd_node_wal_position_bytes",
            "The flushed WAL position of a primary, the replayed one of a replica.",
            self.each_node(|node| {
                let stage = match node.role {
                    Role::Primary => "flush",
                    Role::Replica => "replay",
                    Role::Unknown => return vec![],
                };
                let position = node.position.iter();
                position
                    .map(|position| (vec![("stage", stage)], float(position.to_bytes())))
                    .collect()
            }),
        )?;
        page.gauge(
            "pgherd_replication_lag_seconds",
            "An upper bound of the age of what the replica has replayed.",
            self.each_node(|node| {
                let lag = node.lag.iter();
                lag.map(|lag| (vec![], lag.time.as_secs_f64())).collect()
            }),
        )?;
        page.gauge(
            "pgherd_replication_lag_bytes",
            "How much WAL the replica has still to replay.",
            self.each_node(|node| {
                let lag = node.lag.iter();
                lag.map(|lag| (vec![], float(lag.bytes.0))).collect()
            }),
        )
    }

    fn probes(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "pgherd_last_probe_timestamp_seconds",
            "When the last answered probe was asked, since 1970.",
            self.each_node(|node| {
                let seen = node.last_seen.iter();
                seen.map(|seen| (vec![], seconds(self.moment.wall_of(*seen))))
                    .collect()
            }),
        )?;
        let durations = self.telemetry.probe_durations.iter();
        page.histogram(
            "pgherd_probe_duration_seconds",
            "How long probes took, the failed ones included.",
            self.snapshot
                .servers
                .iter()
                .zip(durations)
                .map(|(node, histogram)| (self.node(node), histogram)),
        )?;
        page.counter(
            "pgherd_probe_failures",
            "Probes that brought no answer.",
            self.snapshot.servers.iter().flat_map(|node| {
                let causes = PROBE_FAILURES.iter().enumerate();
                causes.map(move |(column, cause)| {
                    let mut labels = self.node(node);
                    labels.push(("cause", *cause));
                    let failures = &self.telemetry.probe_failures;
                    (labels, failures.value(node.id.index(), column))
                })
            }),
        )
    }

    fn failovers(&self, page: &mut Page<'_>) -> fmt::Result {
        let failovers = self.telemetry.failovers.lock();
        let failovers = failovers.unwrap_or_else(PoisonError::into_inner);
        page.counter(
            "pgherd_failovers",
            "Failovers, switchovers and refusals to fail over, by how they ended.",
            failovers.counts.iter().map(|((kind, result), count)| {
                let mut labels = self.cluster();
                labels.extend([("kind", *kind), ("result", *result)]);
                (labels, *count)
            }),
        )?;
        let last = failovers.last;
        page.gauge(
            "pgherd_failover_last_duration_seconds",
            "From the last sign of life of the old primary to the first write on the new one.",
            last.and_then(|(_, duration)| Some((self.cluster(), duration?.as_secs_f64()))),
        )?;
        page.gauge(
            "pgherd_failover_last_timestamp_seconds",
            "When the last failover ended, since 1970.",
            last.map(|(at, _)| (self.cluster(), seconds(at))),
        )
    }

    fn cluster(&self) -> Labels<'_> {
        vec![("cluster", self.telemetry.cluster())]
    }

    fn node<'a>(&'a self, node: &'a ServerView) -> Labels<'a> {
        vec![("cluster", self.telemetry.cluster()), ("node", &node.name)]
    }

    fn labelled<'a>(&'a self, name: &'a str, value: &'a str) -> Labels<'a> {
        vec![("cluster", self.telemetry.cluster()), (name, value)]
    }

    /// The samples of each server, with the labels that name it put in front.
    fn each_node<'a>(
        &'a self,
        samples: impl Fn(&'a ServerView) -> Vec<(Labels<'a>, f64)>,
    ) -> impl Iterator<Item = (Labels<'a>, f64)> {
        self.snapshot.servers.iter().flat_map(move |node| {
            let samples = samples(node).into_iter();
            samples.map(move |(labels, value)| ([self.node(node), labels].concat(), value))
        })
    }
}

/// The words of [`ServerState::as_str`].
const STATES: [&str; 6] = [
    "unknown",
    "primary",
    "serving",
    "out",
    "down",
    "quarantined",
];

#[cfg(test)]
mod tests;
