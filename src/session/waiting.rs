//! A unit is complete and has no server yet: a connection was asked for, or no server can take it
//! now. It waits for one with a limit.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::counted::note_failed;
use super::given_up::{Standing, server_standing};
use super::input::Denial;
use super::machine::{Held, State, Telling, refuse_and_close};
use super::output::{Note, RetryCause};
use super::prepared::ServerSide;
use super::unit::{Traits, Unit};
use super::{Condition, Output, Refusal, Session, World, reply};
use crate::cluster::{Epoch, ServerId};
use crate::policy::{self, Balance, Choice, Intent, Route, Why};

/// A unit without a server.
#[derive(Debug)]
pub(super) struct Waiting {
    unit: Box<Unit>,
    /// When the client gets an error instead.
    deadline: Instant,
    since: Instant,
    /// The route whose connection was asked for; `None` while no server can take the unit.
    asked: Option<Route>,
    /// Whether it was told and counted that the unit waits.
    held: bool,
    /// When it is refused if its database is still paused; `None` as long as it was not.
    paused_until: Option<Instant>,
}

impl Session {
    /// Finds a server for a unit.
    pub(super) fn route(
        &mut self,
        world: &World<'_>,
        unit: Box<Unit>,
        out: &mut Vec<Output>,
    ) -> State {
        let waiting = Waiting {
            unit,
            deadline: world.now + world.rules.hold_clients,
            since: world.now,
            asked: None,
            held: false,
            paused_until: None,
        };
        self.choose(world, Box::new(waiting), out)
    }

    fn choose(
        &mut self,
        world: &World<'_>,
        mut waiting: Box<Waiting>,
        out: &mut Vec<Output>,
    ) -> State {
        if world.paused {
            return self.hold_paused(world, waiting, out);
        }
        let decision = waiting.unit.decision();
        let need = match decision.intent {
            Intent::Read => self.need(world),
            Intent::Write => policy::Need::Bounded,
        };
        self.turn = self.turn.wrapping_add(1);
        let balance = Balance {
            pick: self.turn,
            load: world.load,
        };
        match policy::choose(&decision, need, world.snapshot, world.route, balance) {
            Choice::Go(route) => {
                out.push(Output::Lease(route.clone()));
                waiting.asked = Some(route);
                State::Waiting(waiting)
            }
            Choice::Wait(why) => self.hold(world, waiting, why, out),
            Choice::Refuse(Why::AllLagging) => {
                self.refuse_waiting(world, &waiting, &Refusal::AllLagging, out)
            }
            Choice::Refuse(_) => self.refuse_waiting(world, &waiting, &Refusal::NoServer, out),
        }
    }

    /// Waits for the cluster to change, or to be asked again after a short while.
    fn hold(
        &mut self,
        world: &World<'_>,
        waiting: Box<Waiting>,
        why: Why,
        out: &mut Vec<Output>,
    ) -> State {
        if world.now >= waiting.deadline {
            let waited = world.now.saturating_duration_since(waiting.since);
            return self.refuse_waiting(world, &waiting, &Refusal::NoPrimary { waited }, out);
        }
        let until = waiting.deadline;
        wait(world, waiting, why, until, out)
    }

    /// Waits for an operator. The time that this takes is not taken from the wait for a primary.
    fn hold_paused(
        &mut self,
        world: &World<'_>,
        mut waiting: Box<Waiting>,
        out: &mut Vec<Output>,
    ) -> State {
        let limit = world.now + world.rules.hold_paused;
        let until = *waiting.paused_until.get_or_insert(limit);
        if world.now >= until {
            let waited = world.now.saturating_duration_since(waiting.since);
            return self.refuse_waiting(world, &waiting, &Refusal::Paused { waited }, out);
        }
        waiting.deadline = world.now + world.rules.hold_clients;
        wait(world, waiting, Why::HeldPaused, until, out)
    }

    /// The cluster changed, or it is time to look again.
    pub(super) fn look_again(
        &mut self,
        world: &World<'_>,
        waiting: Box<Waiting>,
        out: &mut Vec<Output>,
    ) -> State {
        match &waiting.asked {
            Some(_) => State::Waiting(waiting),
            None if world.now >= waiting.deadline && !world.paused => {
                self.hold(world, waiting, Why::HeldFailover, out)
            }
            None => self.choose(world, waiting, out),
        }
    }

    /// The connection is here.
    pub(super) fn granted(
        &mut self,
        world: &World<'_>,
        waiting: Box<Waiting>,
        server: ServerId,
        side: Box<ServerSide>,
        out: &mut Vec<Output>,
    ) -> State {
        let Some(route) = waiting.asked.clone() else {
            debug_assert!(false, "a lease that was not asked for");
            return refuse_and_close(&Refusal::Internal("unasked lease"), None, out);
        };
        if world.paused || !is_still_right(world, &route) {
            out.push(Output::Release {
                condition: Condition::Clean,
                side,
            });
            return match world.now >= waiting.deadline && !world.paused {
                true => self.hold(world, waiting, Why::HeldFailover, out),
                false => self.choose(world, waiting, out),
            };
        }
        let Waiting {
            unit, since, held, ..
        } = *waiting;
        if held {
            out.push(Output::Arm(None));
            out.push(Output::Note(Note::Released { since }));
        }
        out.push(Output::Note(Note::Routed {
            server,
            why: route.why,
        }));
        self.last_route = Some((server, route.why));
        if self.explain == Telling::Notice {
            let decision = unit.decision();
            let text = explain_line(world, &route, decision.detail.as_deref());
            out.push(Output::ToClient(reply::notice(text)));
        }
        self.run(
            world,
            unit,
            Held {
                server,
                side,
                reign: reign(world, &route),
                route,
                condition: Condition::Clean,
            },
            out,
        )
    }

