//! docs/configuration.md and pgherd.example.toml, printed from the table. The tests fail when the
//! files differ; `UPDATE_DOCS=1 cargo test --lib config` writes them.

use std::fmt::Write as _;
use std::path::Path;

use super::problem::Code;
use super::settings::{Applies, Kind, LONGEST, Setting};
use super::table::SETTINGS;
use super::value::Value;

/// Compares a file of the repository with what it should be, or writes it.
pub(super) fn compare(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is out of date: run UPDATE_DOCS=1 cargo test --lib config\n{expected}"
    );
}

/// The page about all settings.
fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut section = "";
    for setting in SETTINGS {
        let (table, key) = parts(setting);
        if table != section {
            let shown = placeholders(table);
            let gap = if section.is_empty() { "\n" } else { "" };
            write!(page, "{gap}## [{shown}]\n\n").unwrap();
            section = table;
        }
        let default = match setting.default {
            Some(text) => format!("default `{}`", literal(&setting.kind, text)),
            None if setting.is_own() => "default as for everybody".into(),
            None => "must be written".into(),
        };
        let applies = match setting.applies {
            Applies::Reload => "taken by a reload",
            Applies::Restart => "needs a restart",
        };
        let allowed = allowed(&setting.kind);
        writeln!(page, "**`{key}`**: {allowed}; {default}; {applies}.").unwrap();
        write!(page, "{}\n\n", wrapped(setting.doc, "")).unwrap();
    }
    page.truncate(page.trim_end().len());
    page.push_str("\n\n## Problems\n\n`pgherd check` reports all of them at once.\n\n");
    page.push_str("| code | meaning |\n|---|---|\n");
    for code in Code::ALL {
        writeln!(page, "| {code} | {} |", code.sentence().trim()).unwrap();
    }
    page
}

/// The example file: every key with its default.
fn example() -> String {
    let mut file = String::from(EXAMPLE_HEAD);
    let mut section = "";
    for setting in SETTINGS {
        let (table, key) = parts(setting);
        // A password stands nowhere by default, and a node section only where a node differs.
        let is_rare = table.contains(".node.") || setting.is_own();
        let hide = match is_rare || key.starts_with("password") {
            true => "# ",
            false => "",
        };
        if table != section {
            let name = match table {
                "user.*" => "reports",
                "database.*" => "app",
                _ => "main",
            };
            let shown = table.replacen('*', name, 1).replace('*', "pg3");
            write!(file, "\n{hide}[{shown}]\n").unwrap();
            section = table;
        }
        let value = match (setting.key, setting.default) {
            ("monitor.password", _) => "\"...\"".into(),
            ("monitor.password.env", _) => "\"PGHERD_MONITOR_SECRET\"".into(),
            ("monitor.password.file", _) => "\"/run/secrets/pgherd\"".into(),
            (_, Some(text)) => literal(&setting.kind, text),
            (_, None) if setting.is_own() => match setting.kind {
                Kind::Duration { .. } => "\"1m\"".into(),
                _ => "10".into(),
            },
            (_, None) => "[\"pg1\", \"pg2\", \"pg3\"]".into(),
        };
        let applies = setting.applies.as_str();
        let doc = wrapped(&format!("{} [{applies}]", setting.doc), "# ");
        write!(file, "{doc}\n{hide}{key} = {value}\n").unwrap();
    }
    file
}

/// The table that a key stands in, and its name there: `password.env` stands in [monitor].
fn parts(setting: &Setting) -> (&'static str, &'static str) {
    match setting.key.split_once(".password.") {
        Some((table, _)) => (table, setting.key.get(table.len() + 1..).unwrap()),
        None => setting.key.rsplit_once('.').unwrap(),
    }
}

fn placeholders(table: &str) -> String {
    table.replacen('*', "NAME", 1).replace('*', "NODE")
}

fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::Duration { min, off } => {
            let (min, max) = (Value::Duration(*min), Value::Duration(LONGEST));
            let never = if *off { ", or \"off\"" } else { "" };
            format!("a duration, {min} to {max}{never}")
        }
        Kind::Size { min, any } => {
            let least = if *min > 0 {
                format!(", at least {}", Value::Size(*min))
            } else {
                String::new()
            };
            let any = if *any { ", or \"any\"" } else { "" };
            format!("a size{least}{any}")
        }
        Kind::Count { min, max } => format!("{min} to {max}"),
        Kind::Flag | Kind::Choice(_) | Kind::Text | Kind::Secret | Kind::List => kind.expected(),
    }
}

/// A default as the file would have it.
fn literal(kind: &Kind, text: &str) -> String {
    match (kind, kind.parse(text).unwrap()) {
        (Kind::Count { .. } | Kind::Flag, value) => value.to_string(),
        (_, Value::List(items)) if items.len() == 1 => format!("{:?}", items[0]),
        (_, Value::List(items)) => format!("{items:?}"),
        _ => format!("{text:?}"),
    }
}

fn wrapped(text: &str, prefix: &str) -> String {
    let mut lines = vec![prefix.to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last().unwrap();
        if line.len() + word.len() > 95 && line.len() > prefix.len() {
            lines.push(prefix.to_owned());
        }
        let line = lines.last_mut().unwrap();
        if line.len() > prefix.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n")
}

const INTRODUCTION: &str = "\
# Configuration

This page and `pgherd.example.toml` are printed from the table in `src/config/table.rs`.

The shortest file that works:

```toml
[listen]
postgres = \"0.0.0.0:6432\"

[monitor]
user = \"pgherd\"

[cluster.main]
hosts = [\"pg1\", \"pg2\", \"pg3\"]
```

`pgherd check -c FILE` reports everything that is wrong with a file at once, with its line, and
exits with 3 when there is an error. `--print-effective` shows every setting and where its value
came from.

**Layers.** A default is overridden by the file, and the file by the environment:
`PGHERD_CLUSTER__MAIN__LAG__MAX_TIME=2s` is `max_time` in `[cluster.main.lag]`. Names in a
variable are read in lower case, two underscores separate them, and a list is separated by commas.
For containers there are `PGHERD_HOSTS`, `PGHERD_MONITOR_USER`, `PGHERD_MONITOR_PASSWORD` and
`PGHERD_MONITOR_PASSWORD_FILE`; with the first no file is needed.

**Units.** A duration has a unit, `ms`, `s`, `m`, `h` or `d`; a size too, `B`, `kB`, `MB`, `GB` or
`TB`, each 1024 of the one before, as in PostgreSQL.

**Names.** `[cluster.NAME]` is called as you like; there is one cluster in this version. `NODE` in
`[cluster.NAME.node.NODE]` is the name of one of its hosts. `[user.NAME]` and `[database.NAME]` set
for one user or one database what they should have instead of what everybody has.
";

const EXAMPLE_HEAD: &str = "\
# Every key with its default; only `hosts` is an example.
# A duration needs a unit (ms, s, m, h, d), a size too (B, kB, MB, GB, TB, 1024-based).
# [reload] = a reload takes it    [restart] = the next start takes it
# Check it with `pgherd check -c FILE`.
";

#[cfg(test)]
mod tests {
    use super::super::{Environment, diff, load_text};
    use super::compare;

    #[test]
    fn the_page_about_settings_is_up_to_date() {
        compare("docs/configuration.md", &super::reference());
    }

    #[test]
    fn the_example_file_is_up_to_date() {
        compare("pgherd.example.toml", &super::example());
    }

    #[test]
    fn the_example_file_is_the_minimal_one_with_all_defaults_written_out() {
        let minimal = "[cluster.main]\nhosts = [\"pg1\", \"pg2\", \"pg3\"]\n";
        let environment = Environment::default();
        let (minimal, _) = load_text("minimal", minimal, &environment).unwrap();
        let (example, warnings) = load_text("example", &super::example(), &environment).unwrap();
        assert_eq!(diff(&minimal, &example), []);
        assert_eq!(warnings, []);
    }
}
