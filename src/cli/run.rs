//! `pgherd run`: serves in the foreground until it is told to stop.

use std::io::{self, Write};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

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
    let path = args.config.file.clone();
    let _log = match log::init(log_format(&config), &config.log.level.to_string()) {
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
    let app = match App::start(config, source).await {
        Ok(app) => app,
        Err(problem) => {
            let cause = std::error::Error::source(&problem).map(|cause| format!(": {cause}"));
            writeln!(out, "{problem}{}", cause.unwrap_or_default())?;
            return Ok(Outcome::Failed);
        }
    };
    for address in &app.addresses {
        info!(address = %address, "listening for clients");
    }
    if let Some(address) = app.http {
        info!(address = %address, "listening for health, metrics and status");
    }
    wait_for_the_end(&app).await?;
    app.shutdown(DRAIN_LIMIT).await;
    Ok(Outcome::Fine)
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads the configuration meanwhile.
async fn wait_for_the_end(app: &App) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
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
