//! The metrics as text, put together from the counters and the snapshot when somebody scrapes.
//!
//! Written by `prometheus-client` from a collector of our own: the hot path keeps its bare
//! atomics, and a gauge that the snapshot knows is not stored a second time.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::codes::{ErrorOrigin, LoginResult, RetryCause};
use super::directory::{ClientState, PoolView, ServerConnectionState, Totals};
use super::histogram::Histogram;
use super::meters::{HOLDS, INTENTS, PROBE_FAILURES, ROLES, Telemetry};
use super::process;
use super::time::Moment;
use crate::cluster::{Role, ServerState, ServerView, Snapshot};
use crate::policy::Why;

/// The content type of what [`Telemetry::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<'a> = Vec<(&'a str, &'a str)>;

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

    fn statements(&self, page: &mut Page<'_>) -> fmt::Result {
        let telemetry = &self.telemetry;
        let counts = telemetry.routed_counts();
        page.counter(
            "pgherd_routed_statements",
            "Units of work by where they went and why; no node: held, refused or answered here.",
            counts.iter().map(|count| {
                let node = count.server.map_or("", |server| self.snapshot.name(server));
                let mut labels = self.cluster();
                labels.push(("node", node));
                labels.push(("role", count.server.map_or("none", |_| count.role.as_str())));
                labels.push(("reason", count.why.code()));
                (labels, count.total)
            }),
        )?;
        page.histogram(
            "pgherd_statement_duration_seconds",
            "From the end of the question to the end of the answer.",
            by_role_and_intent()
                .zip(&telemetry.statement_durations)
                .map(|((role, kind), histogram)| {
                    let mut labels = self.cluster();
                    labels.extend([("role", role.as_str()), ("kind", kind)]);
                    (labels, histogram)
                }),
        )?;
        let misroutes = Why::ALL.iter().enumerate().map(|(column, why)| {
            let count = telemetry.misroutes.value(0, column);
            (self.labelled("reason", why.code()), count)
        });
        page.counter(
            "pgherd_misroutes",
            "Statements that a replica refused as a write, by why they were sent there.",
            misroutes.filter(|(_, count)| *count > 0),
        )?;
        page.counter(
            "pgherd_retries",
            "Units of work that were sent again.",
            RetryCause::ALL.iter().map(|cause| {
                let count = telemetry.retries.value(0, *cause as usize);
                (self.labelled("reason", cause.code()), count)
            }),
        )?;
        page.counter(
            "pgherd_transactions",
            "Transactions that ended, statements outside of one included.",
            ROLES.iter().enumerate().map(|(column, role)| {
                let count = telemetry.transactions.value(0, column);
                (self.labelled("role", role.as_str()), count)
            }),
        )?;
        self.parsing(page)?;
        self.errors(page)
    }

    fn parsing(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = [
            (
                "pgherd_parse_failures",
                "Texts that were not understood, and so count as writes.",
                &self.telemetry.parse_failures,
            ),
            (
                "pgherd_parse_cache_hits",
                "Texts whose facts were known.",
                &self.telemetry.parse_cache_hits,
            ),
            (
                "pgherd_parse_cache_misses",
                "Texts that had to be parsed.",
                &self.telemetry.parse_cache_misses,
            ),
        ];
        for (name, help, counter) in counters {
            page.counter(name, help, [(vec![], counter.load(Ordering::Relaxed))])?;
        }
        Ok(())
    }

    fn errors(&self, page: &mut Page<'_>) -> fmt::Result {
        let errors: Vec<_> = ErrorOrigin::ALL
            .iter()
            .flat_map(|origin| {
                let classes = self.telemetry.errors.counted(*origin as usize);
                classes.map(|(class, count)| (origin.code(), class, count))
            })
            .collect();
        page.counter(
            "pgherd_errors",
            "Errors that clients got, by the first two characters of their SQLSTATE.",
            errors.iter().map(|(origin, class, count)| {
                let mut labels = self.cluster();
                labels.extend([("sqlstate_class", class.as_str()), ("origin", *origin)]);
                (labels, *count)
            }),
        )
    }

    fn clients(&self, page: &mut Page<'_>) -> fmt::Result {
        let clients = self.telemetry.directory().clients(self.moment.now);
        page.gauge(
            "pgherd_client_connections",
            "Clients by what they are doing.",
            ClientState::ALL.iter().map(|state| {
                let count = clients
                    .iter()
                    .filter(|client| client.state == *state)
                    .count();
                (vec![("state", state.code())], count_of(count))
            }),
        )?;
        let mut pins: Vec<_> = clients
            .iter()
            .filter_map(|client| client.pinned_reason)
            .collect();
        pins.sort_unstable();
        page.gauge(
            "pgherd_sessions_pinned",
            "Sessions that must stay on one server connection, by why.",
            pins.chunk_by(|a, b| a == b).filter_map(|pins| {
                let cause = *pins.first()?;
                Some((self.labelled("cause", cause), count_of(pins.len())))
            }),
        )?;
        page.counter(
            "pgherd_client_logins",
            "Logins by how they ended.",
            LoginResult::ALL.iter().map(|result| {
                let count = self.telemetry.logins.value(0, *result as usize);
                (vec![("result", result.code())], count)
            }),
        )?;
        let mut totals = Totals::default();
        for database in self.telemetry.directory().totals().into_values() {
            totals.add(database);
        }
        page.counter(
            "pgherd_client_received_bytes",
            "Bytes that came from clients after their login.",
            [(vec![], totals.received_bytes)],
        )?;
        page.counter(
            "pgherd_client_sent_bytes",
            "Bytes that went to clients after their login.",
            [(vec![], totals.sent_bytes)],
        )?;
        page.gauge(
            "pgherd_clients_held",
            "Statements that wait for a primary.",
            HOLDS
                .iter()
                .zip(&self.telemetry.held)
                .map(|((_, cause), held)| {
                    let count = u64::try_from(held.load(Ordering::Relaxed)).unwrap_or(0);
                    (self.labelled("cause", cause), float(count))
                }),
        )?;
        page.histogram(
            "pgherd_hold_duration_seconds",
            "How long statements waited for a primary.",
            HOLDS
                .iter()
                .zip(&self.telemetry.hold_durations)
                .map(|((_, cause), histogram)| (self.labelled("cause", cause), histogram)),
        )
    }

    fn pools(&self, page: &mut Page<'_>) -> fmt::Result {
        let connections = self.telemetry.directory().server_connections();
        page.gauge(
            "pgherd_server_connections",
            "Connections to servers by what they are doing.",
            self.each_node(|node| {
                let count = |state: ServerConnectionState| {
                    let mine = connections.iter().filter(|connection| {
                        connection.info.server == node.id && connection.state == state
                    });
                    (vec![("state", state.code())], count_of(mine.count()))
                };
                ServerConnectionState::ALL
                    .iter()
                    .map(|state| count(*state))
                    .collect()
            }),
        )?;
        let pools = self.telemetry.directory().pools(self.moment.now);
        page.gauge(
            "pgherd_server_connections_limit",
            "How many connections all pools of the server may have together.",
            self.each_node(|node| {
                let mine = pools.iter().filter(|pool| pool.info.server == node.id);
                let limit = mine.map(|pool| f64::from(pool.info.size)).sum();
                vec![(vec![], limit)]
            }),
        )?;
        page.histogram(
            "pgherd_pool_wait_seconds",
            "How long clients waited for a connection.",
            ROLES
                .iter()
                .zip(&self.telemetry.pool_waits)
                .map(|(role, histogram)| (self.labelled("role", role.as_str()), histogram)),
        )?;
        page.gauge(
            "pgherd_pool_oldest_wait_seconds",
            "How long the first client in a queue has waited for a connection.",
            ROLES.iter().map(|role| {
                let oldest = self.oldest_wait(&pools, *role);
                (self.labelled("role", role.as_str()), oldest)
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

    fn oldest_wait(&self, pools: &[PoolView], role: Role) -> f64 {
        let server_role = |pool: &&PoolView| {
            let server = self.snapshot.server(pool.info.server);
            server.is_some_and(|server| server.role == role)
        };
        let waits = pools.iter().filter(server_role);
        waits
            .map(|pool| pool.oldest_wait.as_secs_f64())
            .fold(0.0, f64::max)
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

/// Writes families of metrics.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, kind)
    }

    fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// The encoder appends `_total` to the name.
    fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_counter(&value, none)?;
            } else {
                family
                    .encode_family(&labels)?
                    .encode_counter(&value, none)?;
            }
        }
        Ok(())
    }

    fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, &'l Histogram)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let buckets = histogram.buckets();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = histogram.sum_seconds();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
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

fn by_role_and_intent() -> impl Iterator<Item = (Role, &'static str)> {
    let intents = |role: &Role| INTENTS.map(|(_, intent)| (*role, intent));
    ROLES.iter().flat_map(intents)
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

const fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float; its reader lives with 53 bits"
)]
const fn float(number: u64) -> f64 {
    number as f64
}

fn count_of(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
