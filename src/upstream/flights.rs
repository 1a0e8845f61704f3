//! Who asks for the same thing at the same time shares one answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// The questions that are being asked, by what they are about.
#[derive(Debug)]
pub(super) struct Flights<T> {
    cells: Mutex<Cells<T>>,
}

type Cells<T> = BTreeMap<String, Arc<OnceCell<T>>>;

/// One who waits for an answer.
struct Passenger<'a, T> {
    flights: &'a Flights<T>,
    key: &'a str,
    cell: Arc<OnceCell<T>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            cells: Mutex::default(),
        }
    }
}

impl<T: Clone> Flights<T> {
    /// The answer of `ask`, or of whoever asks for the same `key` already. When the one who asks
    /// gives up, one of those who wait asks in its place.
    pub(super) async fn join(&self, key: &str, ask: impl Future<Output = T>) -> T {
        let passenger = self.board(key);
        passenger.cell.get_or_init(|| ask).await.clone()
    }

    fn board<'a>(&'a self, key: &'a str) -> Passenger<'a, T> {
        let mut cells = self.lock();
        let cell = Arc::clone(cells.entry(key.to_owned()).or_default());
        Passenger {
            flights: self,
            key,
            cell,
        }
    }
}

impl<T> Flights<T> {
    fn lock(&self) -> MutexGuard<'_, Cells<T>> {
        // Each change is one call: a panic elsewhere leaves the map whole.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Passenger<'_, T> {
    /// Whoever asks after the answer has come asks anew, and the last one turns off the light.
    fn drop(&mut self) {
        let mut cells = self.flights.lock();
        let is_over = self.cell.initialized() || Arc::strong_count(&self.cell) <= 2;
        let is_ours = |cell: &Arc<OnceCell<T>>| Arc::ptr_eq(cell, &self.cell);
        if is_over && cells.get(self.key).is_some_and(is_ours) {
            cells.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join3;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Poll;
    use tokio::task::yield_now;

    async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn the_same_is_asked_once_and_different_things_side_by_side() {
        let flights = Flights::default();
        let asked = AtomicU32::new(0);
        let most = AtomicU32::new(0);
        let at_once = AtomicU32::new(0);
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            let now = at_once.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            yield_now().await;
            at_once.fetch_sub(1, Ordering::Relaxed);
            now
        };
        join3(
            flights.join("a", ask()),
            flights.join("a", ask()),
            flights.join("b", ask()),
        )
        .await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(most.load(Ordering::Relaxed), 2);
        assert!(flights.lock().is_empty());
        flights.join("a", ask()).await;
        assert_eq!(asked.load(Ordering::Relaxed), 3, "an answer is not kept");
    }

    #[tokio::test]
    async fn one_who_gives_up_leaves_the_question_to_the_next() {
        let flights = Flights::default();
        let mut first = Box::pin(flights.join("a", std::future::pending::<u8>()));
        assert!(is_pending(first.as_mut()).await);
        let mut second = Box::pin(flights.join("a", async { 2 }));
        assert!(is_pending(second.as_mut()).await, "the first asks");
        drop(first);
        assert_eq!(second.await, 2);
        assert!(flights.lock().is_empty());
        let mut third = Box::pin(flights.join("a", std::future::pending::<u8>()));
        assert!(is_pending(third.as_mut()).await);
        drop(third);
        assert!(flights.lock().is_empty(), "nobody is left who asks");
    }
}
