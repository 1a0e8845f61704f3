//! The demo for people: one key, one thing that breaks or comes back.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use tokio::time::sleep;

use super::Signals;
use super::load::Load;
use super::stage::{DemoError, Stage};
use super::terminal::Terminal;
use super::waits::milliseconds;
use crate::cli::Outcome;
use crate::clock;
use crate::cluster::ServerState;
use crate::local::LocalError;

/// A demo that somebody plays with.
struct Play<'a> {
    stage: Stage,
    out: &'a mut (dyn Write + Send),
    broken: BTreeMap<usize, Damage>,
    events_told: u64,
    records_told: usize,
}

/// What was done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Killed,
    Lags,
    CutOff,
}

/// Plays until somebody has enough, and stops everything.
pub(super) async fn play(
    stage: Stage,
    signals: &mut Signals,
    out: &mut (dyn Write + Send),
) -> Result<Outcome, DemoError> {
    let mut terminal = Terminal::open();
    let mut play = Play {
        events_told: stage.app.monitor.events_since(0).0,
        stage,
        out,
        broken: BTreeMap::new(),
        records_told: 0,
    };
    play.tell_keys(terminal.needs_enter())?;
    let played = play.until_enough(&mut terminal, signals).await;
    // Told first, since stopping takes a moment. That nobody reads it must not keep us.
    let is_kept = play.stage.cluster.data() != play.stage.cluster.directory();
    let files = if is_kept { "keeping" } else { "removing" };
    writeln!(play.out, "stopping the servers, {files} their files").ok();
    play.stage.close().await?;
    played.map(|()| Outcome::Fine)
}

