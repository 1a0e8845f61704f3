//! The part of a login in which a client proves its password by md5.

use bytes::Bytes;

use super::login::{Login, LoginOutput, State, admit, refuse, wrong_password};
use super::{Credential, reply};
use crate::policy::AccessMethod;
use crate::wire::frontend::password_text;
use crate::wire::{Frame, Md5Hash, SqlState, Startup, backend};

impl Login {
    /// Asks for a proof by md5, if that is how it is to be proved.
    pub(super) fn ask_md5(
        &self,
        startup: &Startup,
        stored: &str,
        out: &mut Vec<LoginOutput>,
    ) -> Option<State> {
        let (hash, secret) = self.md5_for(stored, startup)?;
        out.push(LoginOutput::ToClient(reply::message(|to| {
            backend::authentication_md5(to, self.salt());
        })));
        Some(State::AwaitMd5 {
            startup: startup.clone(),
            hash,
            secret,
        })
    }

    /// What an answer to an md5 challenge is checked against; `None` when there is to be none.
    fn md5_for(&self, stored: &str, startup: &Startup) -> Option<(Md5Hash, Credential)> {
        let hash = stored.parse::<Md5Hash>().ok();
        let is_verifier = stored.starts_with("SCRAM-SHA-256$") || stored.starts_with("md5");
        match (self.method, hash) {
            (AccessMethod::Md5 | AccessMethod::Stored, Some(hash)) => {
                Some((hash.clone(), Credential::Md5(hash)))
            }
            (AccessMethod::Md5, None) if !is_verifier => {
                let hash = Md5Hash::of_password(stored.as_bytes(), startup.user());
                Some((hash, Credential::Password(stored.to_owned())))
            }
            (
                AccessMethod::Md5
                | AccessMethod::Stored
                | AccessMethod::Scram
                | AccessMethod::Trust
                | AccessMethod::Reject
                | AccessMethod::Cert
                | AccessMethod::Peer,
                _,
            ) => None,
        }
    }

    pub(super) fn md5_answered(
        &self,
        startup: Startup,
        hash: &Md5Hash,
        secret: Credential,
        frame: &Frame,
        out: &mut Vec<LoginOutput>,
    ) -> State {
        let Ok(answer) = password_text(frame.body()) else {
            return refuse(
                out,
                SqlState::PROTOCOL_VIOLATION,
                "malformed password message".to_owned(),
            );
        };
        if hash.proves(self.salt(), answer) {
            return admit(&startup, secret, out);
        }
        let user = String::from_utf8_lossy(startup.user()).into_owned();
        out.push(LoginOutput::Doubt(user.clone()));
        out.push(LoginOutput::LookUp(user));
        let answer = Bytes::copy_from_slice(answer);
        State::Rechecking { startup, answer }
    }

    /// The answer is to the salt, not to what was stored: it can be checked against what is stored
    /// now.
    pub(super) fn rechecked(
        &self,
        startup: &Startup,
        answer: &[u8],
        stored: Option<String>,
        out: &mut Vec<LoginOutput>,
    ) -> State {
        let now = stored.and_then(|stored| self.md5_for(&stored, startup));
        match now {
            Some((hash, secret)) if hash.proves(self.salt(), answer) => admit(startup, secret, out),
            _ => wrong_password(startup, out),
        }
    }

    fn salt(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.settings.nonce;
        [a, b, c, d]
    }
}
