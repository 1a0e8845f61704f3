//! Replicas that our role may not cut off from their primary: PostgreSQL 14 without a superuser, or
//! a server with `allow_alter_system = off`. What is not certain then does not happen.

use pgherd::policy::transitions::Stage;

use crate::fault::Fault;
use crate::random::Random;
use crate::world::{Ending, World};

/// The replica that lets itself be cut off, and the one that does not.
const WILLING: usize = 1;
const REFUSER: usize = 2;

/// A seed of a cluster with these two.
fn three_nodes() -> u64 {
    let nodes = |seed: &u64| World::with_refusals(*seed, |_| false).nodes.len();
    (0..).find(|seed| nodes(seed) == 3).unwrap()
}

fn play(faults: &[(u64, Fault)]) -> Result<Ending, String> {
    let mut world = World::with_refusals(three_nodes(), |node| node == REFUSER);
    let ended = world.play(faults);
    ended.map_err(|broken| format!("{broken}\n{}", world.story().join("\n")))
}

/// A replica without a receiver: it is started again.
const fn restart(node: usize) -> Fault {
    Fault::Kill {
        node,
        back_after: Some(400),
    }
}

/// The primary stands still, and goes on as if nothing had been.
const fn hang(takes: u64) -> Fault {
    Fault::Hang { node: 0, takes }
}

#[test]
fn one_that_may_find_its_primary_again_is_not_called_cut_off() {
    // It has lost its receiver, and less WAL than the other. The primary that stands still goes on
    // at each moment of what would be the promotion of the other.
    for takes in (290..370).map(|tenth| tenth * 10) {
        let ending = play(&[(1500, restart(REFUSER)), (2000, hang(takes))]);
        let ending = ending.unwrap_or_else(|broken| panic!("goes on after {takes} ms: {broken}"));
        assert_eq!(ending.promotions, 0, "goes on after {takes} ms");
        assert!(ending.writes_open, "goes on after {takes} ms");
    }
}

#[test]
fn one_that_has_the_most_is_promoted_although_it_refuses() {
    // Its promotion cuts it off.
    let ending = play(&[
        (1500, restart(WILLING)),
        (2000, hang(60_000)),
        (2100, restart(REFUSER)),
    ]);
    assert_eq!(ending.unwrap().promotions, 1);
}

#[test]
fn an_operator_may_say_that_a_silent_primary_is_dead() {
    let silent = [(1500, restart(REFUSER)), (2000, hang(60_000))];
    let mut world = World::with_refusals(three_nodes(), |node| node == REFUSER);
    // Until everything is healed, which wakes the primary.
    assert_eq!(world.play(&silent).unwrap().promotions, 0);
    let story = world.story();
    let is_told = |line: &String| line.contains("NotCutOff(ServerId(2))");
    assert!(story.iter().any(is_told), "{story:?}");
    let ordered = [&silent[..], &[(10_000, Fault::Ordered)]].concat();
    assert_eq!(play(&ordered).unwrap().promotions, 1);
}

#[test]
fn one_whose_primary_has_ended_is_seen_without_it_for_a_while() {
    let death = Fault::Kill {
        node: 0,
        back_after: None,
    };
    let ending = play(&[(1500, restart(REFUSER)), (3000, death)]).unwrap();
    assert_eq!(ending.promotions, 1);
    assert!(
        ending
            .moves
            .contains(&(Stage::Collecting, Stage::Collecting))
    );
}

#[test]
fn every_seed_keeps_the_promises_although_replicas_refuse() {
    let mut promoted = 0;
    for seed in 0..SEEDS {
        let mut random = Random::new(!seed);
        let refuses: Vec<_> = (0..4).map(|_| random.one_in(2)).collect();
        let mut world = World::with_refusals(seed, |node| refuses[node]);
        match world.run() {
            Ok(ending) => promoted += ending.promotions,
            Err(broken) => panic!("seed {seed}, refused by {refuses:?}: {broken}"),
        }
    }
    assert!(promoted * 4 >= SEEDS, "only {promoted} promotions");
}

const SEEDS: u64 = 100;
