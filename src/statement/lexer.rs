//! PostgreSQL's lexical rules: where strings, names, comments and operators end.
//!
//! Independent of the parser crate, so that each can be held against the other. A lexeme that the
//! two, or two versions of the server, might cut differently is refused.
//!
//! Source: PostgreSQL 17, scan.l.

use super::facts::Unparsed;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string of any kind.
    String,
    /// A number.
    Number,
    /// `$1`.
    Param,
    /// An operator.
    Operator,
    /// One of `( ) [ ] , ; . :`, or `::`.
    Mark,
}

/// A token and its place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) text: &'a str,
    /// Where it begins, in bytes.
    pub(super) start: usize,
}

impl Token<'_> {
    /// Where it ends, in bytes.
    pub(super) fn end(&self) -> usize {
        self.start.saturating_add(self.text.len())
    }

    /// Whether it is this keyword, given in lower case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether it is one of these keywords.
    pub(super) fn is_any(&self, keywords: &[&str]) -> bool {
        self.kind == TokenKind::Word
            && keywords
                .iter()
                .any(|word| self.text.eq_ignore_ascii_case(word))
    }

    /// Whether it is this mark or operator.
    pub(super) fn is_mark(&self, mark: &str) -> bool {
        matches!(self.kind, TokenKind::Mark | TokenKind::Operator) && self.text == mark
    }

    /// The name that it spells, folded as PostgreSQL folds it.
    pub(super) fn name(&self) -> Option<Box<str>> {
        match self.kind {
            TokenKind::Word => Some(fold(self.text)),
            TokenKind::Quoted => {
                let inner = self.text.strip_prefix('"')?.strip_suffix('"')?;
                Some(inner.replace("\"\"", "\"").into())
            }
            TokenKind::String
            | TokenKind::Number
            | TokenKind::Param
            | TokenKind::Operator
            | TokenKind::Mark => None,
        }
    }
}

/// An unquoted name as PostgreSQL folds it: ASCII letters only, since what it does to others
/// depends on the server's encoding.
pub(super) fn fold(word: &str) -> Box<str> {
    word.to_ascii_lowercase().into()
}

