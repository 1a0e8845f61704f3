//! From text to facts: bounds first, then statement by statement.

use super::facts::{Effect, Encoding, Facts, Hint, Kind, Reading, Statement, Strings, Unparsed};
use super::functions::{self, Leaves};
use super::lexer::{Lexeme, Lexer, Token, TokenKind};
use super::{query, settings, verbs};

/// A longer text is never given to the parser; its commands are still told by their first words.
///
/// **Units**: bytes.
pub const TEXT_BYTES_MAX: usize = 32 << 10;
/// A text with more tokens is never given to the parser.
pub const TOKENS_MAX: usize = 8192;
/// A text with more statements is unknown.
pub const STATEMENTS_MAX: usize = 64;
/// A statement with more joins is never given to the parser.
pub const JOINS_MAX: usize = 64;
/// A statement that nests deeper, by parentheses or by joins whose ON is still to come, is never
/// given to the parser: it would need more stack than a thread has.
pub const NESTING_MAX: usize = 40;

/// Of what is too long, each statement is known by this many tokens.
const HEAD_TOKENS: usize = 48;

/// One statement of a text, as tokens.
#[derive(Debug, Default)]
pub(super) struct Piece<'a> {
    /// Its tokens; only the first ones when the text is too long.
    pub(super) tokens: Vec<Token<'a>>,
    /// Why the tokens are not all.
    pub(super) cut: Option<Unparsed>,
    /// What the functions that it calls leave behind.
    pub(super) effects: Vec<Effect>,
}

impl Facts {
    /// What a text holds.
    ///
    /// Total: a text that is not understood is a write that may leave anything behind.
    pub fn of(text: &[u8], reading: Reading) -> Self {
        let is_doubtful = (reading.strings == Strings::Backslash && text.contains(&b'\\'))
            || (reading.encoding == Encoding::Unsafe && !text.is_ascii());
        if is_doubtful {
            return Self::unknown(Unparsed::Reading);
        }
        if text.contains(&0) {
            return Self::unknown(Unparsed::Bytes);
        }
        let lossy = String::from_utf8_lossy(text);
        let mut facts = Self::of_text(&lossy).unwrap_or_else(Self::unknown);
        if matches!(lossy, std::borrow::Cow::Owned(_)) {
            // Its lexemes are sure, its names are not.
            facts.unparsed = facts.unparsed.or(Some(Unparsed::Bytes));
        }
        facts
    }

    fn of_text(text: &str) -> Result<Self, Unparsed> {
        let (pieces, hint) = cut(text)?;
        let statements: Vec<Statement> = pieces
            .into_iter()
            .map(|piece| statement_of(text, piece))
            .collect();
        let unparsed = statements.iter().find_map(|statement| statement.unparsed);
        Ok(Self {
            statements,
            unparsed,
            hint,
            ..Self::default()
        })
    }
}

fn statement_of(text: &str, piece: Piece<'_>) -> Statement {
    let Piece {
        tokens,
        cut,
        effects,
    } = piece;
    let mut statement = of_tokens(text, &tokens, cut);
    for effect in effects {
        if statement.kind != Kind::Ddl || !matches!(effect, Effect::Sequence) {
            statement.effects.push(effect);
        }
    }
    statement
}

