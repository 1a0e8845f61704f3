//! From what was written to a [`Config`]: every key is looked up in the table, every value read by
//! its row, and all mistakes come back together.

use config::{Value as RawValue, ValueKind};

use super::build::Builder;
use super::model::Config;
use super::names;
use super::passfile::Passfile;
use super::problem::{Code, Place, Problem, Problems, Severity};
use super::settings::Setting;
use super::show::Entry;
use super::source::{Environment, File, Part, Path, child};
use super::table::SETTINGS;
use super::value::{Mistake, Value};

/// The merged layers, and what they refer to.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) root: RawValue,
    pub(super) file: File,
    pub(super) environment: &'a Environment,
    pub(super) passfile: Passfile,
}

/// Checks everything.
pub(super) fn check(raw: &Raw<'_>) -> Result<(Config, Vec<Problem>), Problems> {
    let mut walk = Walk {
        raw,
        written: Vec::new(),
        problems: Vec::new(),
    };
    walk.visit(&[], &raw.root);
    let cluster = walk.cluster();
    let entries = SETTINGS
        .iter()
        .filter(|setting| !setting.key.contains(".node.") && !setting.is_own())
        .filter_map(|setting| walk.entry(setting, &[&cluster]))
        .collect::<Vec<_>>();
    let own = walk.own();
    let entries = entries.into_iter().chain(own).collect();
    let mut builder = Builder::new(raw, entries, walk.problems);
    let hosts = builder.addresses(&cluster);
    let mut walk = Walk {
        raw,
        written: walk.written,
        problems: Vec::new(),
    };
    for (name, _) in &hosts {
        let rows = SETTINGS
            .iter()
            .filter(|setting| setting.key.contains(".node."));
        builder
            .entries
            .extend(rows.filter_map(|setting| walk.entry(setting, &[&cluster, name])));
    }
    walk.check_nodes(
        &cluster,
        &hosts
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
    );
    builder.problems.append(&mut walk.problems);
    let (config, problems) = builder.build(&cluster, hosts);
    let mut problems = Problems(problems);
    problems.sort();
    match problems.count(Severity::Error) {
        0 => Ok((config, problems.0)),
        _ => Err(problems),
    }
}

/// Something that was written: where, and what.
type Written = (Path, RawValue);

/// Collects what was written, and complains about what no row describes.
struct Walk<'a> {
    raw: &'a Raw<'a>,
    written: Vec<Written>,
    problems: Vec<Problem>,
}

impl Raw<'_> {
    /// Where a value came from: the crate's origin of a value tells the layer, our own spans tell
    /// the line.
    pub(super) fn place(&self, path: &[String], value: &RawValue, part: Part) -> Option<Place> {
        match value.origin() {
            Some(origin) if !origin.contains(':') => Some(Place::Environment(origin.into())),
            _ => self
                .file
                .place(path, part)
                .or_else(|| self.place_below(path, value, part)),
        }
    }

    /// A table that only variables speak of has the place of the first of them.
    fn place_below(&self, path: &[String], value: &RawValue, part: Part) -> Option<Place> {
        let ValueKind::Table(table) = &value.kind else {
            return None;
        };
        let (name, below) = table.iter().min_by_key(|(name, _)| *name)?;
        self.place(&child(path, name), below, part)
    }
}

