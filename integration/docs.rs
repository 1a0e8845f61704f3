//! The parts of docs/ that are printed from the code. Each stands between two comments in a page
//! that is otherwise written by hand: `<!-- printed: name -->` and `<!-- end -->`.
//!
//! The tests fail when a page differs; `UPDATE_DOCS=1 cargo test --test tidy` writes it.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests act, and fail by panicking"
)]

use std::fmt::Write as _;
use std::path::Path;

use pgherd::policy::Why;
use pgherd::policy::transitions::MOVES;
use pgherd::session::Refusal;

/// Compares what stands between the marks of a page with what should stand there, or writes it.
fn compare(page: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = format!("<!-- printed: {name} -->\n");
    let (before, rest) = text
        .split_once(&mark)
        .unwrap_or_else(|| panic!("{page} has no line {mark}"));
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{mark}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        found, expected,
        "{page} is out of date: run UPDATE_DOCS=1 cargo test --test tidy"
    );
}

const END: &str = "<!-- end -->";

#[test]
fn the_page_about_routing_lists_all_reasons() {
    let mut table = String::from("| reason | meaning |\n|---|---|\n");
    for why in Why::ALL {
        writeln!(table, "| `{why}` | {} |", why.sentence().trim()).unwrap();
    }
    compare("docs/routing.md", "reasons", &table);
}

#[test]
fn the_page_about_errors_lists_all_refusals() {
    let mut table =
        String::from("| SQLSTATE | severity | message | detail and hint |\n|---|---|---|---|\n");
    for refusal in Refusal::examples() {
        let fields = refusal.fields();
        let severity = match refusal.ends_session() {
            true => "FATAL",
            false => "ERROR",
        };
        let more: Vec<_> = [&fields.detail, &fields.hint]
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let (sqlstate, message, more) = (fields.sqlstate, fields.message, more.join(" "));
        writeln!(table, "| `{sqlstate}` | {severity} | {message} | {more} |").unwrap();
    }
    compare("docs/errors.md", "refusals", &table);
}

#[test]
fn the_page_about_failover_draws_and_lists_all_moves() {
    let mut drawing = String::from("```mermaid\nstateDiagram-v2\n    [*] --> searching\n");
    let mut table = String::from("| from | to | when |\n|---|---|---|\n");
    for (from, to, when) in MOVES {
        writeln!(drawing, "    {from} --> {to}").unwrap();
        writeln!(table, "| {from} | {to} | {when} |").unwrap();
    }
    drawing.push_str("```\n\n");
    compare("docs/failover.md", "moves", &(drawing + &table));
}
