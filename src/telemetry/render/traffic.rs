//! The families that count traffic: statements, clients, connections.

use std::fmt;
use std::sync::atomic::Ordering;

use super::super::codes::{ErrorOrigin, LoginResult, RetryCause};
use super::super::directory::{ClientState, PoolView, ServerConnectionState, Totals};
use super::super::meters::{HOLDS, INTENTS, ROLES};
use super::Scrape;
use super::page::{Page, count_of, float};
use crate::cluster::Role;
use crate::policy::Why;

impl Scrape {
    pub(super) fn statements(&self, page: &mut Page<'_>) -> fmt::Result {
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
            "How long clients waited for units of work that servers answered.",
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
                "pgherd_notifications",
                "Notifications that came for sessions that listen.",
                &self.telemetry.notifications,
            ),
            (
                "pgherd_notifications_dropped",
                "Notifications that a session did not get, because it did not take those before.",
                &self.telemetry.notifications_dropped,
            ),
            (
                "pgherd_listeners_lost",
                "Connections that listened and were lost.",
                &self.telemetry.listeners_lost,
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

    pub(super) fn clients(&self, page: &mut Page<'_>) -> fmt::Result {
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

    pub(super) fn pools(&self, page: &mut Page<'_>) -> fmt::Result {
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
}

fn by_role_and_intent() -> impl Iterator<Item = (Role, &'static str)> {
    let intents = |role: &Role| INTENTS.map(|(_, intent)| (*role, intent));
    ROLES.iter().flat_map(intents)
}
