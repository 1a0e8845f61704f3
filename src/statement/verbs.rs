//! Commands that are told by their first words, as PostgreSQL's own grammar tells them.
//!
//! None of them is ever a read by itself; EXPLAIN and COPY are what their query is.

use super::facts::{
    Access, Chain, Effect, Explain, Hold, Isolation, Kind, Modes, RelationName, Statement,
    Unparsed, Verb,
};
use super::lexer::{Token, TokenKind};
use super::read::{after_parenthesis, dotted_name, of_tokens};
use super::{query, settings};

/// A statement that does not begin like a query.
pub(super) fn read(text: &str, tokens: &[Token<'_>], cut: Option<Unparsed>) -> Statement {
    let Some(first) = tokens.first().filter(|first| first.kind == TokenKind::Word) else {
        return Statement::unknown(Unparsed::Command);
    };
    let word = first.text.to_ascii_lowercase();
    if let Some(kind) = by_word(&word) {
        return with_names(kind, tokens);
    }
    // The commands below are read to their end, so a cut one is not known.
    if cut.is_some() && !matches!(word.as_str(), "copy" | "explain" | "prepare" | "declare") {
        return Statement::unknown(Unparsed::TooLong);
    }
    let read = match word.as_str() {
        "set" => Some(settings::set(text, tokens)),
        "reset" => Some(settings::reset(tokens)),
        "show" => Some(settings::show(tokens)),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            transaction(&word, tokens)
        }
        "explain" => Some(explain(text, tokens, cut)),
        "copy" => copy(text, tokens, cut),
        "listen" | "unlisten" | "deallocate" | "close" | "discard" | "fetch" | "move" => {
            session(&word, tokens)
        }
        "prepare" => prepare(tokens),
        "declare" => declare(text, tokens, cut),
        _ => Some(Statement::unknown(Unparsed::Command)),
    };
    read.unwrap_or_else(|| Statement::unknown(Unparsed::Syntax))
}

/// Commands of which the first word says enough.
fn by_word(word: &str) -> Option<Kind> {
    Some(match word {
        "insert" => Kind::Insert,
        "update" => Kind::Update,
        "delete" => Kind::Delete,
        "merge" => Kind::Merge,
        "notify" => Kind::Notify,
        "execute" => Kind::Execute,
        "lock" => Kind::Lock,
        "call" => Kind::Call,
        "do" => Kind::Do,
        "create" | "alter" | "drop" | "truncate" | "comment" | "grant" | "revoke" | "reassign"
        | "import" | "security" => Kind::Ddl,
        "vacuum" | "analyze" | "analyse" | "checkpoint" | "cluster" | "reindex" | "refresh"
        | "load" => Kind::Utility,
        _ => return None,
    })
}

