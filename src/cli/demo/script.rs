//! The whole story without keys: each step is measured, and each promise is checked.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use tokio::time::sleep;

use super::load::{Ledger, Load, Tally};
use super::stage::{DemoError, Stage};
use super::verdict::{self, Crash};
use super::waits::milliseconds;
use crate::cli::Outcome;
use crate::clock;
use crate::cluster::ServerState;
use crate::local::LocalError;
use crate::policy::RecordResult;

/// The story so far.
struct Story<'a> {
    stage: Stage,
    out: &'a mut (dyn Write + Send),
    failures: u32,
}

/// Plays the story, and stops everything.
pub(super) async fn play(stage: Stage, out: &mut (dyn Write + Send)) -> Result<Outcome, DemoError> {
    let begun = clock::now();
    let mut story = Story {
        stage,
        out,
        failures: 0,
    };
    let told = story.tell().await;
    let Story {
        stage,
        out,
        failures,
    } = story;
    stage.close().await?;
    told?;
    let took = milliseconds(begun.elapsed());
    if failures == 0 {
        writeln!(out, "PASS in {took}")?;
        Ok(Outcome::Fine)
    } else {
        writeln!(
            out,
            "FAIL in {took}: {failures} of the checks above, marked with ✗"
        )?;
        Ok(Outcome::Failed)
    }
}

