//! Picks rows of a table, sorts them, and cuts the list.

use std::cmp::Ordering;

use super::command::{Condition, Operator, Selection};
use super::table::{ColumnKind, Table};

/// A column that the table does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column \"{name}\" does not exist")]
pub(super) struct NoColumn {
    name: String,
    /// The columns that there are.
    pub(super) known: Vec<&'static str>,
}

/// Does what the selection says.
pub(super) fn apply(table: &mut Table, selection: &Selection) -> Result<(), NoColumn> {
    for condition in &selection.conditions {
        let (place, kind) = column(table, &condition.column)?;
        table
            .rows
            .retain(|row| holds(row.get(place).and_then(Option::as_deref), kind, condition));
    }
    if let Some((name, descending)) = &selection.order {
        let (place, kind) = column(table, name)?;
        table.rows.sort_by(|a, b| {
            let value = |row: &[Option<String>]| row.get(place).cloned().flatten();
            let order = match (value(a), value(b)) {
                (Some(a), Some(b)) => compare(kind, &a, &b),
                // NULL is larger than every value, as in PostgreSQL.
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (None, None) => Ordering::Equal,
            };
            if *descending { order.reverse() } else { order }
        });
    }
    if let Some(limit) = selection.limit {
        table.rows.truncate(limit);
    }
    Ok(())
}

fn column(table: &Table, name: &str) -> Result<(usize, ColumnKind), NoColumn> {
    let found = table
        .columns
        .iter()
        .enumerate()
        .find(|(_, (known, _))| *known == name);
    found
        .map(|(place, (_, kind))| (place, *kind))
        .ok_or_else(|| NoColumn {
            name: name.to_owned(),
            known: table.columns.iter().map(|(name, _)| *name).collect(),
        })
}

/// Whether a value meets a condition. NULL meets none.
fn holds(value: Option<&str>, kind: ColumnKind, condition: &Condition) -> bool {
    let Some(value) = value else { return false };
    let order = compare(kind, value, &condition.value);
    match condition.operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    }
}

fn compare(kind: ColumnKind, a: &str, b: &str) -> Ordering {
    let number = |text: &str| text.parse::<f64>().ok();
    match kind {
        ColumnKind::Text => a.cmp(b),
        ColumnKind::Boolean => is_true(a).cmp(&is_true(b)),
        ColumnKind::Integer | ColumnKind::Float => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.cmp(b),
        },
    }
}

fn is_true(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "t" | "true" | "yes" | "on" | "1"
    )
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, parse};
    use super::super::table::{Boolean, Integer, Text, some, truth};
    use super::*;

    fn names(clauses: &str) -> Result<String, NoColumn> {
        let mut table = Table::new(&[("name", Text), ("size", Integer), ("full", Boolean)]);
        table.rows = vec![
            vec![some("a"), some(9), truth(false)],
            vec![some("b"), some(10), truth(true)],
            vec![some("c"), None, truth(false)],
        ];
        let Ok(Command::Show { selection, .. }) = parse(&format!("SHOW x {clauses}")) else {
            panic!("{clauses} was not read");
        };
        apply(&mut table, &selection)?;
        let name = |row: &Vec<Option<String>>| row[0].clone().unwrap();
        Ok(table.rows.iter().map(name).collect())
    }

    #[test]
    fn rows_are_picked_sorted_and_cut() {
        for (clauses, expected) in [
            ("", "abc"),
            ("WHERE size > 9", "b"),
            ("WHERE size < 10", "a"),
            ("WHERE size <> 9", "b"),
            ("WHERE full = true", "b"),
            ("WHERE full = f AND name != 'a'", "c"),
            ("ORDER BY size", "abc"),
            ("ORDER BY size DESC", "cba"),
            ("ORDER BY name DESC LIMIT 2", "cb"),
            ("LIMIT 0", ""),
            ("WHERE name >= b ORDER BY name ASC", "bc"),
        ] {
            assert_eq!(names(clauses).unwrap(), expected, "{clauses}");
        }
    }

    #[test]
    fn a_column_that_is_not_there_is_named() {
        let error = names("WHERE lag = 1").unwrap_err();
        assert_eq!(error.to_string(), "column \"lag\" does not exist");
        assert_eq!(error.known, ["name", "size", "full"]);
        assert!(names("ORDER BY lag").is_err());
    }
}