/// Cuts a text into tokens; comments are told apart, white space is dropped.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// A token or a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lexeme<'a> {
    Token(Token<'a>),
    Comment(&'a str),
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token or comment; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Lexeme<'a>>, Unparsed> {
        self.take_while(is_space);
        let start = self.at;
        let Some(first) = self.byte(0) else {
            return Ok(None);
        };
        let second = self.byte(1);
        let kind = match (first, second) {
            (b'-', Some(b'-')) => {
                self.take_while(|byte| byte != b'\n' && byte != b'\r');
                return Ok(Some(Lexeme::Comment(self.since(start))));
            }
            (b'/', Some(b'*')) => {
                self.block_comment()?;
                return Ok(Some(Lexeme::Comment(self.since(start))));
            }
            (b'\'', _) => self.string(Escapes::Doubled)?,
            (b'e' | b'E', Some(b'\'')) => {
                self.at += 1;
                self.string(Escapes::Backslash)?
            }
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\'')) => {
                self.at += 1;
                self.string(Escapes::Doubled)?
            }
            // Its escapes could spell any name or string; it is too rare to be worth reading.
            (b'u' | b'U', Some(b'&')) if matches!(self.byte(2), Some(b'\'' | b'"')) => {
                return Err(Unparsed::Lexeme);
            }
            (b'"', _) => self.quoted_name()?,
            (b'$', Some(byte)) if byte.is_ascii_digit() => {
                self.at += 1;
                self.take_while(|byte| byte.is_ascii_digit());
                self.no_junk(TokenKind::Param)?
            }
            (b'$', _) => self.dollar_string()?,
            (b'.', Some(byte)) if byte.is_ascii_digit() => self.number()?,
            (byte, _) if byte.is_ascii_digit() => self.number()?,
            (byte, _) if is_name_start(byte) => {
                self.take_while(is_name_part);
                TokenKind::Word
            }
            (b':', Some(b':')) => self.mark(2),
            (b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':', _) => self.mark(1),
            (byte, _) if is_operator(byte) => self.operator(),
            _ => return Err(Unparsed::Lexeme),
        };
        Ok(Some(Lexeme::Token(Token {
            kind,
            text: self.since(start),
            start,
        })))
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text
            .as_bytes()
            .get(self.at.saturating_add(ahead))
            .copied()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn take_while(&mut self, mut is_part: impl FnMut(u8) -> bool) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| !is_part(*byte));
        self.at = self.at.saturating_add(end.unwrap_or(rest.len()));
    }

    fn mark(&mut self, bytes: usize) -> TokenKind {
        self.at += bytes;
        TokenKind::Mark
    }

    /// Block comments nest.
    fn block_comment(&mut self) -> Result<(), Unparsed> {
        let mut depth = 0_u32;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth = depth.saturating_add(1);
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth = depth.saturating_sub(1);
                    self.at += 2;
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unparsed::Lexeme),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn string(&mut self, escapes: Escapes) -> Result<TokenKind, Unparsed> {
        self.at += 1;
        loop {
            match (self.byte(0), self.byte(1), escapes) {
                (Some(b'\''), Some(b'\''), _) | (Some(b'\\'), Some(_), Escapes::Backslash) => {
                    self.at += 2;
                }
                (Some(b'\''), _, _) => break,
                (Some(_), _, _) => self.at += 1,
                (None, _, _) => return Err(Unparsed::Lexeme),
            }
        }
        self.at += 1;
        match escapes {
            Escapes::Doubled => Ok(TokenKind::String),
            Escapes::Backslash => self.no_continuation(),
        }
    }

    /// A string on a later line continues the one before it, with the escapes of the first.
    fn no_continuation(&self) -> Result<TokenKind, Unparsed> {
        let mut ahead = Self {
            text: self.text,
            at: self.at,
        };
        ahead.take_while(is_space);
        while ahead.byte(0) == Some(b'-') && ahead.byte(1) == Some(b'-') {
            ahead.take_while(|byte| byte != b'\n' && byte != b'\r');
            ahead.take_while(is_space);
        }
        match ahead.byte(0) {
            Some(b'\'') => Err(Unparsed::Lexeme),
            _ => Ok(TokenKind::String),
        }
    }

    fn quoted_name(&mut self) -> Result<TokenKind, Unparsed> {
        self.at += 1;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'"'), Some(b'"')) => self.at += 2,
                (Some(b'"'), _) => break,
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unparsed::Lexeme),
            }
        }
        self.at += 1;
        Ok(TokenKind::Quoted)
    }

    fn dollar_string(&mut self) -> Result<TokenKind, Unparsed> {
        let start = self.at;
        self.at += 1;
        self.take_while(|byte| is_name_part(byte) && byte != b'$');
        if self.byte(0) != Some(b'$') {
            return Err(Unparsed::Lexeme);
        }
        self.at += 1;
        let tag = self.since(start);
        let rest = self.text.get(self.at..).unwrap_or_default();
        let body = rest.find(tag).ok_or(Unparsed::Lexeme)?;
        self.at = self.at.saturating_add(body).saturating_add(tag.len());
        Ok(TokenKind::String)
    }

    fn number(&mut self) -> Result<TokenKind, Unparsed> {
        if self.byte(0) == Some(b'0')
            && matches!(self.byte(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B'))
        {
            self.at += 2;
            self.take_while(|byte| byte.is_ascii_hexdigit() || byte == b'_');
            return self.no_junk(TokenKind::Number);
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
        self.take_while(is_digit);
        if self.byte(0) == Some(b'.') && self.byte(1) != Some(b'.') {
            self.at += 1;
            self.take_while(is_digit);
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(self.byte(1), Some(b'+' | b'-')));
            if self
                .byte(1 + signed)
                .is_some_and(|byte| byte.is_ascii_digit())
            {
                self.at += 1 + signed;
                self.take_while(is_digit);
            }
        }
        self.no_junk(TokenKind::Number)
    }

    /// `1FROM` is one error since PostgreSQL 15, and two tokens before.
    fn no_junk(&self, kind: TokenKind) -> Result<TokenKind, Unparsed> {
        match self.byte(0) {
            Some(byte) if is_name_part(byte) => Err(Unparsed::Lexeme),
            _ => Ok(kind),
        }
    }

    /// An operator ends before a comment, and may end in + or - only if it holds a character that
    /// no operator of standard SQL has.
    fn operator(&mut self) -> TokenKind {
        let start = self.at;
        while self.byte(0).is_some_and(is_operator) {
            let opens_comment = matches!(
                (self.byte(0), self.byte(1)),
                (Some(b'-'), Some(b'-')) | (Some(b'/'), Some(b'*'))
            );
            if opens_comment && self.at > start {
                break;
            }
            self.at += 1;
        }
        if !self.since(start).bytes().any(is_special) {
            while self.at > start.saturating_add(1) && self.since(start).ends_with(['+', '-']) {
                self.at -= 1;
            }
        }
        TokenKind::Operator
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    /// A quote is written twice.
    Doubled,
    /// A backslash quotes what follows, too.
    Backslash,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

const fn is_name_start(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..)
}

const fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || matches!(byte, b'0'..=b'9' | b'$')
}

const fn is_operator(byte: u8) -> bool {
    is_special(byte) || matches!(byte, b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=')
}

/// The characters of operators that no operator of standard SQL has.
const fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        while let Some(lexeme) = lexer.next().unwrap() {
            if let Lexeme::Token(token) = lexeme {
                found.push(token.text.to_owned());
            }
        }
        found
    }

    #[test]
    fn strings_end_where_the_server_ends_them() {
        assert_eq!(
            tokens(r"'a''b' E'a\'b', 'a\' x"),
            ["'a''b'", r"E'a\'b'", ",", r"'a\'", "x"]
        );
        assert_eq!(
            tokens("$$a'b$$ $x$ $$ $x$ a$b$c $1"),
            ["$$a'b$$", "$x$ $$ $x$", "a$b$c", "$1"]
        );
    }

    #[test]
    fn comments_nest_and_end_operators() {
        assert_eq!(tokens("a /* b /* c */ d */ e -- f\n g"), ["a", "e", "g"]);
        assert_eq!(tokens("a +-- b\n c"), ["a", "+", "c"]);
        assert_eq!(tokens("a <- b @- c"), ["a", "<", "-", "b", "@-", "c"]);
    }

    #[test]
    fn what_two_readers_could_cut_differently_is_refused() {
        for text in [
            "'a",
            "\"a",
            "/* a",
            "/* /* */",
            "$x$ a $y$",
            "U&'a'",
            "u&\"a\"",
            "1FROM",
            "$1a",
            "E'a'\n'b'",
            "E'a' -- c\n'b'",
            "{",
            "\\",
        ] {
            let mut lexer = Lexer::new(text);
            let result = loop {
                match lexer.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(unparsed) => break Err(unparsed),
                }
            };
            assert_eq!(result, Err(Unparsed::Lexeme), "{text:?}");
        }
    }
}
