//! Built-in functions whose volatility mark does not say what routing needs to know.
//!
//! A mark says how often a function must be called; it does not say whether a replica gives the
//! same answer. Volatile functions that are not here are writes. Names as of PostgreSQL 14 to 18.

use super::Verdict;
use super::facts::FunctionUse;

/// What a built-in function means for routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Volatile, and as good on a replica.
    Computes,
    /// Its answer belongs to one server or to one connection.
    Depends,
    /// It takes, gives back or looks at advisory locks.
    Advisory,
    /// It writes, or runs SQL that may.
    Writes,
}

/// What a call that is syntax, and not a function of anybody, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// It computes from its arguments.
    Expression,
}

/// What calling a function leaves on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// A setting.
    Setting,
    /// An advisory lock of the session.
    AdvisoryLock,
    /// One advisory lock less.
    AdvisoryUnlock,
    /// No advisory lock.
    AdvisoryUnlockAll,
    /// A value that `currval` and `lastval` answer with.
    SequenceValue,
    /// Nothing, but it asks for such a value.
    SequenceQuestion,
    /// A large-object descriptor.
    LargeObject,
    /// Something else of the connection.
    Connection,
}

use Builtin::{Advisory, Computes, Depends, Writes};

/// Sorted by name.
#[rustfmt::skip]
const BUILTINS: &[(&str, Builtin)] = &[
    ("bernoulli", Computes),                 // TABLESAMPLE
    ("clock_timestamp", Computes),           // any server's clock will do
    ("current_query", Computes),
    ("currval", Depends),                    // remembers nextval of this connection
    ("cursor_to_xml", Depends),              // a cursor of this connection
    ("cursor_to_xmlschema", Depends),
    ("database_to_xml", Computes),
    ("gen_random_uuid", Computes),
    ("inet_client_addr", Depends),           // the router's address, seen from one server
    ("inet_client_port", Depends),
    ("inet_server_addr", Depends),
    ("inet_server_port", Depends),
    ("lastval", Depends),
    ("lo_close", Depends),                   // a descriptor of this connection
    ("lo_get", Computes),
    ("lo_lseek", Depends),
    ("lo_lseek64", Depends),
    ("lo_open", Depends),
    ("lo_tell", Depends),
    ("lo_tell64", Depends),
    ("loread", Depends),
    ("nextval", Writes),
    ("pg_advisory_lock", Advisory),
    ("pg_advisory_lock_shared", Advisory),
    ("pg_advisory_unlock", Advisory),
    ("pg_advisory_unlock_all", Advisory),
    ("pg_advisory_unlock_shared", Advisory),
    ("pg_advisory_xact_lock", Advisory),
    ("pg_advisory_xact_lock_shared", Advisory),
    ("pg_backend_pid", Depends),
    ("pg_blocking_pids", Depends),
    ("pg_cancel_backend", Writes),           // a pid of one server
    ("pg_conf_load_time", Depends),
    ("pg_current_snapshot", Depends),
    ("pg_current_xact_id", Writes),          // assigns one: 25006 on a standby
    ("pg_current_xact_id_if_assigned", Depends),
    ("pg_cursor", Depends),                  // cursors of this connection
    ("pg_database_size", Computes),
    ("pg_get_replication_slots", Depends),
    ("pg_indexes_size", Computes),
    ("pg_is_in_recovery", Depends),          // clients ask it to learn where they are
    ("pg_last_wal_receive_lsn", Depends),
    ("pg_last_wal_replay_lsn", Depends),
    ("pg_last_xact_replay_timestamp", Depends),
    ("pg_listening_channels", Depends),
    ("pg_lock_status", Depends),
    ("pg_my_temp_schema", Depends),
    ("pg_notify", Writes),
    ("pg_partition_ancestors", Computes),    // reads the catalog
    ("pg_partition_tree", Computes),
    ("pg_postmaster_start_time", Depends),
    ("pg_prepared_statement", Depends),      // statements of this connection
    ("pg_relation_size", Computes),
    ("pg_safe_snapshot_blocking_pids", Depends),
    ("pg_sequence_last_value", Depends),     // a standby's may be 32 ahead
    ("pg_show_all_settings", Depends),       // SHOW ALL, which the primary answers
    ("pg_sleep", Computes),
    ("pg_sleep_for", Computes),
    ("pg_sleep_until", Computes),
    ("pg_table_size", Computes),
    ("pg_tablespace_size", Computes),
    ("pg_terminate_backend", Writes),
    ("pg_total_relation_size", Computes),
    ("pg_trigger_depth", Computes),
    ("pg_try_advisory_lock", Advisory),
    ("pg_try_advisory_lock_shared", Advisory),
    ("pg_try_advisory_xact_lock", Advisory),
    ("pg_try_advisory_xact_lock_shared", Advisory),
    ("query_to_xml", Writes),                // runs the text that it is given
    ("query_to_xml_and_xmlschema", Writes),
    ("query_to_xmlschema", Writes),
    ("random", Computes),
    ("random_normal", Computes),
    ("set_config", Depends),                 // a setting of this connection
    ("setseed", Depends),                    // random's next value on this connection
    ("setval", Writes),
    ("system", Computes),                    // TABLESAMPLE
    ("timeofday", Computes),
    ("ts_rewrite", Writes),                  // runs the text that it is given
    ("ts_stat", Writes),
    ("txid_current", Writes),
    ("txid_current_if_assigned", Depends),
    ("txid_current_snapshot", Depends),
    ("txid_status", Depends),
    ("uuidv4", Computes),
    ("uuidv7", Computes),
];

