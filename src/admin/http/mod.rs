//! Health, metrics and status by HTTP. Read-only; the bodies of requests are never read.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::assets::{Asset, PAGE, SCRIPT, STYLE};
use super::health::{Check, can_read, can_write, has_replica, lag_bound, readiness};
use super::listen::LimitedListener;
use super::sources::ConsoleSources;
use super::summary;
use super::table::Table;
use super::{pgbouncer, views};
use crate::telemetry::{CONTENT_TYPE, FailoverSummary};

/// Serves until `shutdown` ends, and then finishes the answers that it has begun.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    sources: ConsoleSources,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(LimitedListener::new(listener), router(sources))
        .with_graceful_shutdown(shutdown)
        .await
}

type Parameters = Query<BTreeMap<String, String>>;

fn router(sources: ConsoleSources) -> Router {
    let page = |asset: &'static Asset| get(move || async move { asset.response() });
    Router::new()
        .route("/livez", get(live).options(live))
        .route("/readyz", get(ready).options(ready))
        .route("/primary", get(primary).options(primary))
        .route("/replica", get(replica).options(replica))
        .route("/read-only", get(read_only).options(read_only))
        .route("/metrics", get(metrics))
        .route("/api/v1/{what}", get(api))
        .route("/", page(&PAGE))
        .route("/assets/status.css", page(&STYLE))
        .route("/assets/status.js", page(&SCRIPT))
        .with_state(sources)
}

/// The program runs. Depends on no server: a restart of the router does not heal a database.
async fn live() -> Response {
    text(StatusCode::OK, "ok\n".to_owned())
}

async fn ready(State(sources): State<ConsoleSources>, Query(query): Parameters) -> Response {
    let checks = readiness(&(sources.snapshot)(), &(sources.router)());
    let passed = checks.iter().all(|check| check.passed);
    let line = |check: &Check| {
        let sign = if check.passed { '+' } else { '-' };
        format!("[{sign}]{} {}\n", check.name, check.detail)
    };
    let mut body = String::new();
    if query.contains_key("verbose") || !passed {
        body.extend(checks.iter().map(line));
    }
    body.push_str(if passed { "ok\n" } else { "not ready\n" });
    text(status(passed), body)
}

async fn primary(State(sources): State<ConsoleSources>) -> Response {
    role(&sources, can_write(&(sources.snapshot)()))
}

async fn replica(State(sources): State<ConsoleSources>, Query(query): Parameters) -> Response {
    let bound = match query.get("lag").map(|text| lag_bound(text)) {
        Some(None) => {
            let message = "lag must be a size or a time, such as 10MB or 500ms\n".to_owned();
            return text(StatusCode::BAD_REQUEST, message);
        }
        Some(bound) => bound,
        None => None,
    };
    role(&sources, has_replica(&(sources.snapshot)(), bound))
}

async fn read_only(State(sources): State<ConsoleSources>) -> Response {
    role(&sources, can_read(&(sources.snapshot)()))
}

async fn metrics(State(sources): State<ConsoleSources>) -> Response {
    let text = sources
        .telemetry
        .render(&(sources.snapshot)(), (sources.clock)());
    answer(StatusCode::OK, CONTENT_TYPE, text.into())
}

async fn api(State(sources): State<ConsoleSources>, Path(what): Path<String>) -> Response {
    let table: fn(&ConsoleSources) -> Table = match what.as_str() {
        "summary" => return json_answer(StatusCode::OK, &summary::summary(&sources)),
        "failovers" => return json_answer(StatusCode::OK, &failovers(&sources)),
        "nodes" => views::nodes,
        "routing" => views::routing,
        "events" => views::events,
        "config" => views::config,
        "clients" => pgbouncer::clients,
        "pools" => pgbouncer::pools,
        _ => {
            let body = json!({"v": 1, "error": "there is no such thing here"});
            return json_answer(StatusCode::NOT_FOUND, &body);
        }
    };
    let rows = table(&sources).to_json();
    json_answer(StatusCode::OK, &json!({"v": 1, (what): rows}))
}

/// The console's columns, with the phases and candidates inside each.
fn failovers(sources: &ConsoleSources) -> Value {
    let mut rows = views::failovers(sources).to_json();
    let records = sources.telemetry.events().failovers();
    if let Some(rows) = rows.as_array_mut() {
        for row in rows {
            let id = row.get("id").and_then(Value::as_str);
            let record = records.iter().find(|record| Some(record.id.as_str()) == id);
            if let (Some(record), Some(fields)) = (record, row.as_object_mut()) {
                let (phases, candidates) = story(record);
                fields.insert("phases".to_owned(), phases);
                fields.insert("candidates".to_owned(), candidates);
            }
        }
    }
    json!({"v": 1, "failovers": rows})
}

fn story(failover: &FailoverSummary) -> (Value, Value) {
    let phases = failover.phases.iter();
    let phases = phases.map(|phase| json!({"name": phase.name, "at_ms": phase.at_ms}));
    let candidates = failover.candidates.iter().map(|candidate| {
        json!({
            "node": candidate.node,
            "lsn": candidate.lsn,
            "timeline": candidate.timeline,
            "verdict": candidate.verdict,
        })
    });
    (phases.collect(), candidates.collect())
}

fn role(sources: &ConsoleSources, passed: bool) -> Response {
    let snapshot = (sources.snapshot)();
    let body = json!({
        "cluster": sources.telemetry.cluster(),
        "state": summary::condition(&snapshot).as_str(),
        "primary": snapshot.primary().map(|primary| snapshot.name(primary)),
        "sentence": summary::sentence(&snapshot),
    });
    json_answer(status(passed), &body)
}

impl Asset {
    fn response(&self) -> Response {
        answer(StatusCode::OK, self.content_type, self.bytes.into())
    }
}

const fn status(passed: bool) -> StatusCode {
    if passed {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn text(status: StatusCode, body: String) -> Response {
    answer(status, "text/plain; charset=utf-8", body.into())
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    answer(status, "application/json", body.to_string().into())
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests;
