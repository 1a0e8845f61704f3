//! Reads the repository and holds it to its own rules: which module may use which, what is pure,
//! that no file is dead, that files stay small, that each SQL file is used, that the docs which are
//! printed from the code are up to date.
//!
//! It knows just enough of Rust's grammar to leave out comments, strings and tests. What it cannot
//! see, a name that a macro puts together, the review must.

mod docs;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Who may use whom: the table of the architecture, section 3. Rows and columns in layer order.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cluster", &[]),
    ("wire", &[]),
    ("statement", &[]),
    ("policy", &["cluster", "statement"]),
    ("session", &["cluster", "wire", "statement", "policy"]),
    ("clock", &[]),
    (
        "telemetry",
        &["cluster", "wire", "statement", "policy", "session", "clock"],
    ),
    // Of session, net and upstream it builds the Rules, and knows nothing of what they do.
    (
        "config",
        &[
            "cluster",
            "wire",
            "statement",
            "policy",
            "session",
            "net",
            "upstream",
        ],
    ),
    ("net", &["cluster", "wire", "telemetry", "clock"]),
    (
        "upstream",
        &["cluster", "wire", "net", "telemetry", "clock"],
    ),
    (
        "monitor",
        &[
            "cluster",
            "statement",
            "policy",
            "upstream",
            "telemetry",
            "clock",
        ],
    ),
    ("coordination", &["cluster", "policy", "telemetry", "clock"]),
    ("local", &["cluster", "clock"]),
    (
        "proxy",
        &[
            "session",
            "upstream",
            "net",
            "telemetry",
            "clock",
            "cluster",
            "wire",
        ],
    ),
    ("admin", &["cluster", "wire", "net", "telemetry", "clock"]),
];

/// The assembly may use everything.
const ASSEMBLY: &[&str] = &["cli", "app", "main", "lib"];

/// Modules that decide: no clock, no file, no socket, no task.
const PURE: &[&str] = &["cluster", "wire", "statement", "policy", "session"];

/// What a pure module does not name, below `std`.
const IMPURE_STD: &[&str] = &["net", "fs", "env", "thread", "process"];

/// What a pure module does not name anywhere.
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "tokio_postgres",
    "socket2",
    "rustix",
    "getrandom",
    "Instant::now",
    "SystemTime::now",
    "clippy::disallowed_methods",
    "clippy::disallowed_types",
];

/// Lines of a file, tests not counted, above which it wants to be two files.
const LINES_MAX: usize = 600;

/// Files that are longer and why; the number only ever falls.
const LONGER: &[(&str, usize)] = &[];

#[test]
fn modules_use_only_what_the_table_allows() {
    assert_none(&Repository::read().unwrap().forbidden_edges());
}

#[test]
fn pure_modules_name_nothing_that_acts() {
    assert_none(&Repository::read().unwrap().impurities());
}

#[test]
fn every_source_file_is_part_of_the_crate() {
    assert_none(&Repository::read().unwrap().dead_files());
}

#[test]
fn files_stay_within_their_size() {
    assert_none(&Repository::read().unwrap().sizes(LONGER));
}

#[test]
fn every_sql_file_is_loaded_by_the_code() {
    assert_none(&Repository::read().unwrap().unused_sql());
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

/// One source file, seen three ways of the same length.
#[derive(Debug)]
struct Source {
    text: String,
    /// Without comments and literals.
    code: String,
    /// And without what is compiled for tests only.
    production: String,
}

impl Source {
    fn new(text: &str) -> Self {
        let code = blank_literals(text);
        let production = erase_tests(&code);
        Self {
            text: text.to_owned(),
            code,
            production,
        }
    }
}

/// The files that the rules are about, by their path from the root of the repository.
#[derive(Debug, Default)]
struct Repository {
    sources: BTreeMap<PathBuf, Source>,
    sql: Vec<PathBuf>,
}

/// A file that a `mod` declaration leads to.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    path: PathBuf,
    /// How many modules it lies below the root of the crate.
    depth: usize,
    for_tests: bool,
}

