//! The vocabulary: what is known of a text of SQL before anybody decides where it goes.
//!
//! Facts say what is written there, not what it means for a cluster. Names are as PostgreSQL folds
//! them: lower case unless quoted.

use std::ops::Range;

/// How the server will read the bytes of a text. Comes from the session's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// What a backslash means in an ordinary string.
    pub strings: Strings,
    /// Whether a byte below 0x80 is always the ASCII character.
    pub encoding: Encoding,
}

/// What a backslash means in an ordinary string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strings {
    /// `standard_conforming_strings = on`: a backslash.
    Standard,
    /// `standard_conforming_strings = off`: it quotes what follows.
    Backslash,
}

/// Whether a byte below 0x80 of a text is always the ASCII character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF-8, SQL_ASCII, the single-byte ones and the EUC family.
    Safe,
    /// SJIS, BIG5, GBK, UHC, GB18030, JOHAB: the second byte of a character may be 0x5C or 0x27.
    Unsafe,
}

impl Reading {
    /// What a session starts with.
    pub const STANDARD: Self = Self {
        strings: Strings::Standard,
        encoding: Encoding::Safe,
    };

    /// The reading under the two settings that the server reports.
    pub fn of_settings(standard_conforming_strings: &str, client_encoding: &str) -> Self {
        const UNSAFE: [&str; 12] = [
            "sjis",
            "shiftjis",
            "mskanji",
            "win932",
            "windows932",
            "shiftjis2004",
            "big5",
            "gbk",
            "uhc",
            "gb18030",
            "johab",
            "win936",
        ];
        const ALSO_UNSAFE: [&str; 5] =
            ["windows936", "win949", "windows949", "win950", "windows950"];
        // Source: PostgreSQL 17, encnames.c, `clean_encoding_name`: only letters and digits count.
        let name: String = client_encoding
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let is_unsafe = UNSAFE.contains(&name.as_str()) || ALSO_UNSAFE.contains(&name.as_str());
        Self {
            strings: if standard_conforming_strings == "on" {
                Strings::Standard
            } else {
                Strings::Backslash
            },
            encoding: if is_unsafe {
                Encoding::Unsafe
            } else {
                Encoding::Safe
            },
        }
    }
}

/// What a text holds. A text without statements (empty, or comments only) has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its statements, in order.
    pub statements: Vec<Statement>,
    /// Why the text, or the first statement of it that was not understood, was not.
    pub unparsed: Option<Unparsed>,
    /// What a comment asks of the router.
    pub hint: Option<Hint>,
    /// What running it has taught.
    pub learned: Learned,
}

/// What running a text has taught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Learned {
    /// Nothing that its facts do not say.
    #[default]
    Nothing,
    /// A replica refused it as a write.
    RefusedByReplica,
}

/// Why a text was not understood. It then counts as a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// Where its strings end depends on the session's settings.
    Reading,
    /// It is not UTF-8, or holds a NUL.
    Bytes,
    /// A string, a quoted name or a comment does not end, or a lexeme is ambiguous.
    Lexeme,
    /// It is longer than [`crate::statement::TEXT_BYTES_MAX`].
    TooLong,
    /// It has more than [`crate::statement::TOKENS_MAX`] tokens.
    TooManyTokens,
    /// It has more than [`crate::statement::STATEMENTS_MAX`] statements.
    TooManyStatements,
    /// It has more than [`crate::statement::JOINS_MAX`] joins, or nests too deep.
    TooDeep,
    /// The parser does not know this syntax.
    Syntax,
    /// The parser knows it, and nobody has looked at it yet.
    Shape,
    /// The parser and the tokens say different things.
    Disagreement,
    /// The first word is no command that we know.
    Command,
}

/// What a comment such as `/* pgherd: primary */` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// `primary`.
    Primary,
    /// `replica`.
    Replica,
    /// `node=NAME`.
    Node(Box<str>),
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// What it is.
    pub kind: Kind,
    /// Every function that it calls by name, each name with each number of arguments once.
    pub functions: Vec<FunctionUse>,
    /// Every relation that it names; CTEs are not among them.
    pub relations: Vec<RelationName>,
    /// Operators, column names and types, for what the catalog knows to be a function in disguise.
    pub symbols: Symbols,
    /// What it does although its kind only reads.
    pub change: Option<Change>,
    /// What it leaves on the server connection, in the order of the text.
    pub effects: Vec<Effect>,
    /// Why it was not understood.
    pub unparsed: Option<Unparsed>,
}

/// Names that may call a function without looking like a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Operators, each once.
    pub operators: Vec<Box<str>>,
    /// What follows a dot: `t.f` may be `f(t)`.
    pub attributes: Vec<Box<str>>,
    /// What follows `::`, and in a statement with CAST what follows AS.
    pub types: Vec<Box<str>>,
}

