//! `pgherd run`: serves in the foreground until it is told to stop.
#![allow(clippy::disallowed_methods, reason = "mechanism")]

use std::io::{self, Write};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Outcome, RunArgs};
use crate::app::{App, ConfigSource};
use crate::config::{self, Config, Environment, LogFormat};
use crate::telemetry::log;

/// Reads the configuration. Its problems go to `out`; with an error among them there is none.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn read(
    args: &RunArgs,
    environment: &Environment,
    out: &mut (dyn Write + Send),
) -> io::Result<Option<Config>> {
    match config::load(args.config.file.as_deref(), environment) {
        Ok((config, warnings)) => {
            let warnings = config::Problems(warnings);
            if warnings.count(config::Severity::Warning) > 0 {
                write!(out, "{warnings}")?;
            }
            Ok(Some(config))
        }
        Err(problems) => {
            write!(out, "{problems}")?;
            Ok(None)
        }
    }
}

/// Runs a router.
///
/// # Errors
///
/// When `out` cannot be written to, or a signal cannot be waited for.
pub async fn run(
    args: &RunArgs,
    config: Config,
    environment: &Environment,
    out: &mut (dyn Write + Send),
) -> io::Result<Outcome> {
    // First of all: from here on a signal stops us in order, however far we have come.
    let mut stop = Stop::listen()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let path = args.config.file.clone();
    let log = match log::init(log_format(&config), &config.log.level.to_string()) {
        Ok(handle) => handle,
        Err(problem) => {
            writeln!(out, "{problem}")?;
            return Ok(Outcome::Failed);
        }
    };
    let source = ConfigSource::File {
        path,
        environment: environment.clone(),
    };
    // Names are looked up meanwhile, which can take long.
    let started = tokio::select! {
        started = Box::pin(App::start(config, source)) => started,
        () = stop.told() => return Ok(Outcome::Fine),
    };
    let app = match started {
        Ok(app) => app,
        Err(problem) => {
            let cause = std::error::Error::source(&problem).map(|cause| format!(": {cause}"));
            writeln!(out, "{problem}{}", cause.unwrap_or_default())?;
            return Ok(Outcome::Failed);
        }
    };
    app.reloader.set_log(log);
    for address in &app.addresses {
        info!(address = %address, "listening for clients");
    }
    if let Some(address) = app.http {
        info!(address = %address, "listening for health, metrics and status");
    }
    wait_for_the_end(&app, &mut stop, &mut hangup).await;
    let enough = async {
        tokio::select! {
            () = sleep(DRAIN_LIMIT) => {}
            () = stop.told() => warn!("told to stop again: waiting for nobody any longer"),
        }
    };
    app.shutdown(enough).await;
    Ok(Outcome::Fine)
}

/// The signals that stop the router. The first lets transactions end, the second does not.
struct Stop([Signal; 2]);

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ]))
    }

    /// Waits for the next of them.
    async fn told(&mut self) {
        let Self([terminate, interrupt]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Waits until it is told to stop; SIGHUP reloads the configuration meanwhile.
async fn wait_for_the_end(app: &App, stop: &mut Stop, hangup: &mut Signal) {
    loop {
        tokio::select! {
            () = stop.told() => return,
            // What came of it is in the log.
            _ = hangup.recv() => drop(app.reloader.reload()),
        }
    }
}

fn log_format(config: &Config) -> log::LogFormat {
    match config.log.format {
        LogFormat::Auto => log::LogFormat::Auto,
        LogFormat::Text => log::LogFormat::Text,
        LogFormat::Json => log::LogFormat::Json,
    }
}

/// How long transactions that run may take to end when the router stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