impl Repository {
    fn read() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut repository = Self::default();
        for folder in ["src", "sql"] {
            repository.read_folder(root, &root.join(folder))?;
        }
        Ok(repository)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> io::Result<()> {
        if !folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path
                .strip_prefix(root)
                .map_err(io::Error::other)?
                .to_owned();
            if path.is_dir() {
                self.read_folder(root, &path)?;
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                self.sources
                    .insert(name, Source::new(&fs::read_to_string(&path)?));
            } else if path.extension().is_some_and(|ending| ending == "sql") {
                self.sql.push(name);
            }
        }
        Ok(())
    }

    /// Follows the `mod` declarations from the roots of the library and the binary.
    fn modules(&self) -> Vec<Module> {
        let root = |path: &str| Module {
            path: path.into(),
            depth: 0,
            for_tests: false,
        };
        let mut found: Vec<Module> = ["src/lib.rs", "src/main.rs"]
            .into_iter()
            .map(root)
            .collect();
        let mut next = 0;
        while let Some(module) = found.get(next) {
            let children = self.children(module);
            let known = |child: &Module| found.iter().any(|module| module.path == child.path);
            let new: Vec<Module> = children.into_iter().filter(|child| !known(child)).collect();
            found.extend(new);
            next += 1;
        }
        found.retain(|module| self.sources.contains_key(&module.path));
        found
    }

    fn children(&self, module: &Module) -> Vec<Module> {
        let Some(source) = self.sources.get(&module.path) else {
            return Vec::new();
        };
        let folder = module.path.parent().unwrap_or_else(|| Path::new(""));
        let stem = module.path.file_stem().unwrap_or_default();
        let owns_folder = ["lib", "main", "mod"].iter().any(|name| stem == *name);
        let below = if owns_folder {
            folder.to_owned()
        } else {
            folder.join(stem)
        };
        declarations(source)
            .into_iter()
            .map(|declared| {
                let file = below.join(format!("{}.rs", declared.name));
                let path = match declared.path {
                    Some(path) => folder.join(path),
                    None if self.sources.contains_key(&file) => file,
                    None => below.join(declared.name).join("mod.rs"),
                };
                let for_tests = module.for_tests || declared.for_tests;
                Module {
                    path,
                    depth: module.depth + 1,
                    for_tests,
                }
            })
            .collect()
    }

    fn forbidden_edges(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (module, source) in self.production() {
            let user = top_module(&module.path);
            if ASSEMBLY.contains(&user) {
                continue;
            }
            let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == user) else {
                complaints.push(format!(
                    "{user} has no row in the table of integration/tidy.rs"
                ));
                continue;
            };
            let mut used = names_below("crate", &source.production);
            used.extend(names_above(module.depth, &source.production));
            used.sort();
            used.dedup();
            let known = |name: &str| {
                MAY_USE.iter().any(|(row, _)| *row == name) || ASSEMBLY.contains(&name)
            };
            for name in used.iter().filter(|name| known(name) && *name != user) {
                if !allowed.contains(&name.as_str()) {
                    let path = module.path.display();
                    complaints.push(format!(
                        "{user} uses {name}; move the decision or the type ({path})"
                    ));
                }
            }
        }
        complaints
    }

    fn impurities(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (module, source) in self.production() {
            let name = top_module(&module.path);
            if !PURE.contains(&name) {
                continue;
            }
            let below_std = names_below("std", &source.production);
            let std = IMPURE_STD
                .iter()
                .filter(|word| below_std.iter().any(|used| used == **word));
            let words = IMPURE_WORDS
                .iter()
                .filter(|word| has_word(&source.production, word));
            let named = std
                .map(|word| format!("std::{word}"))
                .chain(words.map(ToString::to_string));
            for word in named {
                complaints.push(format!(
                    "{} names {word}, and {name} is pure; take it as a value",
                    module.path.display()
                ));
            }
        }
        complaints
    }

    fn dead_files(&self) -> Vec<String> {
        let modules = self.modules();
        let alive = |path: &Path| modules.iter().any(|module| module.path == path);
        self.sources
            .keys()
            .filter(|path| !alive(path))
            .map(|path| format!("{} is never compiled: no `mod` leads to it", path.display()))
            .collect()
    }

    fn sizes(&self, longer: &[(&str, usize)]) -> Vec<String> {
        let mut complaints = Vec::new();
        for (module, source) in self.production() {
            let path = module.path.display().to_string();
            let lines = production_lines(source);
            let listed = longer
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, lines)| *lines);
            let limit = listed.unwrap_or(LINES_MAX);
            if lines > limit {
                complaints.push(format!(
                    "{path} has {lines} lines without tests, {limit} are allowed; cut it by ideas"
                ));
            } else if listed.is_some() && lines < limit {
                complaints.push(format!(
                    "{path} fell to {lines} lines; lower its number in LONGER"
                ));
            }
        }
        for (name, _) in longer {
            if !self.sources.contains_key(Path::new(name)) {
                complaints.push(format!("{name} is in LONGER and does not exist"));
            }
        }
        complaints
    }

    fn unused_sql(&self) -> Vec<String> {
        let loaded: Vec<PathBuf> = self
            .sources
            .iter()
            .flat_map(|(path, source)| included_files(path, source))
            .collect();
        self.sql
            .iter()
            .filter(|path| !loaded.contains(path))
            .map(|path| format!("{} is loaded by no include_str!", path.display()))
            .collect()
    }

    /// The modules that are not for tests only.
    fn production(&self) -> impl Iterator<Item = (Module, &Source)> {
        self.modules()
            .into_iter()
            .filter(|module| !module.for_tests)
            .filter_map(|module| {
                self.sources
                    .get(&module.path)
                    .map(|source| (module, source))
            })
    }
}

