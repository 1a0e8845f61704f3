//! Two sessions share one server connection and do what chance tells them to. Each answer has to be
//! the one that a direct connection to an equal database gives: rows, tags, errors, notices, changed
//! settings, byte for byte. What one session leaves on the connection and the other sees is a leak,
//! and what a session misses was lost.
//!
//! `PGHERD_STEPS=1000000` does more than the ten thousand steps of an ordinary run, `PGHERD_SEED=7`
//! other ones. A failure prints its seed and a script that was made as short as could be.

mod pair;
mod script;

use std::fmt::Write as _;
use std::time::Duration;

use crate::random::Random;
use crate::support::{Router, shared, test_within};
use pair::{Databases, Mismatch, Pair};
use script::{Split, Standing, Step, Who, choose};

#[test]
fn two_sessions_on_one_connection_see_what_two_direct_connections_see() {
    compare(
        &[("cluster.test.route.consistency", "strong")],
        "leaks_one",
        Split::No,
        6,
    );
}

#[test]
fn the_same_with_reads_on_replicas() {
    compare(&[], "leaks_split", Split::Reads, 4);
}

/// Runs so many tenths of all steps.
fn compare(settings: &'static [(&str, &str)], database: &'static str, split: Split, tenths: u64) {
    let steps = number("PGHERD_STEPS", 10_000) * tenths / 10;
    let limit =
        Duration::from_secs(120) + Duration::from_millis(50) * u32::try_from(steps).unwrap();
    test_within(limit, async move {
        let lab = shared().await;
        let settings: Vec<_> = [("cluster.test.pool.size", "1")]
            .into_iter()
            .chain(settings.iter().copied())
            .collect();
        let router = Router::start(&lab.cluster, &settings).await;
        let databases = Databases::create(&lab.cluster, database, split).await;
        let seed = number("PGHERD_SEED", 1);
        let mut done = 0;
        for round in 0.. {
            if done >= steps {
                return;
            }
            let seed = seed * 1_000_000 + round;
            let mut stage = Stage::set(&databases, &router, seed).await;
            let mut random = Random::new(seed);
            let script = match stage.improvise(&mut random).await {
                Ok(played) => {
                    done += played;
                    continue;
                }
                Err(script) => script,
            };
            drop(stage);
            panic!("{}", report(&databases, &router, seed, script).await);
        }
    });
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value}")),
        Err(_) => otherwise,
    }
}

/// A script, and what went wrong at its end.
struct Failed {
    script: Vec<(Who, Step)>,
    mismatch: Mismatch,
}

/// Two sessions and their doubles.
struct Stage<'a> {
    databases: &'a Databases,
    router: &'a Router,
    seed: u64,
    ann: Pair,
    bob: Pair,
}

impl<'a> Stage<'a> {
    async fn set(databases: &'a Databases, router: &'a Router, seed: u64) -> Self {
        databases.empty().await;
        Self {
            ann: Pair::connect(databases, router, Who::Ann, seed).await,
            bob: Pair::connect(databases, router, Who::Bob, seed).await,
            databases,
            router,
            seed,
        }
    }

    fn pair(&mut self, who: Who) -> &mut Pair {
        match who {
            Who::Ann => &mut self.ann,
            Who::Bob => &mut self.bob,
        }
    }

    /// A round of chance; gives the number of steps that went well, or a script that does not.
    async fn improvise(&mut self, random: &mut Random) -> Result<u64, Failed> {
        let mut script = Vec::new();
        let mut who = Who::Ann;
        for _ in 0..STEPS_OF_A_ROUND {
            let step = match self.pair(who).is_bound().await {
                false if random.one_in(3) => {
                    who = who.other();
                    self.next(random, who)
                }
                // What binds a session would keep the other one waiting for ever.
                true if self.pair(who).status() == b'I' && random.one_in(6) => {
                    match random.one_in(3) {
                        true => Step::Reconnect,
                        false => Step::Query("DISCARD ALL".to_owned()),
                    }
                }
                _ => self.next(random, who),
            };
            script.push((who, step.clone()));
            if let Err(mismatch) = self.play(who, &step).await {
                return Err(Failed { script, mismatch });
            }
        }
        Ok(STEPS_OF_A_ROUND)
    }

    fn next(&mut self, random: &mut Random, who: Who) -> Step {
        let split = self.databases.split;
        let pair = self.pair(who);
        let standing = Standing {
            status: pair.status(),
            split,
            who,
        };
        choose(random, standing)
    }

    async fn play(&mut self, who: Who, step: &Step) -> Result<(), Mismatch> {
        if *step == Step::Reconnect {
            let pair = Pair::connect(self.databases, self.router, who, self.seed).await;
            *self.pair(who) = pair;
            return Ok(());
        }
        self.pair(who).play(step).await
    }

    /// Plays a script. A step for which the session would wait for the other one is left out.
    async fn rehearse(&mut self, script: &[(Who, Step)]) -> Option<Failed> {
        for (at, (who, step)) in script.iter().enumerate() {
            if self.pair(who.other()).is_bound().await {
                continue;
            }
            if let Err(mismatch) = self.play(*who, step).await {
                let script = script[..=at].to_vec();
                return Some(Failed { script, mismatch });
            }
        }
        None
    }
}

/// Makes the script as short as a limited number of attempts makes it, and prints it.
async fn report(databases: &Databases, router: &Router, seed: u64, first: Failed) -> String {
    let mut best = first;
    let mut reproduced = "as it was played: alone it does not fail";
    let mut chunk = best.script.len();
    let mut attempts = 0;
    while chunk > 0 && attempts < ATTEMPTS {
        let mut from = 0;
        while from < best.script.len() && attempts < ATTEMPTS {
            attempts += 1;
            let mut shorter = best.script.clone();
            // The whole script first: it may depend on the round before.
            if attempts > 1 {
                shorter.drain(from..(from + chunk).min(best.script.len()));
            }
            databases.end_all_connections().await;
            let mut stage = Stage::set(databases, router, seed).await;
            match stage.rehearse(&shorter).await {
                Some(failed) => {
                    best = failed;
                    reproduced = "shortened";
                }
                None if attempts == 1 => attempts = ATTEMPTS,
                None => from += chunk,
            }
        }
        chunk /= 2;
    }
    let mut text = format!("seed {seed}, script {reproduced}:\n");
    for (who, step) in &best.script {
        writeln!(text, "  {}  {step}", who.name()).unwrap();
    }
    write!(text, "{}", best.mismatch).unwrap();
    text
}

/// So many steps, and everything begins anew: a short story is easier to understand.
const STEPS_OF_A_ROUND: u64 = 120;
/// How often a shorter script is tried.
const ATTEMPTS: u32 = 250;
