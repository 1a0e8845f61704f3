//! A result of our own (console, SHOW): columns and rows as values, in text or binary format.

use bytes::{BufMut, BytesMut};
use pgwire::messages::data::{FieldDescription, RowDescription};

use super::encoders::put;
use super::tag;
use crate::wire::writer;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text`
    Text,
    /// `bigint`
    Int8,
    /// `double precision`
    Float8,
    /// `boolean`
    Bool,
}

impl Kind {
    /// The OID of the type and its size. Source: PostgreSQL 17, `catalog/pg_type.dat`.
    const fn oid_and_size(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int8 => (20, 8),
            Self::Float8 => (701, 8),
            Self::Bool => (16, 1),
        }
    }

    /// The binary form of a value; `None` when the text is not of this type.
    fn to_binary(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Int8 => Some(text.parse::<i64>().ok()?.to_be_bytes().to_vec()),
            Self::Float8 => Some(text.parse::<f64>().ok()?.to_be_bytes().to_vec()),
            Self::Bool => match text {
                "t" | "true" => Some(vec![1]),
                "f" | "false" => Some(vec![0]),
                _ => None,
            },
        }
    }
}

/// A column of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name that the client reads.
    pub name: String,
    /// The type of its values.
    pub kind: Kind,
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

/// A result with its rows as text, NULL as `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; each has one value per column.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// Writes RowDescription. `formats` is what a Bind asks for: none (all text), one for all
    /// columns, or one for each.
    pub fn row_description(&self, out: &mut BytesMut, formats: &[i16]) {
        let fields = self.columns.iter().enumerate().map(|(index, column)| {
            let (oid, size) = column.kind.oid_and_size();
            let format = i16::from(is_binary(formats, index));
            let name = column.name.replace('\0', "?");
            FieldDescription::new(name, 0, 0, oid, size, -1, format)
        });
        put(out, &RowDescription::new(fields.collect()));
    }

    /// Writes the DataRow of one row. A value that is missing, or is not of its column's type, is
    /// NULL.
    pub fn data_row(&self, out: &mut BytesMut, row: &[Option<String>], formats: &[i16]) {
        writer::message(out, tag::DATA_ROW, |out| {
            out.put_u16(u16::try_from(self.columns.len()).unwrap_or(u16::MAX));
            for (index, column) in self.columns.iter().enumerate() {
                let text = row.get(index).and_then(Option::as_deref);
                let value = match is_binary(formats, index) {
                    true => text.and_then(|text| column.kind.to_binary(text)),
                    false => text.map(|text| text.as_bytes().to_vec()),
                };
                put_value(out, value.as_deref());
            }
        });
    }

    /// Writes all rows.
    pub fn data_rows(&self, out: &mut BytesMut, formats: &[i16]) {
        for row in &self.rows {
            self.data_row(out, row, formats);
        }
    }
}

fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value.and_then(|value| Some((value, i32::try_from(value.len()).ok()?))) {
        Some((value, length)) => {
            out.put_i32(length);
            out.put_slice(value);
        }
        None => out.put_i32(-1),
    }
}

fn is_binary(formats: &[i16], index: usize) -> bool {
    match formats {
        [] => false,
        [all] => *all == 1,
        each => each.get(index) == Some(&1),
    }
}
