//! One probe: runs `sql/probe.sql` and reads its row.

use std::time::Duration;

use tokio_postgres::{Client, Row, Statement};

use super::connect::failure_of;
use crate::cluster::{
    Address, Lsn, ProbeFailure, Receiver, ReceiverStatus, Sighting, SystemId, Timeline,
};

/// The text that every server is asked.
pub(super) const PROBE: &str = include_str!("../../sql/probe.sql");

/// Asks on a connection where [`PROBE`] was prepared.
pub(super) async fn ask(client: &Client, statement: &Statement) -> Result<Sighting, ProbeFailure> {
    let row = client
        .query_one(statement, &[])
        .await
        .map_err(|error| failure_of(&error))?;
    read(&row).ok_or_else(|| ProbeFailure::Other {
        sqlstate: "XX000".into(),
    })
}

/// Prepares and asks, for a connection that asks once.
pub(super) async fn ask_once(client: &Client) -> Result<Sighting, ProbeFailure> {
    let statement = client
        .prepare(PROBE)
        .await
        .map_err(|error| failure_of(&error))?;
    ask(client, &statement).await
}

fn read(row: &Row) -> Option<Sighting> {
    let text = |column: &str| row.try_get::<_, Option<String>>(column).ok().flatten();
    let number = |column: &str| row.try_get::<_, Option<i32>>(column).ok().flatten();
    let truth = |column: &str| row.try_get::<_, bool>(column).ok();
    let lsn = |column: &str| text(column).and_then(|text| text.parse::<Lsn>().ok());
    let timeline = |column: &str| {
        number(column)
            .and_then(|number| u32::try_from(number).ok())
            .map(Timeline)
    };
    let in_recovery = truth("in_recovery")?;
    let segment = row.try_get::<_, i64>("segment_bytes").ok()?;
    let furthest = lsn("furthest")?;
    let port = number("sender_port").and_then(|port| u16::try_from(port).ok());
    let receiver = truth("has_receiver")?.then(|| Receiver {
        status: match text("status").as_deref() {
            Some("streaming") => ReceiverStatus::Streaming,
            Some(_) | None => ReceiverStatus::NotStreaming,
        },
        timeline: timeline("received_tli"),
        sender: text("sender_host")
            .zip(port)
            .map(|(host, port)| Address { host, port }),
        latest_end: lsn("latest_end"),
        last_message_age: row
            .try_get::<_, Option<f64>>("message_age_ms")
            .ok()
            .flatten()
            .and_then(|ms| Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).ok()),
    });
    Some(Sighting {
        system_id: SystemId(text("system_id")?.parse().ok()?),
        in_recovery,
        timeline: timeline("timeline"),
        position: lsn("position")?,
        furthest: match in_recovery {
            true => furthest,
            false => furthest.without_page_header(u64::try_from(segment).ok()?),
        },
        receiver,
        replay_paused: truth("replay_paused")?,
        version_num: u32::try_from(number("version_num")?).ok()?,
        streaming_standbys: u16::try_from(number("standbys")?).unwrap_or(u16::MAX),
    })
}
