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

/// Whether the first word of a text, behind its comments, is this one, given in lower case.
pub fn first_word_is(text: &[u8], word: &str) -> bool {
    let lossy = String::from_utf8_lossy(text);
    let mut lexer = Lexer::new(&lossy);
    loop {
        match lexer.next() {
            Ok(Some(Lexeme::Comment(_))) => {}
            Ok(Some(Lexeme::Token(token))) if token.is_mark(";") => {}
            Ok(Some(Lexeme::Token(token))) => return token.is(word),
            Ok(None) | Err(_) => return false,
        }
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
