//! Carries out what the promotion machine wants done on a server, over a connection of its own.
//!
//! Every action is idempotent and ends in an outcome; a limit on the time holds for each.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::MonitorSettings;
use super::connect::{Link, failure_of};
use super::conninfo::{Target, is_cut_off, retarget};
use super::probe::ask_once;
use crate::cluster::{Address, Lsn, ProbeFailure, ServerId};
use crate::policy::{FailedWhy, Frozen, Outcome, Promoted};

/// The server that an action is about.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) server: ServerId,
    pub(super) address: Address,
    pub(super) settings: Arc<MonitorSettings>,
}

/// Cuts a replica off from its primary and reads what it has.
pub(super) async fn freeze(site: Site) -> Outcome {
    let server = site.server;
    let work = async {
        let link = site.open().await?;
        point(&link.client, Target::Nowhere).await?;
        loop {
            let row = link
                .client
                .query_one(CUT, &[])
                .await
                .map_err(|error| why(&error))?;
            let (Ok(has_receiver), Ok(true)) = (
                row.try_get::<_, bool>("has_receiver"),
                row.try_get::<_, bool>("in_recovery"),
            ) else {
                return Err(FailedWhy::Refused);
            };
            if !has_receiver {
                let furthest = row
                    .try_get::<_, String>("furthest")
                    .map_err(|error| why(&error))?;
                return furthest
                    .parse::<Lsn>()
                    .map_err(|_unreadable| FailedWhy::Refused);
            }
            sleep(POLL).await;
        }
    };
    match within(FREEZE_MAX, work).await {
        Ok(furthest) => Outcome::Frozen(Frozen { server, furthest }),
        Err(failed) => Outcome::NotFrozen(server, failed),
    }
}

/// Promotes a replica, waits until it takes writes, and says where its timeline began.
pub(super) async fn promote(site: Site) -> Outcome {
    let server = site.server;
    let work = async {
        let link = site.open().await?;
        let client = &link.client;
        let mut told = false;
        loop {
            let row = client
                .query_one(IDENTIFY, &[])
                .await
                .map_err(|error| why(&error))?;
            let in_recovery: bool = row.try_get("in_recovery").map_err(|error| why(&error))?;
            if !in_recovery {
                let replayed: Option<String> = row.try_get("replayed").ok().flatten();
                let forked_at = replayed
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(Lsn::ZERO);
                let sighting = ask_once(client)
                    .await
                    .map_err(|_failure| FailedWhy::NoAnswer)?;
                return Ok(Promoted {
                    server,
                    sighting,
                    forked_at,
                });
            }
            if !told {
                client
                    .execute(PROMOTE, &[])
                    .await
                    .map_err(|error| why(&error))?;
                told = true;
            }
            sleep(POLL).await;
        }
    };
    match within(PROMOTE_MAX, work).await {
        Ok(promoted) => Outcome::Promoted(promoted),
        Err(failed) => Outcome::NotPromoted(server, failed),
    }
}

/// Points a replica at the primary. With `only_if_cut_off`, one that we did not cut off is left
/// alone.
pub(super) async fn follow(site: Site, leader: Address, only_if_cut_off: bool) -> Outcome {
    let server = site.server;
    let work = async {
        let link = site.open().await?;
        if only_if_cut_off && !is_cut_off(&conninfo(&link.client).await?) {
            return Ok(());
        }
        point(&link.client, Target::Server(&leader)).await
    };
    match within(FREEZE_MAX, work).await {
        Ok(()) => Outcome::Following(server),
        Err(failed) => Outcome::NotFollowing(server, failed),
    }
}

impl Site {
    async fn open(&self) -> Result<Link, FailedWhy> {
        match Link::open(&self.address, &self.settings).await {
            Ok(link) => Ok(link),
            Err(ProbeFailure::LoginRefused { .. }) => Err(FailedWhy::NotPermitted),
            Err(failure) => {
                tracing::debug!(server = %self.server, error = %failure, "no connection to act on");
                Err(FailedWhy::NoAnswer)
            }
        }
    }
}

async fn conninfo(client: &Client) -> Result<String, FailedWhy> {
    let row = client
        .query_one(READ, &[])
        .await
        .map_err(|error| why(&error))?;
    row.try_get("conninfo").map_err(|error| why(&error))
}

async fn point(client: &Client, target: Target<'_>) -> Result<(), FailedWhy> {
    let old = conninfo(client).await?;
    // A replica that follows nobody is cut off already; it cannot be told to follow.
    let new = match (retarget(&old, target), target) {
        (Some(new), _) => new,
        (None, Target::Nowhere) if old.trim().is_empty() => return Ok(()),
        (None, _) => return Err(FailedWhy::Refused),
    };
    if new != old {
        let row = client
            .query_one(WRITE, &[&new])
            .await
            .map_err(|error| why(&error))?;
        let statement: String = row.try_get("statement").map_err(|error| why(&error))?;
        client
            .batch_execute(&statement)
            .await
            .map_err(|error| why(&error))?;
    }
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .map_err(|error| why(&error))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, FailedWhy>>,
) -> Result<T, FailedWhy> {
    timeout(limit, work)
        .await
        .unwrap_or(Err(FailedWhy::NoAnswer))
}

fn why(error: &tokio_postgres::Error) -> FailedWhy {
    let said = error.as_db_error().map(|db| db.message().to_owned());
    let said = said.unwrap_or_else(|| error.to_string());
    tracing::warn!(error = %said, "a server refused an action");
    match failure_of(error) {
        ProbeFailure::LoginRefused { .. } => FailedWhy::NotPermitted,
        ProbeFailure::Refused
        | ProbeFailure::TimedOut
        | ProbeFailure::Unreachable
        | ProbeFailure::StartingUp
        | ProbeFailure::Full => FailedWhy::NoAnswer,
        ProbeFailure::TlsFailed { .. } | ProbeFailure::Other { .. } => FailedWhy::Refused,
    }
}

const IDENTIFY: &str = include_str!("../../sql/identify.sql");
const PROMOTE: &str = include_str!("../../sql/promote.sql");
const READ: &str = include_str!("../../sql/follow.sql");
const WRITE: &str = include_str!("../../sql/follow_write.sql");
const CUT: &str = include_str!("../../sql/follow_cut.sql");
/// How often a server is asked whether it is done.
const POLL: Duration = Duration::from_millis(3);
/// Cutting off or repointing takes 5 to 100 ms.
const FREEZE_MAX: Duration = Duration::from_millis(1500);
/// One attempt; the machine tries again, on the same server, for as long as its rules say.
const PROMOTE_MAX: Duration = Duration::from_secs(10);
