//! Settings through transactions and savepoints, a line a step.

use super::{Done, Doubt, Settings, changes_of};
use crate::statement::{FactsCache, Reading};

/// Plays texts that all succeed. `!` behind one means that the server answered with ROLLBACK,
/// `lost` that the connection broke. What is set at the end is told as to a new connection.
fn played(texts: &[&str]) -> Result<String, Doubt> {
    let cache = FactsCache::<()>::new(1 << 20, [1, 2]);
    let mut settings = Settings::default();
    let mut in_transaction = false;
    for text in texts {
        let (text, done) = match text.strip_suffix('!') {
            Some(text) => (text, Done::Rollback),
            None => (*text, Done::Shaped),
        };
        if text == "lost" {
            settings.roll_back();
            in_transaction = false;
            continue;
        }
        let facts = cache.facts(text.as_bytes(), Reading::STANDARD);
        if let Some(changes) = changes_of(&facts) {
            settings.change(&changes, in_transaction)?;
            continue;
        }
        in_transaction = match text {
            _ if text.ends_with("AND CHAIN") => true,
            _ if text.starts_with("BEGIN") => true,
            "COMMIT" | "ROLLBACK" | "PREPARE TRANSACTION 'a'" => false,
            _ => in_transaction,
        };
        match facts.statements.as_slice() {
            [one] => match one.transaction() {
                Some(verb) => settings.shape(verb, done, in_transaction)?,
                None => panic!("{text}"),
            },
            _ => settings.shape_unseen(in_transaction)?,
        }
    }
    Ok(settings.told_to(None))
}

fn works(texts: &[&str]) -> String {
    played(texts).unwrap()
}

const SET: &str = "SET work_mem TO 1";
const AGAIN: &str = "SET work_mem TO 2";
const IS_SET: &str = "SET work_mem TO 1;";
const IS_AGAIN: &str = "SET work_mem TO 2;";

#[test]
fn without_a_transaction_the_last_one_counts() {
    assert_eq!(works(&[SET, AGAIN]), IS_AGAIN);
    assert_eq!(works(&[SET, "RESET work_mem"]), "");
    assert_eq!(works(&[SET, "RESET lock_timeout"]), IS_SET);
    assert_eq!(works(&[SET, "SET lock_timeout TO 5", "RESET ALL"]), "");
}

#[test]
fn what_is_committed_stays_and_what_is_rolled_back_is_gone() {
    assert_eq!(works(&["BEGIN", SET, "COMMIT"]), IS_SET);
    assert_eq!(works(&["BEGIN", SET, "PREPARE TRANSACTION 'a'"]), IS_SET);
    assert_eq!(works(&["BEGIN", SET, "ROLLBACK!"]), "");
    assert_eq!(works(&[SET, "BEGIN", AGAIN, "ROLLBACK!"]), IS_SET);
    assert_eq!(works(&[SET, "BEGIN", "RESET ALL", "ROLLBACK!"]), IS_SET);
    assert_eq!(
        works(&["BEGIN", SET, "COMMIT", "BEGIN", AGAIN, "ROLLBACK!"]),
        IS_SET
    );
}

#[test]
fn commit_of_a_failed_transaction_rolls_back() {
    assert_eq!(works(&[SET, "BEGIN", AGAIN, "COMMIT!"]), IS_SET);
    assert_eq!(
        works(&[SET, "BEGIN", AGAIN, "PREPARE TRANSACTION 'a'!"]),
        IS_SET
    );
}

#[test]
fn a_chain_begins_anew() {
    assert_eq!(
        works(&["BEGIN", SET, "COMMIT AND CHAIN", AGAIN, "ROLLBACK!"]),
        IS_SET
    );
    assert_eq!(
        works(&[SET, "BEGIN", AGAIN, "ROLLBACK AND CHAIN!", "COMMIT"]),
        IS_SET
    );
    assert_eq!(
        works(&["BEGIN", SET, "ROLLBACK AND CHAIN!", AGAIN, "COMMIT"]),
        IS_AGAIN
    );
}

