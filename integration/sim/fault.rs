//! What goes wrong, and when.

use pgherd::policy::{Event, LostBytes, Operator, Order};

use crate::node::Life;
use crate::random::Random;
use crate::router::Letter;
use crate::world::World;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// kill -9 of a server, and its return after a while, if it returns.
    Kill {
        node: usize,
        back_after: Option<u64>,
    },
    /// A backend crashed: everybody gets 57P03 for a while.
    CrashRestart { node: usize, takes: u64 },
    /// SIGSTOP and SIGCONT.
    Hang { node: usize, takes: u64 },
    /// The router cannot reach a server.
    CutRouter { node: usize, takes: u64 },
    /// Two servers cannot reach each other.
    CutPeers {
        one: usize,
        other: usize,
        takes: u64,
    },
    /// The router dies and comes back with its file.
    RestartRouter,
    /// Somebody promotes a replica beside us.
    PromotedByOther { node: usize },
    /// Somebody promotes two at once, and the router dies.
    PromotedTwice,
    /// A replica replays slowly.
    SlowReplay { node: usize },
    /// An operator takes it on himself that the primary is dead.
    Ordered,
}

/// The faults of one seed, in order of time.
pub(crate) fn plan(random: &mut Random, nodes: usize, until: u64) -> Vec<(u64, Fault)> {
    let mut plan = Vec::new();
    let any = |random: &mut Random| random.between(0, nodes as u64) as usize;
    for _ in 0..random.between(1, 6) {
        let at = random.between(1500, until);
        let takes = random.between(50, 9000);
        let node = if random.one_in(2) { 0 } else { any(random) };
        let fault = match random.between(0, 14) {
            0..4 => {
                let back_after = (!random.one_in(3)).then_some(takes + 1000);
                Fault::Kill { node, back_after }
            }
            4 => Fault::CrashRestart {
                node,
                takes: takes / 2,
            },
            5 => Fault::Hang { node, takes },
            6 => Fault::CutRouter { node, takes },
            7 => Fault::CutPeers {
                one: node,
                other: (node + 1) % nodes,
                takes,
            },
            8 => Fault::SlowReplay { node: any(random) },
            9 | 10 => {
                plan.push((
                    at,
                    Fault::Kill {
                        node: 0,
                        back_after: None,
                    },
                ));
                plan.extend(worsen(random, nodes, at));
                continue;
            }
            11 if random.one_in(3) => {
                plan.push((at + 500, Fault::RestartRouter));
                Fault::PromotedTwice
            }
            12 if random.one_in(2) => Fault::PromotedByOther { node },
            _ => Fault::RestartRouter,
        };
        plan.push((at, fault));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// What may happen on top of it while the router deals with a kill at `at`.
fn worsen(random: &mut Random, nodes: usize, at: u64) -> Vec<(u64, Fault)> {
    let later = at + random.between(300, 1200);
    let kill = |node, back_after| Fault::Kill { node, back_after };
    match random.between(0, 6) {
        0 => vec![(later, Fault::RestartRouter)],
        // The router, and then the server that it may have chosen.
        1 => {
            let then = later + random.between(0, 400);
            vec![(later, Fault::RestartRouter), (then, kill(1, None))]
        }
        // The chosen server itself.
        2 => vec![(at + random.between(450, 900), kill(1, None))],
        // Everybody.
        3 => {
            let then = at + random.between(400, 620);
            (1..nodes)
                .map(|node| (then, kill(node, Some(6000))))
                .collect()
        }
        _ => vec![(
            at + random.between(50, 700),
            Fault::PromotedByOther { node: 1 },
        )],
    }
}

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        let now = self.now;
        self.tell(&format!("fault {fault:?}"));
        match fault {
            Fault::Kill { node, back_after } => {
                self.nodes[node].kill();
                if let Some(after) = back_after {
                    self.repairs.push((now + after, Repair::Start(node)));
                }
            }
            Fault::CrashRestart { node, takes } => {
                if self.nodes[node].is_up() {
                    self.nodes[node].life = Life::Starting(now + takes);
                    self.nodes[node].receives_from = None;
                }
            }
            Fault::Hang { node, takes } => {
                if self.nodes[node].is_up() {
                    self.nodes[node].life = Life::Hung;
                    self.repairs.push((now + takes, Repair::Thaw(node)));
                }
            }
            Fault::CutRouter { node, takes } => {
                self.router_links[node] = false;
                self.repairs.push((now + takes, Repair::JoinRouter(node)));
            }
            Fault::CutPeers { one, other, takes } => {
                self.cut_peers.push((one, other));
                self.repairs
                    .push((now + takes, Repair::JoinPeers(one, other)));
            }
            Fault::PromotedByOther { node } => self.promote_by_other(node),
            Fault::PromotedTwice => {
                self.promote_by_other(1);
                self.promote_by_other(2);
            }
            Fault::RestartRouter => self.restart_router(),
            Fault::SlowReplay { node } => self.nodes[node].replay_rate = 20,
            Fault::Ordered => {
                let order = Order {
                    to: None,
                    accept_loss: LostBytes::Any,
                };
                let event = Event::Operator(Operator::Failover(order));
                self.send(1, Letter::Answer(Box::new(event)));
            }
        }
    }

    fn promote_by_other(&mut self, node: usize) {
        let at = self.now + 30;
        let node = &mut self.nodes[node];
        if node.is_up() && node.in_recovery {
            node.promoted_at = node.promoted_at.or(Some(at));
        }
    }

    pub(crate) fn repair(&mut self, repair: Repair) {
        match repair {
            Repair::Start(node) => {
                if self.nodes[node].life == Life::Dead {
                    self.nodes[node].life = Life::Starting(self.now + 300);
                }
            }
            Repair::Thaw(node) => {
                if self.nodes[node].life == Life::Hung {
                    self.nodes[node].life = Life::Up;
                }
            }
            Repair::JoinRouter(node) => self.router_links[node] = true,
            Repair::JoinPeers(one, other) => self.cut_peers.retain(|cut| *cut != (one, other)),
        }
    }

    /// Everything works again, but for what only a person can repair.
    pub(crate) fn heal(&mut self) {
        self.tell("healed");
        self.repairs.clear();
        self.cut_peers.clear();
        for node in 0..self.nodes.len() {
            self.router_links[node] = true;
            self.nodes[node].replay_rate = 5000;
            self.repair(Repair::Thaw(node));
            self.repair(Repair::Start(node));
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Repair {
    Start(usize),
    Thaw(usize),
    JoinRouter(usize),
    JoinPeers(usize, usize),
}
