//! The fields of ErrorResponse and NoticeResponse: ours as values, a server's as borrowed bytes.

use std::borrow::Cow;
use std::fmt;

use crate::wire::SqlState;
use crate::wire::reader::Reader;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// `DEBUG`
    Debug,
    /// `LOG`
    Log,
    /// `INFO`
    Info,
    /// `NOTICE`
    Notice,
    /// `WARNING`
    Warning,
    /// `ERROR`: the transaction is lost, the session goes on.
    Error,
    /// `FATAL`: the session is over.
    Fatal,
    /// `PANIC`: all sessions of that server are over.
    Panic,
}

impl Severity {
    /// The word of the protocol, which is not translated.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Log => "LOG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
        }
    }

    fn from_bytes(word: &[u8]) -> Option<Self> {
        [
            Self::Debug,
            Self::Log,
            Self::Info,
            Self::Notice,
            Self::Warning,
            Self::Error,
            Self::Fatal,
            Self::Panic,
        ]
        .into_iter()
        .find(|severity| severity.as_str().as_bytes() == word)
    }

    /// Whether the session ends with it.
    pub const fn ends_session(self) -> bool {
        matches!(self, Self::Fatal | Self::Panic)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error or a notice that we make ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is.
    pub sqlstate: SqlState,
    /// What happened, in one line.
    pub message: Cow<'static, str>,
    /// More of it.
    pub detail: Option<Cow<'static, str>>,
    /// What can be done about it.
    pub hint: Option<Cow<'static, str>>,
}

impl ErrorFields {
    /// An error or notice without detail and hint.
    pub fn new(
        severity: Severity,
        sqlstate: SqlState,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            severity,
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The same with a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The fields in the order in which PostgreSQL sends them. A NUL would end a field early and
    /// make the rest of it the next one, so it becomes a question mark.
    pub(super) fn to_pairs(&self) -> Vec<(u8, String)> {
        let severity = self.severity.as_str();
        let mut pairs = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.sqlstate.0.to_owned()),
            (b'M', self.message.replace('\0', "?")),
        ];
        let optional = [(b'D', &self.detail), (b'H', &self.hint)];
        for (field, text) in optional {
            pairs.extend(text.iter().map(|text| (field, text.replace('\0', "?"))));
        }
        pairs
    }
}

/// The body of an ErrorResponse or NoticeResponse as it came, in any encoding.
///
/// Total: a body that is cut short has the fields that are whole in it.
#[derive(Clone, Copy, Debug)]
pub struct ErrorView<'a>(&'a [u8]);

impl<'a> ErrorView<'a> {
    /// Looks at a body (or at the beginning of one).
    pub const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// All fields, in order.
    pub fn fields(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let field = reader.byte().ok().filter(|&field| field != 0)?;
            Some((field, reader.string().ok()?))
        })
    }

    /// The first field of that type.
    pub fn field(self, field: u8) -> Option<&'a [u8]> {
        self.fields()
            .find(|&(found, _)| found == field)
            .map(|(_, text)| text)
    }

    /// The severity; from the translated field when the server is older than 9.6.
    pub fn severity(self) -> Option<Severity> {
        let word = self.field(b'V').or_else(|| self.field(b'S'))?;
        Severity::from_bytes(word)
    }

    /// The five characters of the SQLSTATE.
    pub fn sqlstate(self) -> Option<&'a [u8]> {
        self.field(b'C')
    }

    /// Whether the SQLSTATE is this one.
    pub fn is(self, state: SqlState) -> bool {
        self.sqlstate() == Some(state.0.as_bytes())
    }

    /// The primary message, in the language and encoding of the server.
    pub fn message(self) -> Option<&'a [u8]> {
        self.field(b'M')
    }

    /// The detail.
    pub fn detail(self) -> Option<&'a [u8]> {
        self.field(b'D')
    }

    /// The hint.
    pub fn hint(self) -> Option<&'a [u8]> {
        self.field(b'H')
    }

    /// The C function that raised it, which is not translated.
    pub fn routine(self) -> Option<&'a [u8]> {
        self.field(b'R')
    }
}
