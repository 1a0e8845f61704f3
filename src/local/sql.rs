//! The roles and the database that every local cluster has, as SQL.

use super::options::{DATABASE, DEMO_PASSWORD, DEMO_ROLE, MONITOR_ROLE, Options, Role, SUPERUSER};

/// Statements for the database `postgres` of the primary, once. They stand alone, since
/// CREATE DATABASE takes no company.
pub(super) fn for_the_cluster(options: &Options, major: u32) -> Vec<String> {
    // Before 15 only a superuser may point a replica elsewhere.
    let monitor = if major < 15 {
        "SUPERUSER REPLICATION"
    } else {
        "REPLICATION"
    };
    let demo = Role {
        name: DEMO_ROLE.to_owned(),
        password: Some(DEMO_PASSWORD.to_owned()),
    };
    let mut statements = vec![
        format!("CREATE ROLE {MONITOR_ROLE} LOGIN {monitor}"),
        format!("GRANT pg_monitor, pg_signal_backend TO {MONITOR_ROLE}"),
    ];
    if major >= 15 {
        statements.push(format!(
            "GRANT ALTER SYSTEM ON PARAMETER primary_conninfo, primary_slot_name, restore_command, \
             synchronous_standby_names, default_transaction_read_only TO {MONITOR_ROLE}"
        ));
        statements.push(format!("GRANT pg_checkpoint TO {MONITOR_ROLE}"));
    }
    if major >= 16 {
        statements.push(format!(
            "GRANT pg_use_reserved_connections TO {MONITOR_ROLE}"
        ));
    }
    statements.extend([&demo].into_iter().chain(&options.roles).map(create_role));
    statements.push(format!("CREATE DATABASE {DATABASE} OWNER {DEMO_ROLE}"));
    statements
}

/// Statements for each database: rights on functions are kept per database.
pub(super) const FOR_EACH_DATABASE: &str = include_str!("each_database.sql");

/// The databases that get [`FOR_EACH_DATABASE`].
pub(super) const DATABASES: [&str; 2] = [SUPERUSER, DATABASE];

fn create_role(role: &Role) -> String {
    let name = identifier(&role.name);
    match &role.password {
        Some(password) => format!("CREATE ROLE {name} LOGIN PASSWORD {}", literal(password)),
        None => format!("CREATE ROLE {name} LOGIN"),
    }
}

/// A name in double quotes.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes. `standard_conforming_strings` is on in a fresh cluster.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_created_with_its_name_and_password_quoted() {
        let role = Role {
            name: "a\"b".to_owned(),
            password: Some("it's".to_owned()),
        };
        assert_eq!(
            create_role(&role),
            r#"CREATE ROLE "a""b" LOGIN PASSWORD 'it''s'"#
        );
    }

    #[test]
    fn before_15_the_monitor_is_a_superuser_and_later_it_is_not() {
        let first = |major| for_the_cluster(&Options::default(), major).first().cloned();
        assert_eq!(
            first(14).unwrap(),
            "CREATE ROLE pgherd LOGIN SUPERUSER REPLICATION"
        );
        assert_eq!(first(15).unwrap(), "CREATE ROLE pgherd LOGIN REPLICATION");
    }
}
