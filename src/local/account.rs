//! As whom the servers run. PostgreSQL refuses to run as root, and containers and CI are root.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::error::LocalError;

/// The user that owns the data directories and runs the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever we are.
    Ourselves,
    /// Another one, since we are root.
    Other {
        /// The name, for people.
        name: String,
        uid: u32,
        gid: u32,
    },
}

impl Account {
    /// Ourselves, or for root `postgres`, else `nobody`.
    pub(super) fn choose() -> Result<Self, LocalError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let passwd =
            fs::read_to_string("/etc/passwd").map_err(LocalError::system("read /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| find(&passwd, name))
            .ok_or(LocalError::NoAccount)
    }

    /// The name of the other user, if it is one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Ourselves => None,
            Self::Other { name, .. } => Some(name),
        }
    }

    /// Makes a file or directory the account's own.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)),
        }
    }

    /// Lets a command run as the account.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }
}

/// Looks a user up in the text of `/etc/passwd`.
fn find(passwd: &str, wanted: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        Some(Account::Other {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

/// A user or group number. macOS writes `nobody` as -2, which the kernel takes as 32 bits.
fn number(text: &str) -> Option<u32> {
    let signed: i64 = text.parse().ok()?;
    u32::try_from(signed)
        .ok()
        .or_else(|| i32::try_from(signed).ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres2:x:1:1::/:/bin/sh\n\
                      postgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\nnobody:*:-2:-2::/:/x\n";
        let account = |name: &str, uid, gid| Account::Other {
            name: name.to_owned(),
            uid,
            gid,
        };
        assert_eq!(
            find(passwd, "postgres"),
            Some(account("postgres", 101, 104))
        );
        assert_eq!(
            find(passwd, "nobody"),
            Some(account("nobody", 4_294_967_294, 4_294_967_294))
        );
        assert_eq!(find(passwd, "www"), None);
    }
}