/// A function as it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionUse {
    /// Its schema, when one is written.
    pub schema: Option<Box<str>>,
    /// Its name.
    pub name: Box<str>,
    /// With how many arguments; `None` when that could not be told.
    pub args: Option<u16>,
}

/// A relation as it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelationName {
    /// Its schema, when one is written.
    pub schema: Option<Box<str>>,
    /// Its name.
    pub name: Box<str>,
}

/// What a query does besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE.
    RowLock,
    /// INSERT, UPDATE, DELETE or MERGE inside.
    DataModifyingCte,
    /// SELECT ... INTO.
    SelectInto,
}

/// What a statement is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// SELECT, or WITH ... SELECT.
    Select,
    /// VALUES.
    Values,
    /// TABLE.
    Table,
    /// SHOW; the name is in lower case, `all` for all.
    Show {
        /// Of which setting.
        name: Box<str>,
    },
    /// EXPLAIN; everything else of the statement is the inner statement's.
    Explain {
        /// What is wanted.
        mode: Explain,
        /// The statement that is explained.
        inner: Box<Statement>,
        /// Where the inner statement stands in the text, in bytes.
        text: Range<usize>,
    },
    /// SET of a setting, in all its spellings, RESET among them.
    Set {
        /// Which, in lower case: SET ROLE sets `role`, SET NAMES sets `client_encoding`.
        name: Box<str>,
        /// To what.
        value: SetValue,
        /// For how long.
        scope: SetScope,
    },
    /// RESET ALL.
    ResetAll,
    /// SET SESSION CHARACTERISTICS AS TRANSACTION.
    SessionCharacteristics(Modes),
    /// A command that begins, ends or shapes a transaction.
    Transaction(Verb),
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY ... FROM.
    CopyIn,
    /// COPY ... TO STDOUT.
    CopyOut,
    /// LISTEN.
    Listen,
    /// UNLISTEN.
    Unlisten,
    /// NOTIFY.
    Notify,
    /// PREPARE name AS.
    Prepare,
    /// EXECUTE.
    Execute,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE ... CURSOR; names and changes are its query's.
    Declare {
        /// How long the cursor lives.
        hold: Hold,
    },
    /// FETCH and MOVE.
    Fetch {
        /// From which cursor.
        cursor: Box<str>,
    },
    /// CLOSE.
    Close,
    /// DISCARD.
    Discard,
    /// LOCK.
    Lock,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// CREATE, ALTER, DROP and their like.
    Ddl,
    /// VACUUM, CHECKPOINT, LOAD and their like.
    Utility,
    /// Anything else.
    Other,
}

/// What an EXPLAIN wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explain {
    /// The plan.
    Plan,
    /// The plan after running the statement.
    Analyze,
    /// Where the router would send it: ours, never seen by a server.
    Route,
}

/// How long a cursor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Until its transaction ends.
    Transaction,
    /// Until it is closed.
    Session,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// The text as the client wrote it, quotes and all: what may stand after `TO`.
    Text(Box<str>),
    /// DEFAULT, or RESET.
    Default,
    /// An expression whose value cannot be read from the text.
    Computed,
}

impl SetValue {
    /// The value when it is one word or one string: without quotes, escapes undone.
    pub fn plain(&self) -> Option<std::borrow::Cow<'_, str>> {
        let Self::Text(text) = self else { return None };
        match text
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
        {
            Some(inner) if inner.replace("''", "").contains('\'') => None,
            Some(inner) => Some(inner.replace("''", "'").into()),
            None => {
                let is_word =
                    |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '$');
                text.chars().all(is_word).then_some(text.as_ref().into())
            }
        }
    }
}

/// For how long a setting is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetScope {
    /// The session, unless its transaction is rolled back.
    Session,
    /// The transaction.
    Local,
}

/// The modes of a transaction, as far as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// READ ONLY or READ WRITE.
    pub access: Option<Access>,
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
}

/// Whether a transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// READ ONLY.
    ReadOnly,
    /// READ WRITE.
    ReadWrite,
}

/// The isolation of a transaction; READ UNCOMMITTED is READ COMMITTED in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE.
    Serializable,
}

/// Whether a new transaction begins right after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// AND CHAIN.
    Chain,
    /// AND NO CHAIN, or nothing.
    NoChain,
}

