//! A freshly initialised data directory, and copies of directories.
//!
//! One `initdb` serves all nodes, so they share a system identifier as replicas must. A cached one
//! serves many clusters, which then share it too: whoever tests strangers must not use the cache.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::binaries::Programs;
use super::error::LocalError;

/// Who runs which programs, and where they may work.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    pub(super) programs: Programs,
    pub(super) account: Account,
    /// The short directory of this cluster.
    pub(super) root: PathBuf,
}

impl Workshop {
    /// A command that runs as the account, in our directory, without the caller's `PG…` variables.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.program(program));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir(&self.root);
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        self.account.apply(&mut command);
        command
    }

    /// The path of an initialised directory that nobody will start: the cached one, or a new one.
    pub(super) fn template(&self, cache: Option<&Path>) -> Result<PathBuf, LocalError> {
        let cached = cache.map(|folder| folder.join(self.cache_name()));
        if let Some(cached) = cached.as_ref().filter(|path| path.is_dir()) {
            return Ok(cached.clone());
        }
        let fresh = self.root.join("template");
        self.initdb(&fresh)?;
        if let Some(cached) = cached {
            publish(&fresh, &cached)
                .map_err(LocalError::system(format!("write {}", cached.display())))?;
        }
        Ok(fresh)
    }

    /// Copies a directory for a node of this cluster.
    pub(super) fn copy(&self, from: &Path, to: &Path, part: Part) -> Result<(), LocalError> {
        copy_tree(from, to, &self.account, part).map_err(LocalError::system(format!(
            "copy {} to {}",
            from.display(),
            to.display()
        )))
    }

    fn initdb(&self, folder: &Path) -> Result<(), LocalError> {
        let output = self
            .command("initdb")
            .args([
                "--username=postgres",
                "--auth=trust",
                "--locale=C",
                "--encoding=UTF8",
            ])
            // Small segments make small directories: 29 instead of 39 MB.
            .args(["--wal-segsize=1", "--no-sync", "--pgdata"])
            .arg(folder)
            .output()
            .map_err(LocalError::system("run initdb"))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(LocalError::Initdb {
            output: String::from_utf8_lossy(&text).trim().to_owned(),
        })
    }

    /// Two packages of one version may be built differently, so their path is part of the name.
    fn cache_name(&self) -> String {
        let bin = self.programs.bin.display().to_string();
        let bin = bin.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        format!("pg-template-{}{bin}", self.programs.version)
    }
}

/// Which files of a directory are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All, since no server is at work there.
    Whole,
    /// What a base backup takes from a server that is at work.
    Backup,
}

/// Puts a copy in the cache. It is complete when it gets its name; of two that come at the same
/// time one is thrown away.
fn publish(fresh: &Path, cached: &Path) -> io::Result<()> {
    let random = u64::from_ne_bytes(crate::clock::random()?);
    let unfinished = cached.with_file_name(format!("pg-template-unfinished-{random:x}"));
    copy_tree(fresh, &unfinished, &Account::Ourselves, Part::Whole)?;
    fs::rename(&unfinished, cached).or_else(|error| {
        fs::remove_dir_all(&unfinished)?;
        if cached.is_dir() { Ok(()) } else { Err(error) }
    })
}

/// Copies files and folders; the account owns the copies.
fn copy_tree(from: &Path, to: &Path, account: &Account, part: Part) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    account.own(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let copied = if kind.is_dir() {
            let emptied = part == Part::Backup && is_emptied(&source);
            if emptied {
                make_empty(&target, account)
            } else {
                copy_tree(&source, &target, account, part)
            }
        } else if part == Part::Backup && is_left_out(&source) {
            Ok(())
        } else {
            fs::copy(&source, &target).and_then(|_| account.own(&target))
        };
        match copied {
            // A server at work removes files: the WAL that follows knows.
            Err(error) if part == Part::Backup && error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn make_empty(folder: &Path, account: &Account) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    account.own(folder)
}

/// Source: PostgreSQL 15, src/backend/backup/basebackup.c, excludeDirContents; and pg_wal, which
/// comes by streaming.
fn is_emptied(folder: &Path) -> bool {
    const NAMES: [&str; 8] = [
        "pg_wal",
        "pg_stat_tmp",
        "pg_replslot",
        "pg_dynshmem",
        "pg_notify",
        "pg_serial",
        "pg_snapshots",
        "pg_subtrans",
    ];
    NAMES
        .iter()
        .any(|name| folder.file_name().is_some_and(|own| own == *name))
}

/// Source: the same file, excludeFiles. `pg_control` is copied by itself, after all others.
fn is_left_out(file: &Path) -> bool {
    const NAMES: [&str; 6] = [
        "postmaster.pid",
        "postmaster.opts",
        "backup_label",
        "standby.signal",
        "pg_internal.init",
        "pg_control",
    ];
    NAMES
        .iter()
        .any(|name| file.file_name().is_some_and(|own| own == *name))
}
