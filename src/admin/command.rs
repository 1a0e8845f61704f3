//! Reads what is typed in the console.

use std::iter::Peekable;
use std::str::Chars;

/// A command of the console.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// Nothing but spaces and semicolons.
    Empty,
    /// `SHOW topic [argument] [WHERE …] [ORDER BY …] [LIMIT n]`.
    Show {
        topic: String,
        argument: Option<String>,
        selection: Selection,
    },
    /// `RELOAD`.
    Reload,
    /// `FAILOVER [TO node] [ACCEPT LOSS]`.
    Failover {
        /// The only server that may be chosen.
        to: Option<String>,
        /// Whether WAL may be lost beyond the limit of the configuration.
        accept_loss: bool,
    },
    /// What an operator has the router do to its clients and connections.
    Order(Order),
    /// A `SELECT` that drivers send to see whether anybody is there.
    Ping(Ping),
    /// What drivers send to every server, and what changes nothing here. With its command tag.
    NoOp(&'static str),
    /// A `SELECT` that is not one of the pings.
    Query,
}

/// A command about clients and connections. No database means all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// `PAUSE [database]`.
    Pause(Option<String>),
    /// `RESUME [database]`.
    Resume(Option<String>),
    /// `RECONNECT [database]`.
    Reconnect(Option<String>),
    /// `WAIT_CLOSE [database]`.
    WaitClose(Option<String>),
    /// `KILL [database]`.
    Kill(Option<String>),
    /// `KILL_CLIENT id`.
    KillClient(u64),
    /// `DISABLE database`.
    Disable(String),
    /// `ENABLE database`.
    Enable(String),
    /// `SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]`.
    Shutdown(Shutdown),
}

/// What a stop of the router waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Until all clients have left.
    WaitForClients,
    /// Until nothing runs on a server.
    WaitForServers,
    /// Nothing.
    Now,
}

/// The order in a text, if it is one.
pub fn order(text: &str) -> Option<Order> {
    match parse(text) {
        Ok(Command::Order(order)) => Some(order),
        _ => None,
    }
}

/// The questions of drivers and of `psql`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ping {
    /// `SELECT 1`.
    Number(String),
    /// `SELECT version()`.
    Version,
    /// `SELECT current_database()`.
    Database,
}

/// Which rows, in which order, and how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selection {
    /// All must hold.
    pub(super) conditions: Vec<Condition>,
    /// The column, and whether the largest comes first.
    pub(super) order: Option<(String, bool)>,
    pub(super) limit: Option<usize>,
}

/// `column operator value`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) column: String,
    pub(super) operator: Operator,
    pub(super) value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("syntax error at end of input")]
    End,
    #[error("syntax error at or near \"{0}\"")]
    Near(String),
    #[error("unterminated quoted string")]
    Unterminated,
    #[error("unrecognized command \"{0}\"")]
    Unknown(String),
    #[error("one command at a time, please")]
    Several,
    #[error("command too long")]
    TooLong,
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Letters, digits, `_`, `.` and `-`.
    Word(String),
    /// `'…'` or `"…"`, without the quotes.
    Quoted(String),
    /// Anything else, with `<=`, `>=`, `<>` and `!=` in one.
    Sign(String),
}

/// No command of ours is longer; the rest is an accident or an attack.
const COMMAND_BYTES_MAX: usize = 8 << 10;