    /// There is no such connection.
    pub(super) fn denied(
        &mut self,
        world: &World<'_>,
        mut waiting: Box<Waiting>,
        denial: Denial,
        out: &mut Vec<Output>,
    ) -> State {
        match denial {
            Denial::Unreachable(server) => {
                out.push(Output::Note(Note::Retried {
                    cause: RetryCause::Unreachable,
                }));
                let on_primary = world.snapshot.primary() == Some(server);
                let was_read = waiting
                    .asked
                    .as_ref()
                    .is_some_and(|r| r.intent == Intent::Read);
                if !on_primary && was_read {
                    // One replica that cannot be reached is no reason to try them all.
                    waiting.unit.demand_primary(Why::NoReplica);
                    return self.choose(world, waiting, out);
                }
                self.hold(world, waiting, Why::HeldFailover, out)
            }
            Denial::Refused(refusal) => self.refuse_waiting(world, &waiting, &refusal, out),
            Denial::Server(message) => self.pass_refusal(world, &waiting, message, out),
        }
    }

    /// The client cancels what it asked for.
    pub(super) fn canceled(
        &mut self,
        world: &World<'_>,
        state: State,
        out: &mut Vec<Output>,
    ) -> State {
        if let State::Subscribing(waits) = state {
            return self.subscribed(world, *waits, Err(Refusal::Canceled), out);
        }
        match state.waiting() {
            Ok(waiting) => self.cancel_wait(world, &waiting, out),
            Err(other) => other,
        }
    }

    /// The client gives up. A connection that was asked for and comes now is not for this unit any
    /// more: the driver drops its request before it tells.
    fn cancel_wait(
        &mut self,
        world: &World<'_>,
        waiting: &Waiting,
        out: &mut Vec<Output>,
    ) -> State {
        self.refuse_waiting(world, waiting, &Refusal::Canceled, out)
    }

    fn refuse_waiting(
        &mut self,
        world: &World<'_>,
        waiting: &Waiting,
        refusal: &Refusal,
        out: &mut Vec<Output>,
    ) -> State {
        out.push(Output::Arm(None));
        self.forget_new(&waiting.unit);
        self.fail_begun();
        let complete = waiting.unit.traits.has(Traits::COMPLETE);
        self.refuse_unit(world, refusal, complete, None, out)
    }

    /// Gives the client the error of a server that refused our login, as its unit's answer.
    fn pass_refusal(
        &mut self,
        world: &World<'_>,
        waiting: &Waiting,
        message: Bytes,
        out: &mut Vec<Output>,
    ) -> State {
        out.push(Output::Arm(None));
        self.forget_new(&waiting.unit);
        self.fail_begun();
        note_failed(&message, out);
        out.push(Output::ToClient(message));
        match waiting.unit.traits.has(Traits::COMPLETE) {
            true => {
                reply::ready(out, &self.transaction);
                self.rest(world, None, out)
            }
            false => State::Draining(None),
        }
    }
}

/// Tells once that a unit waits, and has it look again when something changed or a little later.
fn wait(
    world: &World<'_>,
    mut waiting: Box<Waiting>,
    why: Why,
    until: Instant,
    out: &mut Vec<Output>,
) -> State {
    if !waiting.held {
        waiting.held = true;
        out.push(Output::Note(Note::Held { why }));
    }
    waiting.asked = None;
    out.push(Output::Arm(Some(until.min(world.now + LOOK_AGAIN_AFTER))));
    State::Waiting(waiting)
}

/// Whether a route would be chosen again. Getting a connection took time, and the cluster may have
/// changed meanwhile: nothing is written to yesterday's primary.
fn is_still_right(world: &World<'_>, route: &Route) -> bool {
    match route.intent {
        Intent::Write => {
            route.epoch == world.snapshot.epoch && world.snapshot.primary() == Some(route.server)
        }
        Intent::Read => server_standing(world, route.server) == Standing::Used,
    }
}

/// The epoch in which the server of a route is the primary.
fn reign(world: &World<'_>, route: &Route) -> Option<Epoch> {
    let is_primary = world.snapshot.primary() == Some(route.server);
    is_primary.then_some(world.snapshot.epoch)
}

/// What `SET pgherd.explain = 'notice'` prints for each unit.
fn explain_line(world: &World<'_>, route: &Route, detail: Option<&str>) -> String {
    let name = world.snapshot.name(route.server);
    let role = match world.snapshot.server(route.server) {
        Some(server) => server.role.as_str(),
        None => "unknown",
    };
    let detail = detail
        .map(|detail| format!(" {detail}"))
        .unwrap_or_default();
    format!("pgherd: {name} ({role}): {}{detail}", route.why)
}

/// A unit that waits looks again after so long even if no change was announced: the connection
/// may have been refused for a reason that the monitor does not see.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