impl Story<'_> {
    async fn tell(&mut self) -> Result<(), DemoError> {
        let first = self.stage.first_answer;
        self.step(
            "start",
            first < FIRST_ANSWER,
            &format!(
                "first query answered {} after the start of the servers (at most {})",
                milliseconds(first),
                milliseconds(FIRST_ANSWER)
            ),
        )?;
        self.route().await?;
        // The last replica, so that the first one is left to be promoted.
        let laggard = self.stage.cluster.node_count() - 1;
        self.lag(laggard).await?;
        let Some(crash) = self.kill().await? else {
            return Ok(());
        };
        self.follow(&crash).await?;
        self.tell_record()?;
        self.old_primary(&crash).await?;
        self.load_ends(&crash).await
    }

    fn step(&mut self, name: &str, is_well: bool, text: &str) -> Result<(), DemoError> {
        let mark = if is_well { '✓' } else { '✗' };
        self.failures += u32::from(!is_well);
        writeln!(self.out, "  {mark} {name:<12} {text}")?;
        Ok(self.out.flush()?)
    }

    fn with_load<T: Default>(&self, ask: impl FnOnce(&Load) -> T) -> T {
        self.stage.load.as_ref().map(ask).unwrap_or_default()
    }

    fn window(&self) -> Tally {
        self.with_load(Load::window)
    }

    async fn route(&mut self) -> Result<(), DemoError> {
        // A table that was made a moment ago is not in the router's catalog yet, and what it does
        // not know it reads from the primary.
        self.stage.wait_until(|| self.replicas_all_read()).await;
        self.with_load(Load::begin_window);
        sleep(WATCHED).await;
        let seen = self.window();
        let primary = self.stage.name(0);
        let reads: u64 = seen.reads.values().sum();
        let on_primary = seen.reads.get(&primary).copied().unwrap_or(0);
        let all_share = self.replicas_all_read();
        let writes_right = seen.writes.len() == 1 && seen.writes.contains_key(&primary);
        self.step(
            "route",
            writes_right && all_share && on_primary * 20 <= reads,
            &format!(
                "{} writes on {primary}; {reads} reads, of these {}",
                seen.write_count(),
                shares(&seen.reads, reads)
            ),
        )?;
        let own: u64 = seen.own_reads.values().sum();
        let unseen = self.with_load(Load::ledger).not_seen.len();
        self.step(
            "own writes",
            unseen == 0 && own > 0,
            &format!(
                "{own} reads of what the session has just written, {unseen} did not find it ({})",
                shares(&seen.own_reads, own)
            ),
        )
    }

    fn replicas_all_read(&self) -> bool {
        let seen = self.window();
        let mut replicas = 1..self.stage.cluster.node_count();
        replicas.all(|node| seen.reads.contains_key(&self.stage.name(node)))
    }

    async fn lag(&mut self, node: usize) -> Result<(), DemoError> {
        let name = self.stage.name(node);
        self.stage
            .cluster
            .set_apply_delay(node, Some(APPLY_DELAY))
            .await?;
        let out = self
            .stage
            .wait_for_state(node, |state| matches!(state, ServerState::Out(_)))
            .await;
        // What was on its way to the replica when it went out may still be answered.
        sleep(UNDER_WAY).await;
        self.with_load(Load::begin_window);
        sleep(WATCHED).await;
        let seen = self.window();
        let there = seen.of(&name);
        let still_out = self.stage.state(node) != ServerState::Serving;
        self.step(
            "lag",
            out.is_some() && still_out && there == 0,
            &format!(
                "{name} applies {} late: out {}; then {there} of {} reads there",
                milliseconds(APPLY_DELAY),
                after(out),
                seen.read_count()
            ),
        )?;
        self.stage.cluster.set_apply_delay(node, None).await?;
        self.with_load(Load::begin_window);
        let back = self
            .stage
            .wait_for_state(node, |state| state == ServerState::Serving)
            .await;
        sleep(UNDER_WAY).await;
        let there = self.window().of(&name);
        self.step(
            "recover",
            back.is_some() && there > 0,
            &format!("{name} applies at once: serves again {}", after(back)),
        )
    }

    /// None when nobody took over, which ends the story.
    async fn kill(&mut self) -> Result<Option<Crash>, DemoError> {
        let old = self.stage.name(0);
        self.with_load(Load::begin_window);
        let at = clock::now();
        self.stage.cluster.kill9(0).await?;
        let Some((new, first)) = self.stage.wait_for_a_write_elsewhere(&old).await else {
            self.step(
                "kill",
                false,
                &format!("kill -9 of {old}: nobody took over"),
            )?;
            self.tell_events()?;
            return Ok(None);
        };
        let took = first.saturating_duration_since(at);
        self.step(
            "kill",
            took < FIRST_WRITE,
            &format!(
                "kill -9 of {old}: first write acknowledged by {new} {} later (at most {})",
                milliseconds(took),
                milliseconds(FIRST_WRITE)
            ),
        )?;
        sleep(WATCHED).await;
        let seen = self.window();
        let goes_on = seen.writes.get(&new).copied().unwrap_or(0);
        self.step(
            "writes go on",
            goes_on > 10,
            &format!("{goes_on} writes on {new} since"),
        )?;
        let node = (0..self.stage.cluster.node_count())
            .find(|node| self.stage.name(*node) == new)
            .unwrap_or(0);
        Ok(Some(Crash {
            at,
            old,
            new,
            new_node: node,
        }))
    }

    /// One story, and a promotion: a primary that was doubted again would be another one.
    fn tell_record(&mut self) -> Result<(), DemoError> {
        let records = self.stage.app.monitor.records();
        let promoted = match records.as_slice() {
            [only] => only.record.result == RecordResult::Promoted,
            _ => false,
        };
        self.step(
            "record",
            promoted,
            &format!("{} in SHOW FAILOVERS", records.len()),
        )?;
        for recorded in records {
            let record = recorded.record;
            writeln!(self.out, "                 {}", record.sentence)?;
            for (phase, at) in record.phases {
                writeln!(
                    self.out,
                    "      {:>9}  {}",
                    milliseconds(at),
                    phase.as_str()
                )?;
            }
        }
        Ok(())
    }

    fn tell_events(&mut self) -> Result<(), DemoError> {
        let (_, events) = self.stage.app.monitor.events_since(0);
        for event in events {
            writeln!(self.out, "      {}", event.sentence)?;
        }
        Ok(())
    }

    /// The nodes that were not promoted stream from the one that was.
    async fn follow(&mut self, crash: &Crash) -> Result<(), DemoError> {
        for node in 1..self.stage.cluster.node_count() {
            if node == crash.new_node {
                continue;
            }
            let name = self.stage.name(node);
            let serves = self
                .stage
                .wait_for_state(node, |state| state == ServerState::Serving)
                .await;
            let took = serves.map(|_| clock::now().saturating_duration_since(crash.at));
            let streams = self.streams_from(node, crash.new_node).await?;
            self.step(
                "follow",
                took.is_some() && streams,
                &format!(
                    "{name} streams from {} and serves reads, {} from the kill on",
                    crash.new,
                    after(took)
                ),
            )?;
        }
        Ok(())
    }

    async fn streams_from(&self, node: usize, upstream: usize) -> Result<bool, DemoError> {
        let client = self.stage.cluster.connect(node).await?;
        let port = self.stage.cluster.address(upstream)?.port();
        let question = format!(
            "SELECT count(*) = 1 FROM pg_stat_wal_receiver \
             WHERE status = 'streaming' AND sender_port = {port}"
        );
        Ok(client.query_one(&question, &[]).await?.try_get(0)?)
    }

    /// It comes back as the primary that it was, and then as a replica.
    async fn old_primary(&mut self, crash: &Crash) -> Result<(), DemoError> {
        self.with_load(Load::begin_window);
        self.stage.cluster.start_node(0).await?;
        let begun = clock::now();
        let quarantined = self
            .stage
            .wait_for_state(0, |state| matches!(state, ServerState::Quarantined(_)))
            .await
            .map(|_| begun.elapsed());
        sleep(WATCHED).await;
        let there = self.window().of(&crash.old);
        let stays = matches!(self.stage.state(0), ServerState::Quarantined(_));
        self.step("quarantine", quarantined.is_some() && stays && there == 0, &format!(
            "{} is started as the primary that it was: quarantined {}; then {there} statements there",
            crash.old,
            after(quarantined)
        ))?;
        let begun = clock::now();
        self.rejoin(crash).await?;
        let serves = self
            .stage
            .wait_for_state(0, |state| state == ServerState::Serving)
            .await
            .map(|_| begun.elapsed());
        sleep(UNDER_WAY).await;
        let there = self.window().of(&crash.old);
        self.step(
            "rejoin",
            serves.is_some() && there > 0,
            &format!(
                "{} is made a replica of {}: serves reads {}",
                crash.old,
                crash.new,
                after(serves)
            ),
        )
    }

    async fn rejoin(&self, crash: &Crash) -> Result<(), LocalError> {
        self.stage
            .cluster
            .rejoin_as_replica(0, crash.new_node)
            .await
    }

    /// What was promised, against what is there.
    async fn load_ends(&mut self, crash: &Crash) -> Result<(), DemoError> {
        if let Some(load) = &mut self.stage.load {
            load.stop().await;
        }
        let total = self.with_load(Load::total);
        let ledger: Ledger = self.with_load(Load::ledger);
        let rows = verdict::rows(&self.stage.cluster, crash.new_node).await?;
        let kept = verdict::judge(&ledger, &rows, crash);
        self.step("rows", kept.is_well(), &kept.to_string())?;
        let errors: u64 = total.errors.values().sum();
        self.step(
            "errors",
            verdict::are_expected(&total.errors),
            &format!(
                "{errors} statements ended with one, of {} ({})",
                total.write_count() + total.read_count() + errors,
                total.errors_by_code()
            ),
        )?;
        self.step(
            "connections",
            total.dropped == 0,
            &format!("{} dropped", total.dropped),
        )?;
        writeln!(
            self.out,
            "  what clients waited, from sending a statement to its answer"
        )?;
        Ok(total.waits.draw(&mut *self.out)?)
    }
}

/// `node2 50.2 %, node3 49.8 %`
fn shares(counts: &BTreeMap<String, u64>, all: u64) -> String {
    let share = |count: u64| count as f64 * 100.0 / (all.max(1) as f64);
    let shares: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {:.1} %", share(*count)))
        .collect();
    shares.join(", ")
}

fn after(took: Option<Duration>) -> String {
    match took {
        Some(took) => format!("after {}", milliseconds(took)),
        None => "never".to_owned(),
    }
}

/// From the start of the first program to the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// From the kill to the first write on another server.
const FIRST_WRITE: Duration = Duration::from_secs(5);
const APPLY_DELAY: Duration = Duration::from_secs(5);
/// How long a state of things is looked at.
const WATCHED: Duration = Duration::from_secs(1);
/// How long a statement that was sent before a change may still take.
const UNDER_WAY: Duration = Duration::from_millis(250);
