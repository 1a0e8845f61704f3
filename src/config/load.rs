//! Reads the layers, lowest first: defaults of the table, the file, the environment.

use std::path::Path;

use super::check::{self, Raw};
use super::model::Config;
use super::passfile::Passfile;
use super::problem::{Code, Problem, Problems, Severity};
use super::source::{Environment, File};

/// The name of the cluster when only PGHERD_HOSTS speaks of one.
const DEFAULT_CLUSTER: &str = "main";

/// Reads and checks a configuration; without a file the environment must be enough. Warnings come
/// with the configuration.
///
/// # Errors
///
/// Everything that is wrong, with its place.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<(Config, Vec<Problem>), Problems> {
    let Some(path) = file else {
        return load_text("", "", environment);
    };
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => load_text(&name, &text, environment),
        Err(error) => Err(Problems(vec![Problem {
            severity: Severity::Error,
            code: Code::Unreadable,
            message: format!("cannot read {name}: {error}"),
            place: None,
            help: None,
        }])),
    }
}

/// The same for a text that was already read; `name` is what reports call it.
///
/// # Errors
///
/// Everything that is wrong, with its place.
pub fn load_text(
    name: &str,
    text: &str,
    environment: &Environment,
) -> Result<(Config, Vec<Problem>), Problems> {
    let (file, syntax) = File::parse(name, text);
    if !syntax.is_empty() {
        // What was recovered from a broken file only leads to follow-up reports.
        return Err(Problems(syntax).first_of_each_line());
    }
    let cluster = file
        .only_cluster()
        .unwrap_or_else(|| DEFAULT_CLUSTER.into());
    let merged = config::Config::builder()
        .add_source(file.clone())
        .add_source(environment.settings(&cluster))
        .build();
    let root = merged.map_err(|error| {
        Problems(vec![Problem {
            severity: Severity::Error,
            code: Code::Syntax,
            message: error.to_string(),
            place: None,
            help: None,
        }])
    })?;
    check::check(&Raw {
        root: root.cache,
        file,
        environment,
        passfile: passfile(environment),
    })
}

/// libpq's rules: PGPASSFILE or `~/.pgpass`, ignored when others may read it.
fn passfile(environment: &Environment) -> Passfile {
    use std::os::unix::fs::PermissionsExt as _;
    let path = match (environment.var("PGPASSFILE"), environment.var("HOME")) {
        (Some(path), _) => path.into(),
        (None, Some(home)) => Path::new(home).join(".pgpass"),
        (None, None) => return Passfile::default(),
    };
    let private = std::fs::metadata(&path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o077 == 0);
    match std::fs::read_to_string(&path) {
        Ok(text) if private => Passfile::parse(&text),
        _ => Passfile::default(),
    }
}