/// `policy` for `src/policy/route.rs`, `app` for `src/app.rs`.
fn top_module(path: &Path) -> &str {
    let name = path
        .components()
        .nth(1)
        .and_then(|part| part.as_os_str().to_str());
    let name = name.unwrap_or_default();
    name.strip_suffix(".rs").unwrap_or(name)
}

/// A `mod name;`.
#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    name: String,
    /// From a `#[path]` in the line before.
    path: Option<String>,
    for_tests: bool,
}

fn declarations(source: &Source) -> Vec<Declaration> {
    let mut found = Vec::new();
    let mut path = None;
    let lines = source
        .code
        .lines()
        .zip(source.production.lines())
        .zip(source.text.lines());
    for ((code, production), text) in lines {
        if code.trim_start().starts_with("#[path =") {
            path = literals(text).next().map(str::to_owned);
        }
        if let Some(name) = declared_name(code) {
            found.push(Declaration {
                name: name.to_owned(),
                path: path.take(),
                for_tests: declared_name(production).is_none(),
            });
        }
    }
    found
}

fn declared_name(line: &str) -> Option<&str> {
    let line = line.trim();
    let declared = line.strip_suffix(';')?;
    let mut words = declared
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub"));
    let name = (words.next()? == "mod").then(|| words.next())??;
    words.next().is_none().then_some(name)
}

/// The first names after `root::`, also in groups: `a` and `b` of `crate::{a::x, b}`.
fn names_below(root: &str, code: &str) -> Vec<String> {
    let start = format!("{root}::");
    let mut names = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let (before, from) = code.split_at(at);
        if before.ends_with(is_word) {
            continue;
        }
        let rest = from.strip_prefix(&start).unwrap_or_default().trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.extend(head(rest)),
        }
    }
    names
}

/// The names after as many `super::` as lead to the root of the crate.
fn names_above(depth: usize, code: &str) -> Vec<String> {
    if depth == 0 {
        return Vec::new();
    }
    let chain = ["super"].repeat(depth).join("::");
    names_below(&chain, code)
}

/// The first name of each member of a group whose opening brace was taken off.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 1_u32;
    let mut members = vec![String::new()];
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => members.push(String::new()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if let Some(member) = members.last_mut().filter(|_| letter != ',') {
            member.push(letter);
        }
    }
    members
        .iter()
        .filter_map(|member| head(member.trim_start()))
        .collect()
}

fn head(text: &str) -> Option<String> {
    let end = text.find(|letter| !is_word(letter)).unwrap_or(text.len());
    let name = text.split_at(end).0;
    (!name.is_empty()).then(|| name.to_owned())
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let (before, from) = code.split_at(at);
        let after = from.strip_prefix(word).unwrap_or_default();
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The files that `include_str!` names, relative to the file it stands in or to the manifest.
fn included_files(path: &Path, source: &Source) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let calls = source.code.match_indices("include_str!(");
    calls
        .filter_map(|(at, call)| {
            let code = source.code.get(at + call.len()..)?;
            let text = source.text.get(at + call.len()..)?;
            let named: String = literals(text.get(..closing(code))?).collect();
            Some(match named.strip_prefix("CARGO_MANIFEST_DIR") {
                Some(below) => PathBuf::from(below.trim_start_matches('/')),
                None => normal(&folder.join(named)),
            })
        })
        .collect()
}

/// Where the parenthesis that is open at the start closes.
fn closing(code: &str) -> usize {
    let mut depth = 1_u32;
    for (at, letter) in code.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

/// What stands in double quotes.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// Takes `a/../` out of a path.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        if part == Component::ParentDir {
            path.pop();
        } else {
            path.push(part);
        }
        path
    })
}

/// Lines that are not for tests only; comments and blank lines count, since they are read.
fn production_lines(source: &Source) -> usize {
    let mut in_tests = false;
    let lines = source.production.lines();
    lines
        .filter(|line| {
            // An empty line belongs to what stands before it.
            in_tests = line.contains(ERASED) || (in_tests && line.is_empty());
            !in_tests
        })
        .count()
}