/// Reads one command.
pub(super) fn parse(text: &str) -> Result<Command, CommandError> {
    // What psql asks for \d is long, and is answered as every other query.
    let is_select = text
        .trim_start()
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("select"));
    if text.len() > COMMAND_BYTES_MAX {
        return if is_select {
            Ok(Command::Query)
        } else {
            Err(CommandError::TooLong)
        };
    }
    let mut tokens = match tokens(text) {
        // Not read by our rules of quoting, which are not all of SQL's.
        Err(_) if is_select => return Ok(Command::Query),
        tokens => tokens?,
    };
    while tokens.last().is_some_and(|token| token.is_sign(";")) {
        tokens.pop();
    }
    let mut words = Words(tokens.into_iter().peekable());
    let Some(verb) = words.0.next() else {
        return Ok(Command::Empty);
    };
    let command = match verb.keyword().as_str() {
        "show" => words.show()?,
        "select" => return words.query(),
        "reload" => Command::Reload,
        "failover" => words.failover()?,
        "pause" => Command::Order(Order::Pause(words.name()?)),
        "resume" => Command::Order(Order::Resume(words.name()?)),
        "reconnect" => Command::Order(Order::Reconnect(words.name()?)),
        "wait_close" => Command::Order(Order::WaitClose(words.name()?)),
        "kill" => Command::Order(Order::Kill(words.name()?)),
        "kill_client" => Command::Order(Order::KillClient(words.number()?)),
        "disable" => Command::Order(Order::Disable(words.value()?)),
        "enable" => Command::Order(Order::Enable(words.value()?)),
        "shutdown" => Command::Order(Order::Shutdown(words.shutdown())),
        "set" | "reset" | "discard" | "begin" | "start" | "commit" | "end" | "rollback" => {
            return Ok(Command::NoOp(no_op_tag(&verb.keyword())));
        }
        _ => return Err(CommandError::Unknown(verb.text())),
    };
    words.finish()?;
    Ok(command)
}

fn no_op_tag(verb: &str) -> &'static str {
    match verb {
        "set" => "SET",
        "reset" => "RESET",
        "discard" => "DISCARD ALL",
        "begin" => "BEGIN",
        "start" => "START TRANSACTION",
        "rollback" => "ROLLBACK",
        _ => "COMMIT",
    }
}

struct Words(Peekable<std::vec::IntoIter<Token>>);

impl Words {
    fn show(&mut self) -> Result<Command, CommandError> {
        let topic = self.word()?.to_ascii_lowercase();
        let argument = match self.0.peek() {
            Some(token) if !token.is_clause() && !token.is_sign(";") => Some(self.value()?),
            _ => None,
        };
        let mut selection = Selection::default();
        if self.take("where") {
            selection.conditions.push(self.condition()?);
            while self.take("and") {
                selection.conditions.push(self.condition()?);
            }
        }
        if self.take("order") {
            self.expect("by")?;
            let column = self.word()?.to_ascii_lowercase();
            let descending = self.take("desc");
            if !descending {
                self.take("asc");
            }
            selection.order = Some((column, descending));
        }
        if self.take("limit") {
            let text = self.word()?;
            selection.limit = Some(
                text.parse()
                    .map_err(|_not_a_number| CommandError::Near(text))?,
            );
        }
        Ok(Command::Show {
            topic,
            argument,
            selection,
        })
    }

    fn condition(&mut self) -> Result<Condition, CommandError> {
        let column = self.word()?.to_ascii_lowercase();
        let sign = self.0.next().ok_or(CommandError::End)?;
        let operator = match sign.text().as_str() {
            "=" => Operator::Equal,
            "<>" | "!=" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            _ => return Err(CommandError::Near(sign.text())),
        };
        Ok(Condition {
            column,
            operator,
            value: self.value()?,
        })
    }

    /// The questions of drivers; the rest of SQL is not for us to read.
    fn query(self) -> Result<Command, CommandError> {
        let rest: Vec<_> = self
            .0
            .map(|token| token.text().to_ascii_lowercase())
            .collect();
        let rest: Vec<_> = rest.iter().map(String::as_str).collect();
        Ok(Command::Ping(match rest.as_slice() {
            [number] if number.parse::<i32>().is_ok() => Ping::Number((*number).to_owned()),
            ["version" | "pg_catalog.version", "(", ")"] => Ping::Version,
            ["current_database" | "pg_catalog.current_database", "(", ")"] => Ping::Database,
            _ => return Ok(Command::Query),
        }))
    }