fn with_names(kind: Kind, tokens: &[Token<'_>]) -> Statement {
    let relations = target(tokens)
        .and_then(|at| dotted_name(tokens, at))
        .map(|(schema, name, _)| RelationName { schema, name });
    let functions = if kind == Kind::Ddl {
        // What is defined looks like a call, and nothing is called.
        Vec::new()
    } else if kind == Kind::Execute {
        query::called(tokens.get(2..).unwrap_or_default())
    } else {
        query::called(tokens)
    };
    let mut statement = Statement {
        relations: relations.into_iter().collect(),
        functions,
        ..Statement::of_kind(kind)
    };
    if statement.kind == Kind::Ddl && makes_temporary(tokens) {
        statement.effects.push(Effect::TempObject);
    }
    if tokens.first().is_some_and(|first| first.is("load")) {
        statement.effects.push(Effect::Load);
    }
    statement
}

/// Where the name of the relation stands that a statement changes.
fn target(tokens: &[Token<'_>]) -> Option<usize> {
    let second = tokens.get(1)?;
    let at = match tokens.first()? {
        first if first.is_any(&["insert", "merge"]) && second.is("into") => 2,
        first if first.is("delete") && second.is("from") => 2,
        first if first.is("update") => 1,
        _ => return None,
    };
    let only = tokens.get(at).is_some_and(|token| token.is("only"));
    Some(if only { at.saturating_add(1) } else { at })
}

/// TEMP stands before the word that says what is created; `pg_temp` before its name.
pub(super) fn makes_temporary(tokens: &[Token<'_>]) -> bool {
    let by_word = tokens
        .iter()
        .take(6)
        .any(|token| token.is_any(&["temp", "temporary"]));
    let by_schema = tokens.windows(2).any(|pair| match pair {
        [name, dot] => dot.is_mark(".") && name.name().as_deref() == Some("pg_temp"),
        _ => false,
    });
    by_word || by_schema
}

fn transaction(word: &str, tokens: &[Token<'_>]) -> Option<Statement> {
    let rest = tokens.get(1..)?;
    let rest_after_noise = match rest {
        [noise, rest @ ..] if noise.is_any(&["work", "transaction"]) => rest,
        _ => rest,
    };
    let verb = match (word, rest) {
        ("begin", _) => Verb::Begin(modes(rest_after_noise)?),
        ("start", [noise, modes_text @ ..]) if noise.is("transaction") => {
            Verb::Begin(modes(modes_text)?)
        }
        ("commit" | "rollback", [prepared, name])
            if prepared.is("prepared") && name.kind == TokenKind::String =>
        {
            Verb::FinishPrepared
        }
        ("commit" | "end", _) => Verb::Commit(chain(rest_after_noise)?),
        ("rollback", _) if rest_after_noise.first().is_some_and(|token| token.is("to")) => {
            Verb::RollbackTo(savepoint_name(rest_after_noise.get(1..)?)?)
        }
        ("rollback" | "abort", _) => Verb::Rollback(chain(rest_after_noise)?),
        ("savepoint", [name]) => Verb::Savepoint(name.name()?),
        ("release", _) => Verb::Release(savepoint_name(rest)?),
        _ => return None,
    };
    Some(Statement::of_kind(Kind::Transaction(verb)))
}

fn savepoint_name(tokens: &[Token<'_>]) -> Option<Box<str>> {
    match tokens {
        [noise, name] if noise.is("savepoint") => name.name(),
        [name] => name.name(),
        _ => None,
    }
}

fn chain(tokens: &[Token<'_>]) -> Option<Chain> {
    match tokens {
        [] => Some(Chain::NoChain),
        [and, chain] if and.is("and") && chain.is("chain") => Some(Chain::Chain),
        [and, no, chain] if and.is("and") && no.is("no") && chain.is("chain") => {
            Some(Chain::NoChain)
        }
        _ => None,
    }
}

/// The modes of a transaction; the last of two that contradict each other counts.
pub(super) fn modes(mut tokens: &[Token<'_>]) -> Option<Modes> {
    let mut modes = Modes::default();
    while !tokens.is_empty() {
        tokens = match tokens {
            [comma, rest @ ..] if comma.is_mark(",") => rest,
            [read, only, rest @ ..] if read.is("read") && only.is("only") => {
                modes.access = Some(Access::ReadOnly);
                rest
            }
            [read, write, rest @ ..] if read.is("read") && write.is("write") => {
                modes.access = Some(Access::ReadWrite);
                rest
            }
            [isolation, level, rest @ ..] if isolation.is("isolation") && level.is("level") => {
                let (isolation, rest) = isolation_level(rest)?;
                modes.isolation = Some(isolation);
                rest
            }
            [not, word, rest @ ..] if not.is("not") && word.is("deferrable") => rest,
            [word, rest @ ..] if word.is("deferrable") => rest,
            _ => return None,
        };
    }
    Some(modes)
}

fn isolation_level<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Isolation, &'t [Token<'a>])> {
    match tokens {
        [a, rest @ ..] if a.is("serializable") => Some((Isolation::Serializable, rest)),
        [a, b, rest @ ..] if a.is("repeatable") && b.is("read") => {
            Some((Isolation::RepeatableRead, rest))
        }
        [a, b, rest @ ..] if a.is("read") && b.is_any(&["committed", "uncommitted"]) => {
            Some((Isolation::ReadCommitted, rest))
        }
        _ => None,
    }
}

fn explain(text: &str, tokens: &[Token<'_>], cut: Option<Unparsed>) -> Statement {
    let (mode, at) = explain_options(tokens);
    let inner_tokens = tokens.get(at..).unwrap_or_default();
    let (Some(first), Some(last)) = (inner_tokens.first(), inner_tokens.last()) else {
        return Statement::unknown(Unparsed::Syntax);
    };
    if first.is("explain") {
        return Statement::unknown(Unparsed::Syntax);
    }
    let inner = of_tokens(text, inner_tokens, cut);
    // What EXPLAIN refuses to explain did not come from this statement's text.
    Statement {
        relations: inner.relations.clone(),
        functions: inner.functions.clone(),
        effects: inner.effects.clone(),
        change: inner.change,
        unparsed: inner.unparsed,
        ..Statement::of_kind(Kind::Explain {
            mode,
            text: first.start..last.end(),
            inner: Box::new(inner),
        })
    }
}

/// What an EXPLAIN wants, and where its statement begins.
fn explain_options(tokens: &[Token<'_>]) -> (Explain, usize) {
    let is_list = tokens.get(1).is_some_and(|token| token.is_mark("("))
        && !tokens.get(2).is_some_and(query::begins_query);
    if is_list && let Some(after) = after_parenthesis(tokens, 1) {
        let options = tokens.get(2..after).unwrap_or_default();
        let names = |word: &str| options.iter().any(|token| token.is(word));
        let mode = if names("route") {
            Explain::Route
        } else if names("analyze") || names("analyse") {
            Explain::Analyze
        } else {
            Explain::Plan
        };
        return (mode, after);
    }
    let mut at = 1;
    let mut mode = Explain::Plan;
    if tokens
        .get(at)
        .is_some_and(|token| token.is_any(&["analyze", "analyse"]))
    {
        mode = Explain::Analyze;
        at = 2;
    }
    if tokens.get(at).is_some_and(|token| token.is("verbose")) {
        at = at.saturating_add(1);
    }
    (mode, at)
}

fn copy(text: &str, tokens: &[Token<'_>], cut: Option<Unparsed>) -> Option<Statement> {
    if tokens.get(1)?.is_mark("(") {
        let after = after_parenthesis(tokens, 1)?;
        let inner = of_tokens(text, tokens.get(2..after.checked_sub(1)?)?, cut);
        let is_query = matches!(inner.kind, Kind::Select | Kind::Values | Kind::Table);
        return match (is_query, copy_target(tokens, after)?) {
            (true, Kind::CopyOut) => Some(Statement {
                kind: Kind::CopyOut,
                ..inner
            }),
            (true, kind) => Some(Statement::of_kind(kind)),
            (false, _) => Some(inner),
        };
    }
    let at = if tokens.get(1)?.is("binary") && tokens.get(2)?.name().is_some() {
        2
    } else {
        1
    };
    let (schema, name, next) = dotted_name(tokens, at)?;
    let after = match tokens.get(next)? {
        open if open.is_mark("(") => after_parenthesis(tokens, next)?,
        _ => next,
    };
    let relation = RelationName { schema, name };
    Some(Statement {
        relations: vec![relation],
        ..Statement::of_kind(copy_target(tokens, after)?)
    })
}

fn copy_target(tokens: &[Token<'_>], at: usize) -> Option<Kind> {
    let direction = tokens.get(at)?;
    let end = tokens.get(at.saturating_add(1))?;
    if direction.is("from") {
        Some(Kind::CopyIn)
    } else if direction.is("to") && end.is_any(&["stdout", "stdin"]) {
        Some(Kind::CopyOut)
    } else if direction.is("to") {
        // A file or a program of the server.
        Some(Kind::Utility)
    } else {
        None
    }
}

fn session(word: &str, tokens: &[Token<'_>]) -> Option<Statement> {
    let rest = tokens.get(1..)?;
    let one_or_all = |all: fn(&Token<'_>) -> bool| match rest {
        [token] if all(token) => Some(None),
        [token] => Some(Some(token.name()?)),
        _ => None,
    };
    let is_all: fn(&Token<'_>) -> bool = |token| token.is("all");
    let is_star: fn(&Token<'_>) -> bool = |token| token.is_mark("*");
    let (kind, effect) = match word {
        "listen" => (
            Kind::Listen,
            Effect::Listen {
                channel: one_or_all(|_| false)??,
            },
        ),
        "unlisten" => (
            Kind::Unlisten,
            Effect::Unlisten {
                channel: one_or_all(is_star)?,
            },
        ),
        "close" => (
            Kind::Close,
            Effect::CloseCursor {
                name: one_or_all(is_all)?,
            },
        ),
        "deallocate" => {
            let name = match rest {
                [noise, token] if noise.is("prepare") && token.is("all") => None,
                [noise, token] if noise.is("prepare") => Some(token.name()?),
                _ => one_or_all(is_all)?,
            };
            (Kind::Deallocate, Effect::Deallocate { name })
        }
        "discard" => match rest {
            [what] if what.is("all") => (Kind::Discard, Effect::DiscardAll),
            [what] if what.is_any(&["temp", "temporary"]) => (Kind::Discard, Effect::DiscardTemp),
            [what] if what.is("sequences") => (Kind::Discard, Effect::DiscardSequences),
            [what] if what.is("plans") => (Kind::Discard, Effect::DiscardPlans),
            _ => return None,
        },
        // FETCH and MOVE name their cursor last.
        _ => {
            return Some(Statement::of_kind(Kind::Fetch {
                cursor: rest.last()?.name()?,
            }));
        }
    };
    Some(Statement {
        effects: vec![effect],
        ..Statement::of_kind(kind)
    })
}

fn prepare(tokens: &[Token<'_>]) -> Option<Statement> {
    if let [_, word, name] = tokens
        && word.is("transaction")
        && name.kind == TokenKind::String
    {
        return Some(Statement::of_kind(Kind::Transaction(
            Verb::PrepareTransaction,
        )));
    }
    let name = tokens.get(1)?.name()?;
    let after = match tokens.get(2)? {
        open if open.is_mark("(") => after_parenthesis(tokens, 2)?,
        _ => 2,
    };
    tokens.get(after)?.is("as").then(|| Statement {
        effects: vec![Effect::PreparedStatement { name }],
        functions: query::called(tokens.get(after..).unwrap_or_default()),
        ..Statement::of_kind(Kind::Prepare)
    })
}

fn declare(text: &str, tokens: &[Token<'_>], cut: Option<Unparsed>) -> Option<Statement> {
    let name = tokens.get(1)?.name()?;
    let query_at = tokens.iter().position(|token| token.is("for"))?;
    let options = tokens.get(2..query_at)?;
    if !options.iter().any(|token| token.is("cursor")) {
        return None;
    }
    let is_held = options.windows(2).any(|pair| match pair {
        [with, hold] => with.is("with") && hold.is("hold"),
        _ => false,
    });
    let (hold, effect) = match is_held {
        true => (Hold::Session, Effect::HoldCursor { name }),
        false => (Hold::Transaction, Effect::OpenCursor { name }),
    };
    let query = tokens.get(query_at.saturating_add(1)..)?;
    query.first().filter(|first| query::begins_query(first))?;
    Some(Statement {
        kind: Kind::Declare { hold },
        effects: vec![effect],
        ..query::read(text, query, cut)
    })
}
