//! What is wrong with a configuration, where, and what to write instead.

use std::fmt::{self, Write as _};

/// One mistake, or one thing to think about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the program can start with it.
    pub severity: Severity,
    /// The number of its kind.
    pub code: Code,
    /// One sentence.
    pub message: String,
    /// Where it stands; `None` for something that is missing altogether.
    pub place: Option<Place>,
    /// What to write instead.
    pub help: Option<String>,
}

/// Whether the program can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and somebody should look.
    Warning,
}

impl Severity {
    /// The word that a report starts with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// Its name, as it was given.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// How many characters it is about.
        width: usize,
        /// The line itself; empty when it may hold a secret.
        excerpt: String,
    },
    /// In this environment variable.
    Environment(String),
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal,)+) => {
        /// The kind of a problem: a closed list, printed into docs/configuration.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Code {
            /// All kinds, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number, as in `PGH-0107`.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// One sentence about this kind.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

codes! {
    /// The file cannot be read.
    Unreadable = 100,
    /// The file is not TOML.
    Syntax = 101,
    /// A setting that must be written is missing.
    Missing = 102,
    /// A value has the wrong type.
    WrongType = 103,
    /// A word is not one of the choices.
    NotAChoice = 104,
    /// A value is out of range.
    OutOfRange = 105,
    /// There is no setting of this name.
    UnknownKey = 107,
    /// A text is not an address.
    NotAnAddress = 108,
    /// Something is named twice.
    Duplicate = 109,
    /// A name stands for nothing.
    UnknownName = 110,
    /// A time or a size is not a number with a unit.
    NeedsUnit = 112,
    /// Two settings contradict each other, or one needs another.
    Conflict = 113,
    /// A setting gives up a protection.
    Risky = 114,
    /// A secret or a list of users cannot be read from where it is said to be.
    SecretUnreadable = 115,
    /// A rule of access cannot be used.
    AccessRule = 116,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PGH-{:04}", self.number())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                file, line, column, ..
            } => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Renders as a compiler would: the message, the place, the line with a caret, the help.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, .. } = self;
        writeln!(f, "{}[{code}]: {message}", self.severity.as_str())?;
        let help = self.help.as_deref().unwrap_or_default();
        match &self.place {
            Some(Place::File {
                line,
                column,
                width,
                excerpt,
                ..
            }) if !excerpt.is_empty() => {
                let gutter = " ".repeat(line.to_string().len());
                let before = " ".repeat(column.saturating_sub(1));
                let caret = "^".repeat((*width).max(1));
                writeln!(f, "{gutter}--> {}", self.origin())?;
                writeln!(f, "{gutter} |")?;
                writeln!(f, "{line} | {excerpt}")?;
                let mark = format!("{gutter} | {before}{caret} {help}");
                writeln!(f, "{}", mark.trim_end())
            }
            place => {
                if place.is_some() {
                    writeln!(f, "  --> {}", self.origin())?;
                }
                match help {
                    "" => Ok(()),
                    help => writeln!(f, "   = {help}"),
                }
            }
        }
    }
}

impl Problem {
    /// `file:line:column`, or the name of an environment variable; empty for what is missing.
    pub fn origin(&self) -> String {
        self.place
            .as_ref()
            .map(Place::to_string)
            .unwrap_or_default()
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// Keeps the first problem of each line: what follows a slip of syntax is mostly its echo.
    pub(super) fn first_of_each_line(mut self) -> Self {
        self.sort();
        self.0.dedup_by_key(|problem| match &problem.place {
            Some(Place::File { line, .. }) => Some(*line),
            Some(Place::Environment(_)) | None => None,
        });
        self
    }

    /// Puts them in the order in which a person would look: by line, then what has no line.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|problem| match &problem.place {
            Some(Place::File {
                file, line, column, ..
            }) => (0, file.clone(), *line, *column),
            Some(Place::Environment(name)) => (1, name.clone(), 0, 0),
            None => (2, String::new(), 0, 0),
        });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            write!(f, "{problem}")?;
        }
        let mut summary = String::new();
        for severity in [Severity::Error, Severity::Warning] {
            let count = self.count(severity);
            if count > 0 {
                let comma = if summary.is_empty() { "" } else { ", " };
                let plural = if count == 1 { "" } else { "s" };
                write!(summary, "{comma}{count} {}{plural}", severity.as_str())?;
            }
        }
        writeln!(
            f,
            "{}",
            if summary.is_empty() {
                "no problems"
            } else {
                &summary
            }
        )
    }
}

impl std::error::Error for Problems {}