    fn take(&mut self, keyword: &str) -> bool {
        self.0.next_if(|token| token.keyword() == keyword).is_some()
    }

    fn expect(&mut self, keyword: &str) -> Result<(), CommandError> {
        match self.0.next() {
            Some(token) if token.keyword() == keyword => Ok(()),
            Some(token) => Err(CommandError::Near(token.text())),
            None => Err(CommandError::End),
        }
    }

    fn failover(&mut self) -> Result<Command, CommandError> {
        let to = match self.take("to") {
            true => Some(self.value()?),
            false => None,
        };
        let accept_loss = self.take("accept");
        if accept_loss {
            self.expect("loss")?;
        }
        Ok(Command::Failover { to, accept_loss })
    }

    /// The name of a database, if there is one more word.
    fn name(&mut self) -> Result<Option<String>, CommandError> {
        match self.0.peek() {
            Some(token) if !token.is_sign(";") => self.value().map(Some),
            _ => Ok(None),
        }
    }

    fn shutdown(&mut self) -> Shutdown {
        if self.take("wait_for_servers") {
            Shutdown::WaitForServers
        } else if self.take("wait_for_clients") {
            Shutdown::WaitForClients
        } else {
            Shutdown::Now
        }
    }

    fn number(&mut self) -> Result<u64, CommandError> {
        let text = self.value()?;
        text.parse()
            .map_err(|_not_a_number| CommandError::Near(text))
    }

    fn word(&mut self) -> Result<String, CommandError> {
        match self.0.next().ok_or(CommandError::End)? {
            Token::Word(word) => Ok(word),
            other => Err(CommandError::Near(other.text())),
        }
    }

    fn value(&mut self) -> Result<String, CommandError> {
        match self.0.next().ok_or(CommandError::End)? {
            Token::Word(text) | Token::Quoted(text) => Ok(text),
            Token::Sign(sign) => Err(CommandError::Near(sign)),
        }
    }

    fn finish(&mut self) -> Result<(), CommandError> {
        match self.0.next() {
            None => Ok(()),
            Some(token) if token.is_sign(";") => Err(CommandError::Several),
            Some(token) => Err(CommandError::Near(token.text())),
        }
    }
}

impl Token {
    /// The word in lower case; nothing for what is quoted.
    fn keyword(&self) -> String {
        match self {
            Self::Word(word) => word.to_ascii_lowercase(),
            Self::Quoted(_) | Self::Sign(_) => String::new(),
        }
    }

