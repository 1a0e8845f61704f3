//! From settings to the structs that the program is built from.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Address, ByteCount};
use crate::{policy, session, upstream};

use super::check::{Raw, items};
use super::cross;
use super::model::{
    AdminConfig, AuthConfig, AuthMethod, ClusterConfig, Config, Host, Limits, Listen, LogConfig,
    LogFormat, MonitorConfig, ShutdownConfig,
};
use super::problem::{Code, Place, Problem, Severity};
use super::secret::Secret;
use super::show::Entry;
use super::table::SETTINGS;
use super::userlist::{self, User};
use super::value::Value;

/// Reads settings by key, and collects what is wrong with them.
pub(super) struct Builder<'a> {
    raw: &'a Raw<'a>,
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
    /// The rows that were asked for: one that nobody reads must not be in the table.
    read: BTreeSet<&'static str>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(raw: &'a Raw<'a>, entries: Vec<Entry>, problems: Vec<Problem>) -> Self {
        Self {
            raw,
            entries,
            problems,
            read: BTreeSet::new(),
        }
    }

    /// The servers with their names.
    pub(super) fn addresses(&mut self, cluster: &str) -> Vec<(String, Address)> {
        let Some(entry) = self.entry(&format!("cluster.{cluster}.hosts")) else {
            return Vec::new();
        };
        let mut named: Vec<(Option<String>, Address)> = Vec::new();
        for (index, text) in items(&entry.value).iter().enumerate() {
            let place = self.raw.item_place(&entry, index);
            let (name, address) = match text.split_once('=') {
                Some((name, address)) => (Some(name.trim().to_owned()), address.trim()),
                None => (None, text.as_str()),
            };
            match address.parse::<Address>() {
                Ok(address) if named.iter().any(|(_, known)| *known == address) => {
                    self.error(
                        Code::Duplicate,
                        place,
                        format!("host {address} is there twice"),
                        None,
                    );
                }
                Ok(address) => named.push((name, address)),
                Err(error) => self.error(Code::NotAnAddress, place, error.to_string(), None),
            }
        }
        if items(&entry.value).is_empty() {
            let help = "write hosts = [\"pg1\", \"pg2\"]".to_owned();
            self.error(
                Code::Missing,
                entry.place.clone(),
                "no hosts".into(),
                Some(help),
            );
        }
        let hosts = name_hosts(&named);
        for (index, (name, _)) in hosts.iter().enumerate() {
            if hosts.iter().take(index).any(|(known, _)| known == name) {
                let message = format!("two hosts have the name {name}");
                self.error(Code::Duplicate, entry.place.clone(), message, None);
            }
        }
        hosts
    }

    /// Everything, with the problems that were found on the way.
    pub(super) fn build(
        mut self,
        cluster: &str,
        hosts: Vec<(String, Address)>,
    ) -> (Config, Vec<Problem>) {
        let mut config = Config {
            listen: self.listen(),
            peers: self.peers(),
            monitor: self.monitor(),
            auth: self.auth(),
            policy: self.policy(cluster),
            session: self.session(cluster),
            upstream: self.upstream(cluster),
            admin: AdminConfig {
                users: self.list("admin.users"),
                stats_users: self.list("admin.stats_users"),
                connections: self.count("admin.connections"),
                wait_timeout: self.time("admin.wait_timeout"),
            },
            shutdown: ShutdownConfig {
                transactions: self.time("shutdown.transactions"),
                clients: self.time("shutdown.clients"),
                sigterm_waits_for_clients: self.word("shutdown.sigterm") == "wait_for_clients",
            },
            restart_socket: self.path("restart.socket"),
            log: self.log(),
            state_dir: self.path("state.dir"),
            limits: Limits {
                max_client_connections: self.count(&format!("cluster.{cluster}.pool.max_clients")),
                own_clients: self.own_clients(),
                replication_connections: self.count("limits.replication_connections"),
                worker_threads: self.count("limits.worker_threads"),
            },
            cluster: self.cluster(cluster, hosts),
            entries: Vec::new(),
        };
        debug_assert!(
            config.cluster.hosts.is_empty() || self.read.len() == SETTINGS.len(),
            "settings that nobody reads: {:?}",
            SETTINGS
                .iter()
                .filter(|row| !self.read.contains(row.key))
                .collect::<Vec<_>>()
        );
        config.entries = self.entries;
        let mut problems = self.problems;
        problems.extend(cross::check(&config));
        (config, problems)
    }

    fn listen(&mut self) -> Listen {
        let mut postgres = Vec::new();
        if let Some(entry) = self.entry("listen.postgres") {
            for (index, text) in items(&entry.value).iter().enumerate() {
                match listener(text) {
                    Some(address) => postgres.push(address),
                    None => {
                        let place = self.raw.item_place(&entry, index);
                        self.not_a_listener(place, text);
                    }
                }
            }
            if items(&entry.value).is_empty() {
                let message = "listen.postgres: no address to listen on";
                self.error(Code::Missing, entry.place.clone(), message.into(), None);
            }
        }
        let text = self.text("listen.http");
        let http = listener(&text);
        if http.is_none() && !text.is_empty() {
            let place = self.entry("listen.http").and_then(|entry| entry.place);
            self.not_a_listener(place, &text);
        }
        Listen {
            postgres,
            unix_socket: self.unix_socket(),
            http,
            tls: self.listen_tls(),
        }
    }

    fn unix_socket(&mut self) -> Option<(PathBuf, u32)> {
        let directory = self.path("listen.unix_socket_dir");
        let entry = self.entry("listen.unix_socket_mode")?;
        let text = entry.value.to_string();
        let digits = text.trim_matches('"');
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => Some((directory?, mode)),
            _ => {
                let message = format!("expected octal digits like \"0770\", got {text}");
                self.error(Code::OutOfRange, entry.place, message, None);
                None
            }
        }
    }

    fn not_a_listener(&mut self, place: Option<Place>, text: &str) {
        let message = format!("expected host:port, got {text:?}");
        let help = "write \"127.0.0.1:6432\", or \"0.0.0.0:6432\" for all interfaces";
        self.error(Code::NotAnAddress, place, message, Some(help.into()));
    }

    fn monitor(&mut self) -> MonitorConfig {
        MonitorConfig {
            user: self.text("monitor.user"),
            password: self.password(),
            database: self.text("monitor.database"),
            application_name: self.text("monitor.application_name"),
            passfile: self.raw.passfile.clone(),
        }
    }

    /// The monitor's password, from wherever it is said to be.
    fn password(&mut self) -> Option<Secret> {
        let literal = match self.value("monitor.password") {
            Some(Value::Secret(secret)) => secret,
            _ => None,
        };
        let (variable, file) = (
            self.text("monitor.password.env"),
            self.text("monitor.password.file"),
        );
        if !variable.is_empty() && !file.is_empty() {
            let place = self
                .entry("monitor.password.file")
                .and_then(|entry| entry.place);
            let message = "monitor.password: env and file exclude each other";
            self.error(Code::Conflict, place, message.into(), None);
        }
        let found = if !file.is_empty() {
            self.password_file(&file)
        } else if !variable.is_empty() {
            self.password_variable(&variable)
        } else {
            literal
        };
        // So that a changed secret is a changed setting, wherever it is kept.
        if let Some(entry) = self
            .entries
            .iter_mut()
            .find(|entry| entry.key == "monitor.password")
        {
            entry.value = Value::Secret(found.clone());
        }
        found
    }

    fn password_file(&mut self, file: &str) -> Option<Secret> {
        match std::fs::read_to_string(file) {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\n', '\r']))),
            Err(error) => {
                let place = self
                    .entry("monitor.password.file")
                    .and_then(|entry| entry.place);
                let message = format!("cannot read the password from {file}: {error}");
                self.error(Code::SecretUnreadable, place, message, None);
                None
            }
        }
    }

    fn password_variable(&mut self, variable: &str) -> Option<Secret> {
        let found = self.raw.environment.var(variable).map(Secret::new);
        if found.is_none() {
            let place = self
                .entry("monitor.password.env")
                .and_then(|entry| entry.place);
            let message = format!("environment variable {variable} is not set");
            self.error(Code::SecretUnreadable, place, message, None);
        }
        found
    }

    fn auth(&mut self) -> AuthConfig {
        let method = match self.word("auth.method") {
            "file" => AuthMethod::File,
            "trust" => AuthMethod::Trust,
            _ => AuthMethod::Lookup,
        };
        let file = self.path("auth.file");
        let users = match (&file, method) {
            (Some(file), AuthMethod::File) => self.users(file),
            _ => Vec::new(),
        };
        let remote_trust = self.flag("auth.remote_trust");
        let access = self.access(method, remote_trust);
        AuthConfig {
            method,
            access: Arc::new(access),
            remote_trust,
            query: self.text("auth.query"),
            cache_ttl: self.time("auth.cache_ttl"),
            stale_ttl: self.time("auth.stale_ttl"),
            file,
            users,
        }
    }

    pub(super) fn item_place(&self, entry: &Entry, index: usize) -> Option<Place> {
        self.raw.item_place(entry, index)
    }

    fn users(&mut self, file: &std::path::Path) -> Vec<User> {
        let place = self.entry("auth.file").and_then(|entry| entry.place);
        let errors = match std::fs::read_to_string(file) {
            Ok(text) => match userlist::parse(&text) {
                Ok(users) => return users,
                Err(errors) => errors.iter().map(ToString::to_string).collect(),
            },
            Err(error) => vec![error.to_string()],
        };
        for error in errors {
            let message = format!("{}: {error}", file.display());
            self.error(Code::SecretUnreadable, place.clone(), message, None);
        }
        Vec::new()
    }

    fn cluster(&mut self, name: &str, hosts: Vec<(String, Address)>) -> ClusterConfig {
        let hosts = hosts.into_iter().map(|(host, address)| {
            let node = |key| format!("cluster.{name}.node.{host}.{key}");
            let weight = u32::try_from(self.count(&node("weight"))).unwrap_or(u32::MAX);
            let candidate = self.flag(&node("candidate"));
            Host {
                name: host,
                address,
                weight,
                candidate,
            }
        });
        let hosts = hosts.collect();
        let databases = self.list(&format!("cluster.{name}.databases"));
        ClusterConfig {
            name: name.into(),
            hosts,
            databases,
        }
    }

    fn policy(&mut self, cluster: &str) -> policy::Rules {
        let key = |rest: &str| format!("cluster.{cluster}.{rest}");
        let interval = self.time("monitor.interval");
        let timeout = self.time("monitor.timeout");
        policy::Rules {
            route: self.route(cluster),
            lag: policy::LagRules {
                max_time: self.time(&key("lag.max_time")),
                max_bytes: self.size(&key("lag.max_bytes")),
                back_time: self.time(&key("lag.back_time")),
                back_bytes: self.size(&key("lag.back_bytes")),
                back_for: self.time(&key("lag.back_for")),
                require_streaming: self.flag(&key("lag.require_streaming")),
            },
            health: policy::HealthRules {
                interval,
                timeout,
                expires_after: interval.max(timeout).saturating_mul(3),
            },
            failover: self.failover(cluster),
        }
    }

    fn route(&mut self, cluster: &str) -> policy::RouteRules {
        let key = |rest: &str| format!("cluster.{cluster}.{rest}");
        let consistency = self.word(&key("route.consistency"));
        let reads = match self.word(&key("route.reads")) {
            _ if consistency == "strong" => policy::ReadTargets::PrimaryOnly,
            "replicas_and_primary" => policy::ReadTargets::ReplicasAndPrimary,
            "primary_only" => policy::ReadTargets::PrimaryOnly,
            _ => policy::ReadTargets::ReplicasThenPrimary,
        };
        let functions = self.list(&key("route.read_only_functions"));
        policy::RouteRules {
            reads,
            unknown_functions_read: self.word(&key("route.unknown_function")) == "replica",
            read_only_functions: functions.iter().map(|name| name.to_lowercase()).collect(),
            read_your_writes: consistency != "eventual",
            when_all_lag: match self.word(&key("lag.when_all_lag")) {
                "least_lag" => policy::WhenAllLag::LeastLag,
                "error" => policy::WhenAllLag::Error,
                _ => policy::WhenAllLag::Primary,
            },
        }
    }

    fn failover(&mut self, cluster: &str) -> policy::FailoverRules {
        let key = |rest: &str| format!("cluster.{cluster}.failover.{rest}");
        policy::FailoverRules {
            mode: match self.word(&key("mode")) {
                "manual" => policy::FailoverMode::Manual,
                "auto" => policy::FailoverMode::Auto,
                _ => policy::FailoverMode::Observe,
            },
            probes: u32::try_from(self.count(&key("probes"))).unwrap_or(u32::MAX),
            confirm_refused: self.time(&key("confirm_refused")),
            confirm_silent: self.time(&key("confirm_silent")),
            crash_grace: self.time(&key("crash_grace")),
            confirm_by: match self.word(&key("confirm_by")) {
                "self" => policy::ConfirmBy::OwnProbes,
                _ => policy::ConfirmBy::Replicas,
            },
            max_lost: match self.value(&key("max_lost_bytes")) {
                Some(Value::Any) => policy::LostBytes::Any,
                Some(Value::Size(bytes)) => policy::LostBytes::AtMost(ByteCount(bytes)),
                _ => policy::LostBytes::AtMost(ByteCount(0)),
            },
            promote_timeout: self.time(&key("promote_timeout")),
            repoint: self.flag(&key("repoint")),
            cooldown: self.time(&key("cooldown")),
        }
    }

    fn session(&mut self, cluster: &str) -> session::Rules {
        session::Rules {
            login_timeout: self.time("limits.login_timeout"),
            hold_clients: self.time(&format!("cluster.{cluster}.failover.hold_clients")),
            hold_paused: self.time(&format!("cluster.{cluster}.pool.hold_paused")),
            gather_max: self.size("limits.gather"),
            idle_timeout: self.time("limits.idle_timeout"),
            idle_in_transaction_timeout: self.time("limits.idle_in_transaction_timeout"),
            query_timeout: self.time("limits.query_timeout"),
            transaction_timeout: self.time("limits.transaction_timeout"),
            own: self.own_session(),
            prepared_statements_max: self.count("limits.prepared_statements"),
            prepared_bytes_max: self.size("limits.prepared_bytes"),
            channels_max: self.count("limits.channels"),
            notifications_max: self.size("limits.notifications"),
        }
    }

    fn upstream(&mut self, cluster: &str) -> upstream::Rules {
        let key = |rest: &str| format!("cluster.{cluster}.{rest}");
        upstream::Rules {
            size: self.count(&key("pool.size")),
            queue_max: self.count(&key("pool.queue")),
            wait_timeout: self.time(&key("pool.wait_timeout")),
            connect_timeout: self.time(&key("connect_timeout")),
            idle_timeout: self.time(&key("pool.idle_timeout")),
            lifetime: self.time(&key("pool.lifetime")),
            prepared_statements: self.count(&key("pool.prepared_statements")),
            tls: self.cluster_tls(cluster),
            own: self.own_pools(),
        }
    }

    fn log(&mut self) -> LogConfig {
        LogConfig {
            format: match self.word("log.format") {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => LogFormat::Auto,
            },
            level: match self.word("log.level") {
                "error" => tracing::Level::ERROR,
                "warn" => tracing::Level::WARN,
                "debug" => tracing::Level::DEBUG,
                "trace" => tracing::Level::TRACE,
                _ => tracing::Level::INFO,
            },
        }
    }

    pub(super) fn error(
        &mut self,
        code: Code,
        place: Option<Place>,
        message: String,
        help: Option<String>,
    ) {
        self.problems.push(Problem {
            severity: Severity::Error,
            code,
            message,
            place,
            help,
        });
    }

    pub(super) fn entry(&mut self, key: &str) -> Option<Entry> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?.clone();
        self.read.insert(entry.setting.key);
        Some(entry)
    }

    pub(super) fn note_read(&mut self, key: &'static str) {
        self.read.insert(key);
    }

    fn value(&mut self, key: &str) -> Option<Value> {
        self.entry(key).map(|entry| entry.value)
    }

    fn time(&mut self, key: &str) -> Duration {
        match self.value(key) {
            Some(Value::Duration(length)) => length,
            _ => Duration::ZERO,
        }
    }

    fn size(&mut self, key: &str) -> ByteCount {
        match self.value(key) {
            Some(Value::Size(bytes)) => ByteCount(bytes),
            _ => ByteCount(0),
        }
    }

    pub(super) fn count(&mut self, key: &str) -> usize {
        match self.value(key) {
            Some(Value::Count(number)) => usize::try_from(number).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        self.value(key) == Some(Value::Flag(true))
    }

    pub(super) fn word(&mut self, key: &str) -> &'static str {
        match self.value(key) {
            Some(Value::Word(word)) => word,
            _ => "",
        }
    }

    fn text(&mut self, key: &str) -> String {
        match self.value(key) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key);
        (!text.is_empty()).then(|| text.into())
    }

    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        }
    }
}

/// A server is called by its host, or by `host:port` where two share one, unless it has a name.
fn name_hosts(named: &[(Option<String>, Address)]) -> Vec<(String, Address)> {
    let shared = |host: &str| named.iter().filter(|(_, other)| other.host == host).count() > 1;
    named
        .iter()
        .map(|(name, address)| {
            let name = match name {
                Some(name) => name.clone(),
                None if shared(&address.host) => address.to_string(),
                None => address.host.clone(),
            };
            (name, address.clone())
        })
        .collect()
}

/// Where to listen: like an address, but the port must be written and may be 0.
fn listener(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = format!("{host}:1").parse::<Address>().ok()?.host;
    Some(Address { host, port })
}
