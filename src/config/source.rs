//! The two layers that people write, the file and the environment, as sources of the `config`
//! crate, each value with its origin.
//!
//! The crate's own reader of TOML forgets where a value stood. This one parses with spans and
//! hands the place of each value along.

use std::collections::BTreeMap;
use std::ops::Range;

use config::{Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::problem::{Code, Place, Problem, Severity};

/// The steps to a value: table names, and `[n]` for an item of a list.
pub(super) type Path = Vec<String>;

/// A file of settings, parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    name: String,
    text: String,
    values: Map<String, Value>,
    spans: BTreeMap<Path, Spans>,
}

/// Where a setting stands.
#[derive(Clone, Debug, Default)]
struct Spans {
    key: Range<usize>,
    value: Range<usize>,
}

/// Which part of a setting a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

impl File {
    /// Parses `text`; what is not TOML comes back as problems.
    pub(super) fn parse(name: &str, text: &str) -> (Self, Vec<Problem>) {
        let mut file = Self {
            name: name.into(),
            text: text.into(),
            ..Self::default()
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        file.values = file.table(table.get_ref(), &[]);
        let problems = errors
            .iter()
            .map(|error| Problem {
                severity: Severity::Error,
                code: Code::Syntax,
                message: error.message().trim().replace('\n', ", "),
                place: error.span().map(|span| file.place_of(&span)),
                help: None,
            })
            .collect();
        (file, problems)
    }

    /// Where the setting at `path` stands, if it is in this file.
    pub(super) fn place(&self, path: &[String], part: Part) -> Option<Place> {
        let spans = self.spans.get(path)?;
        Some(self.place_of(match part {
            Part::Key => &spans.key,
            Part::Value => &spans.value,
        }))
    }

    /// The name of the cluster, if there is exactly one.
    pub(super) fn only_cluster(&self) -> Option<String> {
        match &self.values.get("cluster")?.kind {
            ValueKind::Table(table) if table.len() == 1 => table.keys().next().cloned(),
            _ => None,
        }
    }

    fn place_of(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let excerpt = rest.lines().next().unwrap_or_default();
        let column = chars(before.get(line_start..).unwrap_or_default()) + 1;
        let marked = self.text.get(span.clone()).unwrap_or_default();
        Place::File {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column,
            width: chars(marked.lines().next().unwrap_or_default()),
            // A report ends in tickets and logs; a password must not.
            excerpt: match excerpt.contains("password") {
                true => String::new(),
                false => excerpt.replace('\t', " "),
            },
        }
    }

    fn table(&mut self, table: &DeTable<'_>, path: &[String]) -> Map<String, Value> {
        let mut values = Map::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let path = child(path, &name);
            let spans = Spans {
                key: key.span(),
                value: value.span(),
            };
            self.spans.insert(path.clone(), spans);
            let value = self.value(value.get_ref(), &path);
            values.insert(name, value);
        }
        values
    }

    fn value(&mut self, value: &DeValue<'_>, path: &[String]) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::I64),
            DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Array(items) => {
                let mut array = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let path = child(path, &format!("[{index}]"));
                    let spans = Spans {
                        key: item.span(),
                        value: item.span(),
                    };
                    self.spans.insert(path.clone(), spans);
                    array.push(self.value(item.get_ref(), &path));
                }
                ValueKind::Array(array)
            }
            DeValue::Table(table) => ValueKind::Table(self.table(table, path)),
        };
        let origin = self.place(path, Part::Value).map(|place| place.to_string());
        Value::new(origin.as_ref(), kind)
    }
}

impl Source for File {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

/// The variables of a process that are settings.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// These variables.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value of one variable.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The settings in it. `cluster` is the name that the shorthand PGHERD_HOSTS means.
    pub(super) fn settings(&self, cluster: &str) -> EnvironmentSource {
        let settings = self.0.iter().filter_map(|(name, value)| {
            let path = setting_path(name, cluster)?;
            Some((path, name.clone(), value.clone()))
        });
        EnvironmentSource(settings.collect())
    }
}

/// The settings of an environment: path, name of the variable, text.
#[derive(Clone, Debug)]
pub(super) struct EnvironmentSource(Vec<(Path, String, String)>);

impl Source for EnvironmentSource {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let mut root = Map::new();
        for (path, name, text) in &self.0 {
            insert(&mut root, path, Value::new(Some(name), text.clone()));
        }
        Ok(root)
    }
}

fn insert(table: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let below = table
                .entry(first.clone())
                .or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
            if !matches!(below.kind, ValueKind::Table(_)) {
                below.kind = ValueKind::Table(Map::new());
            }
            if let ValueKind::Table(below) = &mut below.kind {
                insert(below, rest, value);
            }
        }
    }
}

/// The setting that a variable names: `PGHERD_A__B__C` is `a.b.c`; other names are ours only when
/// they are a shorthand, because Kubernetes invents `PGHERD_PORT` and the like by itself.
fn setting_path(name: &str, cluster: &str) -> Option<Path> {
    let path = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect();
    match name {
        "PGHERD_HOSTS" => Some(path(&["cluster", cluster, "hosts"])),
        "PGHERD_MONITOR_USER" => Some(path(&["monitor", "user"])),
        "PGHERD_MONITOR_PASSWORD" => Some(path(&["monitor", "password"])),
        "PGHERD_MONITOR_PASSWORD_FILE" => Some(path(&["monitor", "password", "file"])),
        _ => {
            let rest = name.strip_prefix("PGHERD_")?;
            rest.contains("__")
                .then(|| rest.split("__").map(str::to_lowercase).collect())
        }
    }
}

pub(super) fn child(path: &[String], name: &str) -> Path {
    let mut longer = path.to_vec();
    longer.push(name.into());
    longer
}

fn chars(text: &str) -> usize {
    text.chars().count()
}