    fn is_clause(&self) -> bool {
        matches!(self.keyword().as_str(), "where" | "order" | "limit")
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self, Self::Sign(text) if text == sign)
    }

    fn text(&self) -> String {
        match self {
            Self::Word(text) | Self::Quoted(text) | Self::Sign(text) => text.clone(),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, CommandError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        let token = match first {
            space if space.is_whitespace() => continue,
            '-' if chars.peek() == Some(&'-') => {
                while chars.next_if(|next| *next != '\n').is_some() {}
                continue;
            }
            '\'' | '"' => Token::Quoted(quoted(&mut chars, first)?),
            letter if is_word(letter) => Token::Word(word(&mut chars, letter)),
            '<' | '>' | '!' => {
                let mut sign = String::from(first);
                sign.extend(chars.next_if(|next| matches!(next, '=' | '>')));
                Token::Sign(sign)
            }
            other => Token::Sign(other.into()),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '.' | '-' | '/')
}

fn word(chars: &mut Peekable<Chars<'_>>, first: char) -> String {
    let mut word = String::from(first);
    while let Some(next) = chars.next_if(|next| is_word(*next)) {
        word.push(next);
    }
    word
}

/// The rest of a quoted text; a doubled quote stands for itself.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, CommandError> {
    let mut text = String::new();
    while let Some(next) = chars.next() {
        if next != quote {
            text.push(next);
        } else if chars.next_if_eq(&quote).is_some() {
            text.push(quote);
        } else {
            return Ok(text);
        }
    }
    Err(CommandError::Unterminated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_read_whole() {
        let text =
            "show Nodes WHERE lag_ms >= 10 and node <> 'it''s' ORDER BY lag_ms DESC LIMIT 3;";
        let condition = |column: &str, operator, value: &str| Condition {
            column: column.into(),
            operator,
            value: value.into(),
        };
        let expected = Command::Show {
            topic: "nodes".into(),
            argument: None,
            selection: Selection {
                conditions: vec![
                    condition("lag_ms", Operator::GreaterOrEqual, "10"),
                    condition("node", Operator::NotEqual, "it's"),
                ],
                order: Some(("lag_ms".into(), true)),
                limit: Some(3),
            },
        };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn a_topic_may_have_an_argument() {
        let Ok(Command::Show { argument, .. }) = parse("SHOW FAILOVER '01J' ORDER BY name") else {
            panic!("not read");
        };
        assert_eq!(argument.as_deref(), Some("01J"));
    }

    #[test]
    fn what_drivers_send_is_known() {
        let cases = [
            ("", Command::Empty),
            (" ; ", Command::Empty),
            ("-- nothing", Command::Empty),
            ("SELECT 1", Command::Ping(Ping::Number("1".into()))),
            ("select version();", Command::Ping(Ping::Version)),
            (
                "SELECT pg_catalog.current_database()",
                Command::Ping(Ping::Database),
            ),
            ("SET extra_float_digits = 3", Command::NoOp("SET")),
            ("SET a = 1; SET b = 2", Command::NoOp("SET")),
            ("BEGIN", Command::NoOp("BEGIN")),
            ("reload", Command::Reload),
            ("pause", Command::Order(Order::Pause(None))),
            (
                "PAUSE \"My shop\";",
                Command::Order(Order::Pause(Some("My shop".into()))),
            ),
            ("kill_client 12", Command::Order(Order::KillClient(12))),
            ("SHUTDOWN;", Command::Order(Order::Shutdown(Shutdown::Now))),
            (
                "shutdown Wait_For_Clients",
                Command::Order(Order::Shutdown(Shutdown::WaitForClients)),
            ),
            (
                "DISABLE shop",
                Command::Order(Order::Disable("shop".into())),
            ),
            ("SELECT * FROM pg_catalog.pg_class", Command::Query),
            (r"SELECT E'\''", Command::Query),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        let long = format!("SELECT {}", "x".repeat(COMMAND_BYTES_MAX));
        assert_eq!(parse(&long), Ok(Command::Query));
    }

    #[test]
    fn mistakes_are_named() {
        let near = |text: &str| CommandError::Near(text.into());
        let cases = [
            ("SHOW", CommandError::End),
            ("SHOW NODES WHERE", CommandError::End),
            ("SHOW NODES WHERE node", CommandError::End),
            ("SHOW NODES WHERE node ~ 'x'", near("~")),
            ("SHOW NODES ORDER node", near("node")),
            ("SHOW NODES LIMIT many", near("many")),
            ("KILL_CLIENT me", near("me")),
            ("DISABLE", CommandError::End),
            ("PAUSE shop now", near("now")),
            ("SHUTDOWN NICELY", near("NICELY")),
            ("SHOW NODES LIMIT 1 2", near("2")),
            ("SHOW NODES WHERE node = 'x", CommandError::Unterminated),
            ("SHOW NODES; SHOW POOLS", CommandError::Several),
            ("DROP TABLE x", CommandError::Unknown("DROP".into())),
            ("'reload'", CommandError::Unknown("reload".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
        let long = format!("SHOW {}", "x".repeat(COMMAND_BYTES_MAX));
        assert_eq!(parse(&long), Err(CommandError::TooLong));
    }
}
