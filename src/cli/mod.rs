//! The command line: one verb, one file. What a verb prints goes to a writer that it is handed;
//! what it answers is an exit code.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "mechanism: this is the edge to the terminal"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod check;
pub mod demo;
pub mod healthcheck;
pub mod run;
pub mod setup_sql;
pub mod version;

/// One PostgreSQL endpoint in front of a primary and its replicas.
#[derive(Clone, Debug, Parser)]
#[command(name = "pgherd", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Serve in the foreground
    Run(RunArgs),
    /// Start a throw-away primary, replicas, router and status page
    Demo(DemoArgs),
    /// Validate the configuration, all errors at once
    Check(CheckArgs),
    /// Print (never run) the SQL for roles and grants
    SetupSql(SetupSqlArgs),
    /// Ask a running router whether it is well; for a container's health check
    Healthcheck(HealthcheckArgs),
    /// Print the version
    Version,
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration file; without one the environment must be enough
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        env = "PGHERD_CONFIG"
    )]
    pub file: Option<PathBuf>,
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Take over from the process that runs, by its restart.socket, and have it end when its
    /// clients have left
    #[arg(short = 'R', long, visible_alias = "reboot")]
    pub takeover: bool,
}

/// The arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many replicas to start
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=8))]
    pub replicas: u16,
    /// Where initdb and postgres are; found by itself when left out
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// The port for clients
    #[arg(long, default_value_t = 6432, value_name = "P")]
    pub port: u16,
    /// The port of the status page
    #[arg(long, default_value_t = 8432, value_name = "P")]
    pub http: u16,
    /// Play the tour by itself and exit
    #[arg(long)]
    pub script: bool,
    /// Keep the data in this directory
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Start without clients that make load; the script always has them
    #[arg(long)]
    pub no_load: bool,
    /// Write the router's own log to standard error, such as `info`
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

/// The arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The form of the report
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORM",
        default_value = "text"
    )]
    pub output: OutputForm,
    /// Also show every setting, and where its value came from
    #[arg(long)]
    pub print_effective: bool,
}

/// The form of what a verb prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The arguments of `setup-sql`.
#[derive(Args, Clone, Debug)]
pub struct SetupSqlArgs {
    /// Add what a promotion needs
    #[arg(long)]
    pub failover: bool,
    /// Add the function that `auth.method = "lookup"` calls
    #[arg(long)]
    pub lookup: bool,
    /// The role, as in monitor.user
    #[arg(long, default_value = "pgherd", value_name = "NAME")]
    pub user: String,
    /// The major version of the servers
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u16).range(14..=99))]
    pub pg: u16,
}

/// The arguments of `healthcheck`.
#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// Where the configuration comes from; its `listen.http` is asked.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ask only whether the process is alive, not whether it can serve
    #[arg(long)]
    pub live: bool,
}

/// What the process answers. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Fine,
    /// It did not work.
    Failed,
    /// The arguments make no sense; clap answers this one by itself.
    Usage,
    /// The configuration has errors.
    ConfigInvalid,
    /// No router answers.
    NotReachable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Fine => 0,
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::ConfigInvalid => 3,
            Outcome::NotReachable => 4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_demo_can_be_tuned() {
        let cli = Cli::try_parse_from(["pgherd", "demo", "--replicas", "3", "--no-load"]).unwrap();
        let Verb::Demo(demo) = cli.verb else {
            panic!("{cli:?}")
        };
        assert_eq!(
            (demo.replicas, demo.port, demo.http, demo.no_load),
            (3, 6432, 8432, true)
        );
    }
}
