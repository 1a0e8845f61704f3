//! Which settings are carried, and with which values.
//!
//! Carried is what a statement of its own sets to a value that means the same on every connection of
//! the pool, and what changes nothing of how the session's statements are understood: a prepared
//! statement is the same one for all sessions.

use super::values::Change;
use crate::statement::{Effect, Facts, Kind, SetScope, SetValue};

/// What a text changes, when it is one statement that changes only what is carried.
pub(in crate::session) fn changes_of(facts: &Facts) -> Option<Vec<Change>> {
    let [statement] = facts.statements.as_slice() else {
        return None;
    };
    let is_set = matches!(
        statement.kind,
        Kind::Set {
            scope: SetScope::Session,
            ..
        } | Kind::ResetAll
            | Kind::SessionCharacteristics(_)
    );
    if !is_set || facts.unparsed.is_some() || statement.unparsed.is_some() {
        return None;
    }
    statement.effects.iter().map(change_of).collect()
}

fn change_of(effect: &Effect) -> Option<Change> {
    if *effect == Effect::ResetAll {
        return Some(Change::ResetAll);
    }
    let Effect::Setting { name, value } = effect else {
        return None;
    };
    let name = Some(name).filter(|name| is_carried(name))?.clone();
    match value {
        SetValue::Default => Some(Change::Reset { name }),
        SetValue::Text(text) if means_the_same(&name, value, text) => Some(Change::Set {
            name,
            text: text.clone(),
        }),
        SetValue::Text(_) | SetValue::Computed => None,
    }
}

fn is_carried(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_of_planner = || name.starts_with("enable_") && name.bytes().all(is_plain);
    NAMES.binary_search(&name).is_ok() || is_of_planner()
}

/// Whether a value is read alike whatever else is set. Other bytes than ASCII depend on the encoding,
/// a backslash on the kind of string that it stands in.
fn means_the_same(name: &str, value: &SetValue, text: &str) -> bool {
    if !text.is_ascii() || text.contains(['\\', '$']) {
        return false;
    }
    // A standby refuses everything under this one.
    let is_serializable = || {
        let plain = value.plain();
        plain.is_none_or(|plain| plain.trim().eq_ignore_ascii_case("serializable"))
    };
    name != "default_transaction_isolation" || !is_serializable()
}

/// In order. Names with a dot are not among them: that one was used is what no connection forgets.
/// Nor is `idle_session_timeout`, by which a connection would end between two users.
const NAMES: [&str; 30] = [
    "application_name",
    "client_min_messages",
    "commit_delay",
    "commit_siblings",
    "cursor_tuple_fraction",
    "deadlock_timeout",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "from_collapse_limit",
    "geqo",
    "geqo_threshold",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "jit",
    "join_collapse_limit",
    "lock_timeout",
    "log_duration",
    "log_min_duration_statement",
    "log_statement",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "random_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
    "work_mem",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{FactsCache, Reading};

    fn changes(text: &str) -> Option<Vec<Change>> {
        let cache = FactsCache::<()>::new(1 << 20, [1, 2]);
        changes_of(&cache.facts(text.as_bytes(), Reading::STANDARD))
    }

    #[test]
    fn the_names_are_in_order() {
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn the_text_is_the_clients_own() {
        let set = |name: &str, text: &str| {
            Some(vec![Change::Set {
                name: name.into(),
                text: text.into(),
            }])
        };
        assert_eq!(changes("SET work_mem = '9MB'"), set("work_mem", "'9MB'"));
        assert_eq!(
            changes("set session Work_Mem to 64;"),
            set("work_mem", "64")
        );
        assert_eq!(
            changes("SET application_name TO 'it''s'"),
            set("application_name", "'it''s'")
        );
        assert_eq!(
            changes("SET enable_seqscan TO off"),
            set("enable_seqscan", "off")
        );
        let characteristics = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
        assert_eq!(
            changes(characteristics),
            set("default_transaction_read_only", "'on'")
        );
    }

    #[test]
    fn a_reset_in_all_its_spellings() {
        let reset = Some(vec![Change::Reset {
            name: "work_mem".into(),
        }]);
        assert_eq!(changes("RESET work_mem"), reset);
        assert_eq!(changes("SET work_mem TO DEFAULT"), reset);
        assert_eq!(changes("RESET ALL"), Some(vec![Change::ResetAll]));
    }

    #[test]
    fn what_is_not_known_exactly_is_not_carried() {
        for text in [
            "SET my.setting TO 1",
            "SET search_path TO one",
            "SET datestyle TO 'DMY'",
            "SET ROLE admin",
            "SET idle_session_timeout TO 5",
            "SET \"enable_x; y\" TO 5",
            "RESET SESSION AUTHORIZATION",
            "SET LOCAL work_mem TO 64",
            "SELECT set_config('work_mem', '64', false)",
            "SET work_mem TO 64; SELECT 1",
            "SELECT 1; RESET ALL",
            "SET application_name TO E'a\\\\b'",
            "SET application_name TO 'müller'",
            "SET application_name TO $$a$$",
            "SET default_transaction_isolation TO 'serializable'",
            "SET default_transaction_isolation TO 'SERIALIZABLE '",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SELECT 1",
            "",
        ] {
            assert_eq!(changes(text), None, "{text}");
        }
    }
}
