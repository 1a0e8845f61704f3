//! `pgherd healthcheck`: asks a running router over HTTP, for a container without curl.

use std::io::{self, Write};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::{HealthcheckArgs, Outcome};
use crate::cluster::Address;
use crate::config::{self, Environment};
use crate::net;

/// Asks the router of this configuration. What it answers goes to `out`.
///
/// # Errors
///
/// When `out` cannot be written to.
pub async fn healthcheck(
    args: &HealthcheckArgs,
    environment: &Environment,
    out: &mut (dyn Write + Send),
) -> io::Result<Outcome> {
    let config = match config::load(args.config.file.as_deref(), environment) {
        Ok((config, _warnings)) => config,
        Err(problems) => {
            write!(out, "{problems}")?;
            return Ok(Outcome::ConfigInvalid);
        }
    };
    let Some(address) = &config.listen.http else {
        writeln!(out, "listen.http is off, so nobody can be asked")?;
        return Ok(Outcome::NotReachable);
    };
    let path = if args.live { "/livez" } else { "/readyz" };
    match timeout(LIMIT, ask(address, path)).await {
        Ok(Ok(status)) => {
            writeln!(out, "{path}: {status}")?;
            Ok(if status == "200" {
                Outcome::Fine
            } else {
                Outcome::Failed
            })
        }
        Ok(Err(error)) => {
            writeln!(out, "{address}: {error}")?;
            Ok(Outcome::NotReachable)
        }
        Err(_elapsed) => {
            writeln!(out, "{address}: no answer within {} s", LIMIT.as_secs())?;
            Ok(Outcome::NotReachable)
        }
    }
}

/// The status code that the router answers with.
async fn ask(address: &Address, path: &str) -> io::Result<String> {
    let mut stream = net::connect(address, LIMIT).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: pgherd\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = BytesMut::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_MAX {
        if stream.read(&mut answer, ANSWER_MAX).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.split_whitespace().nth(1);
    status
        .map(str::to_owned)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

const LIMIT: Duration = Duration::from_secs(3);
const ANSWER_MAX: usize = 4096;