/// What stands in place of the code of tests: no word, no blank.
const ERASED: char = '\0';

/// Erases each item below `#[cfg(test)]`.
fn erase_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut rest = code;
    let mut result = String::with_capacity(code.len());
    while let Some((before, item)) = rest.split_once(MARK) {
        result.push_str(before);
        let (item, after) = item.split_at(item_end(item));
        result.extend(MARK.chars().map(|_| ERASED));
        let erased = |byte| if byte == b'\n' { '\n' } else { ERASED };
        result.extend(item.bytes().map(erased));
        rest = after;
    }
    result + rest
}

/// An item ends with its `;` or with the brace that closes its first one.
fn item_end(code: &str) -> usize {
    let mut depth = 0_u32;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(letter, ';' | '}') {
            return at + 1;
        }
    }
    code.len()
}

/// Replaces comments, strings and characters by as many blanks; lines stay.
fn blank_literals(text: &str) -> String {
    let mut rest = text;
    let mut result = String::with_capacity(text.len());
    while let Some(first) = rest.chars().next() {
        let literal = literal_length(rest);
        let word = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        let length = literal.unwrap_or_else(|| word.max(first.len_utf8()));
        let (token, after) = rest.split_at(length);
        if literal.is_some() {
            let blank = |byte| if byte == b'\n' { '\n' } else { ' ' };
            result.extend(token.bytes().map(blank));
        } else {
            result.push_str(token);
        }
        rest = after;
    }
    result
}

/// The length of the comment, string or character at the start, if there is one.
fn literal_length(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_length(text));
    }
    let prefix = ["br", "cr", "r", "b", "c", ""];
    let (prefix, quoted) = prefix
        .iter()
        .find_map(|prefix| Some((*prefix, text.strip_prefix(prefix)?)))?;
    let body = if prefix.ends_with('r') {
        raw_string_length(quoted)
    } else {
        string_length(quoted).or_else(|| character_length(quoted))
    };
    body.map(|length| prefix.len() + length)
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0_u32;
    let mut last = ' ';
    for (at, letter) in text.char_indices() {
        match (last, letter) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                last = letter;
                continue;
            }
        }
        if depth == 0 {
            return at + 1;
        }
        last = ' ';
    }
    text.len()
}

fn raw_string_length(text: &str) -> Option<usize> {
    let body = text.trim_start_matches('#');
    let hashes = text.len() - body.len();
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = body.strip_prefix('"')?;
    Some(hashes + 1 + inside.find(&end).map_or(inside.len(), |at| at + end.len()))
}

fn string_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('"')?;
    Some(1 + quoted_length(inside, '"'))
}

/// A character, not a lifetime: `'a'`, `'\n'`, but not `'a`.
fn character_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let mut letters = inside.chars();
    let first = letters.next()?;
    let is_character = first == '\\' || letters.next() == Some('\'');
    is_character.then(|| 1 + quoted_length(inside, '\''))
}

/// The length up to and with the closing quote; a backslash hides the letter after it.
fn quoted_length(inside: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, letter) in inside.char_indices() {
        if letter == quote && !hidden {
            return at + 1;
        }
        hidden = letter == '\\' && !hidden;
    }
    inside.len()
}

#[cfg(test)]
mod samples {
    use super::*;

    fn repository(files: &[(&str, &str)]) -> Repository {
        let mut repository = Repository::default();
        for (path, text) in files {
            if path.ends_with(".sql") {
                repository.sql.push(path.into());
            } else {
                repository.sources.insert(path.into(), Source::new(text));
            }
        }
        repository
    }