/// Constructs of the grammar that look like calls. Nobody can replace them by a function of the
/// same name without quoting it. Sorted.
///
/// Source: PostgreSQL 17, gram.y, `func_expr_common_subexpr` and `c_expr`.
const EXPRESSIONS: &[&str] = &[
    "array",
    "cast",
    "coalesce",
    "exists",
    "extract",
    "greatest",
    "grouping",
    "least",
    "normalize",
    "nullif",
    "overlay",
    "position",
    "row",
    "substring",
    "treat",
    "trim",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
];

/// Built-ins that only read and that nearly every application calls: enough to route something
/// before the catalog of a database has been read. Sorted.
const PLAIN: &[&str] = &[
    "abs",
    "array_agg",
    "array_length",
    "avg",
    "bool_and",
    "bool_or",
    "ceil",
    "ceiling",
    "char_length",
    "concat",
    "concat_ws",
    "count",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "date_part",
    "date_trunc",
    "dense_rank",
    "first_value",
    "floor",
    "format",
    "generate_series",
    "json_agg",
    "json_build_object",
    "jsonb_agg",
    "jsonb_build_object",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "lower",
    "max",
    "md5",
    "min",
    "mod",
    "now",
    "power",
    "rank",
    "repeat",
    "replace",
    "right",
    "round",
    "row_number",
    "split_part",
    "sqrt",
    "statement_timestamp",
    "string_agg",
    "strpos",
    "substr",
    "sum",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_timestamp",
    "transaction_timestamp",
    "unnest",
    "upper",
    "version",
];

/// What a built-in of this name means for routing, when its volatility does not say it.
pub fn builtin(name: &str) -> Option<Builtin> {
    if name.starts_with("pg_stat_get_") {
        return Some(Depends); // each server counts for itself
    }
    let place = BUILTINS
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()?;
    BUILTINS.get(place).map(|(_, builtin)| *builtin)
}

/// What a call does that is a construct of the grammar and no function.
pub fn syntax(called: &FunctionUse) -> Option<Syntax> {
    let is_construct = called.schema.is_none() && is_expression(&called.name);
    is_construct.then_some(Syntax::Expression)
}

/// Whether a word before a parenthesis is a construct of the grammar.
pub(super) fn is_expression(name: &str) -> bool {
    EXPRESSIONS.binary_search(&name).is_ok()
}

/// What may be believed of a function while the database's catalog is not known.
pub fn without_catalog(called: &FunctionUse) -> Verdict<'_> {
    if called
        .schema
        .as_deref()
        .is_some_and(|schema| schema != "pg_catalog")
    {
        return Verdict::Unknown;
    }
    match builtin(&called.name) {
        Some(Computes) => Verdict::Reads,
        Some(Advisory) => Verdict::Advisory,
        Some(Depends | Writes) => Verdict::Calls(&called.name),
        None if PLAIN.binary_search(&called.name.as_ref()).is_ok() => Verdict::Reads,
        None => Verdict::Unknown,
    }
}

/// What calling a function of this name leaves on the connection.
pub(super) fn leaves(name: &str) -> Option<Leaves> {
    Some(match name {
        "set_config" => Leaves::Setting,
        "pg_advisory_lock"
        | "pg_advisory_lock_shared"
        | "pg_try_advisory_lock"
        | "pg_try_advisory_lock_shared" => Leaves::AdvisoryLock,
        "pg_advisory_unlock" | "pg_advisory_unlock_shared" => Leaves::AdvisoryUnlock,
        "pg_advisory_unlock_all" => Leaves::AdvisoryUnlockAll,
        "nextval" | "setval" => Leaves::SequenceValue,
        "currval" | "lastval" => Leaves::SequenceQuestion,
        "lo_open" | "lo_creat" | "lo_create" => Leaves::LargeObject,
        "setseed"
        | "pg_replication_origin_session_setup"
        | "pg_replication_origin_session_reset"
        | "pg_replication_origin_xact_setup" => Leaves::Connection,
        // dblink keeps named connections and cursors; dblink() itself only uses one.
        name if name.starts_with("dblink_connect") || name == "dblink_open" => Leaves::Connection,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_they_can_be_searched() {
        assert!(BUILTINS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(EXPRESSIONS.is_sorted_by(|a, b| a < b));
        assert!(PLAIN.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_function_that_is_not_listed_is_unknown_without_a_catalog() {
        let called = |schema: Option<&str>, name: &str| FunctionUse {
            schema: schema.map(Into::into),
            name: name.into(),
            args: None,
        };
        assert_eq!(without_catalog(&called(None, "lower")), Verdict::Reads);
        assert_eq!(
            without_catalog(&called(Some("app"), "lower")),
            Verdict::Unknown
        );
        assert_eq!(without_catalog(&called(None, "report")), Verdict::Unknown);
        assert_eq!(
            without_catalog(&called(None, "nextval")),
            Verdict::Calls("nextval")
        );
    }
}
