//! Who is told what happens in the pools.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::ServerId;

/// Is told of events in the pools, for metrics. It is called on the way of a query and must not
/// wait. Each method does nothing unless it is written.
pub trait PoolObserver: Send + Sync {
    /// A connection was logged in, which took so long.
    fn opened(&self, _server: ServerId, _took: Duration) {}
    /// A login failed.
    fn failed(&self, _server: ServerId, _error: &super::ConnectError) {}
    /// A connection was closed, by whomever.
    fn closed(&self, _server: ServerId) {}
    /// A client waited for a connection, and got it or not.
    fn waited(&self, _server: ServerId, _waited: Duration) {}
}

/// Nobody.
impl PoolObserver for () {}

/// Lives as long as a connection and tells its end, however it comes.
pub(super) struct Opened {
    observer: Arc<dyn PoolObserver>,
    server: ServerId,
}

impl Opened {
    pub(super) fn new(observer: &Arc<dyn PoolObserver>, server: ServerId, took: Duration) -> Self {
        observer.opened(server, took);
        Self {
            observer: Arc::clone(observer),
            server,
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.observer.closed(self.server);
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}
