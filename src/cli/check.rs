//! `pgherd check`: every mistake at once, with its line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{CheckArgs, Outcome, OutputForm};
use crate::config::{self, Config, ConfigRow, Environment, Problem, Problems, Severity};

/// Checks the configuration and reports to `out`.
///
/// # Errors
///
/// When `out` cannot be written to. A bad configuration is an outcome, not an error.
pub fn check(
    args: &CheckArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> io::Result<Outcome> {
    let (config, problems) = match config::load(args.config.file.as_deref(), environment) {
        Ok((config, warnings)) => (Some(config), Problems(warnings)),
        Err(problems) => (None, problems),
    };
    let rows = match (&config, args.print_effective) {
        (Some(config), true) => config.rows(),
        _ => Vec::new(),
    };
    match args.output {
        OutputForm::Text => text(out, config.as_ref(), &rows, &problems)?,
        OutputForm::Json => {
            let report = json(config.is_some(), &rows, &problems);
            writeln!(out, "{report:#}")?;
        }
    }
    Ok(match config {
        Some(_) => Outcome::Fine,
        None => Outcome::ConfigInvalid,
    })
}

fn text(
    out: &mut dyn Write,
    config: Option<&Config>,
    rows: &[ConfigRow],
    problems: &Problems,
) -> io::Result<()> {
    let width = rows
        .iter()
        .map(|row| row.key.len())
        .max()
        .unwrap_or_default();
    for row in rows {
        let origin = if row.origin.is_empty() {
            row.source
        } else {
            &row.origin
        };
        writeln!(out, "{:width$} = {:?}  # {origin}", row.key, row.value)?;
    }
    write!(out, "{problems}")?;
    if let Some(config) = config {
        let names: Vec<_> = config
            .cluster
            .hosts
            .iter()
            .map(|host| host.name.as_str())
            .collect();
        writeln!(
            out,
            "valid: cluster {}, hosts {}",
            config.cluster.name,
            names.join(", ")
        )?;
    }
    Ok(())
}

/// The report for programs. `v` changes when a field changes its meaning.
fn json(valid: bool, rows: &[ConfigRow], problems: &Problems) -> Value {
    json!({
        "v": 1,
        "valid": valid,
        "errors": problems.count(Severity::Error),
        "warnings": problems.count(Severity::Warning),
        "problems": problems.0.iter().map(problem).collect::<Vec<_>>(),
        "settings": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn problem(problem: &Problem) -> Value {
    json!({
        "severity": problem.severity.as_str(),
        "code": problem.code.to_string(),
        "message": problem.message,
        "origin": problem.origin(),
        "help": problem.help,
    })
}

fn row(row: &ConfigRow) -> Value {
    json!({
        "key": row.key,
        "value": row.value,
        "default": row.default,
        "changeable": row.changeable,
        "source": row.source,
        "origin": row.origin,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Outcome, String) {
        let arguments = ["pgherd", "check"].iter().chain(arguments);
        let cli = Cli::try_parse_from(arguments).unwrap();
        let Verb::Check(args) = cli.verb else {
            panic!("{cli:?}")
        };
        let pairs = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let mut out = Vec::new();
        let outcome = check(&args, &Environment::from_pairs(pairs), &mut out).unwrap();
        (outcome, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_configuration_is_said_to_be_valid() {
        let (outcome, text) = run(&[], &[("PGHERD_HOSTS", "pg1,pg2")]);
        assert_eq!(outcome, Outcome::Fine);
        assert_eq!(text, "no problems\nvalid: cluster main, hosts pg1, pg2\n");
    }

    #[test]
    fn a_bad_one_is_an_outcome_of_its_own() {
        let (outcome, text) = run(&["-c", "src/config/testdata/mistakes.toml"], &[]);
        assert_eq!(outcome, Outcome::ConfigInvalid);
        assert!(text.ends_with("15 errors\n"), "{text}");
    }

    #[test]
    fn a_program_reads_the_same_as_a_person() {
        let (_, text) = run(&["-o", "json", "-c", "src/config/testdata/risks.toml"], &[]);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&report["valid"], &report["warnings"]),
            (&json!(true), &json!(3))
        );
        assert_eq!(report["problems"][0]["code"], "PGH-0114");
        assert_eq!(
            report["problems"][0]["origin"],
            "src/config/testdata/risks.toml:2:8"
        );
    }

    #[test]
    fn the_effective_settings_say_where_they_come_from_and_keep_secrets() {
        let variables = [
            ("PGHERD_HOSTS", "pg1"),
            ("PGHERD_MONITOR_PASSWORD", "hunter2"),
        ];
        let (_, text) = run(&["--print-effective"], &variables);
        let line = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line("monitor.password "),
            "monitor.password = \"***\" # environment variable PGHERD_MONITOR_PASSWORD"
        );
        assert_eq!(line("log.level"), "log.level = \"info\" # default");
        assert!(!text.contains("hunter2"));
    }
}
