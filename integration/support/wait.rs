//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Asks again and again until the answer is yes.
pub(crate) async fn wait_until(what: &str, limit: Duration, mut asked: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !asked().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut asked: impl AsyncFnMut() -> Option<T>,
) -> T {
    let mut found = None;
    wait_until(what, limit, async || {
        found = asked().await;
        found.is_some()
    })
    .await;
    found.expect("it was waited for")
}
