//! Rewrites `primary_conninfo`: another host and port, everything else as it was.
//!
//! A replica is cut off by pointing it at a socket directory that does not exist. Everything else
//! (user, password file, TLS) stays in the string, so whoever comes later, a restarted router or a
//! person, can point it back without knowing more.

use crate::cluster::Address;

/// Where a replica that is cut off looks for its primary: a Unix socket, so no name is resolved
/// and no packet sent.
const NOWHERE: &str = "/pgherd-cut-off";

/// Where a replica is to be pointed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// At a server.
    Server(&'a Address),
    /// At nobody.
    Nowhere,
}

/// The string with another target; `None` when it is empty or not in the key=value form.
pub(super) fn retarget(conninfo: &str, target: Target<'_>) -> Option<String> {
    let mut pairs = parse(conninfo)?;
    if pairs.is_empty() {
        return None;
    }
    pairs.retain(|(key, _)| !matches!(key.as_str(), "host" | "hostaddr" | "port"));
    let (host, port) = match target {
        Target::Server(address) => (address.host.clone(), address.port),
        Target::Nowhere => (NOWHERE.to_owned(), 1),
    };
    pairs.insert(0, ("host".to_owned(), host));
    pairs.insert(1, ("port".to_owned(), port.to_string()));
    let written: Vec<_> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    Some(written.join(" "))
}

/// Whether a replica with this string was cut off by us.
pub(super) fn is_cut_off(conninfo: &str) -> bool {
    parse(conninfo).is_some_and(|pairs| {
        pairs
            .iter()
            .any(|(key, value)| key == "host" && value == NOWHERE)
    })
}

/// Source: PostgreSQL 17, `conninfo_parse` in `fe-connect.c`.
fn parse(conninfo: &str) -> Option<Vec<(String, String)>> {
    if conninfo.starts_with("postgres://") || conninfo.starts_with("postgresql://") {
        return None;
    }
    let mut pairs = Vec::new();
    let mut chars = conninfo.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(pairs);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        chars.next_if_eq(&'=')?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next()?),
                Some('\'') if quoted => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(c) => value.push(c),
                None if quoted => return None,
                None => break,
            }
        }
        pairs.push((key, value));
    }
}

fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_target_changes_and_quoting_survives() {
        let address: Address = "10.0.0.2:6001".parse().unwrap();
        let old = r"user=rep password='it\'s \\ secret' host=a,b hostaddr = 1.2.3.4 port=1 sslmode=require";
        assert_eq!(
            retarget(old, Target::Server(&address)).unwrap(),
            r"host=10.0.0.2 port=6001 user=rep password='it\'s \\ secret' sslmode=require"
        );
    }

    #[test]
    fn a_replica_that_was_cut_off_can_be_pointed_back_from_its_own_string() {
        let address: Address = "pg1:5432".parse().unwrap();
        let old = "user=rep passfile=/x/y host=pg1 port=5432";
        let cut = retarget(old, Target::Nowhere).unwrap();
        assert!(is_cut_off(&cut) && !is_cut_off(old));
        let back = retarget(&cut, Target::Server(&address)).unwrap();
        assert_eq!(back, "host=pg1 port=5432 user=rep passfile=/x/y");
    }

    #[test]
    fn what_cannot_be_rewritten_is_left_alone() {
        for text in ["", "  ", "postgres://u@h/d", "user", "user='x", "user=x\\"] {
            assert_eq!(retarget(text, Target::Nowhere), None, "{text:?}");
        }
    }
}