    #[test]
    fn comments_strings_and_characters_are_blanked_and_lifetimes_are_not() {
        let text =
            "a /* b /* c */ d */ e // f\nr#\"g\"h\"# i 'j' '\\'' k<'l> \"m\\\"n\" é b'o' for\"p\"";
        let code = blank_literals(text);
        assert_eq!(code.len(), text.len());
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "e", "i", "k<'l>", "é", "for"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn items_for_tests_are_erased_and_what_follows_is_not() {
        let code =
            "use a;\n#[cfg(test)]\nmod tests {\n fn f() { g() }\n}\n#[cfg(test)]\nuse b;\nuse c;";
        let erased = erase_tests(code);
        let left = erased.replace(ERASED, "");
        assert_eq!(
            left.split_whitespace().collect::<Vec<_>>(),
            ["use", "a;", "use", "c;"]
        );
        assert_eq!(erased.len(), code.len());
    }

    #[test]
    fn names_are_found_in_paths_in_groups_and_behind_super() {
        let code = "use crate::net::{x, y}; use crate::{\n wire::{a, b}, clock}; mycrate::no::x";
        assert_eq!(names_below("crate", code), ["net", "wire", "clock"]);
        assert_eq!(names_above(2, "super::super::net::x; super::y"), ["net"]);
    }

    #[test]
    fn an_edge_that_the_table_does_not_have_is_refused_in_words() {
        let files = repository(&[
            ("src/lib.rs", "pub mod policy;\npub mod net;\n"),
            (
                "src/policy/mod.rs",
                "mod route;\n#[cfg(test)]\nmod tests;\nuse crate::cluster::Lsn;\n",
            ),
            (
                "src/policy/route.rs",
                "// crate::admin\nfn f() { crate::net::listen() }\n",
            ),
            ("src/policy/tests.rs", "use crate::proxy::Proxy;\n"),
            (
                "src/net.rs",
                "use super::wire::Frame;\nuse super::session::Session;\n",
            ),
        ]);
        assert_eq!(
            files.forbidden_edges(),
            [
                "net uses session; move the decision or the type (src/net.rs)",
                "policy uses net; move the decision or the type (src/policy/route.rs)",
            ]
        );
    }

    #[test]
    fn a_module_without_a_row_is_refused() {
        let files = repository(&[("src/lib.rs", "mod misc;"), ("src/misc.rs", "")]);
        assert_eq!(
            files.forbidden_edges(),
            ["misc has no row in the table of integration/tidy.rs"]
        );
    }

    #[test]
    fn a_pure_module_that_acts_is_refused() {
        let text = "use std::{fs, time::Instant};\nuse tokio::net::TcpStream;\n\
                    fn f() { Instant::now(); \"tokio_postgres\"; }\n\
                    #[cfg(test)]\nmod tests { use std::net::IpAddr; }\n";
        let files = repository(&[
            ("src/lib.rs", "mod wire;\nmod session;\n"),
            ("src/session/mod.rs", text),
            (
                "src/wire/mod.rs",
                "#![allow(clippy::disallowed_types, reason = \"mechanism\")]",
            ),
        ]);
        assert_eq!(
            files.impurities(),
            [
                "src/wire/mod.rs names clippy::disallowed_types, and wire is pure; take it as a value",
                "src/session/mod.rs names std::fs, and session is pure; take it as a value",
                "src/session/mod.rs names tokio, and session is pure; take it as a value",
                "src/session/mod.rs names Instant::now, and session is pure; take it as a value",
            ]
        );
    }

    #[test]
    fn a_file_that_no_mod_leads_to_is_dead_and_a_path_attribute_leads() {
        let files = repository(&[
            ("src/lib.rs", "pub(crate) mod a;\n// mod commented;\n"),
            ("src/a/mod.rs", "mod b;\n"),
            (
                "src/a/b.rs",
                "mod c;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n",
            ),
            ("src/a/b/c.rs", ""),
            ("src/a/b_tests.rs", ""),
            ("src/commented.rs", ""),
        ]);
        assert_eq!(
            files.dead_files(),
            ["src/commented.rs is never compiled: no `mod` leads to it"]
        );
    }

    #[test]
    fn a_long_file_is_refused_and_a_number_that_fell_must_be_lowered() {
        let long = "fn f() {}\n".repeat(LINES_MAX + 1);
        let tested = format!("#[cfg(test)]\nmod tests {{\n// why\n\n{long}}}\n");
        let files = repository(&[
            ("src/lib.rs", "mod a;\nmod b;\n"),
            ("src/a.rs", &long),
            ("src/b.rs", &tested),
        ]);
        assert_eq!(
            files.sizes(&[]),
            ["src/a.rs has 601 lines without tests, 600 are allowed; cut it by ideas"]
        );
        assert_eq!(files.sizes(&[("src/a.rs", 601)]), Vec::<String>::new());
        assert_eq!(
            files.sizes(&[("src/a.rs", 700), ("src/gone.rs", 700)]),
            [
                "src/a.rs fell to 601 lines; lower its number in LONGER",
                "src/gone.rs is in LONGER and does not exist",
            ]
        );
    }

    #[test]
    fn sql_that_nobody_loads_is_refused() {
        let code = "const A: &str = include_str!(\"../../sql/a.sql\");\n\
                    // include_str!(\"../../sql/b.sql\")\n\
                    const C: &str = include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/sql/c.sql\"));";
        let files = repository(&[
            ("src/monitor/mod.rs", code),
            ("sql/a.sql", ""),
            ("sql/b.sql", ""),
            ("sql/c.sql", ""),
        ]);
        assert_eq!(
            files.unused_sql(),
            ["sql/b.sql is loaded by no include_str!"]
        );
    }
}
