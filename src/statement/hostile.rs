//! Texts made to overflow a stack, to take for ever, or to be read in two ways; and what must hold
//! for every text.

use proptest::prelude::*;

use super::{
    Effect, Facts, FactsCache, Kind, NESTING_MAX, Reading, STATEMENTS_MAX, SetValue,
    TEXT_BYTES_MAX, TOKENS_MAX, Unparsed,
};

fn of(text: &str) -> Facts {
    Facts::of(text.as_bytes(), Reading::STANDARD)
}

#[test]
fn joins_whose_conditions_come_last_never_reach_the_parser() {
    let joins = "JOIN t ".repeat(NESTING_MAX / 2);
    let conditions = "ON true ".repeat(NESTING_MAX / 2);
    assert_eq!(
        of(&format!("SELECT 1 FROM t {joins} {conditions}")).unparsed,
        None
    );
    let text = format!("SELECT 1 FROM t {joins} JOIN t {conditions} ON true");
    assert_eq!(of(&text).unparsed, Some(Unparsed::TooDeep));
}

#[test]
fn nesting_has_a_bound() {
    for (open, close) in [("(", ")"), ("f(", ")"), ("CASE WHEN true THEN ", " END")] {
        let text = |depth| format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(of(&text(20)).unparsed, None, "{open}");
        assert_eq!(
            of(&text(NESTING_MAX + 1)).unparsed,
            Some(Unparsed::TooDeep),
            "{open}"
        );
    }
    let unbalanced = format!("SELECT {}", "(".repeat(5_000));
    assert_eq!(of(&unbalanced).unparsed, Some(Unparsed::TooDeep));
}

#[test]
fn long_chains_are_read_or_refused_and_never_overflow() {
    for part in [
        "+ 1 ",
        "AND true ",
        "|| 'a' ",
        "::int ",
        "UNION SELECT 1 ",
        ", 1 ",
    ] {
        for count in [100, 1_000, 2_000, 8_000] {
            let facts = of(&format!("SELECT 1 {}", part.repeat(count)));
            assert_eq!(facts.statements.len(), 1, "{part}");
        }
    }
}

#[test]
fn a_long_text_is_known_by_its_first_words_and_never_a_read() {
    let values = "(1, 'x'), ".repeat(20_000);
    let insert = of(&format!("INSERT INTO t VALUES {values}(nextval('s'), 1)"));
    assert_eq!(insert.unparsed, None);
    assert_eq!(insert.statements[0].kind, Kind::Insert);
    assert_eq!(insert.statements[0].effects, [Effect::Sequence]);
    let select = of(&format!("SELECT * FROM (VALUES {values}(1, 'y')) x"));
    assert_eq!(select.unparsed, Some(Unparsed::TooLong));
    let tokens = of(&format!("SELECT 1{}", ",1".repeat(TOKENS_MAX)));
    assert_eq!(tokens.unparsed, Some(Unparsed::TooManyTokens));
    let hidden = of(&format!(
        "SELECT '{}'; SET a = 1",
        "x".repeat(TEXT_BYTES_MAX)
    ));
    assert!(matches!(
        hidden.statements[1].effects[0],
        Effect::Unknown | Effect::Setting { .. }
    ));
}

#[test]
fn too_many_statements_are_unknown() {
    assert_eq!(of(&"SELECT 1;".repeat(STATEMENTS_MAX)).unparsed, None);
    let facts = of(&"SELECT 1;".repeat(STATEMENTS_MAX + 1));
    assert_eq!(facts.unparsed, Some(Unparsed::TooManyStatements));
    assert_eq!(facts.statements[0].kind, Kind::Other);
}

#[test]
fn a_text_that_two_settings_read_differently_is_unknown() {
    let text = br"SELECT '\' || '; DELETE FROM t; --'";
    let off = Reading::of_settings("off", "UTF8");
    assert_eq!(Facts::of(text, off), Facts::unknown(Unparsed::Reading));
    assert_eq!(Facts::of(b"SELECT 1", off).unparsed, None);
    let sjis = Reading::of_settings("on", "Shift_JIS_2004");
    assert_eq!(
        Facts::of(b"SELECT '\x95\x5C'", sjis),
        Facts::unknown(Unparsed::Reading)
    );
    assert_eq!(Reading::of_settings("on", "utf-8"), Reading::STANDARD);
}

