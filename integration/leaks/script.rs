//! What the two sessions do: steps that are chosen by chance, weighted so that what leaves state
//! behind meets what looks at it.

use std::fmt;

use bytes::BytesMut;
use pgherd::wire::frontend::{self, NO_TYPES, What};

use crate::random::Random;

/// One thing that a session does. Each ends with ReadyForQuery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A simple Query.
    Query(String),
    /// Parse, Bind, Describe, Execute for each text, one Sync behind them all.
    Pipeline(Vec<String>),
    /// Parse of a named statement.
    Prepare { name: &'static str, text: String },
    /// Bind and Execute of a named statement.
    Execute { name: &'static str },
    /// Close of a named statement.
    Close { name: &'static str },
    /// The session ends and another one of the same user begins.
    Reconnect,
}

/// What is known of a session when its next step is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The status of its last ReadyForQuery.
    pub(super) status: u8,
    /// Where its reads go.
    pub(super) split: Split,
    /// Which of the two it is.
    pub(super) who: Who,
}

/// Where reads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// To the primary.
    No,
    /// To replicas.
    Reads,
}

/// One of the two sessions. Each has rows, a sequence and locks of its own: what one of them
/// commits, the other reads later on a replica than on the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Ann,
    Bob,
}

impl Who {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ann => "ann",
            Self::Bob => "bob",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Ann => Self::Bob,
            Self::Bob => Self::Ann,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(text) => write!(f, "Query     {text}"),
            Self::Pipeline(texts) => write!(f, "Pipeline  {}", texts.join("  |  ")),
            Self::Prepare { name, text } => write!(f, "Parse     {name}: {text}"),
            Self::Execute { name } => write!(f, "Execute   {name}"),
            Self::Close { name } => write!(f, "Close     {name}"),
            Self::Reconnect => f.write_str("Reconnect"),
        }
    }
}

impl Step {
    /// Writes the messages of the step.
    pub(super) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Query(text) => frontend::query(out, text.as_bytes()),
            Self::Pipeline(texts) => {
                for text in texts {
                    frontend::parse(out, b"", text.as_bytes(), NO_TYPES);
                    execute(out, b"");
                }
                frontend::sync(out);
            }
            Self::Prepare { name, text } => {
                frontend::parse(out, name.as_bytes(), text.as_bytes(), NO_TYPES);
                frontend::sync(out);
            }
            Self::Execute { name } => {
                execute(out, name.as_bytes());
                frontend::sync(out);
            }
            Self::Close { name } => {
                frontend::close(out, What::Statement, name.as_bytes());
                frontend::sync(out);
            }
            Self::Reconnect => {}
        }
    }
}

fn execute(out: &mut BytesMut, statement: &[u8]) {
    frontend::bind_for(out, statement, b"", &[0, 0, 0, 0, 0, 0]);
    frontend::describe(out, What::Portal, b"");
    frontend::execute(out, b"", 0);
}

/// One of these.
fn of<'a, T>(random: &mut Random, all: &'a [T]) -> &'a T {
    let at = random.between(0, all.len() as u64);
    &all[usize::try_from(at).unwrap()]
}

/// The next step of a session.
pub(super) fn choose(random: &mut Random, standing: Standing) -> Step {
    match random.between(0, 100) {
        0..62 => Step::Query(text(random, standing)),
        62..70 => Step::Query(several(random, standing)),
        70..80 => Step::Pipeline(texts(random, standing, 1, 2)),
        80..84 => Step::Pipeline(texts(random, standing, 2, 5)),
        84..88 => Step::Prepare {
            name: random_name(random),
            text: look(random, standing.who),
        },
        88..97 => Step::Execute {
            name: random_name(random),
        },
        97..99 => Step::Close {
            name: random_name(random),
        },
        _ => Step::Reconnect,
    }
}

/// The name of a statement of the protocol.
fn random_name(random: &mut Random) -> &'static str {
    match random.one_in(2) {
        true => "p1",
        false => "p2",
    }
}

fn several(random: &mut Random, standing: Standing) -> String {
    texts(random, standing, 2, 5).join("; ")
}

fn texts(random: &mut Random, standing: Standing, low: u64, high: u64) -> Vec<String> {
    let count = random.between(low, high);
    let mut texts: Vec<String> = Vec::new();
    for _ in 0..count {
        // What the server reads of a text depends on what the texts before it have set: a look at
        // the start-up value behind its RESET is the one thing that is known to differ.
        let was_reset = texts.iter().any(|text| resets_application_name(text));
        let text = text(random, standing);
        let is_alone = count == 1 || !text.starts_with("DISCARD ALL");
        if is_alone && !was_reset {
            texts.push(text);
        }
    }
    texts
}

fn resets_application_name(text: &str) -> bool {
    text.contains("RESET ALL") || text.contains("DISCARD ALL") || is_name_reset(text)
}

fn is_name_reset(text: &str) -> bool {
    text.contains("application_name") && (text.contains("RESET") || text.contains("DEFAULT"))
}

