//! Handing over to a new process: the part of the old one. What is said is in `handover`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::doors::NamedSpare;
use super::handover::VERSION;
use crate::clock;
use crate::monitor::MonitorHandle;
use crate::net::{self, Line, UnixDoor};
use crate::proxy::{self, Proxy};

/// What a process has that can be handed over.
pub(super) struct Estate {
    pub(super) door: UnixDoor,
    pub(super) spares: Vec<NamedSpare>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) monitor: MonitorHandle,
}

/// How an attempt to take over ended.
enum Attempt {
    /// The other process serves.
    Over,
    /// This one goes on.
    Failed,
}

impl Estate {
    /// Waits for a process that takes over; true when one has, false when this one stops before. An
    /// attempt that has begun is not broken off. What answers cancels for the sessions that stay is
    /// added to `cancels`.
    pub(super) async fn hand_over(
        mut self,
        stop: impl Future<Output = ()>,
        cancels: &mut JoinSet<()>,
    ) -> bool {
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return false,
                accepted = self.door.accept_line() => accepted,
            };
            let line = match accepted {
                Ok(line) => line,
                Err(error) => {
                    warn!(error = %error, "could not accept a process that takes over");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let own = rustix::process::geteuid().as_raw();
            if !line
                .peer_user()
                .is_some_and(|user| user == own || user == 0)
            {
                warn!("another user may not take over");
                continue;
            }
            match self.attempt(line, cancels).await {
                Ok(Attempt::Over) => break,
                Ok(Attempt::Failed) => info!("the process that wanted to take over is gone"),
                Err(error) => warn!(error = %error, "could not hand over"),
            }
            // Whoever answered cancels for that attempt is not needed.
            cancels.shutdown().await;
        }
        for (_, spare) in std::mem::take(&mut self.spares) {
            spare.given_away();
        }
        true
    }

    async fn attempt(&self, mut line: Line, cancels: &mut JoinSet<()>) -> io::Result<Attempt> {
        if timeout(QUESTION_LIMIT, question(&mut line)).await?? != Some("sockets".to_owned()) {
            return Ok(Attempt::Failed);
        }
        info!("another process wants to take over");
        self.send_sockets(&mut line, cancels).await?;
        // It reads its configuration again and looks names up meanwhile.
        if timeout(START_LIMIT, question(&mut line)).await?? != Some("authority".to_owned()) {
            return Ok(Attempt::Failed);
        }
        if let Err(why) = self.give_authority().await {
            answer(&mut line, json!({"refused": why})).await?;
            return Ok(Attempt::Failed);
        }
        // From here on the other may promote, until the line closes, which it does with its
        // process. There is no limit on purpose: taking the right back from a process that lives
        // would make two of us.
        let told = match answer(&mut line, json!({})).await {
            Ok(()) => question(&mut line).await,
            Err(error) => Err(error),
        };
        if matches!(&told, Ok(Some(text)) if text == "serving") {
            info!("another process has taken over");
            if let Err(error) = answer(&mut line, json!({})).await {
                warn!(error = %error, "the process that has taken over is gone");
            }
            return Ok(Attempt::Over);
        }
        if let Err(error) = self.monitor.take_authority().await {
            warn!(error = %error, "could not take the right to promote back");
        }
        told.map(|_| Attempt::Failed)
    }

    /// Sends what we listen on, and where cancels for our sessions are taken from now on.
    async fn send_sockets(&self, line: &mut Line, cancels: &mut JoinSet<()>) -> io::Result<()> {
        let door = cancel_door(self.door.path())?;
        let mut doors = vec![door.path().to_owned()];
        doors.extend(self.proxy.forebears());
        cancels.spawn(proxy::serve_cancels(Arc::clone(&self.proxy), door));
        let names: Vec<&str> = self.spares.iter().map(|(name, _)| name.as_str()).collect();
        let doors: Vec<_> = doors.iter().map(|path| path.to_string_lossy()).collect();
        let mut told = json!({"sockets": names, "cancels": doors});
        set_version(&mut told);
        let sockets: Vec<_> = self.spares.iter().map(|(_, spare)| spare.as_fd()).collect();
        let told = told.to_string();
        timeout(QUESTION_LIMIT, line.send(&told, &sockets)).await?
    }

    /// Gives the right to promote away. A state that is just being written is waited for.
    async fn give_authority(&self) -> Result<(), String> {
        let mut result = self.monitor.give_authority().await;
        for _ in 0..STATE_TRIES {
            if result != Err(crate::monitor::AuthorityError::StateNotWritten) {
                break;
            }
            sleep(STATE_PAUSE).await;
            result = self.monitor.give_authority().await;
        }
        result.map_err(|error| error.to_string())
    }
}

/// The next question; `None` when the other process is gone.
async fn question(line: &mut Line) -> io::Result<Option<String>> {
    let Some((text, _sockets)) = line.receive().await? else {
        return Ok(None);
    };
    let value: Value = serde_json::from_str(&text)?;
    if value.get("v").and_then(Value::as_u64) != Some(VERSION) {
        answer(line, json!({"refused": "another version of the line"})).await?;
        return Ok(None);
    }
    let asked = value.get("ask").and_then(Value::as_str);
    Ok(asked.map(str::to_owned))
}

async fn answer(line: &mut Line, mut value: Value) -> io::Result<()> {
    set_version(&mut value);
    timeout(QUESTION_LIMIT, line.send(&value.to_string(), &[])).await?
}

fn set_version(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert("v".to_owned(), VERSION.into());
    }
}

/// Opens the door for cancels of our sessions, beside the socket for restarts.
fn cancel_door(beside: &Path) -> io::Result<UnixDoor> {
    let number = u32::from_be_bytes(clock::random()?);
    let mut name = beside.as_os_str().to_owned();
    name.push(format!(".{number:08x}"));
    net::listen_unix(&PathBuf::from(name), 0o600)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For what the other process does at once.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take to open what it has not inherited.
const START_LIMIT: Duration = Duration::from_secs(60);
const STATE_PAUSE: Duration = Duration::from_millis(10);
const STATE_TRIES: u32 = 200;
