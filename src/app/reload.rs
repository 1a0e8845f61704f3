//! A new configuration in a running router: all of it or nothing, and what changed is said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::Pools;
use crate::clock;
use crate::config::{self, AuthMethod, Config, Environment, ListenTlsMode};
use crate::monitor::{MonitorBusy, MonitorHandle};
use crate::proxy::{Proxy, Settings};
use crate::session::TlsOffer;
use crate::telemetry::Telemetry;

/// Where a configuration is read from, again and again.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file, or only the environment.
    File {
        /// The file.
        path: Option<PathBuf>,
        /// The environment of the process.
        environment: Environment,
    },
    /// A text of the program's own, which does not change.
    Fixed,
}

/// Holds the configuration, and replaces it.
#[derive(Debug)]
pub struct Reloader {
    config: ArcSwap<Config>,
    source: ConfigSource,
    parts: Mutex<Option<Parts>>,
}

/// Those who take a part of the configuration.
#[derive(Clone, Debug)]
struct Parts {
    proxy: Weak<Proxy>,
    upstreams: Weak<Pools>,
    monitor: MonitorHandle,
    telemetry: Arc<Telemetry>,
}

impl Reloader {
    pub(super) fn new(config: Config, source: ConfigSource) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            source,
            parts: Mutex::default(),
        }
    }

    pub(super) fn attach(
        &self,
        proxy: &Arc<Proxy>,
        upstreams: &Arc<Pools>,
        monitor: &MonitorHandle,
        telemetry: &Arc<Telemetry>,
    ) {
        *self.lock() = Some(Parts {
            proxy: Arc::downgrade(proxy),
            upstreams: Arc::downgrade(upstreams),
            monitor: monitor.clone(),
            telemetry: Arc::clone(telemetry),
        });
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Reads the configuration again and applies it. Returns what changed, a sentence each.
    ///
    /// # Errors
    ///
    /// What is wrong with it; then nothing was applied.
    pub fn reload(&self) -> Result<Vec<String>, Vec<String>> {
        // Held to the end: of two reloads at once the later one is in force, in all its parts.
        let parts = self.lock();
        let result = self.try_reload(parts.as_ref());
        if let Some(parts) = &*parts {
            parts.telemetry.reloaded(clock::wall(), result.is_ok());
        }
        match &result {
            Ok(changes) => info!(changes = changes.len(), "configuration reloaded"),
            Err(problems) => {
                warn!(
                    problems = problems.len(),
                    "configuration not reloaded: it has errors"
                );
            }
        }
        result
    }

    fn try_reload(&self, parts: Option<&Parts>) -> Result<Vec<String>, Vec<String>> {
        let ConfigSource::File { path, environment } = &self.source else {
            return Err(vec!["this configuration comes from no file".to_owned()]);
        };
        let (new, _warnings) = config::load(path.as_deref(), environment)
            .map_err(|problems| vec![problems.to_string()])?;
        let changes = config::diff(&self.config(), &new);
        if let Some(parts) = parts {
            parts
                .apply(&new)
                .map_err(|busy| vec![format!("{busy}: nothing was changed, try again")])?;
        }
        self.config.store(Arc::new(new));
        let sentence = |change: &config::Change| {
            let later = if change.needs_restart {
                " (after a restart)"
            } else {
                ""
            };
            format!("{}: {} -> {}{later}", change.key, change.from, change.to)
        };
        Ok(changes.iter().map(sentence).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Parts>> {
        // Nothing that holds the lock can leave the value half changed.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    /// What can fail comes first, and then all of it is done.
    fn apply(&self, config: &Config) -> Result<(), MonitorBusy> {
        let place = self.monitor.place_for_rules()?;
        if let Some(proxy) = self.proxy.upgrade() {
            let mut new = settings(config);
            // What needs a restart stays as it is.
            new.databases.clone_from(&proxy.settings.load().databases);
            proxy.settings.store(Arc::new(new));
            proxy.verifiers.set_rules(super::lookup_rules(config));
        }
        if let Some(upstreams) = self.upstreams.upgrade() {
            upstreams.set_rules(config.upstream.clone());
        }
        place.put(config.policy.clone());
        Ok(())
    }
}

/// The part of the configuration that sessions see.
pub(super) fn settings(config: &Config) -> Settings {
    let users = config.auth.users.iter();
    Settings {
        session: config.session.clone(),
        route: config.policy.route.clone(),
        server_statements_max: config.upstream.prepared_statements,
        wait_timeout: config.upstream.wait_timeout,
        clients_max: config.limits.max_client_connections,
        console_wait: config.admin.wait_timeout,
        consoles_max: config.admin.connections,
        replication_max: config.limits.replication_connections,
        access: Arc::clone(&config.auth.access),
        users: (config.auth.method == AuthMethod::File).then(|| {
            users
                .map(|user| (user.name.clone(), user.secret.reveal().to_owned()))
                .collect::<BTreeMap<_, _>>()
        }),
        tls: config.listen.tls.acceptor.clone(),
        tls_offer: match (config.listen.tls.mode, &config.listen.tls.acceptor) {
            (ListenTlsMode::Disable, _) | (_, None) => TlsOffer::No,
            (ListenTlsMode::Allow, Some(_)) => TlsOffer::Offered,
            (ListenTlsMode::Require, Some(_)) => TlsOffer::Required,
        },
        databases: config.cluster.databases.clone(),
        admins: config.admin.users.clone(),
        watchers: config.admin.stats_users.clone(),
    }
}
