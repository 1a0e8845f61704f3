//! The driver: probes and actions travel to the nodes and back, with delay and loss, and the real
//! supervisor decides. It stands where `monitor` stands in the program.

use std::time::Duration;

use pgherd::cluster::{
    Address, Lsn, Observation, ProbeFailure, Receiver, ReceiverStatus, ServerId, Sighting,
    SystemId, Timeline,
};
use pgherd::policy::{Action, Event, FailedWhy, Frozen, Outcome, Promoted};

use crate::node::{Conninfo, Life};
use crate::world::{Sabotage, World};

/// Something under way between the router and a node.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// On its way to the node.
    Ask {
        node: usize,
        asked: u64,
    },
    Do {
        node: usize,
        deed: Deed,
    },
    /// On its way back.
    Answer(Box<Event>),
    /// The state file is written.
    Written(Box<pgherd::policy::Remembered>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Freeze,
    Promote,
    AwaitPromotion {
        until: u64,
    },
    Follow {
        leader: usize,
        only_if_cut_off: bool,
    },
}

impl World {
    pub(crate) fn send(&mut self, after: u64, letter: Letter) {
        let due = self.now + after.max(1);
        self.letters.push((due, letter));
    }

    pub(crate) fn deliver(&mut self) -> Result<(), String> {
        let now = self.now;
        let mut due = Vec::new();
        let mut index = 0;
        while index < self.letters.len() {
            if self.letters[index].0 <= now {
                due.push(self.letters.remove(index));
            } else {
                index += 1;
            }
        }
        due.sort_by_key(|(at, _)| *at);
        for (_, letter) in due {
            match letter {
                Letter::Ask { node, asked } => self.answer_probe(node, asked),
                Letter::Do { node, deed } => self.do_deed(node, deed),
                Letter::Answer(event) => self.step(*event)?,
                Letter::Written(memory) => {
                    let is_decision = memory.decision.is_some();
                    if is_decision && self.random.one_in(40) {
                        self.tell("the disk is full");
                        self.step(Event::Done(Outcome::NotRecorded))?;
                        continue;
                    }
                    if !(is_decision && self.sabotage == Sabotage::DecisionForgotten) {
                        self.disk = Some(*memory);
                    }
                    if is_decision {
                        self.step(Event::Done(Outcome::Recorded))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn delay(&mut self) -> u64 {
        match self.random.one_in(50) {
            true => self.random.between(20, 400),
            false => self.random.between(1, 8),
        }
    }

    pub(crate) fn probe(&mut self, node: usize) {
        let asked = self.now;
        self.probe_due[node] = u64::MAX;
        let delay = self.delay();
        self.send(delay, Letter::Ask { node, asked });
    }

    fn answer_probe(&mut self, node: usize, asked: u64) {
        let timeout = asked + 1000;
        let outcome = match (self.router_links[node], self.nodes[node].life) {
            (false, _) | (true, Life::Hung) => Err(ProbeFailure::TimedOut),
            (true, Life::Dead) => Err(ProbeFailure::Refused),
            (true, Life::Starting(_)) => Err(ProbeFailure::StartingUp),
            (true, Life::Up) => Ok(self.sighting(node)),
        };
        let back = self.delay();
        let answered = match outcome {
            Err(ProbeFailure::TimedOut) => timeout,
            _ => self.now + back,
        };
        let observation = Observation {
            server: ServerId(node as u16),
            asked_at: self.at(asked),
            answered_at: self.at(answered),
            outcome,
        };
        self.letters.push((
            answered,
            Letter::Answer(Box::new(Event::Observed(observation))),
        ));
    }

    pub(crate) fn sighting(&self, index: usize) -> Sighting {
        let node = &self.nodes[index];
        let receiver = node.receives_from.map(|from| Receiver {
            status: ReceiverStatus::Streaming,
            timeline: Some(Timeline(node.timeline())),
            sender: Some(address_of(from)),
            latest_end: Some(Lsn::from_bytes(node.latest_end)),
            last_message_age: Some(Duration::from_millis(self.now - node.last_message)),
        });
        let lie = match self.sabotage {
            Sabotage::PositionLies if index == 2 && node.in_recovery => 100_000,
            _ => 0,
        };
        let replay = match self.sabotage {
            Sabotage::ReplayLies if node.in_recovery => node.wal,
            _ => node.replay,
        };
        Sighting {
            system_id: SystemId(42),
            in_recovery: node.in_recovery,
            timeline: Some(Timeline(node.timeline())),
            position: Lsn::from_bytes(if node.in_recovery { replay } else { node.wal }),
            furthest: Lsn::from_bytes(node.wal + lie),
            receiver,
            replay_paused: false,
            version_num: 150_018,
            streaming_standbys: 0,
        }
    }

    pub(crate) fn act(&mut self, action: Action) -> Result<(), String> {
        let delay = self.delay();
        match action {
            Action::Probe(server) => self.probe_due[server.index()] = self.now,
            Action::Freeze(server) => {
                self.send(
                    delay,
                    Letter::Do {
                        node: server.index(),
                        deed: Deed::Freeze,
                    },
                );
            }
            Action::Promote { server, proof } => {
                self.check_promotion(server, &proof)?;
                self.send(
                    delay,
                    Letter::Do {
                        node: server.index(),
                        deed: Deed::Promote,
                    },
                );
            }
            Action::Follow { server, leader } => self.lead(server, &leader, false, delay),
            Action::Unfreeze { server, leader } => self.lead(server, &leader, true, delay),
            Action::Record(memory) => {
                // One writer: memories arrive in the order in which they were made.
                let due = self.written_at.max(self.now + 4);
                self.written_at = due + 1;
                self.letters.push((due, Letter::Written(Box::new(memory))));
            }
            Action::HoldWrites(_) => self.tell("writes are held"),
            Action::ResumeWrites { server, epoch } => {
                self.tell(&format!("writes go to {server} in epoch {epoch}"));
            }
            Action::Alert(alert) => self.tell(&format!("alert {alert:?}")),
            Action::Publish(record) => {
                self.tell(&format!("record {:?}: {}", record.result, record.sentence));
            }
        }
        Ok(())
    }

    fn lead(&mut self, server: ServerId, leader: &Address, only_if_cut_off: bool, delay: u64) {
        let leader = leader.host.trim_start_matches('n').parse().unwrap();
        let deed = Deed::Follow {
            leader,
            only_if_cut_off,
        };
        self.send(
            delay,
            Letter::Do {
                node: server.index(),
                deed,
            },
        );
    }

    fn do_deed(&mut self, index: usize, deed: Deed) {
        let server = ServerId(index as u16);
        let failed = |why| match deed {
            Deed::Freeze => Outcome::NotFrozen(server, why),
            Deed::Promote | Deed::AwaitPromotion { .. } => Outcome::NotPromoted(server, why),
            Deed::Follow { .. } => Outcome::NotFollowing(server, why),
        };
        if !self.router_links[index] || !self.nodes[index].is_up() {
            self.reply(1500, failed(FailedWhy::NoAnswer));
            return;
        }
        if self.nodes[index].refuses && matches!(deed, Deed::Freeze | Deed::Follow { .. }) {
            self.reply(6, failed(FailedWhy::NotPermitted));
            return;
        }
        // The deed may be done and its answer lost.
        let lost = self.random.one_in(25);
        match deed {
            Deed::Freeze => {
                let node = &mut self.nodes[index];
                if self.sabotage != Sabotage::FreezePretends {
                    node.conninfo = Conninfo::CutOff;
                    node.receives_from = None;
                }
                let furthest = self.sighting(index).furthest;
                match lost {
                    true => self.reply(1500, Outcome::NotFrozen(server, FailedWhy::NoAnswer)),
                    false => self.reply(6, Outcome::Frozen(Frozen { server, furthest })),
                }
            }
            Deed::Promote => {
                let takes = match self.random.one_in(4) {
                    true => self.random.between(200, 4000),
                    false => self.random.between(24, 60),
                };
                let node = &mut self.nodes[index];
                if node.in_recovery && node.promoted_at.is_none() {
                    node.promoted_at = Some(self.now + takes);
                    self.tell(&format!("node {index} begins its promotion"));
                }
                match lost {
                    true => self.reply(1500, Outcome::NotPromoted(server, FailedWhy::NoAnswer)),
                    false => {
                        let deed = Deed::AwaitPromotion {
                            until: self.now + 10_000,
                        };
                        self.send(4, Letter::Do { node: index, deed });
                    }
                }
            }
            Deed::AwaitPromotion { until } => self.await_promotion(index, until),
            Deed::Follow {
                leader,
                only_if_cut_off,
            } => {
                let node = &mut self.nodes[index];
                if !only_if_cut_off || node.conninfo == Conninfo::CutOff {
                    node.conninfo = Conninfo::Node(leader);
                    node.receives_from = None;
                }
                // A slow answer keeps the machine settling for a while.
                match self.random.one_in(4) {
                    true => self.reply(1500, Outcome::NotFollowing(server, FailedWhy::NoAnswer)),
                    false => self.reply(6, Outcome::Following(server)),
                }
            }
        }
    }

    fn await_promotion(&mut self, index: usize, until: u64) {
        let server = ServerId(index as u16);
        if !self.nodes[index].in_recovery {
            let forked_at = self.nodes[index]
                .history
                .last()
                .map_or(0, |(_, began)| *began);
            let sighting = self.sighting(index);
            let forked_at = Lsn::from_bytes(forked_at);
            self.reply(
                4,
                Outcome::Promoted(Promoted {
                    server,
                    sighting,
                    forked_at,
                }),
            );
        } else if self.now >= until {
            self.reply(4, Outcome::NotPromoted(server, FailedWhy::NoAnswer));
        } else {
            self.send(
                5,
                Letter::Do {
                    node: index,
                    deed: Deed::AwaitPromotion { until },
                },
            );
        }
    }

    fn reply(&mut self, after: u64, outcome: Outcome) {
        self.send(after, Letter::Answer(Box::new(Event::Done(outcome))));
    }
}

fn address_of(index: usize) -> Address {
    Address {
        host: format!("n{index}"),
        port: 5432,
    }
}