impl Play<'_> {
    fn tell_keys(&mut self, needs_enter: bool) -> Result<(), DemoError> {
        let press = if needs_enter {
            "type a letter and Enter"
        } else {
            "press"
        };
        writeln!(
            self.out,
            "  break it  {press}: k = kill -9 the primary · l = make a replica lag · c = cut a \
             replica off · r = bring back · h = histogram · q = quit"
        )?;
        Ok(self.out.flush()?)
    }

    async fn until_enough(
        &mut self,
        terminal: &mut Terminal,
        signals: &mut Signals,
    ) -> Result<(), DemoError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let key = tokio::select! {
                key = terminal.key() => key,
                () = signals.any() => return Ok(()),
                _ = tick.tick() => {
                    self.tell_news()?;
                    continue;
                }
            };
            if matches!(key, 'q' | 'Q') {
                return Ok(());
            }
            let done = tokio::select! {
                done = Box::pin(self.press(key)) => done,
                () = signals.any() => return Ok(()),
            };
            match done {
                // What a key could not do must not end the demo.
                Err(DemoError::Local(problem)) => self.tell_problem(&problem)?,
                other => other?,
            }
        }
    }

    async fn press(&mut self, key: char) -> Result<(), DemoError> {
        match key.to_ascii_lowercase() {
            'k' => self.kill().await,
            'l' => self.lag().await,
            'c' => self.cut_off().await,
            'r' => self.bring_back().await,
            'h' => self.draw(),
            _ => self.say("keys: k l c r h q"),
        }
    }

    fn say(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "  {text}")?;
        Ok(self.out.flush()?)
    }

    fn tell_problem(&mut self, problem: &LocalError) -> Result<(), DemoError> {
        let cause = std::error::Error::source(problem);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        self.say(&format!("✗ {problem}{cause}"))
    }

    /// What the router noticed since the last time.
    fn tell_news(&mut self) -> Result<(), DemoError> {
        let (total, events) = self.stage.app.monitor.events_since(self.events_told);
        self.events_told = total;
        for event in events {
            self.say(&format!("    {}", event.sentence))?;
        }
        let records = self.stage.app.monitor.records();
        for recorded in records.iter().skip(self.records_told) {
            self.say(&format!("→ {}", recorded.record.sentence))?;
        }
        self.records_told = records.len();
        Ok(())
    }

    async fn kill(&mut self) -> Result<(), DemoError> {
        let Some(node) = self.stage.primary() else {
            return self.say("there is no primary to kill now");
        };
        let old = self.stage.name(node);
        self.say(&format!("k: kill -9 of {old}, the primary"))?;
        if let Some(load) = &self.stage.load {
            load.begin_window();
        }
        let at = clock::now();
        self.broken.insert(node, Damage::Killed);
        self.stage.cluster.kill9(node).await?;
        if self.stage.load.is_none() {
            return Ok(());
        }
        let first = self.stage.wait_for_a_write_elsewhere(&old).await;
        // For the others that waited, and for the router to tell its story.
        sleep(AFTERMATH).await;
        self.tell_news()?;
        match first {
            None => self.say("✗ nobody took over; writes wait, and are refused after 10 s"),
            Some((new, first)) => {
                let took = milliseconds(first.saturating_duration_since(at));
                self.say(&format!(
                    "✓ first write acknowledged by {new} {took} after the kill"
                ))?;
                self.draw()
            }
        }
    }

    /// The last replica that serves, so that a good one is left for a promotion.
    fn victim(&self) -> Option<usize> {
        self.stage.serving().last().copied()
    }

    async fn lag(&mut self) -> Result<(), DemoError> {
        let Some(node) = self.victim() else {
            return self.say("no replica serves reads now");
        };
        let late = milliseconds(APPLY_DELAY);
        self.say(&format!("l: {} applies {late} late", self.stage.name(node)))?;
        self.broken.insert(node, Damage::Lags);
        Ok(self
            .stage
            .cluster
            .set_apply_delay(node, Some(APPLY_DELAY))
            .await?)
    }

    async fn cut_off(&mut self) -> Result<(), DemoError> {
        let Some(node) = self.victim() else {
            return self.say("no replica serves reads now");
        };
        self.say(&format!(
            "c: {} gets no more from its primary",
            self.stage.name(node)
        ))?;
        self.broken.insert(node, Damage::CutOff);
        Ok(self.stage.cluster.cut_off(node).await?)
    }

    async fn bring_back(&mut self) -> Result<(), DemoError> {
        let Some(primary) = self.stage.primary() else {
            return self.say("there is no primary now; bring back needs one");
        };
        if self.broken.is_empty() {
            return self.say("nothing is broken");
        }
        for (node, damage) in self.broken.clone() {
            let name = self.stage.name(node);
            match damage {
                Damage::Lags => {
                    self.say(&format!("r: {name} applies at once"))?;
                    self.stage.cluster.set_apply_delay(node, None).await?;
                }
                Damage::CutOff if node != primary => {
                    self.say(&format!(
                        "r: {name} streams from {} again",
                        self.stage.name(primary)
                    ))?;
                    self.stage.cluster.follow(node, primary).await?;
                }
                Damage::CutOff => {}
                Damage::Killed => self.bring_back_killed(node, primary).await?,
            }
            self.broken.remove(&node);
        }
        Ok(())
    }

    async fn bring_back_killed(&mut self, node: usize, primary: usize) -> Result<(), DemoError> {
        let name = self.stage.name(node);
        self.say(&format!(
            "r: {name} is started as it was, a primary of the past"
        ))?;
        self.stage.cluster.start_node(node).await?;
        if node == primary {
            return Ok(());
        }
        let quarantined = self
            .stage
            .wait_for_state(node, |state| matches!(state, ServerState::Quarantined(_)))
            .await;
        if let Some(took) = quarantined {
            let took = milliseconds(took);
            self.say(&format!(
                "✓ {name} is quarantined after {took}: nothing is sent there"
            ))?;
        }
        self.say(&format!(
            "r: {name} is made a replica of {}",
            self.stage.name(primary)
        ))?;
        self.stage.cluster.rejoin_as_replica(node, primary).await?;
        Ok(())
    }

    fn draw(&mut self) -> Result<(), DemoError> {
        let Some(seen) = self.stage.load.as_ref().map(Load::window) else {
            return self.say("--no-load: no clients of our own, nothing to draw");
        };
        let (writes, reads) = (seen.write_count(), seen.read_count());
        let (errors, dropped) = (seen.errors_by_code(), seen.dropped);
        self.say(&format!(
            "{writes} writes, {reads} reads, errors: {errors}, {dropped} connections dropped; \
             what clients waited:"
        ))?;
        seen.waits.draw(&mut *self.out)?;
        Ok(self.out.flush()?)
    }
}

/// Between a first answer and a look at all of them.
const AFTERMATH: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(200);
const APPLY_DELAY: Duration = Duration::from_secs(10);
