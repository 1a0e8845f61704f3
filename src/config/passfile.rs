//! libpq's password file, `~/.pgpass`: `host:port:database:user:password`, first match wins.
//!
//! Source: PostgreSQL 17, libpq-pgpass.html.

use crate::cluster::Address;

use super::secret::Secret;

/// The lines of a password file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Passfile(Vec<Line>);

/// One line; a field of `None` was `*` and matches all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    host: Option<String>,
    port: Option<String>,
    database: Option<String>,
    user: Option<String>,
    password: Secret,
}

impl Passfile {
    /// Reads all lines; like libpq, skips what is not one.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(line).collect())
    }

    /// The password for one server, database and user.
    pub(super) fn find(&self, server: &Address, database: &str, user: &str) -> Option<&Secret> {
        let port = server.port.to_string();
        let fits = |field: &Option<String>, value: &str| {
            field.as_deref().is_none_or(|field| field == value)
        };
        self.0
            .iter()
            .find(|line| {
                fits(&line.host, &server.host)
                    && fits(&line.port, &port)
                    && fits(&line.database, database)
                    && fits(&line.user, user)
            })
            .map(|line| &line.password)
    }
}

fn line(text: &str) -> Option<Line> {
    if text.starts_with('#') {
        return None;
    }
    let mut fields = fields(text).into_iter();
    let mut field = || fields.next().map(|(text, star)| (!star).then_some(text));
    let (host, port, database, user) = (field()?, field()?, field()?, field()?);
    let (password, _) = fields.next()?;
    Some(Line {
        host,
        port,
        database,
        user,
        password: Secret::new(password),
    })
}

/// Splits at colons; a backslash takes the next character as it is. The flag says whether the
/// field was a bare `*`.
fn fields(text: &str) -> Vec<(String, bool)> {
    let mut fields = vec![(String::new(), false)];
    let mut escaped = false;
    for c in text.chars() {
        let Some((field, star)) = fields.last_mut() else {
            break;
        };
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            ':' if !escaped => fields.push((String::new(), false)),
            c => {
                *star = c == '*' && field.is_empty() && !escaped;
                field.push(c);
            }
        }
        escaped = false;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, host: &str) -> Option<String> {
        let address: Address = host.parse().unwrap();
        Passfile::parse(text)
            .find(&address, "postgres", "pgherd")
            .map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_wins() {
        let text = "# comment\npg1:5433:*:*:wrong port\npg1:*:*:pgherd:right\n*:*:*:*:rest";
        assert_eq!(find(text, "pg1").unwrap(), "right");
        assert_eq!(find(text, "pg2").unwrap(), "rest");
        assert_eq!(find("pg1:5432:app:pgherd:x", "pg1"), None);
    }

    #[test]
    fn a_backslash_keeps_a_colon_and_a_star_literal() {
        assert_eq!(find(r"\*:*:*:*:x", "pg1"), None);
        assert_eq!(find(r"*:*:*:*:a\:b\\c", "pg1").unwrap(), r"a:b\c");
    }

    #[test]
    fn a_line_with_too_few_fields_is_skipped() {
        assert_eq!(find("pg1:5432:x\n\n*:*:*:*:y", "pg1").unwrap(), "y");
    }
}
