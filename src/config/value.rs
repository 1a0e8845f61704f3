//! The values of settings: how they are read and how they are printed.

use std::fmt;
use std::time::Duration;

use config::ValueKind;

use super::problem::Code;
use super::secret::Secret;
use super::settings::{Kind, LONGEST};

/// The value of a setting, of the kind that its row says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Zero means never.
    Duration(Duration),
    /// In bytes.
    Size(u64),
    /// `"any"`, of a size.
    Any,
    /// A whole number.
    Count(u64),
    /// True or false.
    Flag(bool),
    /// One of the words of a choice.
    Word(&'static str),
    /// A text.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// A text that is never shown; `None` when there is none.
    Secret(Option<Secret>),
}

/// What is wrong with a value, without where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mistake {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Mistake {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Kind {
    /// What may be written, for people.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Duration { .. } => "a duration like \"500ms\" or \"10m\"".into(),
            Self::Size { .. } => "a size like \"16MB\"".into(),
            Self::Count { .. } => "a whole number".into(),
            Self::Flag => "true or false".into(),
            Self::Choice(words) => one_of(words),
            Self::Text | Self::Secret => "a text in quotes".into(),
            Self::List => "a list of texts".into(),
        }
    }

    /// Reads the value as TOML has it.
    pub(super) fn read(&self, raw: &ValueKind) -> Result<Value, Mistake> {
        match (self, raw) {
            (Self::Flag, ValueKind::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Self::Count { min, max }, ValueKind::I64(number)) => count(*number, *min, *max),
            (Self::Duration { .. }, ValueKind::I64(number)) => {
                Err(Mistake::new(Code::NeedsUnit, "a duration needs a unit")
                    .help(format!("write \"{number}ms\" or \"{number}s\"")))
            }
            (Self::Size { .. }, ValueKind::I64(number)) => {
                Err(Mistake::new(Code::NeedsUnit, "a size needs a unit")
                    .help(format!("write \"{number}B\" or \"{number}MB\"")))
            }
            (Self::List, ValueKind::Array(items)) => list(items),
            (Self::List, ValueKind::String(text)) => Ok(Value::List(vec![text.clone()])),
            (Self::Flag | Self::Count { .. }, _) => Err(self.wrong_type(raw)),
            (_, ValueKind::String(text)) => self.parse(text),
            _ => Err(self.wrong_type(raw)),
        }
    }

    /// Reads the value as an environment variable or a default spells it.
    pub(super) fn parse(&self, text: &str) -> Result<Value, Mistake> {
        match self {
            Self::Duration { min, off } => duration(text, *min, *off),
            Self::Size { min, any } => size(text, *min, *any),
            Self::Count { min, max } => match text.trim().parse() {
                Ok(number) => count(number, *min, *max),
                Err(_) => Err(self.wrong_type(&ValueKind::String(text.into()))),
            },
            Self::Flag => match text.trim() {
                "true" => Ok(Value::Flag(true)),
                "false" => Ok(Value::Flag(false)),
                _ => Err(self.wrong_type(&ValueKind::String(text.into()))),
            },
            Self::Choice(words) => choice(text, words),
            Self::Text => Ok(Value::Text(text.into())),
            Self::List => Ok(Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(Into::into)
                    .collect(),
            )),
            Self::Secret => Ok(Value::Secret((!text.is_empty()).then(|| Secret::new(text)))),
        }
    }

    fn wrong_type(&self, raw: &ValueKind) -> Mistake {
        let found = match raw {
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
                "a number"
            }
            ValueKind::Float(_) => "a fraction",
            ValueKind::String(_) => "a text",
            ValueKind::Table(_) => "a table",
            ValueKind::Array(_) => "a list",
            ValueKind::Nil => "nothing",
        };
        Mistake::new(
            Code::WrongType,
            format!("expected {}, found {found}", self.expected()),
        )
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn choice(text: &str, words: &'static [&'static str]) -> Result<Value, Mistake> {
    match words.iter().find(|word| **word == text) {
        Some(word) => Ok(Value::Word(word)),
        None => Err(Mistake::new(
            Code::NotAChoice,
            format!("\"{text}\" is not one of the choices"),
        )
        .help(format!("write {}", one_of(words)))),
    }
}

fn count(number: i64, min: u64, max: u64) -> Result<Value, Mistake> {
    u64::try_from(number)
        .ok()
        .filter(|number| (min..=max).contains(number))
        .map(Value::Count)
        .ok_or_else(|| {
            Mistake::new(
                Code::OutOfRange,
                format!("{number} is out of range, {min} to {max}"),
            )
        })
}

fn list(items: &[config::Value]) -> Result<Value, Mistake> {
    items
        .iter()
        .map(|item| match &item.kind {
            ValueKind::String(text) => Ok(text.clone()),
            other => Err(Kind::Text.wrong_type(other)),
        })
        .collect::<Result<_, _>>()
        .map(Value::List)
}

/// Milliseconds in each unit, largest first.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
/// Bytes in each unit, largest first. Source: PostgreSQL 17, config-setting.html.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("kB", 1 << 10),
    ("B", 1),
];