/// One statement.
fn text(random: &mut Random, standing: Standing) -> String {
    let in_transaction = standing.status != b'I';
    if in_transaction && random.one_in(5) {
        return end(random);
    }
    match random.between(0, 100) {
        0..30 => look(random, standing.who),
        30..58 => setting(random),
        58..66 if in_transaction => savepoint(random),
        58..70 => begin(random, standing),
        70..76 => error(random),
        76..82 => write(random, standing.who),
        82..84 => of(
            random,
            &[
                "DISCARD ALL",
                "DISCARD ALL",
                "DISCARD PLANS",
                "DISCARD TEMP",
                "DISCARD SEQUENCES",
            ],
        )
        .to_string(),
        84..87 => temporary(random),
        87..90 => lock(random, standing.who),
        90..93 => by_sql(random, standing.who),
        93..95 => cursor(random),
        95..97 => sequence(random, standing.who),
        97..98 => of(random, &["LISTEN news", "UNLISTEN news", "UNLISTEN *"]).to_string(),
        _ => look(random, standing.who),
    }
}

fn begin(random: &mut Random, standing: Standing) -> String {
    let all = [
        "BEGIN READ ONLY",
        "BEGIN",
        "BEGIN",
        "BEGIN",
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "COMMIT",
        "ROLLBACK",
    ];
    match standing.split {
        Split::No => of(random, &all).to_string(),
        // On a replica it may leave nothing for the session: the one thing that is refused.
        Split::Reads => of(random, &all[1..]).to_string(),
    }
}

fn end(random: &mut Random) -> String {
    let all = [
        "COMMIT",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
        "END",
        "ABORT",
    ];
    of(random, &all).to_string()
}

fn savepoint(random: &mut Random) -> String {
    let name = of(random, &["a", "b"]);
    let verb = of(
        random,
        &["SAVEPOINT", "SAVEPOINT", "RELEASE", "ROLLBACK TO"],
    );
    format!("{verb} {name}")
}

/// Something that changes a setting, or tries to.
fn setting(random: &mut Random) -> String {
    let (name, values) = *of(random, SETTINGS);
    let value = of(random, values);
    match random.between(0, 100) {
        0..45 => format!("SET {name} TO {value}"),
        45..62 => format!("SET LOCAL {name} TO {value}"),
        62..72 => format!("RESET {name}"),
        72..75 => format!("SET {name} TO DEFAULT"),
        75..78 => format!("SET LOCAL {name} TO DEFAULT"),
        78..81 => "RESET ALL".to_owned(),
        81..88 => set_config(random, name, value, "false"),
        88..93 => set_config(random, name, value, "true"),
        _ => of(random, OTHER_SETTINGS).to_string(),
    }
}

fn set_config(random: &mut Random, name: &str, value: &str, local: &str) -> String {
    // One string, as the function takes it.
    let value = value.replace(['\'', '"'], "");
    match random.between(0, 8) {
        0 => format!("SELECT set_config('{name}', '{value}', {local}) WHERE false"),
        1 => format!("SELECT set_config('{name}', concat('{value}', ''), {local})"),
        2 => format!("SELECT pg_catalog.set_config('{name}', '{value}', {local}) AS done"),
        _ => format!("SELECT set_config('{name}', '{value}', {local})"),
    }
}

/// Something that shows what a session has.
fn look(random: &mut Random, who: Who) -> String {
    match random.between(0, 10) {
        0..4 => format!("SHOW {}", of(random, SETTINGS).0),
        4..6 => format!("SELECT current_setting('{}')", of(random, SETTINGS).0),
        _ => of(random, LOOKS).replace("MINE", who.name()),
    }
}

fn error(random: &mut Random) -> String {
    let all = [
        "SELECT 1/0",
        "SELEC 1",
        "SELECT * FROM missing",
        "SELECT no_such_function(1)",
        "SET work_mem TO '-3MB'",
        "SET datestyle TO 'nonsense'",
        "SET no_such_setting TO 1",
        "SET ROLE no_such_role",
        "RESET no_such_setting",
        "SHOW no_such_setting",
    ];
    of(random, &all).to_string()
}

fn write(random: &mut Random, who: Who) -> String {
    let who = who.name();
    match random.between(0, 4) {
        0 => format!("INSERT INTO public.{who} VALUES (1)"),
        1 => format!("UPDATE public.{who} SET n = n + 1"),
        2 => format!("DELETE FROM public.{who} WHERE n > 3"),
        _ => format!("INSERT INTO public.{who} VALUES (2), (3) RETURNING n"),
    }
}

fn temporary(random: &mut Random) -> String {
    let all = [
        "CREATE TEMP TABLE scratch(n int)",
        "CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT 1 AS n",
        "INSERT INTO scratch VALUES (1)",
        "DROP TABLE scratch",
        "SELECT count(*) FROM scratch",
        "DISCARD TEMP",
    ];
    of(random, &all).to_string()
}

fn lock(random: &mut Random, who: Who) -> String {
    let key = match who {
        Who::Ann => 11,
        Who::Bob => 12,
    };
    match random.between(0, 5) {
        0 => format!("SELECT pg_advisory_lock({key})"),
        1 => format!("SELECT pg_advisory_xact_lock({key})"),
        2 => format!("SELECT pg_advisory_unlock({key})"),
        3 => format!("SELECT pg_try_advisory_lock({key})"),
        _ => "SELECT pg_advisory_unlock_all()".to_owned(),
    }
}

