//! Runs `testdata/classify.txt`: where a session stands, a text, and what it needs.

use std::fmt::Write;

use super::{
    Consistency, Decision, Intent, Port, Role, RouteRules, Standing, Transaction, classify,
};
use crate::statement::{
    Access, CastContext, CastRow, Catalog, CatalogRows, Facts, FunctionRow, Isolation, Learned,
    Modes, OperatorRow, Persistence, Reading, RelationRow, Storage, Takes, UseRow, Used,
    Volatility,
};

const CASES: &str = include_str!("testdata/classify.txt");

#[test]
fn every_text_needs_what_its_case_says() {
    let known = catalog();
    let mut wrong = String::new();
    let mut standing = "fresh";
    let mut text = String::new();
    for line in CASES.lines().filter(|line| !line.starts_with('#')) {
        if let Some(named) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            standing = named;
            continue;
        }
        let Some(expected) = line.strip_prefix("    -> ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let sql = text.trim();
        let mut facts = Facts::of(sql.as_bytes(), Reading::STANDARD);
        if standing == "refused by a replica" {
            facts.learned = Learned::RefusedByReplica;
        }
        let rules = RouteRules {
            read_only_functions: vec!["vouched".into(), "app.checked".into()],
            unknown_functions_read: standing == "unknown functions read",
            ..RouteRules::default()
        };
        let catalog = (standing != "no catalog").then_some(&known);
        let found = show(&classify(&facts, &stands(standing), catalog, &rules));
        if found != expected {
            writeln!(
                wrong,
                "classify.txt: {sql}\n  expected {expected}\n  found    {found}"
            )
            .unwrap();
        }
        text.clear();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn show(decision: &Decision) -> String {
    let intent = match decision.intent {
        Intent::Read => "read",
        Intent::Write => "write",
    };
    match &decision.detail {
        Some(detail) => format!("{intent} {} {detail}", decision.why),
        None => format!("{intent} {}", decision.why),
    }
}

fn stands(name: &str) -> Standing<'_> {
    let fresh = Standing::FRESH;
    let read_only = Modes {
        access: Some(Access::ReadOnly),
        isolation: None,
    };
    let begun = Transaction::Begun(Modes::default());
    match name {
        "fresh" | "no catalog" | "unknown functions read" | "refused by a replica" => fresh,
        "begun" => Standing {
            transaction: begun,
            ..fresh
        },
        "begun read only" => Standing {
            transaction: Transaction::Begun(read_only),
            ..fresh
        },
        "begun, default read only" => Standing {
            transaction: begun,
            default_modes: read_only,
            ..fresh
        },
        "default serializable" => Standing {
            default_modes: Modes {
                access: None,
                isolation: Some(Isolation::Serializable),
            },
            ..fresh
        },
        "on primary" => Standing {
            transaction: Transaction::On(Intent::Write),
            ..fresh
        },
        "on replica" => Standing {
            transaction: Transaction::On(Intent::Read),
            ..fresh
        },
        "role primary" => Standing {
            role: Role::Primary,
            ..fresh
        },
        "role replica" => Standing {
            role: Role::Replica,
            ..fresh
        },
        "strong" => Standing {
            consistency: Consistency::Strong,
            ..fresh
        },
        "readonly port" => Standing {
            port: Port::ReadOnly,
            ..fresh
        },
        pinned => Standing {
            pinned: Some(
                pinned
                    .strip_prefix("pinned by ")
                    .expect("a standing that exists"),
            ),
            ..fresh
        },
    }
}

fn catalog() -> Catalog {
    let uses = |relation, uses| UseRow { relation, uses };
    Catalog::from_rows(&CatalogRows {
        functions: functions(),
        relations: relations(),
        uses: vec![
            uses(103, Used::Relation(100)),
            uses(103, Used::Function(1)),
            uses(104, Used::Function(5)),
            uses(105, Used::Relation(104)),
            uses(105, Used::Relation(105)),
            uses(106, Used::Relation(107)),
            uses(110, Used::Relation(109)),
        ],
        operators: vec![OperatorRow {
            name: "<->".into(),
            function: 22,
        }],
        casts: vec![CastRow {
            target: "currency".into(),
            function: 22,
            context: CastContext::Written,
        }],
    })
}

fn functions() -> Vec<FunctionRow> {
    use Volatility::{Immutable, Stable, Volatile};
    let exactly = |args| (args, Some(args));
    let rows = [
        ("pg_catalog", "lower", Immutable, exactly(1)),
        ("pg_catalog", "count", Immutable, exactly(1)),
        ("pg_catalog", "now", Stable, exactly(0)),
        ("pg_catalog", "random", Volatile, exactly(0)),
        ("pg_catalog", "nextval", Volatile, exactly(1)),
        ("pg_catalog", "pg_backend_pid", Stable, exactly(0)),
        ("pg_catalog", "pg_advisory_lock", Volatile, (1, Some(2))),
        ("pg_catalog", "pg_sleep", Volatile, exactly(1)),
        ("pg_catalog", "set_config", Volatile, exactly(3)),
        (
            "pg_catalog",
            "pg_advisory_xact_lock",
            Volatile,
            (1, Some(2)),
        ),
        ("pg_catalog", "pg_is_in_recovery", Volatile, exactly(0)),
        ("public", "report", Stable, exactly(1)),
        ("public", "report", Volatile, exactly(2)),
        ("public", "fmt", Immutable, (1, None)),
        ("public", "secret_of", Volatile, exactly(1)),
        ("app", "touch", Volatile, exactly(0)),
    ];
    let oid = |name: &str, place: u32| if name == "touch" { 22 } else { place };
    (1..)
        .zip(rows)
        .map(
            |(place, (schema, name, volatility, (args_min, args_max)))| FunctionRow {
                oid: oid(name, place),
                schema: schema.into(),
                name: name.into(),
                volatility,
                args_min,
                args_max,
                takes: if name == "secret_of" {
                    Takes::OneRow
                } else {
                    Takes::Values
                },
            },
        )
        .collect()
}

fn relations() -> Vec<RelationRow> {
    use Persistence::{Permanent, Temporary, Unlogged};
    let rows = [
        ("public", "orders", Permanent),
        ("public", "users", Permanent),
        ("app", "audit_log", Permanent),
        ("public", "v_orders", Permanent),
        ("public", "v_seq", Permanent),
        ("public", "v_deep", Permanent),
        ("public", "v_unlogged", Permanent),
        ("public", "scratch", Unlogged),
        ("pg_temp_3", "session_tmp", Temporary),
        ("public", "far", Permanent),
        ("public", "partitioned", Permanent),
    ];
    (100..)
        .zip(rows)
        .map(|(oid, (schema, name, persistence))| RelationRow {
            oid,
            schema: schema.into(),
            name: name.into(),
            persistence,
            storage: if name == "far" {
                Storage::Foreign
            } else {
                Storage::Local
            },
        })
        .collect()
}
