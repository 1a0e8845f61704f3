//! Reads what one database says of names. The rules are the catalog's own; this only moves rows.

use tokio_postgres::{Client, Row};

use crate::statement::{
    CastContext, CastRow, Catalog, CatalogRows, FunctionRow, OperatorRow, Persistence, RelationRow,
    Storage, Takes, UseRow, Used, Volatility,
};

const FUNCTIONS: &str = include_str!("../../sql/catalog_functions.sql");
const RELATIONS: &str = include_str!("../../sql/catalog_relations.sql");
const USES: &str = include_str!("../../sql/catalog_uses.sql");
const OPERATORS: &str = include_str!("../../sql/catalog_operators.sql");
const CASTS: &str = include_str!("../../sql/catalog_casts.sql");

/// Reads the catalog of the database that the client is connected to.
///
/// The five questions are not one transaction: what changes between them is found the next time.
///
/// # Errors
///
/// When the server refuses one of the questions, or answers with columns of other types.
pub async fn read_catalog(client: &Client) -> Result<Catalog, tokio_postgres::Error> {
    let (functions, relations, uses, operators, casts) = tokio::try_join!(
        client.query(FUNCTIONS, &[]),
        client.query(RELATIONS, &[]),
        client.query(USES, &[]),
        client.query(OPERATORS, &[]),
        client.query(CASTS, &[]),
    )?;
    let rows = CatalogRows {
        functions: functions.iter().map(function).collect::<Result<_, _>>()?,
        relations: relations.iter().map(relation).collect::<Result<_, _>>()?,
        uses: uses.iter().map(uses_row).collect::<Result<_, _>>()?,
        operators: operators.iter().map(operator).collect::<Result<_, _>>()?,
        casts: casts.iter().map(cast).collect::<Result<_, _>>()?,
    };
    Ok(Catalog::from_rows(&rows))
}

type Read<T> = Result<T, tokio_postgres::Error>;

fn function(row: &Row) -> Read<FunctionRow> {
    let args = |count: i32| u16::try_from(count).unwrap_or_default();
    let one_row: Option<bool> = row.try_get("one_row")?;
    Ok(FunctionRow {
        oid: row.try_get("oid")?,
        schema: row.try_get::<_, &str>("schema")?.into(),
        name: row.try_get::<_, &str>("name")?.into(),
        volatility: match row.try_get("volatility")? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        args_min: args(row.try_get("args_min")?),
        args_max: row.try_get::<_, Option<i32>>("args_max")?.map(args),
        takes: if one_row == Some(true) {
            Takes::OneRow
        } else {
            Takes::Values
        },
    })
}

fn relation(row: &Row) -> Read<RelationRow> {
    Ok(RelationRow {
        oid: row.try_get("oid")?,
        schema: row.try_get::<_, &str>("schema")?.into(),
        name: row.try_get::<_, &str>("name")?.into(),
        persistence: match row.try_get("persistence")? {
            "p" => Persistence::Permanent,
            "u" => Persistence::Unlogged,
            _ => Persistence::Temporary,
        },
        storage: if row.try_get("foreign_rows")? {
            Storage::Foreign
        } else {
            Storage::Local
        },
    })
}

fn uses_row(row: &Row) -> Read<UseRow> {
    let function: Option<u32> = row.try_get("function")?;
    let uses: Option<u32> = row.try_get("uses")?;
    Ok(UseRow {
        relation: row.try_get("relation")?,
        uses: match function {
            Some(oid) => Used::Function(oid),
            None => Used::Relation(uses.unwrap_or_default()),
        },
    })
}

fn operator(row: &Row) -> Read<OperatorRow> {
    Ok(OperatorRow {
        name: row.try_get::<_, &str>("name")?.into(),
        function: row.try_get("function")?,
    })
}

fn cast(row: &Row) -> Read<CastRow> {
    Ok(CastRow {
        target: row.try_get::<_, &str>("target")?.into(),
        function: row.try_get("function")?,
        context: if row.try_get("implicit")? {
            CastContext::Implicit
        } else {
            CastContext::Written
        },
    })
}
