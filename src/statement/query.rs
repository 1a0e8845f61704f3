//! What may be a read: the parser's tree, held against the tokens.
//!
//! Two independent readers must agree. The tokens are the server's own lexical rules, so a word
//! that changes rows, or a call, that the tree does not account for makes the query unknown.

use super::facts::{Change, Effect, FunctionUse, Kind, RelationName, Statement, Symbols, Unparsed};
use super::lexer::{Token, TokenKind};
use super::parse::{self, Tree};
use super::read::{JOINS_MAX, NESTING_MAX, dotted_name};
use super::{functions, verbs};

/// Whether a statement that begins like this may be a read.
pub(super) fn begins_query(first: &Token<'_>) -> bool {
    first.is_any(&["select", "with", "values", "table"]) || first.is_mark("(")
}

/// The facts of a query.
pub(super) fn read(text: &str, tokens: &[Token<'_>], cut: Option<Unparsed>) -> Statement {
    let change = change_by_tokens(tokens);
    let mut statement = Statement {
        change,
        ..Statement::of_kind(Kind::Select)
    };
    if change == Some(Change::SelectInto) && verbs_into_temporary(tokens) {
        statement.effects.push(Effect::TempObject);
    }
    let understood = match (change, cut) {
        // A write already: the parser would only find more reasons for it.
        (Some(_), _) => None,
        (None, Some(cut)) => Some(Err(cut)),
        (None, None) => Some(understand(text, tokens)),
    };
    match understood {
        Some(Ok(tree)) => {
            statement.kind = tree.kind;
            statement.functions = tree.functions;
            statement.relations = tree.relations;
            statement.change = tree.change;
            statement.symbols = symbols(tokens);
        }
        Some(Err(unparsed)) => {
            statement.unparsed = Some(unparsed);
            statement.functions = called(tokens);
        }
        None => statement.functions = called(tokens),
    }
    statement
}

fn understand(text: &str, tokens: &[Token<'_>]) -> Result<Tree, Unparsed> {
    check_depth(tokens)?;
    if let Some(tree) = plain_table(tokens) {
        return Ok(tree);
    }
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Err(Unparsed::Syntax);
    };
    let own_text = text.get(first.start..last.end()).ok_or(Unparsed::Syntax)?;
    let tree = parse::query(own_text)?;
    match agrees(&tree, tokens) {
        true => Ok(tree),
        false => Err(Unparsed::Disagreement),
    }
}

/// What is nested too deep would overflow the parser's stack: parentheses, CASE, and joins whose
/// condition is still to come.
fn check_depth(tokens: &[Token<'_>]) -> Result<(), Unparsed> {
    let (mut depth, mut joins, mut waiting) = (0_usize, 0_usize, 0_usize);
    for token in tokens {
        if token.is_mark("(") || token.is_mark("[") || token.is("case") {
            depth = depth.saturating_add(1);
        } else if token.is_mark(")") || token.is_mark("]") || token.is("end") {
            depth = depth.saturating_sub(1);
        } else if token.is("join") {
            joins = joins.saturating_add(1);
            waiting = waiting.saturating_add(1);
        } else if token.is("cross") || token.is("natural") || token.is("on") || token.is("using") {
            waiting = waiting.saturating_sub(1);
        }
        if depth > NESTING_MAX || joins > JOINS_MAX || waiting > NESTING_MAX / 2 {
            return Err(Unparsed::TooDeep);
        }
    }
    Ok(())
}

/// `TABLE name`, which the parser does not know at the top of a statement.
fn plain_table(tokens: &[Token<'_>]) -> Option<Tree> {
    if !tokens.first()?.is("table") {
        return None;
    }
    let at = if tokens.get(1)?.is("only") { 2 } else { 1 };
    let (schema, name, next) = dotted_name(tokens, at)?;
    (next == tokens.len()).then(|| Tree {
        kind: Kind::Table,
        functions: Vec::new(),
        relations: vec![RelationName { schema, name }],
        change: None,
        column_lists: Vec::new(),
    })
}

/// What the tokens alone say of a change.
fn change_by_tokens(tokens: &[Token<'_>]) -> Option<Change> {
    let mut change = None;
    let mut before: Option<&Token<'_>> = None;
    for (place, token) in tokens.iter().enumerate() {
        let next = |ahead: usize| tokens.get(place.saturating_add(ahead));
        let after_dot = before.is_some_and(|before| before.is_mark("."));
        if token.is("for")
            && next(1).is_some_and(|next| next.is_any(&["update", "share", "no", "key"]))
        {
            change = change.or(Some(Change::RowLock));
        } else if token.is_any(&["insert", "update", "delete", "merge"])
            && before.is_some_and(|before| before.is_mark("(") || before.is_mark(")"))
            && next(1).is_some_and(|next| matches!(next.kind, TokenKind::Word | TokenKind::Quoted))
        {
            return Some(Change::DataModifyingCte);
        } else if token.is("into") && !after_dot {
            change = change.or(Some(Change::SelectInto));
        }
        before = Some(token);
    }
    change
}

fn verbs_into_temporary(tokens: &[Token<'_>]) -> bool {
    let into = tokens.iter().position(|token| token.is("into"));
    into.and_then(|into| tokens.get(into..))
        .is_some_and(|after| {
            verbs::makes_temporary(after.get(..after.len().min(4)).unwrap_or_default())
        })
}

/// Whether the tree accounts for every word that changes rows and for everything called.
fn agrees(tree: &Tree, tokens: &[Token<'_>]) -> bool {
    let mut before: Option<&Token<'_>> = None;
    for (place, token) in tokens.iter().enumerate() {
        let after_dot = before.is_some_and(|before| before.is_mark("."));
        let is_change = token.is_any(&["insert", "update", "delete", "merge", "truncate", "into"]);
        if is_change && !after_dot && tree.change.is_none() {
            return false;
        }
        let is_called = tokens
            .get(place.saturating_add(1))
            .is_some_and(|next| next.is_mark("("));
        if is_called
            && let Some(name) = token.name()
            && !is_accounted_for(tree, token, &name, before)
        {
            return false;
        }
        before = Some(token);
    }
    true
}

fn is_accounted_for(
    tree: &Tree,
    token: &Token<'_>,
    name: &str,
    before: Option<&Token<'_>>,
) -> bool {
    let is_keyword = token.kind == TokenKind::Word && is_before_parenthesis(name);
    let is_type_or_alias = before.is_some_and(|before| before.is_mark("::") || before.is("as"));
    let is_sampling = before.is_some_and(|before| before.is("tablesample"))
        && matches!(name, "bernoulli" | "system");
    is_keyword
        || is_type_or_alias
        || is_sampling
        || tree
            .functions
            .iter()
            .any(|function| *function.name == *name)
        || tree.column_lists.iter().any(|alias| **alias == *name)
}

/// Words that stand before a parenthesis without being called. All are reserved, or name types and
/// constructs that nobody can define as a function without quoting the name, or are clauses whose
/// parenthesis the tree knows.
///
/// Source: PostgreSQL 17, kwlist.h.
const BEFORE_PARENTHESIS: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "bit",
    "by",
    "case",
    "cast",
    "char",
    "character",
    "coalesce",
    "cross",
    "cube",
    "dec",
    "decimal",
    "distinct",
    "else",
    "except",
    "exists",
    "extract",
    "fetch",
    "filter",
    "float",
    "from",
    "greatest",
    "group",
    "having",
    "ilike",
    "in",
    "int",
    "intersect",
    "interval",
    "is",
    "join",
    "lateral",
    "least",
    "like",
    "limit",
    "materialized",
    "national",
    "nchar",
    "not",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "operator",
    "or",
    "ordinality",
    "over",
    "precision",
    "recursive",
    "rollup",
    "row",
    "select",
    "sets",
    "similar",
    "some",
    "then",
    "time",
    "timestamp",
    "to",
    "union",
    "using",
    "values",
    "varchar",
    "varying",
    "when",
    "where",
    "with",
    "within",
];

fn is_before_parenthesis(name: &str) -> bool {
    BEFORE_PARENTHESIS.binary_search(&name).is_ok() || functions::is_expression(name)
}

/// Everything that looks like a call, for statements of which there is no tree.
pub(super) fn called(tokens: &[Token<'_>]) -> Vec<FunctionUse> {
    let mut found: Vec<FunctionUse> = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let is_called = tokens
            .get(place.saturating_add(1))
            .is_some_and(|next| next.is_mark("("));
        let Some(name) = token.name().filter(|_| is_called) else {
            continue;
        };
        if token.kind == TokenKind::Word && is_before_parenthesis(&name) {
            continue;
        }
        let part = |back: usize| place.checked_sub(back).and_then(|place| tokens.get(place));
        // The name of a relation before its column list is no call.
        let is_target = part(1).is_some_and(|before| before.is_any(&["into", "as", "table"]));
        if is_target {
            continue;
        }
        let schema = part(1)
            .filter(|dot| dot.is_mark("."))
            .and_then(|_| part(2)?.name());
        let function = FunctionUse {
            schema,
            name,
            args: None,
        };
        if !found.contains(&function) {
            found.push(function);
        }
    }
    found
}

fn symbols(tokens: &[Token<'_>]) -> Symbols {
    fn add(list: &mut Vec<Box<str>>, name: &str) {
        if !list.iter().any(|known| **known == *name) {
            list.push(name.into());
        }
    }
    let mut symbols = Symbols::default();
    let has_cast = tokens.iter().any(|token| token.is("cast"));
    for pair in tokens.windows(2) {
        let [before, token] = pair else { continue };
        if token.kind == TokenKind::Operator {
            add(&mut symbols.operators, token.text);
        }
        let Some(name) = token.name() else { continue };
        if before.is_mark(".") {
            add(&mut symbols.attributes, &name);
            add(&mut symbols.types, &name);
        } else if before.is_mark("::") || (has_cast && before.is("as")) {
            add(&mut symbols.types, &name);
        }
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_words_is_sorted_so_that_it_can_be_searched() {
        assert!(BEFORE_PARENTHESIS.is_sorted_by(|a, b| a < b));
    }
}