#[test]
fn bytes_that_are_no_text_are_no_read() {
    assert_eq!(
        Facts::of(b"SELECT 1\0; x", Reading::STANDARD).unparsed,
        Some(Unparsed::Bytes)
    );
    let latin = Facts::of(b"SELECT 'caf\xE9'", Reading::STANDARD);
    assert_eq!(latin.unparsed, Some(Unparsed::Bytes));
    let insert = Facts::of(b"INSERT INTO t VALUES ('caf\xE9')", Reading::STANDARD);
    assert_eq!(insert.statements[0].kind, Kind::Insert);
    assert!(insert.statements[0].effects.is_empty());
}

#[test]
fn the_text_of_an_explained_statement_is_cut_out_exactly() {
    let text = "/* a */ EXPLAIN (ROUTE)  SELECT 'é;' /* b */ ; SELECT 2";
    let facts = of(text);
    let Kind::Explain { text: place, .. } = &facts.statements[0].kind else {
        panic!("{facts:?}");
    };
    assert_eq!(text.get(place.clone()), Some("SELECT 'é;'"));
}

#[test]
fn a_plain_value_has_its_quotes_taken_off() {
    let plain = |text: &str| {
        SetValue::Text(text.into())
            .plain()
            .map(std::borrow::Cow::into_owned)
    };
    assert_eq!(plain("'it''s'"), Some("it's".into()));
    assert_eq!(plain("read_only"), Some("read_only".into()));
    assert_eq!(plain("a, 'b'"), None);
    assert_eq!(plain("'a', 'b'"), None);
}

/// Pieces of SQL in an order that nobody would write.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "SELECT",
        "INSERT INTO",
        "DELETE FROM t",
        "UPDATE",
        "FROM",
        "t",
        "f(",
        "(",
        ")",
        ",",
        "1",
        "'a'",
        "'",
        "\"q\"",
        "\"",
        "$$",
        "$x$",
        "--",
        "/*",
        "*/",
        "\n",
        ";",
        "WITH x AS (",
        "BEGIN",
        "COMMIT",
        "SET a =",
        "INTO",
        "FOR UPDATE",
        "E'\\'",
        "::",
        ".",
        "*",
        "+",
        "JOIN",
        "ON",
        "CASE",
        "END",
        "set_config('a', 'b', true)",
        "EXPLAIN",
        "COPY (",
        "$1",
        "PREPARE",
        "DECLARE c CURSOR FOR",
        "[",
        "]",
        "é",
        "TABLE",
        "VALUES",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #[test]
    fn any_bytes_have_facts(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let facts = Facts::of(&bytes, Reading::STANDARD);
        prop_assert!(facts.statements.len() <= STATEMENTS_MAX);
    }

    #[test]
    fn a_soup_of_sql_has_the_same_facts_with_and_without_the_cache(text in soup()) {
        let cache = FactsCache::<()>::new(1 << 20, [3, 7]);
        let found = Facts::of(text.as_bytes(), Reading::STANDARD);
        prop_assert_eq!(&**cache.facts(text.as_bytes(), Reading::STANDARD), &found);
        prop_assert_eq!(&**cache.facts(text.as_bytes(), Reading::STANDARD), &found);
    }

    #[test]
    fn a_comment_changes_nothing_but_the_places(text in soup()) {
        prop_assume!(!text.contains("EXPLAIN"));
        let plain = Facts::of(text.as_bytes(), Reading::STANDARD);
        let commented = format!("/* it's a $$ \" ; */ {text}");
        prop_assert_eq!(Facts::of(commented.as_bytes(), Reading::STANDARD), plain);
    }

    #[test]
    fn a_row_lock_is_found_wherever_it_stands(before in soup(), after in soup()) {
        let text = format!("SELECT a FROM t {before} FOR UPDATE {after}");
        let facts = Facts::of(text.as_bytes(), Reading::STANDARD);
        let is_read = facts.unparsed.is_none()
            && facts.statements.iter().all(|statement| {
                matches!(statement.kind, Kind::Select) && statement.change.is_none()
            });
        let is_quoted = before.contains(['\'', '"', '$']) || before.contains("--")
            || before.contains("/*");
        prop_assert!(is_quoted || !is_read, "{text}");
    }
}
