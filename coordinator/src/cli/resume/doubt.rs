//! Looks before a run goes on: whether a step in doubt has made its new primary, and whether the lost one is still lost.

use baton_proto::control::Action;
use baton_proto::report::Role;
use baton_proto::{Fault, FaultKind, InstanceRef};

use crate::cli::context::Context;
use crate::client::{Followed, Seat, Until};
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::{Goal, Step};
use crate::run::{Next, Run};
use crate::seat;
use crate::topology::lost;

/// Whether a step in doubt has made its new primary. An order that its agent still carries out is waited for.
pub(super) async fn look(context: &Context, seat: &Seat, step: &Step) -> Result<bool, Fault> {
    let agents = &context.agents;
    let (on, task) = match step {
        Step::Attach { replica, .. } => (replica, format!("attach-{}", replica.instance)),
        Step::Promote { on } => (on, format!("promote-{}", on.instance)),
        Step::HandOver { from, to, timeout_ms, .. } => {
            // Its agent gives up by itself.
            settled(context, seat, from, &format!("hand-over-{}", from.instance)).await?;
            return handed_over(context, seat, (from, &to.instance), *timeout_ms).await;
        }
        _ => return Ok(false),
    };
    let done = async || {
        let report = agents.observe_instance(on).await?;
        let role = report.server.running().map(|now| &now.role);
        Ok::<_, Fault>(match (step, role) {
            (Step::Attach { to, .. }, Some(Role::Replica { primary, .. })) => *primary == to.address,
            (Step::Promote { .. }, Some(Role::Primary { .. })) => true,
            (Step::Attach { .. } | Step::Promote { .. }, None) => {
                return Err(silent(on));
            }
            _ => false,
        })
    };
    if done().await? {
        return Ok(true);
    }
    settled(context, seat, on, &task).await?;
    done().await
}

/// Whether a handover has come to its end, and its heir leads. The server does it by itself, also when its agent has died
/// in between: while roles change, an heir that is no primary yet may be one the moment after it was looked at. So the end
/// is waited for, as long as the run gives a handover, and the little that its agent adds for the roles to change.
async fn handed_over(
    context: &Context,
    seat: &Seat,
    (from, heir): (&InstanceRef, &InstanceRef),
    timeout_ms: u32,
) -> Result<bool, Fault> {
    let agents = &context.agents;
    let leads = async || {
        let report = agents.observe_instance(heir).await?;
        Ok::<_, Fault>(report.server.running().map(|now| matches!(now.role, Role::Primary { .. })))
    };
    if leads().await? == Some(true) {
        return Ok(true);
    }
    let keep = Action::KeepPrimary { timeout_ms };
    match agents.order(seat, &format!("await-hand-over-{}", from.instance), from, keep, |_| {}).await {
        // It leads, and hands over no more.
        Ok(_) => return Ok(false),
        // It follows another.
        Err(fault) if fault.kind == FaultKind::Refused => {}
        Err(fault) if matches!(fault.kind, FaultKind::Peer | FaultKind::Held) => return Err(fault),
        // A server that is gone hands over no more; one that answers is still in the middle.
        Err(fault) if agents.observe_instance(from).await?.server.running().is_some() => return Err(fault),
        Err(_) => {}
    }
    leads().await?.ok_or_else(|| silent(heir))
}

fn silent(on: &InstanceRef) -> Fault {
    Fault::new(FaultKind::Server, format!("the server of {on} does not answer"))
        .hint(format!("start the server of {on}, then run this again"))
}

/// Waits for the end of a task, however it ends.
async fn settled(context: &Context, seat: &Seat, on: &InstanceRef, task: &str) -> Result<(), Fault> {
    match context.agents.join(seat, task, on, Until::End, |_| {}).await {
        Ok(Followed::Done(_) | Followed::Ready | Followed::Unknown) => Ok(()),
        Err(fault) if fault.kind == FaultKind::Peer => Err(fault),
        Err(_) => Ok(()),
    }
}

/// A failover goes on only while the primary is lost: one that came back has what its clients wrote since.
pub(super) async fn still_lost(context: &Context, run: &Run) -> Result<(), CoordError> {
    if !matches!(run.plan.goal, Goal::Failover(_)) || run.is_served() || matches!(run.next(), Next::Undo(_)) {
        return Ok(());
    }
    let Some(note) = run.plan.steps.iter().find_map(|step| match step {
        Step::Depose { deposition, .. } => Some(&**deposition),
        _ => None,
    }) else {
        return Ok(());
    };
    // Its own agent knows best, and may be back only now.
    let mut hosts = seat::hosts(&run.plan.instances());
    hosts.push(note.host.clone());
    let world = observe::observe(&context.inventory, &context.agents, &hosts).await;
    let survivors = [&run.plan.source, &run.plan.target].into_iter().chain(&run.plan.siblings);
    let questions: Vec<_> = survivors.map(|from| (from.clone(), note.address.clone())).collect();
    let probes = observe::reach(&context.agents, &questions).await;
    let Some(lives) = lost::lives(note, &world, &probes) else { return Ok(()) };
    let id = &run.plan.run;
    let mut error = CoordError::new(Exit::Refused, format!("the primary that run {id} was to replace lives"));
    error.run = Some(Box::new(id.clone()));
    Err(error
        .because(lives)
        .hint(format!("`coord abort {id}` puts back what it did; or stop that server, then `coord resume {id}`")))
}
