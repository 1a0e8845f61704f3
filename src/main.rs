//! Arguments in, exit code out.
#![allow(
    clippy::disallowed_methods,
    reason = "mechanism: this is the edge of the program"
)]

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use pgherd::cli::{self, Cli, Outcome, Verb};
use pgherd::config::Environment;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    let mut out = io::stdout();
    match act(&cli, &environment, &mut out).and_then(|outcome| out.flush().map(|()| outcome)) {
        Ok(outcome) => outcome.into(),
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Outcome::Fine.into(),
        Err(error) => {
            // With standard error gone as well there is nobody left to tell.
            let _told = writeln!(io::stderr(), "pgherd: {error}");
            Outcome::Failed.into()
        }
    }
}

fn act(cli: &Cli, environment: &Environment, out: &mut io::Stdout) -> io::Result<Outcome> {
    match &cli.verb {
        Verb::Run(args) => match cli::run::read(args, environment, out)? {
            Some(config) => {
                let threads = config.limits.worker_threads;
                runtime(threads)?.block_on(cli::run::run(args, config, environment, out))
            }
            None => Ok(Outcome::ConfigInvalid),
        },
        Verb::Demo(args) => runtime(2)?.block_on(cli::demo::demo(args, out)),
        Verb::Check(args) => cli::check::check(args, environment, out),
        Verb::SetupSql(args) => cli::setup_sql::setup_sql(args, out),
        Verb::Healthcheck(args) => {
            runtime(1)?.block_on(cli::healthcheck::healthcheck(args, environment, out))
        }
        Verb::Version => cli::version::version(out),
    }
}

/// One runtime for everything. The parser needs a deep stack for deeply nested statements.
fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    let threads = match threads {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
        threads => threads,
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(threads)
        .thread_stack_size(STACK_BYTES)
        .thread_name("pgherd")
        // Given, because the runtime would else time its work to find one.
        .global_queue_interval(31)
        .build()
}

const STACK_BYTES: usize = 8 << 20;
