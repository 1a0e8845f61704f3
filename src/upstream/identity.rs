//! As whom we log in to a server. Equal identities share a pool.

use std::collections::BTreeMap;
use std::fmt;

use crate::wire::Md5Hash;

/// Everything that makes two server connections different from the first byte on.
///
/// Secrets are compared too: after a password change the next client gets a new pool, and the
/// connections of the old one age out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// How we prove to be that role.
    pub secret: Secret,
    /// Parameters that only a start-up packet can set. What `SET` can change is carried by the
    /// session instead, so that sessions with different settings still share connections.
    pub parameters: BTreeMap<String, String>,
}

/// How we prove to a server who we are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// Nothing: the server trusts our address.
    None,
    /// A password: good for cleartext, md5 and SCRAM.
    Password(String),
    /// What a server stores of a password under md5: good for md5.
    Md5(Md5Hash),
    /// The keys of SCRAM-SHA-256, recovered from a client's proof and its verifier.
    ScramKeys {
        /// `ClientKey`: proves to the server who we are.
        client_key: [u8; 32],
        /// `ServerKey`: the server proves to us that it has the verifier.
        server_key: [u8; 32],
    },
}

/// Names the kind and never the secret: these values end up in logs by accident.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password",
            Self::Md5(_) => "Md5",
            Self::ScramKeys { .. } => "ScramKeys",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let login = Login {
            database: "app".into(),
            user: "alice".into(),
            secret: Secret::Password("hunter2".into()),
            parameters: BTreeMap::new(),
        };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
