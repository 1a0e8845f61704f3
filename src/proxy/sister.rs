//! A cancel request for a session of another router: passed on to the router that made its key.
//!
//! It goes one hop and no further: what comes from another router is marked, and is either ours or
//! nobody's. It goes in plain text, as libpq's own requests did until 17: what can be read on the
//! way is good for cancelling statements of one session.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::Proxy;
use crate::cluster::Peers;
use crate::upstream;
use crate::wire::CancelKey;

impl Proxy {
    /// Passes it on, and waits until the other has closed, which it does when the request has had
    /// its effect.
    pub(super) async fn pass_on(&self, key: &CancelKey) {
        let address = self.settings.load().peers.maker(key.pid).cloned();
        let Some(address) = address else {
            return;
        };
        let key = CancelKey {
            pid: Peers::passed_on(key.pid),
            secret: key.secret.clone(),
        };
        let passing = async {
            let _place = self.state.passing_on.acquire().await;
            upstream::cancel_at(&address, &key, LIMIT).await
        };
        match timeout(LIMIT, passing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(router = %address, error = %error, "could not pass a cancel on");
            }
            Err(_elapsed) => debug!(router = %address, "a cancel was not passed on in time"),
        }
    }
}

/// How long it may take, the wait for its turn included: the other gives its server five seconds.
const LIMIT: Duration = Duration::from_secs(6);
/// So many are under way at once. Anybody can send cancel requests, and each would be a connection.
pub(super) const AT_ONCE_MAX: usize = 16;
