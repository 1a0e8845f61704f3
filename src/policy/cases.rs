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
    use Persistence::{Permanent, Temporary, Unlogged};
    use Volatility::{Immutable, Stable, Volatile};
    let function =
        |oid, schema: &str, name: &str, volatility, args: (u16, Option<u16>)| FunctionRow {
            oid,
            schema: schema.into(),
            name: name.into(),
            volatility,
            args_min: args.0,
            args_max: args.1,
            takes: if name == "secret_of" {
                Takes::OneRow
            } else {
                Takes::Values
            },
        };
    let exactly = |args| (args, Some(args));
    let builtin = |oid, name, volatility, args| function(oid, "pg_catalog", name, volatility, args);
    let relation = |oid, schema: &str, name: &str, persistence| RelationRow {
        oid,
        schema: schema.into(),
        name: name.into(),
        persistence,
        storage: if name.starts_with("far") {
            Storage::Foreign
        } else {
            Storage::Local
        },
    };
    let uses = |relation, uses| UseRow { relation, uses };
    Catalog::from_rows(&CatalogRows {
        functions: vec![
            builtin(1, "lower", Immutable, exactly(1)),
            builtin(2, "count", Immutable, exactly(1)),
            builtin(3, "now", Stable, exactly(0)),
            builtin(4, "random", Volatile, exactly(0)),
            builtin(5, "nextval", Volatile, exactly(1)),
            builtin(6, "pg_backend_pid", Stable, exactly(0)),
            builtin(7, "pg_advisory_lock", Volatile, (1, Some(2))),
            builtin(8, "pg_sleep", Volatile, exactly(1)),
            builtin(9, "set_config", Volatile, exactly(3)),
            builtin(10, "pg_advisory_xact_lock", Volatile, (1, Some(2))),
            builtin(11, "pg_is_in_recovery", Volatile, exactly(0)),
            function(20, "public", "report", Stable, exactly(1)),
            function(21, "public", "report", Volatile, exactly(2)),
            function(22, "app", "touch", Volatile, exactly(0)),
            function(23, "public", "fmt", Immutable, (1, None)),
            function(24, "public", "secret_of", Volatile, exactly(1)),
        ],
        relations: vec![
            relation(100, "public", "orders", Permanent),
            relation(101, "public", "users", Permanent),
            relation(102, "app", "audit_log", Permanent),
            relation(103, "public", "v_orders", Permanent),
            relation(104, "public", "v_seq", Permanent),
            relation(105, "public", "v_deep", Permanent),
            relation(106, "public", "v_unlogged", Permanent),
            relation(107, "public", "scratch", Unlogged),
            relation(108, "pg_temp_3", "session_tmp", Temporary),
            relation(109, "public", "far", Permanent),
            relation(110, "public", "partitioned", Permanent),
        ],
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
