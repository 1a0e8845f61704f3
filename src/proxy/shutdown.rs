//! How the router is told to stop from its console, and what it does until then. What each kind of
//! stop waits for, and for how long, is decided by whoever runs the program.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::Proxy;

/// What a stop waits for; the later ones wait for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// Until all clients have left.
    WaitForClients,
    /// Until nothing runs on a server.
    WaitForServers,
    /// Nothing.
    Now,
}

impl Shutdown {
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::WaitForClients => "the router stops when its clients have left",
            Self::WaitForServers => "the router stops when what runs has ended",
            Self::Now => "the router stops",
        }
    }
}

/// What operators have asked for.
#[derive(Debug)]
pub(super) struct Requests {
    asked: watch::Sender<Option<Shutdown>>,
    leaving: AtomicBool,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(None),
            leaving: AtomicBool::new(false),
        }
    }
}

impl Requests {
    /// Asks for a stop. One that waits for more than what was asked for before changes nothing.
    pub(super) fn ask(&self, how: Shutdown) {
        self.asked.send_if_modified(|asked| {
            let is_more = *asked < Some(how);
            if is_more {
                *asked = Some(how);
            }
            is_more
        });
    }
}

impl Proxy {
    /// Waits until a stop is asked for in the console that waits for less than this one.
    pub async fn asked_to_stop(&self, known: Option<Shutdown>) -> Shutdown {
        let mut asked = self.state.shutdown.asked.subscribe();
        loop {
            let now = *asked.borrow_and_update();
            match now {
                Some(how) if now > known => return how,
                _ => {}
            }
            if asked.changed().await.is_err() {
                // Not while `self` is there, which has the other end.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Health checks say from now on that clients should be sent elsewhere.
    pub fn leave(&self) {
        self.state.shutdown.leaving.store(true, Ordering::Release);
    }

    /// Whether clients should be sent elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.state.shutdown.leaving.load(Ordering::Acquire) || self.is_draining()
    }

    /// How many clients there are, with those that log in, but for the console.
    pub fn guests(&self) -> usize {
        self.state.guests.taken() + self.state.logging_in.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stop_that_waits_for_less_is_news() {
        let requests = Requests::default();
        let mut news = requests.asked.subscribe();
        let mut ask = |how| {
            requests.ask(how);
            let is_news = news.has_changed().unwrap();
            news.mark_unchanged();
            is_news
        };
        assert!(ask(Shutdown::WaitForServers));
        assert!(!ask(Shutdown::WaitForClients));
        assert!(!ask(Shutdown::WaitForServers));
        assert!(ask(Shutdown::Now));
        assert_eq!(*requests.asked.borrow(), Some(Shutdown::Now));
    }
}
