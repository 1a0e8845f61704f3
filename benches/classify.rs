//! What a statement costs: a hit of the cache, a hit by shape, a miss, and the decision.
//!
//! `cargo bench --bench classify`; prints nanoseconds per call, the best of several rounds.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and reads the clock"
)]

use std::hint::black_box;
use std::time::Instant;

use pgherd::policy::{RouteRules, Standing, classify};
use pgherd::statement::{Facts, FactsCache, Reading};

const TEXTS: [(&str, &str); 4] = [
    ("select 1", "SELECT 1"),
    (
        "pgbench -S",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
    ),
    (
        "tpcb update",
        "UPDATE pgbench_accounts SET abalance = abalance + 17 WHERE aid = 4711;",
    ),
    (
        "join of three",
        "SELECT o.id, o.total, c.name, count(i.id) FROM orders o JOIN customers c ON c.id = \
         o.customer_id LEFT JOIN items i ON i.order_id = o.id WHERE o.created_at > now() - \
         interval '1 day' AND c.region = 'eu' GROUP BY o.id, o.total, c.name ORDER BY o.total \
         DESC LIMIT 50",
    ),
];

fn main() {
    let cache = FactsCache::<()>::new(8 << 20, [3, 5]);
    let rules = RouteRules::default();
    println!(
        "{:<16} {:>10} {:>10} {:>10} {:>10}",
        "ns per call", "hit", "shape", "miss", "classify"
    );
    for (name, text) in TEXTS {
        let facts = cache.facts(text.as_bytes(), Reading::STANDARD);
        let hit = best(100_000, |_| {
            black_box(cache.facts(black_box(text.as_bytes()), Reading::STANDARD));
        });
        let mut other = text.to_owned();
        let shape = best(50_000, |round| {
            other.truncate(text.len());
            other.push_str(if round % 2 == 0 {
                " /* trace a */"
            } else {
                " /* trace b */"
            });
            black_box(cache.facts(black_box(other.as_bytes()), Reading::STANDARD));
        });
        let miss = best(2_000, |_| {
            black_box(Facts::of(black_box(text.as_bytes()), Reading::STANDARD));
        });
        let decision = best(100_000, |_| {
            black_box(classify(black_box(&facts), &Standing::FRESH, None, &rules));
        });
        println!("{name:<16} {hit:>10.1} {shape:>10.1} {miss:>10.1} {decision:>10.1}");
    }
}

/// Nanoseconds of one call, in the best of seven rounds.
fn best(calls: u32, mut call: impl FnMut(u32)) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for round in 0..calls {
            call(round);
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
    }
    best
}
