//! The simulator: the real supervisor in a played world, with faults, under one virtual clock.
//!
//! `cargo test --test sim` plays a fixed number of seeds; `SIM_SEED=n cargo test --test sim` plays
//! one and prints its story; `SIM_SEEDS=n` plays more. There is no thread, no sleep and no socket,
//! so a seed always tells the same story.
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock gives the virtual clock its zero"
)]
#![allow(clippy::print_stderr, reason = "a failing seed prints its story")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test: what is wrong here must stop it"
)]

mod backend;
mod check;
mod client;
mod fault;
mod node;
mod random;
mod refusal;
mod router;
mod sessions;
mod world;

use std::collections::BTreeSet;

use pgherd::policy::transitions::MOVES;
use world::{Sabotage, World};

/// How many seeds a rare thing gets to happen in.
const CONTROL_SEEDS: u64 = 2000;
/// How many seeds a plain run plays.
const SEEDS: u64 = 300;

fn play(seed: u64, sabotage: Sabotage) -> Result<world::Ending, String> {
    World::new(seed, sabotage).run()
}

fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_seed_keeps_the_promises() {
    let seeds = match wanted("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..wanted("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut open, mut promoted, mut standing) = (0_u64, 0_u64, 0_u64);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match play(seed, Sabotage::None) {
            Ok(ending) => {
                open += u64::from(ending.writes_open);
                standing += u64::from(!ending.writes_open);
                promoted += ending.promotions;
            }
            Err(broken) => panic!("SIM_SEED={seed}: {broken}"),
        }
    }
    eprintln!(
        "{count} seeds: {open} end with writes, {standing} with a why, {promoted} promotions"
    );
    // A world in which nothing ever happens keeps every promise.
    if count >= 100 {
        assert!(promoted * 2 >= count, "only {promoted} promotions");
        assert!(
            open * 10 >= count * 8,
            "only {open} of {count} end with writes"
        );
    }
}

/// Seeds that once broke a promise, and how.
const FOUND: [(u64, &str); 2] = [
    (
        273,
        "a primary that hung woke up while it was replaced, and its COMMIT was believed",
    ),
    (
        3249,
        "a replica that could not be cut off was believed to be, and found its primary again",
    ),
];

#[test]
fn seeds_that_once_broke_a_promise_keep_it() {
    for (seed, how) in FOUND {
        if let Err(broken) = play(seed, Sabotage::None) {
            panic!("SIM_SEED={seed}, where {how}: {broken}");
        }
    }
}

/// That it makes no move that is not in the table is checked with every step.
#[test]
fn every_move_of_the_table_is_made() {
    let mut missed: BTreeSet<_> = MOVES.iter().map(|(from, to, _)| (*from, *to)).collect();
    missed.retain(|(from, to)| from != to);
    for seed in 0..CONTROL_SEEDS {
        if let Ok(ending) = play(seed, Sabotage::None) {
            missed.retain(|made| !ending.moves.contains(made));
        }
        if missed.is_empty() {
            eprintln!("{seed} seeds made every move");
            return;
        }
    }
    panic!("moves that no seed made: {missed:?}");
}

/// A checker that cannot fail proves nothing.
fn assert_noticed(sabotage: Sabotage, promise: &str) {
    let noticed = (0..CONTROL_SEEDS).find_map(|seed| play(seed, sabotage).err());
    let noticed = noticed.unwrap_or_else(|| panic!("{sabotage:?} was not noticed"));
    assert!(
        noticed.contains(promise),
        "{sabotage:?} broke another promise: {noticed}"
    );
}

#[test]
fn a_freeze_that_only_pretends_is_noticed() {
    assert_noticed(Sabotage::FreezePretends, "still receives");
}

#[test]
fn a_replica_that_lies_about_its_wal_is_noticed() {
    assert_noticed(Sabotage::PositionLies, "has more WAL");
}

#[test]
fn a_router_that_forgets_its_decision_is_noticed() {
    assert_noticed(Sabotage::DecisionForgotten, "second server");
}

#[test]
fn a_replica_that_is_read_beyond_its_bound_is_noticed() {
    assert_noticed(Sabotage::ReplayLies, "is read");
}

#[test]
fn a_session_that_does_not_see_its_own_write_is_noticed() {
    assert_noticed(Sabotage::OwnWritesForgotten, "is not shown");
}

#[test]
fn a_write_in_doubt_that_is_called_safe_to_repeat_is_noticed() {
    assert_noticed(Sabotage::DoubtDenied, "may write it again");
}

#[test]
fn a_seed_always_tells_the_same_story() {
    let tell = || {
        let mut world = World::new(7, Sabotage::None);
        let ending = world.run();
        (ending.is_ok(), world.story())
    };
    assert_eq!(tell(), tell());
}
