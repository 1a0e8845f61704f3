//! What no setting can know alone: contradictions between settings, and protections given up.

use std::net::IpAddr;

use crate::cluster::Address;
use crate::net::{TlsMode, TlsStart};
use crate::policy::{ConfirmBy, FailoverMode, LostBytes};

use super::model::{AuthMethod, ClientCertificates, Config, ListenTlsMode};
use super::problem::{Code, Place, Problem, Severity};

/// All problems between settings.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(lag(config));
    problems.extend(auth(config));
    problems.extend(listeners(config));
    problems.extend(tls(config));
    problems.extend(failover(config));
    problems
}

fn problem(config: &Config, severity: Severity, code: Code, key: &str, message: String) -> Problem {
    Problem {
        severity,
        code,
        message,
        place: place(config, key),
        help: None,
    }
}

fn conflict(config: &Config, key: &str, message: String) -> Problem {
    problem(config, Severity::Error, Code::Conflict, key, message)
}

fn risky(config: &Config, key: &str, message: &str) -> Problem {
    problem(config, Severity::Warning, Code::Risky, key, message.into())
}

fn place(config: &Config, key: &str) -> Option<Place> {
    config
        .entries
        .iter()
        .find(|entry| entry.key == key)?
        .place
        .clone()
}

/// The one of two settings that somebody wrote, since a default has no line to point at.
fn written<'a>(config: &Config, first: &'a str, second: &'a str) -> &'a str {
    match place(config, first) {
        Some(_) => first,
        None => second,
    }
}

fn lag(config: &Config) -> Vec<Problem> {
    let key = |name: &str| format!("cluster.{}.lag.{name}", config.cluster.name);
    let lag = &config.policy.lag;
    let mut problems = Vec::new();
    for (broken, back, max) in [
        (lag.back_time > lag.max_time, "back_time", "max_time"),
        (lag.back_bytes > lag.max_bytes, "back_bytes", "max_bytes"),
    ] {
        if broken {
            let (back_key, max_key) = (key(back), key(max));
            let value = |key: &str| {
                let entry = config.entries.iter().find(|entry| entry.key == key);
                entry
                    .map(|entry| entry.value.to_string())
                    .unwrap_or_default()
            };
            let message = format!(
                "{back} ({}) must not be above {max} ({}), or a replica flaps between in and out",
                value(&back_key),
                value(&max_key)
            );
            problems.push(conflict(
                config,
                written(config, &back_key, &max_key),
                message,
            ));
        }
    }
    problems
}

fn auth(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    match config.auth.method {
        AuthMethod::Trust if !config.auth.remote_trust => {
            let open = config
                .listen
                .postgres
                .iter()
                .find(|address| !is_loopback(&address.host));
            if let Some(address) = open {
                let message = format!(
                    "auth.method = \"trust\" lets everybody in, and {address} is not on loopback"
                );
                problems.push(conflict(config, "auth.method", message));
            }
        }
        AuthMethod::File if config.auth.file.is_none() => {
            let message = "auth.method = \"file\" needs auth.file".to_owned();
            problems.push(conflict(config, "auth.method", message));
        }
        AuthMethod::Lookup if !config.auth.query.contains("$1") => {
            let message = "auth.query has no $1 for the name of the user".to_owned();
            problems.push(conflict(config, "auth.query", message));
        }
        AuthMethod::File | AuthMethod::Lookup | AuthMethod::Trust => {}
    }
    if config.auth.remote_trust {
        let message = "auth.remote_trust: whoever reaches pgherd may need no password";
        problems.push(risky(config, "auth.remote_trust", message));
    }
    problems
}

fn listeners(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let postgres = &config.listen.postgres;
    for (index, address) in postgres.iter().enumerate() {
        if postgres
            .iter()
            .take(index)
            .any(|other| clash(address, other))
        {
            let message = format!("listen.postgres: {address} is taken twice");
            problems.push(conflict(config, "listen.postgres", message));
        }
    }
    if let Some(http) = &config.listen.http {
        if let Some(other) = postgres.iter().find(|other| clash(http, other)) {
            let key = written(config, "listen.http", "listen.postgres");
            let message = format!("listen.http ({http}) and listen.postgres ({other}) clash");
            problems.push(conflict(config, key, message));
        }
        if !is_loopback(&http.host) {
            let message = "listen.http asks for no password: whoever reaches it sees the status";
            problems.push(risky(config, "listen.http", message));
        }
    }
    for host in &config.cluster.hosts {
        if postgres
            .iter()
            .any(|listener| clash_with_host(listener, &host.address))
        {
            let message = format!("host {} is where pgherd itself listens", host.address);
            let key = format!("cluster.{}.hosts", config.cluster.name);
            problems.push(conflict(config, &key, message));
        }
    }
    problems
}