/// Splits `10ms` into its number and the size of its unit.
fn with_unit(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, Mistake> {
    let names = units
        .iter()
        .rev()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ");
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let number: u64 = digits.parse().map_err(|_not_digits| {
        Mistake::new(Code::NeedsUnit, format!("\"{text}\" is not {what}"))
            .help(format!("write a whole number and a unit: {names}"))
    })?;
    if unit.is_empty() && number != 0 {
        let (small, large) = match what {
            "a size" => ("B", "MB"),
            _ => ("ms", "s"),
        };
        return Err(
            Mistake::new(Code::NeedsUnit, format!("{what} needs a unit"))
                .help(format!("write \"{number}{small}\" or \"{number}{large}\"")),
        );
    }
    if unit.is_empty() {
        return Ok(0);
    }
    let scale = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)
        .ok_or_else(|| {
            let same = units
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit));
            let help = match same {
                Some((name, _)) => format!("did you mean \"{number}{name}\"?"),
                None => format!("the units are {names}"),
            };
            Mistake::new(
                Code::NeedsUnit,
                format!("\"{unit}\" is not a unit of {what}"),
            )
            .help(help)
        })?;
    number
        .checked_mul(scale)
        .ok_or_else(|| Mistake::new(Code::OutOfRange, format!("\"{text}\" is too large")))
}

fn duration(text: &str, min: Duration, off: bool) -> Result<Value, Mistake> {
    let length = if off && matches!(text, "" | "off") {
        Duration::ZERO
    } else {
        Duration::from_millis(with_unit(text, TIME_UNITS, "a duration")?)
    };
    let allowed = (min..=LONGEST).contains(&length) || (off && length.is_zero());
    if allowed {
        Ok(Value::Duration(length))
    } else {
        Err(Mistake::new(
            Code::OutOfRange,
            format!(
                "\"{text}\" is out of range, {} to {}",
                Value::Duration(min),
                Value::Duration(LONGEST)
            ),
        ))
    }
}

fn size(text: &str, min: u64, any: bool) -> Result<Value, Mistake> {
    if any && text == "any" {
        return Ok(Value::Any);
    }
    let bytes = with_unit(text, SIZE_UNITS, "a size")?;
    if bytes >= min {
        Ok(Value::Size(bytes))
    } else {
        Err(Mistake::new(
            Code::OutOfRange,
            format!("\"{text}\" is too small, the least is {}", Value::Size(min)),
        ))
    }
}

/// Prints the value as one would write it in the environment.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(length) if length.is_zero() => f.write_str("off"),
            Self::Duration(length) => {
                let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                exact(f, ms, TIME_UNITS)
            }
            Self::Size(0) => f.write_str("0B"),
            Self::Size(bytes) => exact(f, *bytes, SIZE_UNITS),
            Self::Any => f.write_str("any"),
            Self::Count(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Word(word) => f.write_str(word),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(", ")),
            Self::Secret(None) => Ok(()),
            Self::Secret(Some(secret)) => write!(f, "{secret}"),
        }
    }
}

/// Writes a number in its largest unit without a remainder.
fn exact(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    units
        .iter()
        .find(|(_, scale)| number.is_multiple_of(*scale))
        .map_or(Ok(()), |(name, scale)| {
            write!(f, "{}{name}", number / scale)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<Value, Mistake> {
        Kind::Duration {
            min: Duration::from_millis(1),
            off: false,
        }
        .parse(text)
    }

    #[test]
    fn durations_and_sizes_print_as_they_are_written() {
        for text in ["500ms", "1s", "90s", "10m", "1h", "2d"] {
            assert_eq!(time(text).unwrap().to_string(), text);
        }
        let kind = Kind::Size { min: 0, any: true };
        for text in ["0B", "100B", "8kB", "16MB", "1GB", "any"] {
            assert_eq!(kind.parse(text).unwrap().to_string(), text);
        }
        assert_eq!(kind.parse("1 kB").unwrap(), Value::Size(1024));
    }

    #[test]
    fn a_number_without_unit_is_answered_with_both_readings() {
        let kind = Kind::Duration {
            min: Duration::ZERO,
            off: false,
        };
        let help = kind.read(&ValueKind::I64(500)).unwrap_err().help;
        assert_eq!(help.as_deref(), Some("write \"500ms\" or \"500s\""));
        assert_eq!(time("500").unwrap_err().help, help);
    }

    #[test]
    fn a_unit_in_the_wrong_case_is_recognised() {
        let mistake = Kind::Size { min: 0, any: false }.parse("16mb").unwrap_err();
        assert_eq!(mistake.help.as_deref(), Some("did you mean \"16MB\"?"));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert_eq!(time("0s").unwrap_err().code, Code::OutOfRange);
        assert_eq!(time("30d").unwrap_err().code, Code::OutOfRange);
        assert_eq!(
            time("99999999999999999999d").unwrap_err().code,
            Code::NeedsUnit
        );
        assert_eq!(
            time("18446744073709551615d").unwrap_err().code,
            Code::OutOfRange
        );
        let kind = Kind::Count { min: 1, max: 10 };
        assert_eq!(
            kind.read(&ValueKind::I64(-1)).unwrap_err().code,
            Code::OutOfRange
        );
        assert_eq!(kind.read(&ValueKind::I64(10)).unwrap(), Value::Count(10));
    }

    #[test]
    fn a_timer_may_be_off_only_where_its_row_says_so() {
        assert!(time("").is_err());
        let kind = Kind::Duration {
            min: Duration::from_millis(1),
            off: true,
        };
        for text in ["", "off", "0s"] {
            assert_eq!(kind.parse(text).unwrap(), Value::Duration(Duration::ZERO));
        }
    }
}