#[test]
fn a_savepoint_is_gone_back_to() {
    assert_eq!(
        works(&[
            "BEGIN",
            SET,
            "SAVEPOINT a",
            AGAIN,
            "ROLLBACK TO a!",
            "COMMIT"
        ]),
        IS_SET
    );
    assert_eq!(
        works(&["BEGIN", "SAVEPOINT a", SET, "ROLLBACK TO a!", "COMMIT"]),
        ""
    );
    assert_eq!(
        works(&["BEGIN", "SAVEPOINT a", SET, "RELEASE a", "COMMIT"]),
        IS_SET
    );
    assert_eq!(
        works(&["BEGIN", "SAVEPOINT a", SET, "RELEASE a", "ROLLBACK!"]),
        ""
    );
    // It stays when it was gone back to.
    let twice = [
        "BEGIN",
        "SAVEPOINT a",
        SET,
        "ROLLBACK TO a!",
        AGAIN,
        "ROLLBACK TO a!",
        "COMMIT",
    ];
    assert_eq!(works(&twice), "");
}

#[test]
fn a_name_means_the_last_savepoint_that_has_it() {
    let begun = ["BEGIN", "SAVEPOINT a", SET, "SAVEPOINT a", AGAIN];
    let and = |more: &[&'static str]| works(&[&begun[..], more].concat());
    assert_eq!(and(&["ROLLBACK TO a!", "COMMIT"]), IS_SET);
    assert_eq!(and(&["RELEASE a", "ROLLBACK TO a!", "COMMIT"]), "");
    assert_eq!(and(&["SAVEPOINT b", "ROLLBACK TO a!", "COMMIT"]), IS_SET);
}

#[test]
fn going_back_ends_the_savepoints_behind() {
    let texts = [
        "BEGIN",
        "SAVEPOINT a",
        SET,
        "SAVEPOINT b",
        "ROLLBACK TO a!",
        "ROLLBACK TO b!",
    ];
    // A server would refuse it; that it did not means that something was missed.
    assert_eq!(played(&texts), Err(Doubt));
}

#[test]
fn what_was_not_seen_matters_when_something_is_set() {
    assert_eq!(played(&["BEGIN", SET, "SAVEPOINT a; SELECT 1"]), Err(Doubt));
    assert_eq!(
        played(&["BEGIN; SAVEPOINT a", SET, "ROLLBACK TO a!"]),
        Err(Doubt)
    );
    assert_eq!(
        played(&["BEGIN; SAVEPOINT a", SET, "RELEASE a"]),
        Err(Doubt)
    );
    assert_eq!(
        works(&["BEGIN; SAVEPOINT a", "ROLLBACK TO a!", SET, "COMMIT"]),
        IS_SET
    );
    assert_eq!(works(&["BEGIN; SAVEPOINT a", SET, "ROLLBACK!"]), "");
    assert_eq!(works(&[SET, "BEGIN; SELECT 1", AGAIN, "COMMIT"]), IS_AGAIN);
}

#[test]
fn a_lost_transaction_leaves_nothing() {
    assert_eq!(works(&[SET, "BEGIN", AGAIN, "lost"]), IS_SET);
    assert_eq!(works(&[SET, "lost"]), IS_SET);
}

#[test]
fn more_savepoints_than_are_followed_matter_when_something_is_set() {
    let many = vec!["SAVEPOINT a"; 1001];
    let and = |first: &[&'static str], more: &[&'static str]| {
        played(&[first, many.as_slice(), more].concat())
    };
    assert_eq!(and(&["BEGIN", SET], &[]), Err(Doubt));
    assert_eq!(and(&["BEGIN"], &[SET, "ROLLBACK TO a!"]), Err(Doubt));
    assert_eq!(and(&["BEGIN"], &[SET, "COMMIT"]), Ok(IS_SET.to_owned()));
}

#[test]
fn too_much_is_not_carried() {
    let long = format!("SET application_name TO '{}'", "x".repeat(9000));
    assert_eq!(played(&[&long]), Err(Doubt));
}

#[test]
fn a_session_that_has_set_nothing_is_a_pointer() {
    assert_eq!(size_of::<Settings>(), size_of::<usize>());
    let mut settings = Settings::default();
    assert!(settings.are_on(None));
    settings.clear();
    assert!(settings.now().is_none());
}
