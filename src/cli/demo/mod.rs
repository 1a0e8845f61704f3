//! `pgherd demo`: a throw-away cluster with a router in front of it, to look at and to break.

mod keys;
mod load;
mod script;
mod stage;
mod terminal;
mod verdict;
mod waits;

use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::stage::{DemoError, Stage};
use super::{DemoArgs, Outcome};
use crate::telemetry::log;

/// Starts a demo, plays or lets play, and leaves nothing behind.
///
/// # Errors
///
/// When `out` cannot be written to, or a signal cannot be waited for.
pub async fn demo(args: &DemoArgs, out: &mut (dyn Write + Send)) -> io::Result<Outcome> {
    if args.script && args.replicas < 2 {
        writeln!(
            out,
            "the script shows how one replica takes over and another follows it: it needs --replicas 2 or more"
        )?;
        return Ok(Outcome::Usage);
    }
    if let Some(levels) = &args.log
        && let Err(problem) = log::init(log::LogFormat::Auto, levels)
    {
        writeln!(out, "{problem}")?;
        return Ok(Outcome::Usage);
    }
    let mut signals = Signals::new()?;
    let opened = tokio::select! {
        opened = Box::pin(Stage::open(args, out)) => Some(opened),
        () = signals.any() => None,
    };
    let stage = match opened {
        Some(Ok(stage)) => stage,
        Some(Err(problem)) => return tell(&problem, out),
        None => return tell(&DemoError::Interrupted, out),
    };
    let played = if args.script {
        tokio::select! {
            played = Box::pin(script::play(stage, out)) => played,
            () = signals.any() => Err(DemoError::Interrupted),
        }
    } else {
        Box::pin(keys::play(stage, &mut signals, out)).await
    };
    match played {
        Ok(outcome) => Ok(outcome),
        Err(problem) => tell(&problem, out),
    }
}

/// Says what went wrong, with its causes.
fn tell(problem: &DemoError, out: &mut (dyn Write + Send)) -> io::Result<Outcome> {
    let code = match problem {
        DemoError::Local(problem) => problem.code(),
        _ => None,
    };
    match code {
        Some(code) => write!(out, "error[{code}]: {problem}")?,
        None => write!(out, "error: {problem}")?,
    }
    let mut cause = std::error::Error::source(problem);
    while let Some(deeper) = cause {
        write!(out, ": {deeper}")?;
        cause = deeper.source();
    }
    writeln!(out)?;
    Ok(Outcome::Failed)
}

/// The signals that mean "enough".
#[derive(Debug)]
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    async fn any(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
