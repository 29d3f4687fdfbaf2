//! Orders of a run, and the tasks that agents make of them.

use std::sync::PoisonError;
use std::time::Duration;

use baton_proto::control::{Action, Order, Outcome, Progress, Reply, Request, TaskId};
use baton_proto::{Fault, FaultKind, HostName, InstanceRef};

use super::carried;
use super::follow::{self, Ask, follow};
use super::{Agents, Followed, Seat, Until};

/// How often an order is given again that was refused since another has the run. A task of an earlier turn that was joined is
/// refused so, and the next one is this turn's own; and so is an order to an agent that was away when the turn was taken.
const HELD_MAX: usize = 1;

/// How often an order is given to an agent that forgets it: one that is restarted so often within a step is not well.
const ORDERS_MAX: usize = 10;

impl Agents {
    /// Orders an action and follows it to its end. `name` names the task within the run: the same name joins the task
    /// that is there already. An agent that was restarted in between is given the order again: it goes on with what is
    /// left to do.
    pub async fn order(
        &self,
        seat: &Seat,
        name: &str,
        on: &InstanceRef,
        action: Action,
        progress: impl FnMut(&Progress),
    ) -> Result<Outcome, Fault> {
        match self.ordered(seat, name, on, action, Until::End, progress).await? {
            Some(outcome) => Ok(outcome),
            None => Err(Fault::new(FaultKind::Internal, "a task was left that was to be followed to its end")),
        }
    }

    /// Orders an action like [`Self::order`], and leaves it as soon as the next step can begin; then there is no outcome
    /// yet.
    pub async fn order_until_ready(
        &self,
        seat: &Seat,
        name: &str,
        on: &InstanceRef,
        action: Action,
        progress: impl FnMut(&Progress),
    ) -> Result<Option<Outcome>, Fault> {
        self.ordered(seat, name, on, action, Until::Ready, progress).await
    }

    /// Gives an order until it is followed as far as is wanted, or refused.
    async fn ordered(
        &self,
        seat: &Seat,
        name: &str,
        on: &InstanceRef,
        action: Action,
        until: Until,
        mut progress: impl FnMut(&Progress),
    ) -> Result<Option<Outcome>, Fault> {
        let mut held = 0;
        for _ in 0..ORDERS_MAX {
            match self.begin(seat, name, on, action.clone(), until, &mut progress).await {
                Ok(Followed::Done(outcome)) => return Ok(Some(outcome)),
                Ok(Followed::Ready) => return Ok(None),
                // Its agent was restarted since.
                Ok(Followed::Unknown) => {}
                Err(fault) if fault.kind == FaultKind::Held && held < HELD_MAX => {
                    held += 1;
                    // Its agent may have been away when the turn was taken.
                    match self.reclaim(on, seat, &fault).await {
                        Err(other) if other.kind == FaultKind::NotFound => return Err(fault),
                        reclaimed => reclaimed?,
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(forgetful(on))
    }

    /// Follows a task that was ordered before. One that failed is not begun anew: its fault is the error.
    pub async fn join(
        &self,
        seat: &Seat,
        name: &str,
        on: &InstanceRef,
        until: Until,
        progress: impl FnMut(&Progress),
    ) -> Result<Followed, Fault> {
        let watch = watch(seat, name);
        follow(&Agent { agents: self, host: &on.host }, &watch, &watch(0), until, progress).await
    }

    async fn begin(
        &self,
        seat: &Seat,
        name: &str,
        on: &InstanceRef,
        action: Action,
        until: Until,
        progress: impl FnMut(&Progress),
    ) -> Result<Followed, Fault> {
        let task = TaskId { run: seat.run.clone(), name: name.into() };
        let order = Order { task, turn: seat.turn, instance: on.instance.clone(), action };
        let first = Request::Begin(order);
        follow(&Agent { agents: self, host: &on.host }, watch(seat, name), &first, until, progress).await
    }
}

fn forgetful(on: &InstanceRef) -> Fault {
    Fault::new(FaultKind::Peer, format!("the agent of {} was restarted {ORDERS_MAX} times within one step", on.host))
        .hint(format!("see its log on {}: `journalctl -u baton-agent`", on.host))
}

/// Asks for news of a task.
fn watch(seat: &Seat, name: &str) -> impl Fn(u64) -> Request {
    let task = TaskId { run: seat.run.clone(), name: name.into() };
    let turn = Some(seat.turn);
    move |seen| Request::Watch { task: task.clone(), seen, turn }
}

/// One host's agent.
struct Agent<'a> {
    agents: &'a Agents,
    host: &'a HostName,
}

impl Ask for Agent<'_> {
    async fn ask(&self, request: &Request) -> Result<Reply, Fault> {
        let Request::Begin(order) = request else {
            return self.agents.ask(self.host, request).await;
        };
        let seat = Seat { run: order.task.run.clone(), turn: order.turn };
        let post = carried::Direct { agents: self.agents, host: self.host, seat };
        carried::begin(self.agents.carried(), &post, self.host, order).await
    }

    fn patience(&self) -> Duration {
        let gone = self.agents.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if gone.contains(self.host) { follow::STILL_GONE_MAX } else { follow::AGENT_GONE_MAX }
    }

    fn note(&self, answers: bool) {
        let mut gone = self.agents.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if answers {
            gone.remove(self.host);
        } else {
            gone.insert(self.host.clone());
        }
    }
}
