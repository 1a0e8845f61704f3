//! The loan of a server connection to a session.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use deadpool::managed::Object;

use super::connection::Connection;
use super::opener::Opener;
use super::shelf::Shelf;

/// A server connection that is lent. Whoever has it says how it ends: [`Lease::release`] gives a
/// clean connection back, and everything else, a drop included, closes it.
pub struct Lease<S: Default + Send + 'static> {
    /// There until the lease ends.
    object: Option<Object<Opener<S>>>,
    /// Where it goes.
    shelf: Arc<Shelf<S>>,
}

impl<S: Default + Send + 'static> Lease<S> {
    pub(super) fn new(mut object: Object<Opener<S>>, shelf: Arc<Shelf<S>>) -> Self {
        object.at_rest = false;
        object.entry.lend();
        Self {
            object: Some(object),
            shelf,
        }
    }

    /// Gives the connection back. The caller promises that the server is idle, outside a
    /// transaction, without state of the session, and that nothing is on its way in either
    /// direction.
    ///
    /// It is closed all the same when bytes were left in its input, when its epoch ended, or when
    /// it is too old.
    pub fn release(mut self, now: Instant) {
        let Some(mut object) = self.object.take() else {
            return;
        };
        object.last_used = now;
        object.at_rest = object.input.is_empty();
        if !object.at_rest || !self.shelf.shared.may_rest(&object, now) {
            drop(Object::take(object));
            return;
        }
        if object.input.capacity() > RESTING_BUFFER_BYTES {
            object.input = BytesMut::new();
            object.stream.trim();
        }
        object.entry.give_back();
        self.shelf.put(object);
    }

    /// Whether the connection would still be lent: its epoch has not ended for its server, and the
    /// server was not retired. A session that keeps a lease between its transactions asks this
    /// before the next one.
    pub fn is_current(&self) -> bool {
        self.shelf.shared.is_current(self)
    }

    /// Closes the connection at once; its place in the pool is free. What runs on it runs on until
    /// the server notices: to stop it, cancel it first.
    pub fn discard(self) {
        drop(self);
    }
}

impl<S: Default + Send + 'static> Drop for Lease<S> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl<S: Default + Send + 'static> Deref for Lease<S> {
    type Target = Connection<S>;

    #[expect(
        clippy::expect_used,
        reason = "only the two methods that consume the lease take the object out"
    )]
    fn deref(&self) -> &Connection<S> {
        self.object.as_ref().expect("a lease has its connection")
    }
}

impl<S: Default + Send + 'static> DerefMut for Lease<S> {
    #[expect(
        clippy::expect_used,
        reason = "only the two methods that consume the lease take the object out"
    )]
    fn deref_mut(&mut self) -> &mut Connection<S> {
        self.object.as_mut().expect("a lease has its connection")
    }
}

impl<S: Default + Send + 'static> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("server", &self.server)
            .field("epoch", &self.epoch)
            .field("cancel_key", &self.cancel_key)
            .finish_non_exhaustive()
    }
}

/// A resting connection keeps a buffer up to this, which most answers fit in.
const RESTING_BUFFER_BYTES: usize = 16 << 10;
