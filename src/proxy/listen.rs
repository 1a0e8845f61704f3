//! A session's part of the shared listener: the wait for it, and what it heard.

use std::time::Duration;

use tokio::time::{sleep, sleep_until};

use super::doorbell::ring;
use super::drive::{Conversation, End};
use super::lease::read_ahead;
use super::listeners::Caller;
use crate::clock;
use crate::session::{Channel, Input, Refusal, When};

/// How the wait for the listener ended.
enum Wait {
    Over(Result<(), Refusal>),
    TooLong,
    ClientGone,
    CalledOff,
}

impl Conversation {
    /// Has the listener of the session's database listen to these channels too, and waits until it
    /// does. A client that goes away meanwhile is noticed.
    pub(super) async fn listen(&mut self, channels: Vec<Channel>) -> Input {
        let ear = self.ear.get_or_insert_with(|| {
            let caller = Caller {
                client: self.card.client,
                login: &self.login,
                encoding: self.session.client_encoding(),
                bell: &self.presence.bell,
            };
            Box::new(self.proxy.state.listeners.join(&self.proxy, &caller))
        });
        let begun = self.now;
        let limit = self.proxy.settings.load().session.hold_clients;
        let waited = {
            let client = std::pin::pin!(read_ahead(&mut self.client, &mut self.client_input));
            let called_off = std::pin::pin!(self.presence.bell.heard(ring::CANCEL | ring::KILL));
            tokio::select! {
                biased;
                result = ear.listen(&channels) => Wait::Over(result),
                () = client => Wait::ClientGone,
                () = called_off => Wait::CalledOff,
                () = sleep_until((begun + limit).into()) => Wait::TooLong,
            }
        };
        self.now = clock::now();
        match waited {
            Wait::Over(result) => Input::Listening(result),
            Wait::TooLong => Input::Listening(Err(Refusal::NoPrimary {
                waited: self.now.saturating_duration_since(begun),
            })),
            Wait::ClientGone => {
                self.end = End::Closing;
                Input::ClientGone
            }
            Wait::CalledOff => {
                self.presence.bell.forget(ring::CANCEL);
                Input::Cancel
            }
        }
    }

    /// Waits until the listener has heard all that was notified so far, and gives it to the session
    /// if the answer waits for it. Whoever waits too long gets it later.
    pub(super) async fn catch_up(&mut self, when: When) -> Input {
        let Some(ear) = &self.ear else {
            return Input::Listening(Ok(()));
        };
        let is_called_off = tokio::select! {
            biased;
            () = ear.catch_up() => false,
            () = self.presence.bell.heard(ring::CANCEL | ring::KILL) => true,
            () = sleep(ECHO_LIMIT) => false,
        };
        self.now = clock::now();
        if when == When::Before {
            ear.mailbox.begin_own();
            if is_called_off {
                self.presence.bell.forget(ring::CANCEL);
                return Input::Cancel;
            }
            return Input::Listening(Ok(()));
        }
        while self.takes_mail()
            && let Some(letter) = self.next_letter()
        {
            let wanted = self.handle(letter);
            debug_assert!(wanted.is_none(), "what is heard asks for nothing");
        }
        self.end_own();
        Input::Listening(Ok(()))
    }

    /// What comes from the session's connection from here on is not its own.
    pub(super) fn end_own(&self) {
        if let Some(ear) = &self.ear {
            ear.mailbox.end_own();
        }
    }

    /// The session does not need these channels any more. One that needs none has no place at the
    /// listener, which may end then.
    pub(super) fn unlisten(&mut self, channels: &[Channel]) {
        self.ear.take_if(|ear| !ear.unlisten(channels));
    }

    /// Whether the listener has something for this session.
    pub(super) fn has_mail(&self) -> bool {
        self.ear.as_ref().is_some_and(|ear| !ear.mailbox.is_empty())
    }

    /// The next thing that the listener has for this session.
    pub(super) fn next_letter(&self) -> Option<Input> {
        self.ear.as_ref()?.mailbox.take()
    }
}

/// The listener answers within a millisecond or so. Nobody's statement waits for one that hangs.
const ECHO_LIMIT: Duration = Duration::from_secs(1);