fn by_sql(random: &mut Random, who: Who) -> String {
    let name = of(random, &["q1", "q2"]);
    match random.between(0, 6) {
        0 | 1 => format!("PREPARE {name} AS {}", selected(random, who)),
        2 | 3 => format!("EXECUTE {name}"),
        4 => format!("DEALLOCATE {name}"),
        _ => "DEALLOCATE ALL".to_owned(),
    }
}

fn selected(random: &mut Random, who: Who) -> String {
    loop {
        let text = look(random, who);
        if text.starts_with("SELECT") {
            return text;
        }
    }
}

fn cursor(random: &mut Random) -> String {
    let all = [
        "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
        "DECLARE c CURSOR FOR SELECT generate_series(1, 9)",
        "FETCH 2 FROM c",
        "CLOSE c",
        "CLOSE ALL",
    ];
    of(random, &all).to_string()
}

fn sequence(random: &mut Random, who: Who) -> String {
    let who = who.name();
    match random.between(0, 4) {
        0 => format!("SELECT nextval('public.{who}_numbers')"),
        1 => format!("SELECT currval('public.{who}_numbers')"),
        2 => "SELECT lastval()".to_owned(),
        _ => "DISCARD SEQUENCES".to_owned(),
    }
}

/// Settings of every kind, and what they may be set to: reported ones, lists, parts of a whole,
/// names that nobody but a client knows.
const SETTINGS: &[(&str, &[&str])] = &[
    ("work_mem", &["'9MB'", "64", "'4MB'", "'1GB'"]),
    (
        "search_path",
        &["one", "two", "one, two", "'one'", "\"$user\", public", "''"],
    ),
    (
        "datestyle",
        &["'German'", "'DMY'", "ISO, MDY", "German, YMD", "'SQL'"],
    ),
    (
        "timezone",
        &["'UTC'", "'Europe/Berlin'", "-5", "'America/New_York'"],
    ),
    ("intervalstyle", &["iso_8601", "'postgres'"]),
    ("extra_float_digits", &["0", "-3", "3"]),
    ("bytea_output", &["escape", "hex"]),
    ("application_name", &["'one'", "'it''s'", "''", "two"]),
    ("client_encoding", &["'LATIN1'", "UTF8", "'SQL_ASCII'"]),
    ("standard_conforming_strings", &["off", "on"]),
    ("client_min_messages", &["error", "notice"]),
    (
        "default_transaction_isolation",
        &["'serializable'", "'repeatable read'", "'read committed'"],
    ),
    ("default_transaction_read_only", &["on", "off"]),
    ("statement_timeout", &["'1h'", "0", "70000"]),
    ("my.setting", &["'x'", "'y z'", "1", "''"]),
    ("my.other", &["'x'", "on"]),
    ("role", &["leaks_role", "none"]),
    ("transform_null_equals", &["on", "off"]),
    ("xmloption", &["document", "content"]),
    ("lc_monetary", &["'C'"]),
    ("enable_seqscan", &["off", "on"]),
    ("session_replication_role", &["replica", "origin"]),
];

/// Other spellings.
const OTHER_SETTINGS: &[&str] = &[
    "SET TIME ZONE 'Europe/Paris'",
    "SET TIME ZONE -3",
    "SET TIME ZONE LOCAL",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "RESET TIME ZONE",
    "SET NAMES 'LATIN1'",
    "SET NAMES",
    "SET ROLE leaks_role",
    "SET LOCAL ROLE leaks_role",
    "SET ROLE NONE",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION leaks_role",
    "RESET SESSION AUTHORIZATION",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET SCHEMA 'two'",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET transaction_isolation TO 'repeatable read'",
    "SET XML OPTION DOCUMENT",
    "SET seed TO 0.5",
];

/// Looks at more than one setting, at what settings do, and at what else a session may hold. MINE
/// stands for the table of the session.
const LOOKS: &[&str] = &[
    "SELECT n FROM public.MINE ORDER BY n LIMIT 3",
    "SELECT what FROM words",
    "SELECT current_schemas(false)",
    "SELECT current_user, session_user",
    "SELECT '01/02/2003'::date, '2003-02-01 10:00+00'::timestamptz",
    "SELECT interval '1 day 2 hours', 1.1::float8 / 3, '\\x4100'::bytea",
    "SELECT null = null",
    "SELECT length('a\\\\b')",
    "SELECT current_setting('my.setting'), current_setting('transaction_isolation')",
    "SELECT name FROM pg_prepared_statements WHERE from_sql ORDER BY name",
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "SELECT count(*) FROM pg_cursors WHERE name = 'c'",
    "SELECT pg_listening_channels()",
    "SELECT to_regclass('pg_temp.scratch')",
    "SHOW ALL",
    "SELECT name, setting FROM pg_settings WHERE name IN ('work_mem', 'search_path', 'role')",
    "SHOW transaction_read_only",
    "SELECT 1",
];
