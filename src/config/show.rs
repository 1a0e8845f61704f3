//! A configuration as rows, and what changed between two of them.

use super::model::Config;
use super::problem::Place;
use super::settings::{Applies, Setting};
use super::source::Path;
use super::value::Value;

/// One setting of a configuration, with where it came from.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its key, with names in place of stars.
    pub(super) key: String,
    /// The same in steps, since a name may have a dot in it.
    pub(super) path: Path,
    pub(super) setting: &'static Setting,
    pub(super) value: Value,
    /// `None` for a default.
    pub(super) place: Option<Place>,
}

/// A row of `SHOW CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRow {
    /// The key, as in `cluster.main.lag.max_time`.
    pub key: String,
    /// The value; secrets are stars.
    pub value: String,
    /// What it is when nobody writes it.
    pub default: String,
    /// `reload` or `restart`.
    pub changeable: &'static str,
    /// `default`, `file` or `environment`.
    pub source: &'static str,
    /// `file:line:column`, or the variable; empty for a default.
    pub origin: String,
}

/// A setting that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The old value; secrets are stars.
    pub from: String,
    /// The new value; secrets are stars.
    pub to: String,
    /// Whether it only takes effect at the next start.
    pub needs_restart: bool,
}

impl Config {
    /// All settings with their values, for `SHOW CONFIG` and `check --print-effective`.
    pub fn rows(&self) -> Vec<ConfigRow> {
        self.entries.iter().map(row).collect()
    }
}

fn row(entry: &Entry) -> ConfigRow {
    let default = entry
        .setting
        .default
        .and_then(|text| entry.setting.kind.parse(text).ok());
    ConfigRow {
        key: entry.key.clone(),
        value: entry.value.to_string(),
        default: default.map(|value| value.to_string()).unwrap_or_default(),
        changeable: entry.setting.applies.as_str(),
        source: match &entry.place {
            None => "default",
            Some(Place::File { .. }) => "file",
            Some(Place::Environment(_)) => "environment",
        },
        origin: entry
            .place
            .as_ref()
            .map(Place::to_string)
            .unwrap_or_default(),
    }
}

/// What a reload from `old` to `new` changes, in the order of the keys of `new`; settings that
/// only `old` has come last.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let find = |config: &Config, key: &str| {
        config
            .entries
            .iter()
            .find(|entry| entry.key == key)
            .cloned()
    };
    let mut changes: Vec<Change> = new
        .entries
        .iter()
        .filter_map(|now| changed(find(old, &now.key).as_ref(), Some(now)))
        .collect();
    let gone = old
        .entries
        .iter()
        .filter(|entry| find(new, &entry.key).is_none());
    changes.extend(gone.filter_map(|was| changed(Some(was), None)));
    if old.auth.users != new.auth.users && !changes.iter().any(|c| c.key == "auth.file") {
        changes.push(Change {
            key: "auth.file".into(),
            from: format!("{} users", old.auth.users.len()),
            to: format!("{} users, some of them changed", new.auth.users.len()),
            needs_restart: false,
        });
    }
    let has_tls_change = changes.iter().any(|c| c.key.starts_with("listen.tls."));
    if old.listen.tls.acceptor != new.listen.tls.acceptor && !has_tls_change {
        changes.push(Change {
            key: "listen.tls.cert_file".into(),
            from: "the files as they were".into(),
            to: "the files as they are".into(),
            needs_restart: false,
        });
    }
    let cluster = format!("cluster.{}.", new.cluster.name);
    let is_tls = |key: &str| {
        key.strip_prefix(&cluster)
            .is_some_and(|name| name == "tls" || name.starts_with("tls_"))
    };
    if old.upstream.tls != new.upstream.tls && !changes.iter().any(|c| is_tls(&c.key)) {
        changes.push(Change {
            key: format!("{cluster}tls_ca_file"),
            from: "the files as they were".into(),
            to: "the files as they are".into(),
            needs_restart: false,
        });
    }
    changes
}

fn changed(old: Option<&Entry>, new: Option<&Entry>) -> Option<Change> {
    if old.map(|entry| &entry.value) == new.map(|entry| &entry.value) {
        return None;
    }
    let entry = new.or(old)?;
    let text = |entry: Option<&Entry>| entry.map(|entry| entry.value.to_string());
    Some(Change {
        key: entry.key.clone(),
        from: text(old).unwrap_or_default(),
        to: text(new).unwrap_or_default(),
        needs_restart: entry.setting.applies == Applies::Restart,
    })
}
