//! SET, RESET and SHOW in all their spellings.
//!
//! Source: PostgreSQL 17, gram.y, `VariableSetStmt`, `VariableResetStmt`, `VariableShowStmt`.

use super::facts::{Effect, Kind, SetScope, SetValue, Statement, Unparsed, Verb};
use super::lexer::{Token, TokenKind};
use super::read::dotted_name;
use super::verbs;

/// A statement that begins with SET.
pub(super) fn set(text: &str, tokens: &[Token<'_>]) -> Statement {
    let (scope, rest) = match tokens {
        [_, word, rest @ ..] if word.is("local") => (SetScope::Local, rest),
        [_, word, next, ..] if word.is("session") && next.is("authorization") => {
            (SetScope::Session, tokens.get(1..).unwrap_or_default())
        }
        [_, word, rest @ ..] if word.is("session") => (SetScope::Session, rest),
        [_, rest @ ..] => (SetScope::Session, rest),
        [] => return Statement::unknown(Unparsed::Syntax),
    };
    match rest {
        [word, next, ..] if word.is("transaction") && next.is("snapshot") => {
            Statement::of_kind(Kind::Transaction(Verb::SetSnapshot))
        }
        [word, modes @ ..] if word.is("transaction") => match verbs::modes(modes) {
            Some(modes) => Statement::of_kind(Kind::Transaction(Verb::SetTransaction(modes))),
            None => Statement::unknown(Unparsed::Syntax),
        },
        [a, b, c, modes @ ..] if a.is("characteristics") && b.is("as") && c.is("transaction") => {
            match verbs::modes(modes) {
                Some(modes) => characteristics(modes),
                None => Statement::unknown(Unparsed::Syntax),
            }
        }
        [word, ..] if word.is("constraints") => {
            Statement::of_kind(Kind::Transaction(Verb::SetConstraints))
        }
        _ => match assignment(text, rest) {
            Some((name, value)) => setting(name, value, scope),
            None => Statement::unknown(Unparsed::Syntax),
        },
    }
}

/// A statement that begins with RESET.
pub(super) fn reset(tokens: &[Token<'_>]) -> Statement {
    let session = |name: &str| setting(name.into(), SetValue::Default, SetScope::Session);
    match tokens {
        [_, word] if word.is("all") => Statement {
            effects: vec![Effect::ResetAll],
            ..Statement::of_kind(Kind::ResetAll)
        },
        [_, a, b] if a.is("session") && b.is("authorization") => session("session_authorization"),
        [_, a, b] if a.is("time") && b.is("zone") => session("timezone"),
        [_, a, b, c] if a.is("transaction") && b.is("isolation") && c.is("level") => {
            session("transaction_isolation")
        }
        [_, name @ ..] => match whole_name(name) {
            Some(name) => session(&name),
            None => Statement::unknown(Unparsed::Syntax),
        },
        [] => Statement::unknown(Unparsed::Syntax),
    }
}

/// A statement that begins with SHOW.
pub(super) fn show(tokens: &[Token<'_>]) -> Statement {
    let name = match tokens {
        [_, a, b] if a.is("time") && b.is("zone") => Some("timezone".into()),
        [_, a, b] if a.is("session") && b.is("authorization") => {
            Some("session_authorization".into())
        }
        [_, a, b, c] if a.is("transaction") && b.is("isolation") && c.is("level") => {
            Some("transaction_isolation".into())
        }
        [_, name @ ..] => whole_name(name),
        [] => None,
    };
    match name {
        Some(name) => Statement::of_kind(Kind::Show { name }),
        None => Statement::unknown(Unparsed::Syntax),
    }
}

/// What `set_config(name, value, local)` leaves, when that is written out.
pub(super) fn of_set_config(
    name: Option<&Token<'_>>,
    value: Option<&Token<'_>>,
    local: Option<&Token<'_>>,
) -> Option<Effect> {
    let name = plain_string(name?)?.to_ascii_lowercase().into_boxed_str();
    let value = match value? {
        value if value.kind == TokenKind::String && value.text.starts_with('\'') => {
            SetValue::Text(value.text.into())
        }
        _ => SetValue::Computed,
    };
    let local = local?;
    if local.is("true") {
        Some(Effect::LocalSetting { name, value })
    } else if local.is("false") {
        Some(Effect::Setting { name, value })
    } else {
        None
    }
}

fn plain_string<'a>(token: &Token<'a>) -> Option<&'a str> {
    let inner = token.text.strip_prefix('\'')?.strip_suffix('\'')?;
    (token.kind == TokenKind::String && !inner.contains('\'')).then_some(inner)
}

fn assignment(text: &str, tokens: &[Token<'_>]) -> Option<(Box<str>, SetValue)> {
    let named = |name: &str, value: &[Token<'_>]| Some((Box::from(name), value_of(text, value)?));
    match tokens {
        [a, b, value @ ..] if a.is("time") && b.is("zone") => match value {
            // An INTERVAL may stand here only, not after TO.
            [word, _, ..] if word.is("interval") => Some(("timezone".into(), SetValue::Computed)),
            [word] if word.is("local") => Some(("timezone".into(), SetValue::Default)),
            _ => named("timezone", value),
        },
        [a, b, value @ ..] if a.is("session") && b.is("authorization") => {
            named("session_authorization", value)
        }
        [a, b, value @ ..] if a.is("xml") && b.is("option") => named("xmloption", value),
        [a] if a.is("names") => Some(("client_encoding".into(), SetValue::Default)),
        [a, value @ ..] if a.is("names") => named("client_encoding", value),
        [a, value @ ..]
            if a.is_any(&["role", "schema"])
                && !value
                    .first()
                    .is_some_and(|token| token.is("to") || token.is_mark("=")) =>
        {
            named(if a.is("role") { "role" } else { "search_path" }, value)
        }
        _ => {
            let (name, next) = setting_name(tokens)?;
            let sign = tokens.get(next)?;
            let is_assignment = sign.is("to") || sign.is_mark("=");
            let value = tokens.get(next.saturating_add(1)..)?;
            is_assignment.then(|| named(&name, value)).flatten()
        }
    }
}

/// The value as it is written, which is what a server must be given again.
fn value_of(text: &str, tokens: &[Token<'_>]) -> Option<SetValue> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    if tokens.len() == 1 && first.is("default") {
        return Some(SetValue::Default);
    }
    let is_value = |token: &Token<'_>| match token.kind {
        TokenKind::Word | TokenKind::Quoted | TokenKind::String | TokenKind::Number => true,
        TokenKind::Operator => matches!(token.text, "+" | "-"),
        TokenKind::Mark => token.text == ",",
        TokenKind::Param => false,
    };
    let written = text.get(first.start..last.end())?;
    tokens
        .iter()
        .all(is_value)
        .then(|| SetValue::Text(written.into()))
}

fn setting_name(tokens: &[Token<'_>]) -> Option<(Box<str>, usize)> {
    let (_, _, next) = dotted_name(tokens, 0)?;
    let parts = tokens.get(..next)?.iter().filter_map(Token::name);
    let name = parts.collect::<Vec<_>>().join(".").to_ascii_lowercase();
    Some((name.into(), next))
}

fn whole_name(tokens: &[Token<'_>]) -> Option<Box<str>> {
    let (name, next) = setting_name(tokens)?;
    (next == tokens.len()).then_some(name)
}

fn setting(name: Box<str>, value: SetValue, scope: SetScope) -> Statement {
    let mut effects = Vec::with_capacity(2);
    match (name.as_ref(), scope) {
        ("role", SetScope::Session) => effects.push(Effect::Role),
        ("session_authorization", SetScope::Session) => {
            effects.push(Effect::SessionAuthorization);
        }
        _ => {}
    }
    effects.push(match (scope, &value) {
        (_, SetValue::Computed) => Effect::Unknown,
        (SetScope::Session, _) => Effect::Setting {
            name: name.clone(),
            value: value.clone(),
        },
        (SetScope::Local, _) => Effect::LocalSetting {
            name: name.clone(),
            value: value.clone(),
        },
    });
    Statement {
        effects,
        ..Statement::of_kind(Kind::Set { name, value, scope })
    }
}

/// The three settings that SET SESSION CHARACTERISTICS is short for.
fn characteristics(modes: super::facts::Modes) -> Statement {
    use super::facts::{Access, Isolation};
    let effect = |name: &str, value: &str| Effect::Setting {
        name: name.into(),
        value: SetValue::Text(format!("'{value}'").into()),
    };
    let access = modes.access.map(|access| match access {
        Access::ReadOnly => effect("default_transaction_read_only", "on"),
        Access::ReadWrite => effect("default_transaction_read_only", "off"),
    });
    let isolation = modes.isolation.map(|isolation| match isolation {
        Isolation::ReadCommitted => effect("default_transaction_isolation", "read committed"),
        Isolation::RepeatableRead => effect("default_transaction_isolation", "repeatable read"),
        Isolation::Serializable => effect("default_transaction_isolation", "serializable"),
    });
    Statement {
        effects: access.into_iter().chain(isolation).collect(),
        ..Statement::of_kind(Kind::SessionCharacteristics(modes))
    }
}
