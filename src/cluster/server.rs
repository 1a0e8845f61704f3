//! A PostgreSQL server as we name it: a number, an address, a role.

use std::fmt;
use std::str::FromStr;

/// The number of a server: its place in the list of hosts of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u16);

impl ServerId {
    /// The place of this server in a list that has one entry for each.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a server says it is; never what a configuration declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `pg_is_in_recovery()` answered false.
    Primary,
    /// `pg_is_in_recovery()` answered true.
    Replica,
    /// No valid answer yet.
    Unknown,
}

impl Role {
    /// The word used in the console, in logs and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

/// A text that is not `host`, `host:port` or `[v6]:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected host or host:port, got {0:?}")]
pub struct AddressError(String);

impl Address {
    /// PostgreSQL's own port, taken when none is written.
    pub const DEFAULT_PORT: u16 = 5432;

    /// The directory with the server's Unix socket, when the host is one: as libpq takes it, a host
    /// that begins with a slash is.
    pub fn directory(&self) -> Option<&str> {
        self.host.starts_with('/').then_some(&self.host)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(error)?;
                (
                    host,
                    if rest.is_empty() {
                        None
                    } else {
                        Some(rest.strip_prefix(':').ok_or_else(error)?)
                    },
                )
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let bare_v6 = host.contains(':') && !text.starts_with('[');
        if host.is_empty() || bare_v6 || host.contains(char::is_whitespace) {
            return Err(error());
        }
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(error)?,
            None => Self::DEFAULT_PORT,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_port() {
        let address: Address = "pg1".parse().unwrap();
        assert_eq!(
            address,
            Address {
                host: "pg1".into(),
                port: 5432
            }
        );
    }

    #[test]
    fn a_version_six_address_needs_brackets() {
        let address: Address = "[::1]:6001".parse().unwrap();
        assert_eq!(address.to_string(), "[::1]:6001");
        assert!("::1:6001".parse::<Address>().is_err());
    }

    #[test]
    fn a_host_that_begins_with_a_slash_is_a_directory() {
        let address: Address = "/run/postgresql:5433".parse().unwrap();
        assert_eq!(address.directory(), Some("/run/postgresql"));
        assert_eq!(address.port, 5433);
        assert_eq!("pg1".parse::<Address>().unwrap().directory(), None);
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            ":5432",
            "pg1:",
            "pg1:0",
            "pg1:70000",
            "pg 1",
            "[::1",
            "[::1]x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken");
        }
    }
}
