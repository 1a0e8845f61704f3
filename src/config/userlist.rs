//! PgBouncer's userlist.txt: `"user" "secret"` on each line.
//!
//! Source: PgBouncer 1.24, config.html, "Authentication file format".

use super::secret::Secret;

/// One user of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// A plain password, a verifier that starts with `SCRAM-SHA-256$`, or `md5` and a hash.
    pub secret: Secret,
}

/// A line that is not one of the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserlistError {
    /// Not two texts in quotes.
    #[error("line {0}: expected \"user\" \"secret\"")]
    NotAPair(usize),
    /// The user came before.
    #[error("line {0}: user {1:?} is there twice")]
    Twice(usize, String),
}

/// Reads a list; empty lines and lines that start with `;` or `#` are comments.
///
/// # Errors
///
/// Every line that cannot be used, see [`UserlistError`].
pub fn parse(text: &str) -> Result<Vec<User>, Vec<UserlistError>> {
    let mut users: Vec<User> = Vec::new();
    let mut errors = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        match user(line, number) {
            Ok(user) if users.iter().any(|known| known.name == user.name) => {
                errors.push(UserlistError::Twice(number, user.name));
            }
            Ok(user) => users.push(user),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(users)
    } else {
        Err(errors)
    }
}

fn user(line: &str, number: usize) -> Result<User, UserlistError> {
    let pair = quoted(line).and_then(|(name, rest)| {
        let (secret, _) = quoted(rest.trim_start())?;
        (!name.is_empty()).then_some((name, secret))
    });
    let (name, secret) = pair.ok_or(UserlistError::NotAPair(number))?;
    Ok(User {
        name,
        secret: Secret::new(secret),
    })
}

/// Takes a text in quotes off the front; a quote inside is doubled.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut content = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        content.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                content.push('"');
                rest = after;
            }
            None => return Some((content, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_pgbouncer_is_read_as_it_is() {
        let text =
            "; users\n\"app\" \"SCRAM-SHA-256$4096:c2FsdA==$a:b\"\n\n\"o\"\"x\" \"pl\"\"ain\" x\n";
        let users = parse(text).unwrap();
        let pairs: Vec<_> = users
            .iter()
            .map(|u| (u.name.as_str(), u.secret.reveal()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("app", "SCRAM-SHA-256$4096:c2FsdA==$a:b"),
                ("o\"x", "pl\"ain")
            ]
        );
    }

    #[test]
    fn every_bad_line_is_named() {
        let text = "app secret\n\"a\" \"b\"\n\"a\" \"c\"\n\"open\" \"x\n";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                UserlistError::NotAPair(1),
                UserlistError::Twice(3, "a".into()),
                UserlistError::NotAPair(4),
            ]
        );
    }
}