/// A command that begins, ends or shapes a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// BEGIN, START TRANSACTION.
    Begin(Modes),
    /// SET TRANSACTION with modes.
    SetTransaction(Modes),
    /// SET TRANSACTION SNAPSHOT.
    SetSnapshot,
    /// SET CONSTRAINTS.
    SetConstraints,
    /// COMMIT, END.
    Commit(Chain),
    /// ROLLBACK, ABORT.
    Rollback(Chain),
    /// SAVEPOINT name.
    Savepoint(Box<str>),
    /// RELEASE name.
    Release(Box<str>),
    /// ROLLBACK TO name.
    RollbackTo(Box<str>),
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// COMMIT PREPARED, ROLLBACK PREPARED.
    FinishPrepared,
}

/// What a statement leaves on its server connection, or takes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A setting of the session: SET, RESET, `set_config(.., false)`.
    Setting {
        /// Which, in lower case.
        name: Box<str>,
        /// To what.
        value: SetValue,
    },
    /// A setting of the transaction: SET LOCAL, `set_config(.., true)`.
    LocalSetting {
        /// Which, in lower case.
        name: Box<str>,
        /// To what.
        value: SetValue,
    },
    /// RESET ALL.
    ResetAll,
    /// SET or RESET of `role` for the session; also a setting. SET LOCAL is only a setting.
    Role,
    /// SET or RESET of `session_authorization` for the session, which also resets `role`.
    SessionAuthorization,
    /// PREPARE.
    PreparedStatement {
        /// Its name.
        name: Box<str>,
    },
    /// DEALLOCATE of one, or of all.
    Deallocate {
        /// Which; `None` is all.
        name: Option<Box<str>>,
    },
    /// A temporary table, view, sequence, or anything else in the temporary schema.
    TempObject,
    /// A cursor that outlives its transaction.
    HoldCursor {
        /// Its name.
        name: Box<str>,
    },
    /// A cursor that ends with its transaction.
    OpenCursor {
        /// Its name.
        name: Box<str>,
    },
    /// CLOSE of one cursor, or of all.
    CloseCursor {
        /// Which; `None` is all.
        name: Option<Box<str>>,
    },
    /// LISTEN.
    Listen {
        /// To which channel.
        channel: Box<str>,
    },
    /// UNLISTEN from one channel, or from all.
    Unlisten {
        /// From which; `None` is all.
        channel: Option<Box<str>>,
    },
    /// An advisory lock of the session is taken.
    AdvisoryLock,
    /// An advisory lock of the session is given back.
    AdvisoryUnlock,
    /// All advisory locks of the session are given back.
    AdvisoryUnlockAll,
    /// LOAD.
    Load,
    /// `currval` and `lastval` remember something, or were asked.
    Sequence,
    /// A descriptor of a large object, which ends with its transaction.
    LargeObject,
    /// Something else that lives as long as the connection, such as the connections of dblink or
    /// the seed of `random`.
    Connection {
        /// By which function.
        function: Box<str>,
    },
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD TEMP.
    DiscardTemp,
    /// DISCARD SEQUENCES.
    DiscardSequences,
    /// DISCARD PLANS: nothing that a client could see.
    DiscardPlans,
    /// It was not understood and may have left anything.
    Unknown,
}

impl Statement {
    /// A statement of a kind, about which nothing else is known yet.
    pub fn of_kind(kind: Kind) -> Self {
        Self {
            kind,
            functions: Vec::new(),
            relations: Vec::new(),
            symbols: Symbols::default(),
            change: None,
            effects: Vec::new(),
            unparsed: None,
        }
    }

    /// A statement that was not understood: a write that may leave anything behind.
    pub fn unknown(unparsed: Unparsed) -> Self {
        Self {
            effects: vec![Effect::Unknown],
            unparsed: Some(unparsed),
            ..Self::of_kind(Kind::Other)
        }
    }

    /// The name after `pgherd.` of a setting that is the router's own, in SET, RESET and SHOW.
    pub fn router_setting(&self) -> Option<&str> {
        if let Kind::Set { name, .. } | Kind::Show { name } = &self.kind {
            name.strip_prefix("pgherd.")
        } else {
            None
        }
    }

    /// The verb, when it is a command about transactions.
    pub fn transaction(&self) -> Option<&Verb> {
        if let Kind::Transaction(verb) = &self.kind {
            Some(verb)
        } else {
            None
        }
    }
}

impl Facts {
    /// The facts of a text of which nothing is known.
    pub fn unknown(unparsed: Unparsed) -> Self {
        Self {
            statements: vec![Statement::unknown(unparsed)],
            unparsed: Some(unparsed),
            hint: None,
            learned: Learned::Nothing,
        }
    }

    /// Everything that the text leaves on its server connection, in order.
    pub fn session_effects(&self) -> impl Iterator<Item = &Effect> {
        self.statements
            .iter()
            .flat_map(|statement| statement.effects.iter())
    }
}
