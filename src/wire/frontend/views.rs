//! Borrowed views of a client's messages.

use crate::wire::reader::{Reader, ViewError};

/// A simple query: one string of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The text without its NUL.
    pub text: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when the text has no NUL, or bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let text = reader.string()?;
        reader.end()?;
        Ok(Self { text })
    }
}

/// A statement to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The name; empty for the unnamed statement.
    pub name: &'a [u8],
    /// The text without its NUL.
    pub text: &'a [u8],
    /// The types of the parameters as sent: a count of two bytes, then four bytes each.
    pub parameter_types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, or bytes are left.
    #[expect(
        clippy::self_named_constructors,
        reason = "the message is called so, and all views are made by parse"
    )]
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let name = reader.string()?;
        let text = reader.string()?;
        let parameter_types = reader.rest();
        let count = usize::from(reader.u16()?);
        reader.bytes(count.saturating_mul(4))?;
        reader.end()?;
        Ok(Self {
            name,
            text,
            parameter_types,
        })
    }

    /// The OIDs of the parameter types; zero where the client leaves it to the server.
    pub fn type_oids(&self) -> impl Iterator<Item = u32> {
        let oids = self.parameter_types.get(2..).unwrap_or_default();
        let (oids, _) = oids.as_chunks::<4>();
        oids.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// The beginning of a Parse that is too long to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseHead<'a> {
    /// The name; empty for the unnamed statement.
    pub name: &'a [u8],
    /// What is there behind the name: the beginning of the text, perhaps all of it and more.
    pub rest: &'a [u8],
}

impl<'a> ParseHead<'a> {
    /// Reads the beginning of a body.
    ///
    /// # Errors
    /// [`ViewError`] when the name does not end in it.
    pub fn parse(prefix: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(prefix);
        let name = reader.string()?;
        let rest = reader.rest();
        Ok(Self { name, rest })
    }
}

/// A prepared statement that gets its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The name; empty for the unnamed portal.
    pub portal: &'a [u8],
    /// The name; empty for the unnamed statement.
    pub statement: &'a [u8],
    /// Everything behind the names: formats, parameters, result formats.
    pub rest: &'a [u8],
    result_formats: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, a parameter is longer than the message, or bytes
    /// are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let BindHead {
            portal,
            statement,
            rest,
        } = BindHead::parse(body)?;
        let mut reader = Reader::new(rest);
        skip_formats(&mut reader)?;
        for _ in 0..reader.u16()? {
            skip_parameter(&mut reader)?;
        }
        let result_formats = skip_formats(&mut reader)?;
        reader.end()?;
        Ok(Self {
            portal,
            statement,
            rest,
            result_formats,
        })
    }

    /// The formats of the result columns as sent: none, one for all, or one for each.
    pub fn result_formats(&self) -> Vec<i16> {
        let (formats, _) = self.result_formats.as_chunks::<2>();
        formats
            .iter()
            .map(|code| i16::from_be_bytes(*code))
            .collect()
    }
}

fn skip_formats<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ViewError> {
    let count = usize::from(reader.u16()?);
    reader.bytes(count.saturating_mul(2))
}

/// A parameter of length -1 is NULL and has no bytes; no other length may be negative.
fn skip_parameter(reader: &mut Reader<'_>) -> Result<(), ViewError> {
    match reader.i32()? {
        -1 => Ok(()),
        length => {
            let length = usize::try_from(length).map_err(|_negative| ViewError::InvalidFormat)?;
            reader.bytes(length).map(|_value| ())
        }
    }
}

/// The beginning of a Bind that is too long to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindHead<'a> {
    /// The name; empty for the unnamed portal.
    pub portal: &'a [u8],
    /// The name; empty for the unnamed statement.
    pub statement: &'a [u8],
    /// What is there behind the names.
    pub rest: &'a [u8],
}

impl<'a> BindHead<'a> {
    /// Reads the beginning of a body.
    ///
    /// # Errors
    /// [`ViewError`] when the names do not end in it.
    pub fn parse(prefix: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(prefix);
        let portal = reader.string()?;
        let statement = reader.string()?;
        let rest = reader.rest();
        Ok(Self {
            portal,
            statement,
            rest,
        })
    }
}

/// What a Describe or a Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// `S`
    Statement,
    /// `P`
    Portal,
}

impl What {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ViewError> {
        match reader.byte()? {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            other => Err(ViewError::InvalidSubtype(other)),
        }
    }
}

/// Asks for the columns of a statement or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// What the name is of.
    pub what: What,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when the kind is neither `S` nor `P`, the name has no NUL or bytes are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let (what, name) = target(body)?;
        Ok(Self { what, name })
    }
}

/// Forgets a statement or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// What the name is of.
    pub what: What,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Close<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// As [`Describe::parse`].
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let (what, name) = target(body)?;
        Ok(Self { what, name })
    }
}

fn target(body: &[u8]) -> Result<(What, &[u8]), ViewError> {
    let mut reader = Reader::new(body);
    let what = What::read(&mut reader)?;
    let name = reader.string()?;
    reader.end()?;
    Ok((what, name))
}

/// Runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The name; empty for the unnamed portal.
    pub portal: &'a [u8],
    /// How many rows at most; all of them when it is not positive.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, or bytes are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let portal = reader.string()?;
        let max_rows = reader.i32()?;
        reader.end()?;
        Ok(Self { portal, max_rows })
    }
}

/// The first answer of a client that logs in by SASL. The later ones are their whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism that it chose.
    pub mechanism: &'a [u8],
    /// The first message of the mechanism, unless it left that out.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ViewError`] when a field is cut short, or bytes are left.
    pub fn parse(body: &'a [u8]) -> Result<Self, ViewError> {
        let mut reader = Reader::new(body);
        let mechanism = reader.string()?;
        let data = match reader.i32()? {
            -1 => None,
            length => {
                let length =
                    usize::try_from(length).map_err(|_negative| ViewError::InvalidFormat)?;
                Some(reader.bytes(length)?)
            }
        };
        reader.end()?;
        Ok(Self { mechanism, data })
    }
}

/// The password, or the hash of it, in a PasswordMessage.
///
/// # Errors
/// [`ViewError`] when it has no NUL, or bytes behind it.
pub fn password_text(body: &[u8]) -> Result<&[u8], ViewError> {
    Query::parse(body).map(|same_shape| same_shape.text)
}