/// The facts of one statement, without what its functions leave behind.
pub(super) fn of_tokens(text: &str, tokens: &[Token<'_>], cut: Option<Unparsed>) -> Statement {
    match tokens.first() {
        Some(first) if query::begins_query(first) => query::read(text, tokens, cut),
        Some(_) => verbs::read(text, tokens, cut),
        None => Statement::unknown(Unparsed::Syntax),
    }
}

/// Cuts a text at the semicolons that end statements.
fn cut(text: &str) -> Result<(Vec<Piece<'_>>, Option<Hint>), Unparsed> {
    let mut lexer = Lexer::new(text);
    let mut cutter = Cutter {
        pieces: Vec::new(),
        piece: Piece::default(),
        too_long: (text.len() > TEXT_BYTES_MAX).then_some(Unparsed::TooLong),
        tokens: 0,
        depth: 0,
        body: false,
        recent: [None; 7],
    };
    let mut hint = None;
    while let Some(lexeme) = lexer.next()? {
        match lexeme {
            Lexeme::Comment(comment) => hint = stricter(hint, hint_in(comment)),
            Lexeme::Token(token) => cutter.take(token)?,
        }
    }
    cutter.end_statement()?;
    Ok((cutter.pieces, hint))
}

#[derive(Debug)]
struct Cutter<'a> {
    pieces: Vec<Piece<'a>>,
    piece: Piece<'a>,
    too_long: Option<Unparsed>,
    tokens: usize,
    depth: usize,
    /// Inside BEGIN ATOMIC, whose semicolons end no statement of the text.
    body: bool,
    /// The last tokens, newest last: enough for `set_config('a', 'b', true`.
    recent: [Option<Token<'a>>; 7],
}

impl<'a> Cutter<'a> {
    fn take(&mut self, token: Token<'a>) -> Result<(), Unparsed> {
        self.tokens = self.tokens.saturating_add(1);
        if self.tokens > TOKENS_MAX {
            self.too_long = self.too_long.or(Some(Unparsed::TooManyTokens));
        }
        match token.text {
            "(" | "[" => self.depth = self.depth.saturating_add(1),
            ")" | "]" => self.depth = self.depth.saturating_sub(1),
            ";" if self.depth == 0 && !self.body => return self.end_statement(),
            _ => {}
        }
        self.note_body(&token);
        self.recent.rotate_left(1);
        if let Some(newest) = self.recent.last_mut() {
            *newest = Some(token);
        }
        self.note_effects();
        if self.too_long.is_some() && self.piece.tokens.len() >= HEAD_TOKENS {
            self.piece.cut = self.too_long;
        } else {
            self.piece.tokens.push(token);
        }
        Ok(())
    }

    fn end_statement(&mut self) -> Result<(), Unparsed> {
        self.recent = [None; 7];
        self.depth = 0;
        if self.piece.tokens.is_empty() {
            return Ok(());
        }
        if self.too_long.is_some() {
            self.piece.cut = self.too_long;
        }
        self.pieces.push(std::mem::take(&mut self.piece));
        match self.pieces.len() > STATEMENTS_MAX {
            true => Err(Unparsed::TooManyStatements),
            false => Ok(()),
        }
    }

    /// Whatever follows the body of a function of standard SQL may be a statement of its own.
    fn note_body(&mut self, token: &Token<'a>) {
        let before = self.recent.last().copied().flatten();
        let is_create = self
            .piece
            .tokens
            .first()
            .is_some_and(|first| first.is("create"));
        if is_create && token.is("atomic") && before.is_some_and(|before| before.is("begin")) {
            self.body = true;
        }
        let before_that = self.recent.iter().rev().nth(1).copied().flatten();
        if self.body
            && before.is_some_and(|before| before.is_mark(";"))
            && before_that.is_some_and(|before| before.is("end"))
            && !self.piece.effects.contains(&Effect::Unknown)
        {
            self.piece.effects.push(Effect::Unknown);
        }
    }

    fn note_effects(&mut self) {
        let [.., name, open] = &self.recent;
        if let (Some(name), Some(open)) = (name, open)
            && open.is_mark("(")
            && let Some(called) = name.name()
            && let Some(leaves) = functions::leaves(&called)
            && let Some(effect) = effect_of(leaves, &called)
        {
            self.piece.effects.push(effect);
        }
        self.note_set_config();
    }

    /// `set_config` is read when its parenthesis closes; until then it may have set anything.
    fn note_set_config(&mut self) {
        let [Some(called), open, name, comma, value, comma2, local] = &self.recent else {
            return;
        };
        let is_call = called.name().as_deref() == Some("set_config")
            && [(open, "("), (comma, ","), (comma2, ",")]
                .iter()
                .all(|(token, mark)| token.is_some_and(|token| token.is_mark(mark)));
        if !is_call {
            return;
        }
        let effect = settings::of_set_config(name.as_ref(), value.as_ref(), local.as_ref());
        let is_open = |effect: &Effect| matches!(effect, Effect::Unknown);
        if let (Some(effect), Some(place)) = (effect, self.piece.effects.iter().rposition(is_open))
            && let Some(open) = self.piece.effects.get_mut(place)
        {
            *open = effect;
        }
    }
}

fn effect_of(leaves: Leaves, function: &str) -> Option<Effect> {
    Some(match leaves {
        Leaves::Setting => Effect::Unknown,
        Leaves::AdvisoryLock => Effect::AdvisoryLock,
        Leaves::AdvisoryUnlock => Effect::AdvisoryUnlock,
        Leaves::AdvisoryUnlockAll => Effect::AdvisoryUnlockAll,
        Leaves::SequenceValue | Leaves::SequenceQuestion => Effect::Sequence,
        Leaves::LargeObject => Effect::LargeObject,
        Leaves::Connection => Effect::Connection {
            function: function.into(),
        },
    })
}

/// What a comment asks of the router.
pub(super) fn hint_in(comment: &str) -> Option<Hint> {
    let body = comment
        .strip_prefix("/*")
        .map(|rest| rest.strip_suffix("*/").unwrap_or(rest))
        .or_else(|| comment.strip_prefix("--"))?;
    let asked = body
        .trim()
        .trim_start_matches(['+', '!'])
        .trim_start()
        .strip_prefix("pgherd:")?;
    asked
        .split([',', ' ', '\t', '\n', '\r'])
        .filter_map(|word| match (word, word.split_once('=')) {
            ("primary", _) => Some(Hint::Primary),
            ("replica", _) => Some(Hint::Replica),
            (_, Some(("node", name))) if !name.is_empty() => Some(Hint::Node(name.into())),
            _ => None,
        })
        .fold(None, |hint, next| stricter(hint, Some(next)))
}

/// Of two hints the one that allows less.
fn stricter(first: Option<Hint>, second: Option<Hint>) -> Option<Hint> {
    let strictness = |hint: &Option<Hint>| match hint {
        None => 0,
        Some(Hint::Replica) => 1,
        Some(Hint::Node(_)) => 2,
        Some(Hint::Primary) => 3,
    };
    if strictness(&second) > strictness(&first) {
        second
    } else {
        first
    }
}

/// The name at a place, with what is before its last dot, and the place after it.
pub(super) fn dotted_name(
    tokens: &[Token<'_>],
    at: usize,
) -> Option<(Option<Box<str>>, Box<str>, usize)> {
    let mut schema = None;
    let mut name = tokens.get(at)?.name()?;
    let mut next = at.saturating_add(1);
    while tokens.get(next).is_some_and(|token| token.is_mark(".")) {
        let Some(part) = tokens.get(next.saturating_add(1)).and_then(Token::name) else {
            break;
        };
        schema = Some(std::mem::replace(&mut name, part));
        next = next.saturating_add(2);
    }
    Some((schema, name, next))
}

/// The place after the parenthesis that closes the one at `open`.
pub(super) fn after_parenthesis(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate().skip(open) {
        if token.kind != TokenKind::Mark {
            continue;
        }
        match token.text {
            "(" => depth = depth.saturating_add(1),
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(place.saturating_add(1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str) -> Option<Hint> {
        Facts::of(text.as_bytes(), Reading::STANDARD).hint
    }

    #[test]
    fn a_hint_is_read_from_a_comment_only() {
        assert_eq!(hint("/* pgherd: primary */ SELECT 1"), Some(Hint::Primary));
        assert_eq!(hint("SELECT 1 -- pgherd: replica"), Some(Hint::Replica));
        assert_eq!(
            hint("/*+ pgherd: node=pg2 */ SELECT 1"),
            Some(Hint::Node("pg2".into()))
        );
        assert_eq!(hint("SELECT '/* pgherd: primary */'"), None);
        assert_eq!(hint("/* trace 17 */ SELECT 1"), None);
    }

    #[test]
    fn of_two_hints_the_stricter_counts() {
        let text = "/* pgherd: primary */ SELECT 1 /* pgherd: replica */";
        assert_eq!(hint(text), Some(Hint::Primary));
    }
}

/// Texts made to overflow a stack, to take for ever, or to be read in two ways.
#[cfg(test)]
mod hostile {
    use super::*;
    use crate::statement::SetValue;

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
}

/// What must hold for every text.
#[cfg(test)]
mod always {
    use proptest::prelude::*;

    use super::*;
    use crate::statement::FactsCache;

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
            let cache = FactsCache::new(1 << 20, [3, 7]);
            let found = Facts::of(text.as_bytes(), Reading::STANDARD);
            prop_assert_eq!(&*cache.facts(text.as_bytes(), Reading::STANDARD), &found);
            prop_assert_eq!(&*cache.facts(text.as_bytes(), Reading::STANDARD), &found);
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
}
