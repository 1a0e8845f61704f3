//! A new configuration in a running router: all of it or nothing, and what changed is said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::Pools;
use crate::clock;
use crate::config::{self, AuthMethod, Change, Config, Environment, ListenTlsMode};
use crate::monitor::{MonitorBusy, MonitorHandle};
use crate::proxy::{Proxy, Settings};
use crate::session::TlsOffer;
use crate::telemetry::Telemetry;
use crate::telemetry::log::LogHandle;
use crate::upstream::ControlTls;

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
    /// What the router began with: what needs a restart is still as it says.
    started: Arc<Config>,
    source: ConfigSource,
    parts: Mutex<Option<Parts>>,
    /// The log, when it is ours to change.
    log: OnceLock<LogHandle>,
}

/// Those who take a part of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) proxy: Weak<Proxy>,
    pub(super) upstreams: Weak<Pools>,
    pub(super) monitor: MonitorHandle,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) tls: ControlTls,
}

impl Reloader {
    pub(super) fn new(config: Config, source: ConfigSource) -> Self {
        let started = Arc::new(config);
        Self {
            config: ArcSwap::new(Arc::clone(&started)),
            started,
            source,
            parts: Mutex::default(),
            log: OnceLock::new(),
        }
    }

    pub(super) fn attach(&self, parts: Parts) {
        *self.lock() = Some(parts);
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Hands the log in, whose level then follows the reloads.
    pub fn set_log(&self, log: LogHandle) {
        let _set_once = self.log.set(log);
    }

    /// What the configuration says since a reload and is in force only after a restart.
    pub(super) fn pending(&self) -> Vec<Change> {
        waiting_for_restart(&self.started, &self.config())
    }

    /// Reads the configuration again and applies it. Returns what changed, a sentence each, and what
    /// waits for a restart, since this reload or an earlier one. The log says the same.
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
        match result {
            Ok(changes) => {
                changes.iter().for_each(log_change);
                info!(changes = changes.len(), "configuration reloaded");
                Ok(changes.iter().map(sentence).collect())
            }
            Err(problems) => {
                for problem in &problems {
                    error!(problem, "configuration not reloaded: the old one stays");
                }
                Err(problems)
            }
        }
    }

    fn try_reload(&self, parts: Option<&Parts>) -> Result<Vec<Change>, Vec<String>> {
        let ConfigSource::File { path, environment } = &self.source else {
            return Err(vec!["this configuration comes from no file".to_owned()]);
        };
        let (new, _warnings) = config::load(path.as_deref(), environment)
            .map_err(|problems| vec![problems.to_string()])?;
        let mut changes = config::diff(&self.config(), &new);
        changes.retain(|change| !change.needs_restart);
        changes.extend(waiting_for_restart(&self.started, &new));
        if let Some(parts) = parts {
            parts
                .apply(&new)
                .map_err(|busy| vec![format!("{busy}: nothing was changed, try again")])?;
        }
        if let Some(log) = self.log.get()
            && let Err(error) = log.set_levels(&new.log.level.to_string())
        {
            error!(error = %error, "the level of the log stays as it is");
        }
        self.config.store(Arc::new(new));
        Ok(changes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Parts>> {
        // Nothing that holds the lock can leave the value half changed.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting_for_restart(started: &Config, new: &Config) -> Vec<Change> {
    let mut changes = config::diff(started, new);
    changes.retain(|change| change.needs_restart);
    changes
}

fn log_change(change: &Change) {
    let Change { key, from, to, .. } = change;
    match change.needs_restart {
        false => info!(key, from, to, "setting changed"),
        true => warn!(key, from, to, "setting changes at the next start"),
    }
}

fn sentence(change: &Change) -> String {
    let later = match change.needs_restart {
        true => " (after a restart)",
        false => "",
    };
    format!("{}: {} -> {}{later}", change.key, change.from, change.to)
}

impl Parts {
    /// What can fail comes first, and then all of it is done.
    fn apply(&self, config: &Config) -> Result<(), MonitorBusy> {
        let place = self.monitor.place_for_rules()?;
        if let Some(proxy) = self.proxy.upgrade() {
            let mut new = settings(config);
            let old = proxy.settings.load_full();
            new.stamp = old.stamp.wrapping_add(1);
            // What needs a restart stays as it is.
            new.databases.clone_from(&old.databases);
            proxy.settings.store(Arc::new(new));
            proxy.verifiers.set_rules(super::lookup_rules(config));
        }
        if let Some(upstreams) = self.upstreams.upgrade() {
            upstreams.set_rules(config.upstream.clone());
        }
        self.tls.set(config.upstream.tls.clone());
        place.put(config.policy.clone());
        Ok(())
    }
}

/// The part of the configuration that sessions see.
pub(super) fn settings(config: &Config) -> Settings {
    let users = config.auth.users.iter();
    Settings {
        stamp: 0,
        session: config.session.clone(),
        route: config.policy.route.clone(),
        server_statements_max: config.upstream.prepared_statements,
        pools: config.upstream.clone(),
        peers: config.peers.clone(),
        clients_max: config.limits.max_client_connections,
        own_clients: config.limits.own_clients.clone(),
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
