//! `pgherd setup-sql`: prints the statements that a person runs once on the primary.

use std::io::{self, Write};

use super::{Outcome, SetupSqlArgs};

/// All parts, in the order in which they must run; see the header of the file.
const SETUP: &str = include_str!("../../sql/setup.sql");

/// Prints the parts that were asked for, for one role and one version.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn setup_sql(args: &SetupSqlArgs, out: &mut dyn Write) -> io::Result<Outcome> {
    let role = format!("\"{}\"", args.user.replace('"', "\"\""));
    for block in SETUP.split("\n\n") {
        let (mark, body) = block.split_once('\n').unwrap_or((block, ""));
        if wanted(mark, args) {
            writeln!(out, "{}\n", body.trim_end().replace(PLACEHOLDER, &role))?;
        }
    }
    Ok(Outcome::Fine)
}

/// The role in the templates: a name that nobody has.
const PLACEHOLDER: &str = "\"pgherd_role\"";

/// Whether a block with this first line, like `--@ failover 15+`, is printed.
fn wanted(mark: &str, args: &SetupSqlArgs) -> bool {
    let Some(words) = mark.strip_prefix("--@ ") else {
        return false;
    };
    words.split_whitespace().all(|word| match word {
        "always" => true,
        "failover" => args.failover,
        "lookup" => args.lookup,
        version => match (version.strip_prefix("before-"), version.strip_suffix('+')) {
            (Some(limit), _) => limit.parse().is_ok_and(|limit: u16| args.pg < limit),
            (_, Some(least)) => least.parse().is_ok_and(|least: u16| args.pg >= least),
            (None, None) => false,
        },
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn printed(arguments: &str) -> String {
        let words = ["pgherd", "setup-sql"]
            .into_iter()
            .chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).unwrap();
        let Verb::SetupSql(args) = cli.verb else {
            panic!("{cli:?}")
        };
        let mut out = Vec::new();
        setup_sql(&args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn following_needs_a_login_and_pg_monitor_only() {
        let sql = printed("");
        assert!(sql.contains("CREATE ROLE \"pgherd\" LOGIN;"), "{sql}");
        assert!(sql.contains("GRANT pg_monitor TO \"pgherd\";"), "{sql}");
        assert!(
            !sql.contains("pg_promote") && !sql.contains("lookup"),
            "{sql}"
        );
    }

    #[test]
    fn repointing_is_granted_where_postgres_can_grant_it() {
        assert!(printed("--failover").contains("GRANT ALTER SYSTEM ON PARAMETER"));
        let old = printed("--failover --pg 14");
        assert!(!old.contains("GRANT ALTER SYSTEM"), "{old}");
        assert!(old.contains("superuser"), "{old}");
    }

    #[test]
    fn a_role_with_a_quote_in_its_name_stays_a_name() {
        let sql = printed("--failover --lookup --user o\"x");
        assert!(sql.contains("CREATE ROLE \"o\"\"x\" LOGIN;"), "{sql}");
        assert!(!sql.contains("pgherd_role"), "{sql}");
    }

    #[test]
    fn every_block_of_the_file_says_when_it_is_printed() {
        let everything = |pg| SetupSqlArgs {
            failover: true,
            lookup: true,
            user: "x".into(),
            pg,
        };
        for block in SETUP.split("\n\n").skip(1) {
            let mark = block.lines().next().unwrap_or_default();
            assert!(
                wanted(mark, &everything(14)) || wanted(mark, &everything(18)),
                "{block}"
            );
        }
    }
}