impl Walk<'_> {
    fn visit(&mut self, path: &[String], value: &RawValue) {
        let has_keys = SETTINGS
            .iter()
            .any(|row| row.covers(path) && !row.matches(path));
        match &value.kind {
            ValueKind::Table(table) if has_keys => {
                let mut names: Vec<_> = table.iter().collect();
                names.sort_by_key(|(name, _)| *name);
                for (name, value) in names {
                    self.visit(&child(path, name), value);
                }
            }
            _ if SETTINGS.iter().any(|row| row.matches(path)) => {
                self.written.push((path.to_vec(), value.clone()));
            }
            _ if has_keys => {
                let message = format!("`{}` is a section, not a value", path.join("."));
                let mistake = Mistake::new(Code::WrongType, message)
                    .help(format!("write [{}]", path.join(".")));
                self.report(path, value, Part::Key, mistake);
            }
            kind => {
                let mistake =
                    Mistake::new(Code::UnknownKey, unknown(path, kind)).help(names::suggest(path));
                self.report(path, value, Part::Key, mistake);
            }
        }
    }

    fn report(&mut self, path: &[String], value: &RawValue, part: Part, mistake: Mistake) {
        let place = self.raw.place(path, value, part);
        self.problems.push(Problem {
            severity: Severity::Error,
            code: mistake.code,
            message: mistake.message,
            place,
            help: mistake.help,
        });
    }

    /// The name of the one cluster.
    fn cluster(&mut self) -> String {
        let raw = self.raw;
        let names = clusters(&raw.root);
        let mut names = names.iter();
        let first = names.next().map_or("main", |(name, _)| name.as_str());
        for (name, value) in names {
            let message = format!(
                "one router serves one cluster in this version, and [cluster.{first}] is there too"
            );
            let mistake = Mistake::new(Code::Conflict, message).help("run a second router for it");
            self.report(&["cluster".into(), name.clone()], value, Part::Key, mistake);
        }
        first.to_owned()
    }

    /// The setting of one row, written or not; `names` stand for its stars.
    fn entry(&mut self, setting: &'static Setting, names: &[&str]) -> Option<Entry> {
        let mut names = names.iter();
        let path: Path = setting
            .key
            .split('.')
            .map(|part| match part {
                "*" => names.next().copied().unwrap_or(part).to_owned(),
                _ => part.to_owned(),
            })
            .collect();
        let default = || {
            setting
                .default
                .and_then(|text| setting.kind.parse(text).ok())
        };
        let written = self
            .written
            .iter()
            .find(|(written, _)| *written == path)
            .cloned();
        let Some((_, raw)) = written else {
            return match default() {
                Some(value) => Some(Entry {
                    key: path.join("."),
                    path,
                    setting,
                    value,
                    place: None,
                }),
                None => {
                    self.missing(&path);
                    None
                }
            };
        };
        let place = self.raw.place(&path, &raw, Part::Value);
        let value = match (&raw.kind, &place) {
            (ValueKind::String(text), Some(Place::Environment(_))) => setting.kind.parse(text),
            (kind, _) => setting.kind.read(kind),
        };
        let value = value
            .map_err(|mistake| self.report(&path, &raw, Part::Value, about(&path, mistake)))
            .ok()
            .or_else(default)?;
        Some(Entry {
            key: path.join("."),
            path,
            setting,
            value,
            place,
        })
    }

    /// What is written for single users and databases.
    fn own(&mut self) -> Vec<Entry> {
        let written: Vec<Path> = self.written.iter().map(|(path, _)| path.clone()).collect();
        let entry = |path: &Path| {
            let row = SETTINGS
                .iter()
                .find(|row| row.is_own() && row.matches(path))?;
            self.entry(row, &[path.get(1)?])
        };
        written.iter().filter_map(entry).collect()
    }

    fn missing(&mut self, path: &[String]) {
        let (table, key) = match path.split_last() {
            Some((key, table)) => (table, key.as_str()),
            None => (path, ""),
        };
        self.problems.push(Problem {
            severity: Severity::Error,
            code: Code::Missing,
            message: format!("`{key}` is missing in [{}]", table.join(".")),
            place: self.raw.file.place(table, Part::Key),
            help: Some(format!("write {key} = [\"pg1\", \"pg2\"]")),
        });
    }

    /// A node section must be about one of the hosts.
    fn check_nodes(&mut self, cluster: &str, hosts: &[&str]) {
        let mut nodes: Vec<String> = self
            .written
            .iter()
            .filter_map(|(path, _)| match path.as_slice() {
                [_, name, kind, node, _] if name == cluster && kind == "node" => Some(node.clone()),
                _ => None,
            })
            // Without a single good host that is what must be repaired first.
            .filter(|node| !hosts.is_empty() && !hosts.contains(&node.as_str()))
            .collect();
        nodes.dedup();
        for node in nodes {
            let path = ["cluster", cluster, "node", &node].map(str::to_owned);
            let help = match names::nearest(&node, hosts.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the hosts are {}", hosts.join(", ")),
            };
            self.problems.push(Problem {
                severity: Severity::Error,
                code: Code::UnknownName,
                message: format!("`{node}` is not one of the hosts of [cluster.{cluster}]"),
                place: self.raw.file.place(&path, Part::Key),
                help: Some(help),
            });
        }
    }
}

/// The sections below `cluster`, by name.
pub(super) fn clusters(root: &RawValue) -> Vec<(String, RawValue)> {
    let table = |value: &RawValue| match &value.kind {
        ValueKind::Table(table) => Some(table.clone()),
        _ => None,
    };
    let mut names: Vec<(String, RawValue)> = table(root)
        .and_then(|root| root.get("cluster").and_then(table))
        .into_iter()
        .flatten()
        .collect();
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    names
}

fn unknown(path: &[String], kind: &ValueKind) -> String {
    match (path.split_last(), kind) {
        (_, ValueKind::Table(_)) => format!("unknown section [{}]", path.join(".")),
        (Some((key, [])), _) => format!("unknown key `{key}`"),
        (Some((key, table)), _) => format!("unknown key `{key}` in [{}]", table.join(".")),
        (None, _) => String::new(),
    }
}

/// Names the setting where the message alone would not.
fn about(path: &[String], mistake: Mistake) -> Mistake {
    let message = format!("{}: {}", path.join("."), mistake.message);
    Mistake { message, ..mistake }
}

/// Kept apart so that the reader of a list sees it: an item of a list has its own place.
impl Raw<'_> {
    pub(super) fn item_place(&self, entry: &Entry, index: usize) -> Option<Place> {
        match &entry.place {
            Some(Place::File { .. }) => self
                .file
                .place(&child(&entry.path, &format!("[{index}]")), Part::Value)
                .or_else(|| entry.place.clone()),
            other => other.clone(),
        }
    }
}

/// The values that a list has; empty for another kind.
pub(super) fn items(value: &Value) -> &[String] {
    match value {
        Value::List(items) => items,
        _ => &[],
    }
}
