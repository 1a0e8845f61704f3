//! The only file that names the parser crate: the text of one query in, what its tree holds out.
//!
//! Everything here is an allow-list. A node that nobody has looked at makes the query unknown, and
//! unknown means write.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums grow with each release, and what is new here is refused"
)]

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlparser::ast::{
    Expr, Function, FunctionArguments, GroupByExpr, Ident, ObjectName, ObjectNamePart, Query,
    Select, SelectFlavor, SetExpr, Statement, TableAlias, TableFactor, TableFunctionArgs, Visit,
    Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::facts::{Change, FunctionUse, Kind, RelationName, Unparsed};
use super::lexer::fold;

/// What the tree of a query holds.
#[derive(Debug)]
pub(super) struct Tree {
    /// SELECT, VALUES or TABLE.
    pub(super) kind: Kind,
    pub(super) functions: Vec<FunctionUse>,
    pub(super) relations: Vec<RelationName>,
    pub(super) change: Option<Change>,
    /// Names that a list of columns follows: `AS t(a, b)`, `WITH t(a, b)`.
    pub(super) column_lists: Vec<Box<str>>,
}

/// The tree of the text of one query.
pub(super) fn query(text: &str) -> Result<Tree, Unparsed> {
    // A panic of the parser is a text that it does not understand.
    catch_unwind(AssertUnwindSafe(|| read(text))).unwrap_or(Err(Unparsed::Syntax))
}

fn read(text: &str) -> Result<Tree, Unparsed> {
    let dialect = PostgreSqlDialect {};
    let mut statements = Parser::parse_sql(&dialect, text).map_err(|error| match error {
        sqlparser::parser::ParserError::RecursionLimitExceeded => Unparsed::TooDeep,
        _ => Unparsed::Syntax,
    })?;
    let (Some(Statement::Query(query)), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Unparsed::Disagreement);
    };
    let kind = kind_of(&query.body);
    let mut walk = Walk {
        tree: Tree {
            kind,
            functions: Vec::new(),
            relations: Vec::new(),
            change: None,
            column_lists: Vec::new(),
        },
        scopes: Vec::new(),
    };
    match query.visit(&mut walk) {
        ControlFlow::Continue(()) => Ok(walk.tree),
        ControlFlow::Break(unparsed) => Err(unparsed),
    }
}

fn kind_of(body: &SetExpr) -> Kind {
    match body {
        SetExpr::Values(_) => Kind::Values,
        SetExpr::Table(_) => Kind::Table,
        _ => Kind::Select,
    }
}

/// A WITH that is being visited: which of its names are visible now.
#[derive(Debug)]
struct Scope {
    names: Vec<Box<str>>,
    /// Addresses of the queries of the WITH, to know which of them is being visited.
    bodies: Vec<*const Query>,
    /// Without RECURSIVE a query sees only the names before its own.
    visible: usize,
    recursive: bool,
}

#[derive(Debug)]
struct Walk {
    tree: Tree,
    scopes: Vec<Scope>,
}

type Step = ControlFlow<Unparsed>;

const SHAPE: Step = ControlFlow::Break(Unparsed::Shape);
const GO_ON: Step = ControlFlow::Continue(());

