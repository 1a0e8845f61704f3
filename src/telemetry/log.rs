//! Log lines: text for people, JSON for machines, to standard error.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt as lines, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level of a log that runs.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
}

/// Why the log was not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A word that is no level.
    #[error("expected a log level (error, warn, info, debug, trace or off), got {0:?}")]
    Level(String),
    /// A part that is neither a level nor `name=level`.
    #[error("expected a log level or area=level, got {0:?}")]
    Directive(String),
    /// A word that is no format.
    #[error("expected a log format (auto, text or json), got {0:?}")]
    Format(String),
    /// Somebody set up a log before.
    #[error("the log is already set up")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
    /// The log that the handle belongs to is gone.
    #[error("the log is gone")]
    Gone(#[source] reload::Error),
}

/// Sends log lines to standard error from now on.
///
/// `levels` is a level, or a list such as `info,route=debug`: each name is a module of this
/// program or the target of another crate.
///
/// # Errors
///
/// [`LogError::Level`] and [`LogError::Directive`] for levels that cannot be read,
/// [`LogError::AlreadySet`] when it is called a second time.
pub fn init(format: LogFormat, levels: &str) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse_levels(levels)?);
    let terminal = std::io::stderr().is_terminal();
    let output = match format {
        LogFormat::Json => json(std::io::stderr),
        LogFormat::Auto if !terminal => json(std::io::stderr),
        LogFormat::Auto | LogFormat::Text => text(std::io::stderr, terminal),
    };
    tracing_subscriber::registry()
        .with(output.with_filter(filter))
        .try_init()
        .map_err(LogError::AlreadySet)?;
    Ok(LogHandle { filter: handle })
}

type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// One object a line, with the fields of the event beside `timestamp`, `level`, `target` and
/// `message`.
fn json<W>(writer: W) -> Output
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = lines::layer().json().flatten_event(true);
    lines
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .boxed()
}

fn text<W>(writer: W, colours: bool) -> Output
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    lines::layer()
        .with_ansi(colours)
        .with_writer(writer)
        .boxed()
}

impl LogHandle {
    /// Changes what is logged from now on.
    ///
    /// # Errors
    ///
    /// [`LogError::Level`] and [`LogError::Directive`] for levels that cannot be read; the old
    /// ones then stay.
    pub fn set_levels(&self, levels: &str) -> Result<(), LogError> {
        let levels = parse_levels(levels)?;
        self.filter.reload(levels).map_err(LogError::Gone)
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").finish_non_exhaustive()
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Reads `info,route=debug`. Without a level of its own, everything is at `info`.
fn parse_levels(text: &str) -> Result<Targets, LogError> {
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            None => targets = targets.with_default(level(part)?),
            Some((name, word)) => {
                let name = name.trim();
                if name.is_empty() || name.contains(char::is_whitespace) {
                    return Err(LogError::Directive(part.to_owned()));
                }
                let level = level(word)?;
                // An area is a module of ours; a name of another crate is taken as it is.
                targets = targets
                    .with_target(format!("pgherd::{name}"), level)
                    .with_target(name, level);
            }
        }
    }
    Ok(targets)
}

fn level(word: &str) -> Result<LevelFilter, LogError> {
    match word.trim().to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(LogError::Level(word.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::Level;

    use super::*;

    #[test]
    fn an_area_has_its_own_level() {
        let levels = parse_levels("warn, monitor=debug,hyper = off").unwrap();
        assert!(levels.would_enable("pgherd::monitor::probe", &Level::DEBUG));
        assert!(!levels.would_enable("pgherd::monitor", &Level::TRACE));
        assert!(!levels.would_enable("pgherd::proxy", &Level::INFO));
        assert!(levels.would_enable("pgherd::proxy", &Level::WARN));
        assert!(!levels.would_enable("hyper::server", &Level::ERROR));
    }

    #[test]
    fn an_area_alone_leaves_the_rest_at_info() {
        let levels = parse_levels("route=trace").unwrap();
        assert!(levels.would_enable("route", &Level::TRACE));
        assert!(levels.would_enable("pgherd::app", &Level::INFO));
        assert!(!levels.would_enable("pgherd::app", &Level::DEBUG));
    }

    #[test]
    fn what_is_no_level_is_refused_by_name() {
        for (text, expected) in [
            (
                "",
                "expected a log level (error, warn, info, debug, trace or off), got \"\"",
            ),
            (
                "loud",
                "expected a log level (error, warn, info, debug, trace or off), got \"loud\"",
            ),
            (
                "info,route=",
                "expected a log level (error, warn, info, debug, trace or off), got \"\"",
            ),
            (
                "=debug",
                "expected a log level or area=level, got \"=debug\"",
            ),
        ] {
            assert_eq!(parse_levels(text).unwrap_err().to_string(), expected);
        }
    }

    /// Keeps what is written.
    #[derive(Clone)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_json_has_its_fields_beside_the_message() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (filter, filter_handle) = reload::Layer::new(parse_levels("warn").unwrap());
        let handle = LogHandle {
            filter: filter_handle,
        };
        let kept = Kept(Arc::clone(&log));
        let output = json(move || kept.clone()).with_filter(filter);
        let subscriber = tracing_subscriber::registry().with(output);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "pgherd::test", "not yet");
            handle.set_levels("info").unwrap();
            tracing::info!(target: "pgherd::test", server = "pg1", lag_bytes = 7, "out");
            assert!(handle.set_levels("loud").is_err());
        });
        let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "out");
        assert_eq!(line["server"], "pg1");
        assert_eq!(line["lag_bytes"], 7);
        assert_eq!(line["target"], "pgherd::test");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn formats_are_read_by_their_names() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
