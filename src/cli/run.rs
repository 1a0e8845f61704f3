//! `pgherd run`: serves in the foreground until it is told to stop.
#![allow(clippy::disallowed_methods, reason = "mechanism")]

use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Outcome, RunArgs};
use crate::app::{App, AppError, ConfigSource, Inherited};
use crate::config::{self, Config, Environment, LogFormat};
use crate::proxy::Shutdown;
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
        started = Box::pin(start(args.takeover, config, source)) => started,
        _ = stop.told() => return Ok(Outcome::Fine),
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
    wait_and_stop(app, &mut stop, &mut hangup).await;
    Ok(Outcome::Fine)
}

async fn start(takes_over: bool, config: Config, source: ConfigSource) -> Result<App, AppError> {
    let inherited = match takes_over {
        true => Inherited::ask(config.restart_socket.as_deref()).await?,
        false => Inherited::default(),
    };
    App::start_with(config, source, inherited).await
}

/// Waits until it is told to stop, and does.
async fn wait_and_stop(app: App, stop: &mut Stop, hangup: &mut Signal) {
    let (mut how, is_told) = wait_for_the_end(&app, stop, hangup).await;
    if how == Shutdown::WaitForClients {
        how = tokio::select! {
            () = app.wait_for_clients() => Shutdown::WaitForServers,
            () = sleep(app.reloader.config().shutdown.clients) => {
                warn!("clients stay: ending them between two transactions");
                Shutdown::WaitForServers
            }
            less = app.asked_to_stop(Some(how)) => less,
            told = stop.told() => match told {
                Told::Terminate | Told::Interrupt if !is_told => Shutdown::WaitForServers,
                Told::Terminate | Told::Interrupt | Told::Quit => told_again(),
            },
        };
    }
    let limit = app.reloader.config().shutdown.transactions;
    let enough = async {
        if how == Shutdown::Now {
            return;
        }
        tokio::select! {
            () = sleep(limit) => warn!("waiting for nobody any longer: shutdown.transactions"),
            _ = stop.told() => { told_again(); }
        }
    };
    app.shutdown(enough).await;
}

fn told_again() -> Shutdown {
    warn!("told to stop again: waiting for nobody any longer");
    Shutdown::Now
}

/// The signals that stop the router. The first lets what runs end, unless it is SIGQUIT; the second
/// does not.
struct Stop([Signal; 3]);

/// One of them.
#[derive(Clone, Copy)]
enum Told {
    Terminate,
    Interrupt,
    Quit,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
        ]))
    }

    /// Waits for the next of them.
    async fn told(&mut self) -> Told {
        let Self([terminate, interrupt, quit]) = self;
        tokio::select! {
            _ = terminate.recv() => Told::Terminate,
            _ = interrupt.recv() => Told::Interrupt,
            _ = quit.recv() => Told::Quit,
        }
    }
}

/// Waits until it is told to stop, or another process has taken over; SIGHUP reloads the
/// configuration meanwhile. Tells how to stop, and whether somebody said so.
async fn wait_for_the_end(app: &App, stop: &mut Stop, hangup: &mut Signal) -> (Shutdown, bool) {
    loop {
        tokio::select! {
            told = stop.told() => {
                let waits = app.reloader.config().shutdown.sigterm_waits_for_clients;
                let how = match told {
                    Told::Terminate if waits => Shutdown::WaitForClients,
                    Told::Terminate | Told::Interrupt => Shutdown::WaitForServers,
                    Told::Quit => Shutdown::Now,
                };
                return (how, true);
            }
            how = app.asked_to_stop(None) => return (how, true),
            () = app.handed_over() => return (Shutdown::WaitForClients, false),
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