impl Visitor for Walk {
    type Break = Unparsed;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Step {
        match statement {
            Statement::Query(_) => GO_ON,
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_) => {
                self.tree.change = Some(Change::DataModifyingCte);
                GO_ON
            }
            _ => SHAPE,
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> Step {
        self.enter(query);
        if let Some(with) = &query.with {
            self.scopes.push(Scope {
                names: with
                    .cte_tables
                    .iter()
                    .map(|cte| ident(&cte.alias.name))
                    .collect(),
                bodies: with
                    .cte_tables
                    .iter()
                    .map(|cte| std::ptr::from_ref(&*cte.query))
                    .collect(),
                visible: if with.recursive {
                    with.cte_tables.len()
                } else {
                    0
                },
                recursive: with.recursive,
            });
            for cte in &with.cte_tables {
                self.alias(&cte.alias);
            }
        }
        if !query.locks.is_empty() {
            self.tree.change = self.tree.change.or(Some(Change::RowLock));
        }
        let is_plain = query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if is_plain {
            self.set_expr(&query.body)
        } else {
            SHAPE
        }
    }

    fn post_visit_query(&mut self, query: &Query) -> Step {
        if query.with.is_some() {
            self.scopes.pop();
        }
        if let Some((scope, place)) = self.scope_of(query)
            && !scope.recursive
        {
            scope.visible = place.saturating_add(1);
        }
        GO_ON
    }

    fn pre_visit_select(&mut self, select: &Select) -> Step {
        if select.into.is_some() {
            self.tree.change = Some(Change::SelectInto);
        }
        let is_known = select.top.is_none()
            && select.exclude.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none()
            && select.select_modifiers.is_none()
            && select.flavor == SelectFlavor::Standard
            && !matches!(&select.group_by, GroupByExpr::All(modes) if !modes.is_empty());
        if is_known { GO_ON } else { SHAPE }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Step {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                partitions,
                json_path,
                index_hints,
                ..
            } => {
                let is_known = with_hints.is_empty()
                    && version.is_none()
                    && partitions.is_empty()
                    && json_path.is_none()
                    && index_hints.is_empty();
                self.alias_of(alias.as_ref());
                match args {
                    _ if !is_known => SHAPE,
                    Some(args) => self.table_function(name, args),
                    None => self.relation(name, alias.as_ref()),
                }
            }
            TableFactor::Function {
                name, args, alias, ..
            } => {
                self.alias_of(alias.as_ref());
                self.function(name, Some(args.len()))
            }
            TableFactor::UNNEST {
                array_exprs,
                alias,
                with_offset: false,
                ..
            } => {
                self.alias_of(alias.as_ref());
                self.builtin("unnest", array_exprs.len())
            }
            TableFactor::Derived { alias, .. } | TableFactor::NestedJoin { alias, .. } => {
                self.alias_of(alias.as_ref());
                GO_ON
            }
            _ => SHAPE,
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Step {
        match expr {
            Expr::Function(function) => self.call(function),
            Expr::Ceil { .. } => self.builtin("ceil", 1),
            Expr::Floor { .. } => self.builtin("floor", 1),
            Expr::Extract { .. } => self.builtin("extract", 2),
            Expr::Position { .. } => self.builtin("position", 2),
            Expr::Substring { .. } => self.builtin("substring", 2),
            Expr::Trim { .. } => self.builtin("trim", 1),
            Expr::Overlay { .. } => self.builtin("overlay", 3),
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::IsJson { .. }
            | Expr::IsNormalized { .. }
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Collate { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => GO_ON,
            _ => SHAPE,
        }
    }
}

impl Walk {
    /// The WITH of which this query is a part, and its place there.
    fn scope_of(&mut self, query: &Query) -> Option<(&mut Scope, usize)> {
        let scope = self.scopes.last_mut()?;
        let place = scope
            .bodies
            .iter()
            .position(|body| std::ptr::eq(*body, query))?;
        Some((scope, place))
    }

    fn enter(&mut self, query: &Query) {
        if let Some((scope, place)) = self.scope_of(query)
            && !scope.recursive
        {
            scope.visible = place;
        }
    }

    /// The tables of a set operation; its queries and statements are visited by themselves.
    fn set_expr(&mut self, body: &SetExpr) -> Step {
        let mut open = vec![body];
        while let Some(body) = open.pop() {
            match body {
                SetExpr::SetOperation { left, right, .. } => open.extend([&**left, &**right]),
                SetExpr::Table(table) => {
                    let Some(name) = &table.table_name else {
                        return SHAPE;
                    };
                    // Its parts are kept without their quotes.
                    let schema = table.schema_name.as_deref();
                    self.name_relation(schema.map(Into::into), name.as_str().into());
                    if **name != name.to_ascii_lowercase()
                        || schema.is_some_and(|schema| *schema != schema.to_ascii_lowercase())
                    {
                        return SHAPE;
                    }
                }
                SetExpr::Select(_)
                | SetExpr::Query(_)
                | SetExpr::Values(_)
                | SetExpr::Insert(_)
                | SetExpr::Update(_)
                | SetExpr::Delete(_)
                | SetExpr::Merge(_) => {}
            }
        }
        GO_ON
    }

    fn alias_of(&mut self, alias: Option<&TableAlias>) {
        if let Some(alias) = alias {
            self.alias(alias);
        }
    }

    fn alias(&mut self, alias: &TableAlias) {
        if !alias.columns.is_empty() {
            self.tree.column_lists.push(ident(&alias.name));
        }
    }

    fn relation(&mut self, name: &ObjectName, alias: Option<&TableAlias>) -> Step {
        let Some((schema, name)) = split(name) else {
            return SHAPE;
        };
        // `FROM ONLY t` comes out as a table `only` with the alias `t`.
        if schema.is_none() && &*name == "only" {
            let Some(alias) = alias else { return SHAPE };
            self.name_relation(None, ident(&alias.name));
            return GO_ON;
        }
        self.name_relation(schema, name);
        GO_ON
    }

    fn name_relation(&mut self, schema: Option<Box<str>>, name: Box<str>) {
        let is_cte = schema.is_none()
            && self.scopes.iter().any(|scope| {
                scope
                    .names
                    .iter()
                    .take(scope.visible)
                    .any(|cte| *cte == name)
            });
        let relation = RelationName { schema, name };
        if !is_cte && !self.tree.relations.contains(&relation) {
            self.tree.relations.push(relation);
        }
    }

    fn table_function(&mut self, name: &ObjectName, args: &TableFunctionArgs) -> Step {
        match args.settings {
            Some(_) => SHAPE,
            None => self.function(name, Some(args.args.len())),
        }
    }

    fn call(&mut self, function: &Function) -> Step {
        if function.uses_odbc_syntax || function.parameters != FunctionArguments::None {
            return SHAPE;
        }
        let args = match &function.args {
            FunctionArguments::List(list) => {
                Some(list.args.len().saturating_add(function.within_group.len()))
            }
            FunctionArguments::None => Some(0),
            FunctionArguments::Subquery(_) => None,
        };
        // `count(*)` has no argument for the catalog; which name has a star is not worth knowing.
        let is_plain = args == Some(1) && is_star(&function.args);
        self.function(&function.name, if is_plain { None } else { args })
    }

    fn builtin(&mut self, name: &str, args: usize) -> Step {
        self.push(FunctionUse {
            schema: None,
            name: name.into(),
            args: u16::try_from(args).ok().filter(|_| name == "unnest"),
        })
    }

    fn function(&mut self, name: &ObjectName, args: Option<usize>) -> Step {
        let Some((schema, name)) = split(name) else {
            return SHAPE;
        };
        self.push(FunctionUse {
            schema,
            name,
            args: args.and_then(|args| u16::try_from(args).ok()),
        })
    }

    fn push(&mut self, function: FunctionUse) -> Step {
        if !self.tree.functions.contains(&function) {
            self.tree.functions.push(function);
        }
        GO_ON
    }
}

fn is_star(args: &FunctionArguments) -> bool {
    use sqlparser::ast::{FunctionArg, FunctionArgExpr};
    matches!(
        args,
        FunctionArguments::List(list)
            if matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
    )
}

fn ident(ident: &Ident) -> Box<str> {
    match ident.quote_style {
        Some(_) => ident.value.as_str().into(),
        None => fold(&ident.value),
    }
}

/// A name and what is before its last dot.
fn split(name: &ObjectName) -> Option<(Option<Box<str>>, Box<str>)> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(name) => Some(ident(name)),
        ObjectNamePart::Function(_) => None,
    };
    match name.0.as_slice() {
        [name] => Some((None, part(name)?)),
        [.., schema, name] => Some((Some(part(schema)?), part(name)?)),
        [] => None,
    }
}
