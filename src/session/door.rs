//! The part of a login that asks the rules of access, and what they say is told in PostgreSQL's
//! words.

use super::login::{Login, LoginOutput, State, TlsOffer, admit, refuse};
use super::{Credential, ReplicationMode, replication};
use crate::policy::{AccessMethod, AccessRule, CertificateNeed, Origin, Visit};
use crate::wire::{Md5Hash, SqlState, Startup};

impl Login {
    /// Asks the rules who has come.
    pub(super) fn at_the_door(&mut self, startup: Startup, out: &mut Vec<LoginOutput>) -> State {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (user, database) = (text(startup.user()), text(startup.database()));
        let wanted = replication::wanted(&startup).unwrap_or_default();
        let visit = Visit {
            user: &user,
            database: &database,
            replicates: wanted.is_some_and(|wanted| wanted.mode == ReplicationMode::Physical),
            origin: &self.settings.origin,
            encrypted: self.secured.is_some(),
        };
        if is_operator(visit.origin, &user, &database) && !visit.replicates {
            return admit(&startup, Credential::None, out);
        }
        let must_encrypt = self.settings.tls == TlsOffer::Required
            && !visit.encrypted
            && matches!(visit.origin, Origin::Host(_));
        let rule = match must_encrypt {
            true => None,
            false => self.settings.access.decide(&visit).cloned(),
        };
        let Some(rule) = rule else {
            return unwelcome(&visit, "no pg_hba.conf entry for", out);
        };
        if rule.method == AccessMethod::Reject {
            return unwelcome(&visit, "pg_hba.conf rejects", out);
        }
        if let Err(why) = self.has_certificate(&rule, &user) {
            return refuse(out, SqlState::INVALID_AUTHORIZATION, why);
        }
        self.method = rule.method;
        match rule.method {
            AccessMethod::Peer if !self.is_user_of_system(&user) => {
                let why = format!("Peer authentication failed for user \"{user}\"");
                refuse(out, SqlState::INVALID_AUTHORIZATION, why)
            }
            AccessMethod::Trust | AccessMethod::Cert | AccessMethod::Peer
                if !self.settings.has_file =>
            {
                admit(&startup, Credential::None, out)
            }
            AccessMethod::Trust
            | AccessMethod::Cert
            | AccessMethod::Peer
            | AccessMethod::Reject
            | AccessMethod::Scram
            | AccessMethod::Md5
            | AccessMethod::Stored => {
                out.push(LoginOutput::LookUp(user));
                State::LookingUp(startup)
            }
        }
    }

    /// With what a client that need not prove a password can log in to the servers.
    pub(super) fn vouched_for(&self, stored: Option<&str>) -> Option<Credential> {
        match self.method {
            AccessMethod::Trust | AccessMethod::Cert | AccessMethod::Peer => {}
            AccessMethod::Reject
            | AccessMethod::Scram
            | AccessMethod::Md5
            | AccessMethod::Stored => return None,
        }
        let secret = match stored {
            None => Credential::None,
            Some(stored) => match stored.parse::<Md5Hash>() {
                Ok(hash) => Credential::Md5(hash),
                Err(_) if stored.starts_with("SCRAM-SHA-256$") => Credential::None,
                Err(_) => Credential::Password(stored.to_owned()),
            },
        };
        Some(secret)
    }

    fn has_certificate(&self, rule: &AccessRule, user: &str) -> Result<(), String> {
        let shown = self.secured.as_ref().and_then(|it| it.certificate.as_ref());
        let must_be_named =
            rule.method == AccessMethod::Cert || rule.certificate == CertificateNeed::Named;
        let must_be_shown = must_be_named || rule.certificate == CertificateNeed::Verified;
        match shown {
            None if must_be_shown => {
                Err("connection requires a valid client certificate".to_owned())
            }
            Some(shown) if must_be_named && shown.common_name.as_deref() != Some(user) => Err(
                format!("certificate authentication failed for user \"{user}\""),
            ),
            _ => Ok(()),
        }
    }

    fn is_user_of_system(&self, user: &str) -> bool {
        match &self.settings.origin {
            Origin::Local { user: own, .. } => own.as_deref() == Some(user),
            Origin::Host(_) => false,
        }
    }
}

/// Whether somebody may use the console without a password: by the socket, as the user that we run
/// as, under the console's own name. PgBouncer's users know this.
pub fn is_operator(origin: &Origin, user: &str, database: &str) -> bool {
    let is_ours = matches!(origin, Origin::Local { is_ours: true, .. });
    is_ours && CONSOLE_DATABASES.contains(&user) && CONSOLE_DATABASES.contains(&database)
}

/// The names by which the console is asked for.
pub const CONSOLE_DATABASES: [&str; 2] = ["pgherd", "pgbouncer"];

