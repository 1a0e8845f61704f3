//! Taking over from the process that runs: the part of the new one.
//!
//! It asks by the socket of `restart.socket`, in three steps, each a line of JSON:
//!
//! 1. `sockets`: the old one sends what it listens on. Both listen now.
//! 2. `authority`: the old one promotes nobody from here on, and writes no state. Only then does
//!    the new one read the state and look at the servers. The old one still accepts clients.
//! 3. `serving`: the new one accepts clients. The old one stops accepting, and ends when its
//!    clients have left.
//!
//! Whatever fails before the third step ends the new process, and the old one goes on: it sees the
//! line close, and takes the right to promote back.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::net::Line;

/// What a process has from the one before; nothing, mostly.
#[derive(Debug, Default)]
pub struct Inherited {
    line: Option<Line>,
    sockets: Vec<(String, OwnedFd)>,
    /// Where the earlier processes take cancels for the sessions that they keep.
    pub(super) cancels: Vec<PathBuf>,
}

/// Why a process could not take over. The old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// Nobody could be asked.
    #[error("--takeover needs restart.socket")]
    NoSocket,
    /// The line to the old process broke.
    #[error("the process that runs could not be asked")]
    Line(#[from] io::Error),
    /// It closed, or said what we do not understand.
    #[error("the process that runs does not answer as this version does")]
    Garbled,
    /// It keeps what it has.
    #[error("the process that runs does not hand over: {0}")]
    Refused(String),
}

impl Inherited {
    /// Asks the process that runs for what it listens on. When none runs there is nothing to take
    /// over, and this process starts as any other.
    ///
    /// # Errors
    ///
    /// When one runs and does not hand over.
    pub async fn ask(socket: Option<&Path>) -> Result<Self, TakeoverError> {
        let path = socket.ok_or(TakeoverError::NoSocket)?;
        let mut line = match Line::connect(path).await {
            Ok(line) => line,
            Err(error) if is_nobody(&error) => {
                info!(path = %path.display(), "nobody to take over from");
                return Ok(Self::default());
            }
            Err(error) => return Err(error.into()),
        };
        let (answer, sockets) = ask(&mut line, "sockets").await?;
        let names = texts(&answer, "sockets").ok_or(TakeoverError::Garbled)?;
        let cancels = texts(&answer, "cancels").ok_or(TakeoverError::Garbled)?;
        if names.len() != sockets.len() {
            return Err(TakeoverError::Garbled);
        }
        Ok(Self {
            line: Some(line),
            sockets: names.into_iter().zip(sockets).collect(),
            cancels: cancels.into_iter().map(PathBuf::from).collect(),
        })
    }

    /// Whether there is a process before this one.
    pub(super) const fn is_from_another(&self) -> bool {
        self.line.is_some()
    }

    /// The socket that was opened for this setting.
    pub(super) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|(known, _)| known == name)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Takes the right to promote: the old process has written its state, and writes no more.
    pub(super) async fn take_authority(&mut self) -> Result<(), TakeoverError> {
        // What nobody asked for is not listened on any more.
        for (name, _closed) in self.sockets.drain(..) {
            warn!(socket = name, "no longer listening: the setting is gone");
        }
        match &mut self.line {
            Some(line) => ask(line, "authority").await.map(drop),
            None => Ok(()),
        }
    }

    /// Tells the old process that clients are accepted here.
    pub(super) async fn tell_serving(self) {
        let Some(mut line) = self.line else {
            return;
        };
        match ask(&mut line, "serving").await {
            Ok(_) => info!("took over from the process that ran"),
            // It is gone, or goes: we have everything that it had.
            Err(error) => warn!(error = %error, "the process that ran did not take its leave"),
        }
    }
}

/// Asks, and waits for the answer and what comes with it.
async fn ask(line: &mut Line, what: &str) -> Result<(Value, Vec<OwnedFd>), TakeoverError> {
    let question = json!({"v": VERSION, "ask": what}).to_string();
    let answered = async {
        line.send(&question, &[]).await?;
        line.receive().await
    };
    let received = timeout(ANSWER_LIMIT, answered)
        .await
        .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let (text, sockets) = received.ok_or(TakeoverError::Garbled)?;
    let answer: Value = serde_json::from_str(&text).map_err(|_syntax| TakeoverError::Garbled)?;
    if let Some(why) = answer.get("refused").and_then(Value::as_str) {
        return Err(TakeoverError::Refused(why.to_owned()));
    }
    match answer.get("v").and_then(Value::as_u64) {
        Some(VERSION) => Ok((answer, sockets)),
        _ => Err(TakeoverError::Garbled),
    }
}

fn texts(value: &Value, key: &str) -> Option<Vec<String>> {
    let list = value.get(key)?.as_array()?.iter();
    list.map(|text| text.as_str().map(str::to_owned)).collect()
}

fn is_nobody(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused
}

/// Of what is said on the line. It only changes when an older process would not understand it.
pub(super) const VERSION: u64 = 1;
/// How long the old process may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
