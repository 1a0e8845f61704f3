//! What a caller may wish for, and the names that every local cluster has.

use std::path::{Path, PathBuf};

/// The superuser of each server; it logs in without a password over the loopback address.
pub const SUPERUSER: &str = "postgres";
/// The role of the router itself: it observes, promotes and re-points.
pub const MONITOR_ROLE: &str = "pgherd";
/// The role that owns the database.
pub const DEMO_ROLE: &str = "demo";
/// The password of [`DEMO_ROLE`], asked for under [`Auth::Scram`] only.
pub const DEMO_PASSWORD: &str = "demo";
/// The database of the demo and of the tests.
pub const DATABASE: &str = "app";

/// What a local cluster is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many replicas stream from the primary.
    pub replicas: usize,
    /// The directory with the server's programs; searched for when `None`.
    pub pg_bin: Option<PathBuf>,
    /// Where the data directories are to stay afterwards; nothing stays when `None`.
    pub keep: Option<PathBuf>,
    /// Where a freshly initialised data directory is kept between runs; none is when `None`.
    pub cache: Option<PathBuf>,
    /// Lines for `postgresql.conf` of every server; they win over ours.
    pub settings: Vec<(String, String)>,
    /// More roles than the three that always exist.
    pub roles: Vec<Role>,
    /// Whether roles of applications need a password.
    pub auth: Auth,
}

/// A role that can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its password; `None` for none, with which [`Auth::Scram`] lets nobody in.
    pub password: Option<String>,
}

/// How roles log in over the loopback address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody is asked for a password.
    #[default]
    Trust,
    /// All but [`SUPERUSER`] and [`MONITOR_ROLE`] are asked, by SCRAM-SHA-256 unless their
    /// password was stored under md5.
    Scram,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 2,
            pg_bin: None,
            keep: None,
            cache: None,
            settings: Vec::new(),
            roles: Vec::new(),
            auth: Auth::Trust,
        }
    }
}

impl Options {
    /// For tests: an initialised data directory is kept in cargo's target directory, which saves
    /// the larger part of the time that a start takes.
    pub fn for_tests() -> Self {
        Self {
            cache: target_directory(),
            ..Self::default()
        }
    }
}

/// Cargo's target directory, seen from a test program: cargo leaves one of these files there.
fn target_directory() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let marked = |folder: &&Path| {
        let marks = ["CACHEDIR.TAG", ".rustc_info.json"];
        marks.iter().any(|mark| folder.join(mark).is_file())
    };
    program.ancestors().find(marked).map(Path::to_owned)
}
