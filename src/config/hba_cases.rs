//! Runs `policy/testdata/access.txt`: rules as an operator writes them, and who comes in by them.

use std::fmt::Write;
use std::net::IpAddr;

use super::hba;
use crate::policy::{AccessMethod, AccessRules, Origin, Visit};

const CASES: &str = include_str!("../policy/testdata/access.txt");

#[test]
fn every_visit_gets_what_its_case_says() {
    let mut wrong = String::new();
    let mut cases = 0;
    for block in CASES.split("\n[").skip(1) {
        let (name, block) = block.split_once("]\n").unwrap();
        let is_case = |line: &&str| line.contains("->");
        let text: Vec<&str> = block.lines().filter(|line| !is_case(line)).collect();
        let (rules, errors) = hba::parse(&text.join("\n"), &|_| Err("no files".to_owned()));
        assert_eq!(errors, [], "{name}");
        let rules = AccessRules(rules.into_iter().map(|(_, rule)| rule).collect());
        for line in block.lines().filter(is_case) {
            let (visit, expected) = line.split_once("->").unwrap();
            let found = decide(&rules, visit);
            cases += 1;
            if found != expected.trim() {
                writeln!(wrong, "[{name}] {line}\n  found {found}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(cases > 20, "{cases} cases were read");
}

fn decide(rules: &AccessRules, visit: &str) -> &'static str {
    let mut words = visit.split_whitespace();
    let (user, database) = (words.next().unwrap(), words.next().unwrap());
    let origin = match words.next().unwrap() {
        "local" => Origin::Local {
            user: None,
            is_ours: false,
        },
        address => Origin::Host(address.parse::<IpAddr>().unwrap()),
    };
    let marks: Vec<&str> = words.collect();
    let visit = Visit {
        user,
        database,
        replicates: marks.contains(&"replication"),
        origin: &origin,
        encrypted: marks.contains(&"tls"),
    };
    match rules.decide(&visit).map(|rule| rule.method) {
        None => "no entry",
        Some(AccessMethod::Trust) => "trust",
        Some(AccessMethod::Reject) => "reject",
        Some(AccessMethod::Scram) => "scram-sha-256",
        Some(AccessMethod::Md5) => "md5",
        Some(AccessMethod::Stored) => "stored",
        Some(AccessMethod::Cert) => "cert",
        Some(AccessMethod::Peer) => "peer",
    }
}

#[test]
fn without_rules_everybody_may_try_and_trust_is_for_this_machine() {
    let from = |address: &'static str| format!("ann app {address}");
    for (method, remote_trust, address, expected) in [
        (AccessMethod::Stored, false, "10.0.0.1", "stored"),
        (AccessMethod::Stored, false, "local", "stored"),
        (AccessMethod::Trust, false, "127.0.0.9", "trust"),
        (AccessMethod::Trust, false, "::1", "trust"),
        (AccessMethod::Trust, false, "local", "trust"),
        (AccessMethod::Trust, false, "10.0.0.1", "no entry"),
        (AccessMethod::Trust, true, "10.0.0.1", "trust"),
    ] {
        let rules = AccessRules::everybody(method, remote_trust);
        assert_eq!(decide(&rules, &from(address)), expected, "{address}");
        let replication = from(address) + " replication";
        assert_eq!(decide(&rules, &replication), expected, "{address}");
    }
}

#[test]
fn a_rule_that_trusts_other_machines_is_known() {
    for (line, trusts) in [
        ("local all all trust", false),
        ("host all all 127.0.0.1/32 trust", false),
        ("host all all 127.0.0.0/8 trust", false),
        ("host all all ::1/128 trust", false),
        ("host all all 126.0.0.0/7 trust", true),
        ("host all all ::1/127 trust", true),
        ("host all all 10.0.0.1/32 trust", true),
        ("hostssl all all all trust", true),
        ("host all all all md5", false),
    ] {
        let (rules, errors) = hba::parse(line, &|_| Err(String::new()));
        assert_eq!(errors, []);
        assert_eq!(rules[0].1.trusts_others(), trusts, "{line}");
    }
}
