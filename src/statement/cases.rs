//! Runs `testdata/*.txt`: a text, and the facts that it has.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most kinds and effects are shown by their own names"
)]

use std::fmt::Write;

use super::{Effect, Facts, Kind, Reading, SetValue, Statement};

pub(super) const FILES: [(&str, &str); 4] = [
    ("reads.txt", include_str!("testdata/reads.txt")),
    ("writes.txt", include_str!("testdata/writes.txt")),
    ("commands.txt", include_str!("testdata/commands.txt")),
    ("doubts.txt", include_str!("testdata/doubts.txt")),
];

#[test]
fn every_text_has_the_facts_of_its_case() {
    let mut wrong = String::new();
    let mut cases = 0;
    for (file, content) in FILES {
        let mut text = String::new();
        for line in content.lines().filter(|line| !line.starts_with('#')) {
            let Some(expected) = line.strip_prefix("    -> ") else {
                text.push_str(line);
                text.push('\n');
                continue;
            };
            let sql = text.trim().replace("\\r", "\r");
            let found = show(&Facts::of(sql.as_bytes(), Reading::STANDARD));
            if found != expected {
                writeln!(
                    wrong,
                    "{file}: {sql}\n  expected {expected}\n  found    {found}"
                )
                .unwrap();
            }
            cases += 1;
            text.clear();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(cases >= 150, "only {cases} cases");
}

fn show(facts: &Facts) -> String {
    let mut shown: Vec<String> = facts.statements.iter().map(show_statement).collect();
    if facts.statements.is_empty() {
        shown.push("nothing".into());
    }
    let mut line = shown.join(" ; ");
    if let Some(hint) = &facts.hint {
        write!(line, " hint={hint:?}").unwrap();
    }
    line
}

fn show_statement(statement: &Statement) -> String {
    let mut line = match &statement.kind {
        Kind::Explain { mode, inner, .. } => {
            return format!("explain {mode:?} of {}", show_statement(inner));
        }
        Kind::Set { name, value, scope } => format!("set {name} to {} {scope:?}", plain(value)),
        Kind::Show { name } => format!("show {name}"),
        Kind::Fetch { cursor } => format!("fetch {cursor}"),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let named = |schema: &Option<Box<str>>, name: &str| match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name.to_owned(),
    };
    for relation in &statement.relations {
        write!(line, " {}", named(&relation.schema, &relation.name)).unwrap();
    }
    for function in &statement.functions {
        let args = function
            .args
            .map_or_else(|| "?".into(), |args| args.to_string());
        write!(line, " {}({args})", named(&function.schema, &function.name)).unwrap();
    }
    if let Some(change) = statement.change {
        write!(line, " change={change:?}").unwrap();
    }
    let is_set = matches!(statement.kind, Kind::Set { .. });
    for effect in statement
        .effects
        .iter()
        .filter(|effect| !is_set || !is_setting(effect))
    {
        write!(line, " leaves={}", show_effect(effect)).unwrap();
    }
    if let Some(unparsed) = statement.unparsed {
        write!(line, " unparsed={unparsed:?}").unwrap();
    }
    line
}

fn is_setting(effect: &Effect) -> bool {
    matches!(effect, Effect::Setting { .. } | Effect::LocalSetting { .. })
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Setting { name, value } => format!("{name}:{}", plain(value)),
        Effect::LocalSetting { name, value } => format!("local {name}:{}", plain(value)),
        other => format!("{other:?}").replace(" { ", "(").replace(" }", ")"),
    }
}

fn plain(value: &SetValue) -> String {
    match value {
        SetValue::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}