fn tls(config: &Config) -> Vec<Problem> {
    let tls = &config.listen.tls;
    let has = |key: &str| {
        let mut entries = config.entries.iter();
        entries.any(|entry| entry.key == key && !entry.value.to_string().is_empty())
    };
    let mut problems = Vec::new();
    let cluster = |name: &str| format!("cluster.{}.{name}", config.cluster.name);
    let has_authorities = has(&cluster("tls_ca_file"));
    match config.upstream.tls.mode() {
        mode @ (TlsMode::VerifyCa | TlsMode::VerifyFull) if !has_authorities => {
            let word = if mode == TlsMode::VerifyCa {
                "verify-ca"
            } else {
                "verify-full"
            };
            let message = format!("tls = \"{word}\" needs tls_ca_file");
            problems.push(conflict(config, &cluster("tls"), message));
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require if has_authorities => {
            let message = "tls_ca_file is not used: only tls = \"verify-ca\" and \"verify-full\" look at \
                           a server's certificate";
            problems.push(risky(config, &cluster("tls_ca_file"), message));
        }
        _ => {}
    }
    let is_direct = config.upstream.tls.start() == TlsStart::Direct;
    if is_direct
        && matches!(
            config.upstream.tls.mode(),
            TlsMode::Disable | TlsMode::Prefer
        )
    {
        let message = "tls_negotiation = \"direct\" needs tls = \"require\", \"verify-ca\" or \
                       \"verify-full\""
            .to_owned();
        problems.push(conflict(config, &cluster("tls_negotiation"), message));
    }
    if tls.mode == ListenTlsMode::Require && !has("listen.tls.cert_file") {
        let message = "listen.tls.mode = \"require\" needs cert_file and key_file".to_owned();
        problems.push(conflict(config, "listen.tls.mode", message));
    }
    if tls.client_certificates == ClientCertificates::Required {
        let key = "listen.tls.client_certs";
        if !has("listen.tls.client_ca_file") {
            let message = "client_certs = \"require\" needs client_ca_file".to_owned();
            problems.push(conflict(config, key, message));
        }
        if tls.mode != ListenTlsMode::Require {
            let message = "client_certs = \"require\" needs mode = \"require\": a client without \
                           TLS is not asked for a certificate"
                .to_owned();
            problems.push(conflict(config, key, message));
        }
    }
    problems
}

fn failover(config: &Config) -> Vec<Problem> {
    let key = |name: &str| format!("cluster.{}.failover.{name}", config.cluster.name);
    let rules = &config.policy.failover;
    let mode = match rules.mode {
        FailoverMode::Observe => return Vec::new(),
        FailoverMode::Manual => "manual",
        FailoverMode::Auto => "auto",
    };
    let mut problems = Vec::new();
    let mut needs = |missing: bool, what: &str| {
        if missing {
            let message = format!("failover.mode = \"{mode}\" needs {what}");
            problems.push(conflict(config, &key("mode"), message));
        }
    };
    needs(
        config.state_dir.is_none(),
        "state.dir, to remember a promotion across a restart",
    );
    let hosts = &config.cluster.hosts;
    needs(hosts.len() == 1, "a second host to promote");
    let candidates = hosts.iter().filter(|host| host.candidate).count();
    needs(
        hosts.len() > 1 && candidates == 0,
        "at least one host with candidate = true",
    );
    if rules.confirm_refused > rules.confirm_silent {
        let message = "confirm_refused must not be longer than confirm_silent: a refusal says more \
                       than silence";
        let (refused, silent) = (key("confirm_refused"), key("confirm_silent"));
        problems.push(conflict(
            config,
            written(config, &refused, &silent),
            message.into(),
        ));
    }
    if rules.mode == FailoverMode::Auto && rules.confirm_by == ConfirmBy::OwnProbes {
        let message =
            "confirm_by = \"self\": a broken link of this router alone can promote a replica";
        problems.push(risky(config, &key("confirm_by"), message));
    }
    if rules.max_lost == LostBytes::Any {
        let message = "max_lost_bytes = \"any\": a promotion may lose any number of commits";
        problems.push(risky(config, &key("max_lost_bytes"), message));
    }
    problems
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Whether two listeners cannot both be opened. Port 0 is another one each time.
fn clash(a: &Address, b: &Address) -> bool {
    a.port == b.port
        && a.port != 0
        && (a.host == b.host || is_unspecified(&a.host) || is_unspecified(&b.host))
}

/// Whether connecting to a host would reach the listener.
fn clash_with_host(listener: &Address, host: &Address) -> bool {
    let here = listener.host == host.host
        || (is_loopback(&host.host)
            && (is_loopback(&listener.host) || is_unspecified(&listener.host)));
    listener.port == host.port && here
}
