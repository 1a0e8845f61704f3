//! The rules of access: from a file, from the settings themselves, or those that hold without any.

use std::path::Path;

use crate::policy::{AccessMethod, AccessRules};

use super::build::Builder;
use super::check::items;
use super::hba;
use super::model::AuthMethod;
use super::problem::{Code, Place};

/// Where the rules stand.
struct Source {
    key: &'static str,
    /// What is written there.
    lines: Vec<String>,
    /// The file, if it is one.
    file: Option<std::path::PathBuf>,
}

impl Builder<'_> {
    /// Who may come in, and how it proves who it is.
    pub(super) fn access(&mut self, method: AuthMethod, remote_trust: bool) -> AccessRules {
        let file = self.path(FILE);
        let lines = self.list(LINES);
        let source = match (file, lines.is_empty()) {
            (None, true) => {
                let method = match method {
                    AuthMethod::Trust => AccessMethod::Trust,
                    AuthMethod::Lookup | AuthMethod::File => AccessMethod::Stored,
                };
                return AccessRules::everybody(method, remote_trust);
            }
            (Some(_), false) => {
                let message = format!("{FILE} and {LINES} exclude each other");
                self.complain(Code::Conflict, LINES, message);
                return AccessRules::default();
            }
            (Some(file), true) => match std::fs::read_to_string(&file) {
                Ok(text) => Source {
                    key: FILE,
                    lines: text.lines().map(str::to_owned).collect(),
                    file: Some(file),
                },
                Err(error) => {
                    let message = format!("cannot read the rules from {}: {error}", file.display());
                    self.complain(Code::AccessRule, FILE, message);
                    return AccessRules::default();
                }
            },
            (None, false) => Source {
                key: LINES,
                lines,
                file: None,
            },
        };
        if method == AuthMethod::Trust {
            let message = format!(
                "auth.method says where passwords are when there are rules: write \"lookup\" or \
                 \"file\", and `trust` into {}",
                source.key
            );
            self.complain(Code::Conflict, "auth.method", message);
        }
        self.rules(&source, remote_trust)
    }

    fn rules(&mut self, source: &Source, remote_trust: bool) -> AccessRules {
        let folder = source.file.as_deref().and_then(Path::parent);
        let read = |name: &str| {
            let path = folder.unwrap_or_else(|| Path::new("")).join(name);
            std::fs::read_to_string(path).map_err(|error| error.to_string())
        };
        let (rules, errors) = hba::parse(&source.lines.join("\n"), &read);
        for error in errors {
            let place = self.place_of_rule(source, error.line);
            self.error(Code::AccessRule, place, error.message, None);
        }
        for (line, _) in rules
            .iter()
            .filter(|(_, rule)| rule.trusts_others() && !remote_trust)
        {
            let place = self.place_of_rule(source, *line);
            let message = "`trust` lets clients of other machines in without a proof";
            let help = "take another method, or write auth.remote_trust = true".to_owned();
            self.error(Code::AccessRule, place, message.into(), Some(help));
        }
        AccessRules(rules.into_iter().map(|(_, rule)| rule).collect())
    }

    /// The line in the file of the rules, or the item in ours.
    fn place_of_rule(&mut self, source: &Source, line: usize) -> Option<Place> {
        let index = line.saturating_sub(1);
        let excerpt = source.lines.get(index).cloned().unwrap_or_default();
        if let Some(file) = &source.file {
            return Some(Place::File {
                file: file.display().to_string(),
                line,
                column: 1,
                width: excerpt.chars().count(),
                excerpt,
            });
        }
        let entry = self.entry(source.key)?;
        debug_assert!(items(&entry.value).len() >= line);
        self.item_place(&entry, index)
    }

    fn complain(&mut self, code: Code, key: &str, message: String) {
        let place = self.entry(key).and_then(|entry| entry.place);
        self.error(code, place, message, None);
    }
}

const FILE: &str = "auth.hba_file";
const LINES: &str = "auth.hba";

#[cfg(test)]
mod tests {
    use crate::config::{Environment, load_text};

    /// What is said of a configuration with these lines below `[auth]`.
    fn said(auth: &str) -> Vec<String> {
        let text = format!("[cluster.main]\nhosts = [\"pg1\"]\n[auth]\n{auth}\n");
        match load_text("x.toml", &text, &Environment::default()) {
            Ok((_, warnings)) => warnings.iter().map(|it| it.message.clone()).collect(),
            Err(problems) => {
                let told = |problem: &crate::config::Problem| {
                    format!("{}: {}", problem.origin(), problem.message)
                };
                problems.0.iter().map(told).collect()
            }
        }
    }

    #[test]
    fn every_bad_line_of_a_file_is_named_at_once() {
        let name = format!("pgherd-hba-{}.conf", std::process::id());
        let path = std::env::temp_dir().join(name);
        let rules = "local all all trust\nhost all all 0.0.0.0/0 trust\n\nhost all all x md5\n\
                     local all @nobody peer\n";
        std::fs::write(&path, rules).unwrap();
        let file = path.display().to_string();
        let told = said(&format!("hba_file = \"{file}\""));
        std::fs::remove_file(&path).unwrap();
        let starts: Vec<_> = told
            .iter()
            .map(|it| it.split(": ").next().unwrap())
            .collect();
        let places = [2, 4, 5].map(|line| format!("{file}:{line}:1"));
        assert_eq!(starts, places);
    }

    #[test]
    fn rules_in_the_settings_are_named_by_their_place() {
        let told = said("hba = [\n\"local all all trust\",\n\"local all all\"]");
        assert_eq!(told, ["x.toml:6:1: end of line before the method"]);
    }

    #[test]
    fn sources_of_rules_exclude_each_other_and_trust_must_be_meant() {
        let told = said("hba_file = \"a\"\nhba = [\"local all all trust\"]");
        assert_eq!(
            told,
            ["x.toml:5:7: auth.hba_file and auth.hba exclude each other"]
        );
        let told = said("method = \"trust\"\nhba = [\"local all all trust\"]");
        assert!(
            told[0].contains("auth.method says where passwords are"),
            "{told:?}"
        );
        let open = "hba = [\"host all all all trust\"]";
        assert!(said(open)[0].contains("without a proof"));
        let told = said(&format!("remote_trust = true\n{open}"));
        assert_eq!(
            told,
            ["auth.remote_trust: whoever reaches pgherd may need no password"]
        );
        assert!(said("hba_file = \"/nonexistent\"")[0].contains("cannot read the rules"));
    }
}
