//! Rows and columns: what the console sends as a result and HTTP as JSON, with the same names.

use serde_json::{Map, Number, Value};

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The columns, with their types.
    pub columns: Vec<(&'static str, ColumnKind)>,
    /// The rows; each has one value for each column, and `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

/// The type of a column. The values are the texts that PostgreSQL would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `text`.
    Text,
    /// `int8`.
    Integer,
    /// `float8`.
    Float,
    /// `bool`, as `t` and `f`.
    Boolean,
}

pub(super) use ColumnKind::{Boolean, Float, Integer, Text};

impl Table {
    pub(super) fn new(columns: &[(&'static str, ColumnKind)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// The rows as JSON objects.
    pub(super) fn to_json(&self) -> Value {
        let object = |row: &Vec<Option<String>>| {
            let fields = self.columns.iter().zip(row);
            let fields = fields.map(|((name, kind), value)| {
                let value = value.as_ref().map_or(Value::Null, |text| kind.json(text));
                ((*name).to_owned(), value)
            });
            Value::Object(fields.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }
}

impl ColumnKind {
    fn json(self, text: &str) -> Value {
        match self {
            Self::Text => Value::from(text),
            Self::Boolean => Value::from(text == "t"),
            Self::Integer => text.parse::<i64>().map_or(Value::Null, Value::from),
            Self::Float => {
                let number = text.parse().ok().and_then(Number::from_f64);
                number.map_or(Value::Null, Value::Number)
            }
        }
    }
}

/// A value that is there.
#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers and references are passed alike, and rows read as lists"
)]
pub(super) fn some(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

/// A value that may be NULL.
pub(super) fn maybe<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// A truth value.
pub(super) fn truth(is: bool) -> Option<String> {
    some(if is { "t" } else { "f" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types_in_json() {
        let mut table = Table::new(&[
            ("name", Text),
            ("count", Integer),
            ("share", Float),
            ("on", Boolean),
        ]);
        table
            .rows
            .push(vec![some("a"), some(2), some(0.5), truth(true)]);
        table.rows.push(vec![None, None, None, None]);
        let expected = serde_json::json!([
            {"name": "a", "count": 2, "share": 0.5, "on": true},
            {"name": null, "count": null, "share": null, "on": null},
        ]);
        assert_eq!(table.to_json(), expected);
    }
}