/// Source: PostgreSQL 17, `ClientAuthentication` in `libpq/auth.c`.
fn unwelcome(visit: &Visit<'_>, what: &str, out: &mut Vec<LoginOutput>) -> State {
    let (host, user) = (visit.origin.name(), visit.user);
    let encryption = match visit.encrypted {
        true => "SSL encryption",
        false => "no encryption",
    };
    let rejects = what.ends_with("rejects");
    let whom = match (visit.replicates, rejects) {
        (true, true) => format!("replication connection for host \"{host}\", user \"{user}\""),
        (true, false) => format!("replication connection from host \"{host}\", user \"{user}\""),
        (false, rejects) => {
            let connection = if rejects { "connection for " } else { "" };
            let database = visit.database;
            format!("{connection}host \"{host}\", user \"{user}\", database \"{database}\"")
        }
    };
    let text = format!("{what} {whom}, {encryption}");
    refuse(out, SqlState::INVALID_AUTHORIZATION, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::policy::{AccessRules, DatabaseName, Door, Network, UserName};
    use crate::session::{LoginInput, LoginSettings};
    use crate::wire::FirstPacket;

    fn login(method: AccessMethod, user_of_system: Option<&str>, has_file: bool) -> Login {
        let rule = AccessRule {
            door: Door::Local,
            databases: vec![DatabaseName::All],
            users: vec![UserName::All],
            network: Network::All,
            method,
            certificate: CertificateNeed::None,
        };
        Login::new(LoginSettings {
            access: Arc::new(AccessRules(vec![rule])),
            has_file,
            nonce: [1; 18],
            mock_secret: [7; 32],
            tls: TlsOffer::Required,
            origin: Origin::Local {
                user: user_of_system.map(str::to_owned),
                is_ours: false,
            },
        })
    }

    /// What becomes of ann, when this is stored of her.
    fn play(mut login: Login, stored: Option<&str>) -> Result<Credential, String> {
        let user = (Bytes::from_static(b"user"), Bytes::from_static(b"ann"));
        let mut out = Vec::new();
        let startup = Startup {
            minor: 0,
            parameters: vec![user],
            protocol_options: Vec::new(),
        };
        login.handle(
            LoginInput::Packet(Ok(FirstPacket::Startup(startup))),
            &mut out,
        );
        if matches!(out.last(), Some(LoginOutput::LookUp(_))) {
            login.handle(LoginInput::Stored(stored.map(str::to_owned)), &mut out);
        }
        for output in out {
            if let LoginOutput::LoggedIn(identity) = output {
                return Ok(identity.secret);
            }
            if let LoginOutput::ToClient(bytes) = output
                && bytes.starts_with(b"E")
            {
                return Err(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        panic!("neither in nor out");
    }

    #[test]
    fn peer_lets_in_the_user_of_the_system_who_has_the_name() {
        let peer = |name| play(login(AccessMethod::Peer, name, false), None);
        assert!(matches!(peer(Some("ann")), Ok(Credential::None)));
        for other in [Some("bob"), Some("Ann"), Some(""), None] {
            let error = peer(other).unwrap_err();
            assert!(error.contains("28000"), "{error}");
            assert!(error.contains("Peer authentication failed for user \"ann\""));
        }
    }

    #[test]
    fn the_console_is_open_to_our_own_user_by_the_socket_alone() {
        let local = |is_ours| Origin::Local {
            user: Some("ann".to_owned()),
            is_ours,
        };
        assert!(is_operator(&local(true), "pgherd", "pgherd"));
        assert!(is_operator(&local(true), "pgbouncer", "pgbouncer"));
        assert!(!is_operator(&local(false), "pgherd", "pgherd"));
        assert!(!is_operator(&local(true), "pgherd", "app"));
        assert!(!is_operator(&local(true), "ann", "pgherd"));
        let loopback = Origin::Host([127, 0, 0, 1].into());
        assert!(!is_operator(&loopback, "pgherd", "pgherd"));
    }

    #[test]
    fn a_socket_needs_no_encryption_and_a_rule_for_it() {
        assert!(play(login(AccessMethod::Trust, None, false), None).is_ok());
        let error = play(login(AccessMethod::Reject, None, false), None).unwrap_err();
        let words = "pg_hba.conf rejects connection for host \"[local]\", user \"ann\", database \
                     \"ann\", no encryption";
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn what_stands_in_the_file_opens_the_servers_to_who_proved_itself_otherwise() {
        let hash = Md5Hash::of_password(b"secret", b"ann");
        let stored = |stored| play(login(AccessMethod::Trust, None, true), stored).unwrap();
        assert!(matches!(stored(Some("secret")), Credential::Password(_)));
        assert!(matches!(stored(Some(hash.as_str())), Credential::Md5(_)));
        assert!(matches!(
            stored(Some("SCRAM-SHA-256$4096:x")),
            Credential::None
        ));
        assert!(matches!(stored(None), Credential::None));
    }
}
