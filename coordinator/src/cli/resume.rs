//! `coord resume RUN` and `coord abort RUN`: takes up a run that stopped half-way, on any machine that reaches the agents.
//!
//! ```text
//!   find the journal ──> is somebody at work? ──> take the next turn ──> look at what is in doubt ──> drive
//! ```
//!
//! The turn is taken before anything is looked at: from then on nobody else changes what was seen.

use std::time::Duration;

use baton_proto::report::Role;
use baton_proto::{Fault, HostName, InstanceRef, RunId};
use clap::Args;
use tokio::time::Instant;

use crate::cli::context::Context;
use crate::cli::execute::{self, carry_out};
use crate::cli::runs;
use crate::client::{Followed, Seat, Until};
use crate::drive::Log;
use crate::error::{CoordError, Exit};
use crate::journal::copies::{self, Found, Kept};
use crate::observe;
use crate::plan::{Goal, Step};
use crate::run::{Aim, End, Event, Next, Run};
use crate::seat;
use crate::topology::{World, lost};

#[derive(Args)]
pub struct ResumeArgs {
    /// The run's name, such as fo-7k2m
    run: RunId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Take the run from a coordinator that is still at work
    #[arg(long)]
    take_over: bool,
}

/// How long nothing may be heard of a coordinator that is at work: it asks for news four times a second.
const QUIET: Duration = Duration::from_secs(3);
/// How often the agents are asked whether they hear of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn run(context: &Context, args: &ResumeArgs, aim: Aim) -> Result<Exit, CoordError> {
    let (mut found, mut run) = match find(context, &args.run).await {
        Ok(found) => found,
        Err(error) => return never_begun(context, args, aim, error).await,
    };
    let instances = run.plan.instances();
    if !args.take_over && !run.is_over() {
        await_quiet(context, &args.run, &instances).await?;
        // It may have gone on in the meantime.
        (found, run) = find(context, &args.run).await?;
    }
    if run.is_over() {
        return over(context, &run, &found, aim).await;
    }
    ask(context, args, &run, aim)?;
    let seat = Seat::new(args.run.clone(), next_epoch(context, &found, &instances).await);
    let absent = seat::take_over(&context.agents, &instances, &seat).await;
    let absent =
        absent.map_err(|fault| CoordError::of_fault(Exit::Refused, format!("take up {}", args.run), &fault))?;
    if aim == Aim::Resume
        && let Some((instance, fault)) = absent.first()
    {
        return Err(halted(&args.run, format!("the agent of {} does not answer", instance.host), fault));
    }
    let served = match run.doubtful() {
        Some(step) => Some(look(context, &seat, step).await.map_err(|fault| {
            halted(&args.run, format!("it is not known whether step `{}` was done", step.name()), &fault)
        })?),
        None => None,
    };
    if aim == Aim::Resume && served != Some(true) {
        still_lost(context, &run).await?;
    }
    let taken_up = Event::TakenUp { epoch: seat.turn.epoch, by: context.operator.clone(), to: aim, served };
    let unwritten =
        |error| CoordError::new(Exit::Halted, error).hint("mend `state` in coord.toml, then run this again");
    let file = context.journals.adopt(&args.run, &found.text).map_err(unwritten)?;
    let hosts = seat::hosts(instances.iter());
    let mut journal = Kept::new(file, found.text, &context.agents, &seat, hosts);
    journal.append(&taken_up).await.map_err(unwritten)?;
    run.apply(taken_up).map_err(|error| CoordError::new(Exit::Defect, error))?;
    let wanted = if aim == Aim::Abort { End::RolledBack } else { End::Done };
    carry_out(context, run, &mut journal, &seat, wanted).await
}

async fn find(context: &Context, run: &RunId) -> Result<(Found, Run), CoordError> {
    let found = copies::find(&context.journals, &context.inventory, &context.agents, run).await;
    let found = found.map_err(runs::unreadable)?;
    let run = runs::replay(&found.records)?;
    Ok((found, run))
}

/// A coordinator that was lost between its claims and the first line of its journal has done nothing yet.
async fn never_begun(context: &Context, args: &ResumeArgs, aim: Aim, error: CoordError) -> Result<Exit, CoordError> {
    let id = &args.run;
    let world = observe::observe(&context.inventory, &context.agents, &context.inventory.names()).await;
    let all = world.instances().map(|(instance, _)| instance);
    let held: Vec<InstanceRef> = all.filter(|instance| holds(&world, instance, id)).collect();
    if held.is_empty() {
        return Err(error);
    }
    if aim == Aim::Resume {
        let error = CoordError::new(Exit::Preflight, format!("run {id} was lost before it began: nothing was changed"));
        return Err(error.hint(format!("`coord abort {id}` frees the servers that it has")));
    }
    if !args.take_over {
        await_quiet(context, id, &held).await?;
    }
    let epochs = held.iter().filter_map(|instance| Some(world.instance(instance)?.claim.as_ref()?.turn.epoch));
    let seat = Seat::new(id.clone(), epochs.max().unwrap_or(0).saturating_add(1));
    seat::take_over(&context.agents, &held, &seat)
        .await
        .map_err(|fault| CoordError::of_fault(Exit::Refused, format!("give back what {id} has"), &fault))?;
    let left = seat::give_back(&context.agents, &seat::hosts(&held), &seat).await;
    if let Some(fault) = left.first() {
        return Err(CoordError::of_fault(Exit::Halted, format!("give back what {id} has"), fault));
    }
    context.console.event(&serde_json::json!({ "event": "result", "run": id, "outcome": "rolled-back" }));
    context.console.result(|out| writeln!(out, "run {id} was lost before it began: nothing was changed"));
    Ok(Exit::Done)
}

/// A run that has ended only gives back what an agent that did not answer then still holds.
async fn over(context: &Context, run: &Run, found: &Found, aim: Aim) -> Result<Exit, CoordError> {
    let id = &run.plan.run;
    let instances = run.plan.instances();
    let seat = Seat::new(id.clone(), next_epoch(context, found, &instances).await);
    let world = observe::observe(&context.inventory, &context.agents, &seat::hosts(&instances)).await;
    let held: Vec<InstanceRef> = instances.into_iter().filter(|instance| holds(&world, instance, id)).collect();
    let left = seat::take_over(&context.agents, &held, &seat).await;
    left.map_err(|fault| CoordError::of_fault(Exit::Refused, format!("give back what {id} has"), &fault))?;
    execute::give_back(context, &run.plan, &seat).await;
    let state = runs::state(run);
    context.console.event(&crate::report::summary::event(run, end_of(run)));
    let stands = matches!(end_of(run), End::Done | End::Degraded);
    if aim == Aim::Abort && stands {
        let mut error = CoordError::new(Exit::Refused, format!("run {id} has ended, {state}: what it did stands"));
        error.told = true;
        return Err(error.hint("to move the role of primary, see `coord switchover`"));
    }
    context.console.result(|out| writeln!(out, "run {id} has ended, {state}: nothing is left to do"));
    Ok(Exit::Done)
}

fn end_of(run: &Run) -> End {
    match run.next() {
        Next::End(end) => end,
        Next::Do(_) | Next::Undo(_) => End::Interrupted,
    }
}

fn holds(world: &World, instance: &InstanceRef, run: &RunId) -> bool {
    world.instance(instance).and_then(|report| report.claim.as_ref()).is_some_and(|claim| claim.run == *run)
}

/// The first epoch after all that the journal and the agents know of.
async fn next_epoch(context: &Context, found: &Found, instances: &[InstanceRef]) -> u32 {
    let world = observe::observe(&context.inventory, &context.agents, &seat::hosts(instances)).await;
    let claims = instances.iter().filter_map(|instance| world.instance(instance)?.claim.as_ref());
    let of_run = claims.filter(|claim| found.records.first().is_some_and(|record| is_of(&record.event, &claim.run)));
    of_run.map(|claim| claim.turn.epoch).max().unwrap_or(0).max(found.epoch()).saturating_add(1)
}

fn is_of(begun: &Event, run: &RunId) -> bool {
    matches!(begun, Event::Begun { plan, .. } if plan.run == *run)
}

/// Waits until nothing is heard of a coordinator, unless one is at work.
async fn await_quiet(context: &Context, run: &RunId, instances: &[InstanceRef]) -> Result<(), CoordError> {
    let began = Instant::now();
    let hosts: Vec<HostName> = seat::hosts(instances);
    loop {
        let world = observe::observe(&context.inventory, &context.agents, &hosts).await;
        let claims = instances.iter().filter_map(|instance| world.instance(instance)?.claim.as_ref());
        let of_run: Vec<_> = claims.filter(|claim| claim.run == *run).collect();
        let Some(alive) = of_run.iter().find(|claim| claim.is_alive(QUIET)) else { return Ok(()) };
        // One that died a moment ago falls silent within this time.
        if began.elapsed() > QUIET * 2 {
            let mut error =
                CoordError::new(Exit::Refused, format!("run {run} is being driven, by operator {}", alive.by));
            error.run = Some(Box::new(run.clone()));
            return Err(error
                .because("its coordinator was heard of all the while")
                .hint(format!("watch it with `coord show {run} -f`; --take-over takes the run from it")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn ask(context: &Context, args: &ResumeArgs, run: &Run, aim: Aim) -> Result<(), CoordError> {
    let console = context.console;
    let plan = &run.plan;
    let next = match (aim, run.doubtful(), run.next()) {
        (Aim::Abort, _, _) => "what it did is undone as far as it can be".to_owned(),
        (Aim::Resume, _, Next::Do(index)) => run.step(index).map(Step::title).unwrap_or_default(),
        (Aim::Resume, _, _) => "it goes on where it stopped".to_owned(),
    };
    console.note(|out| {
        writeln!(out, "run {}: {} of {} to {}, {}", plan.run, plan.goal, plan.source, plan.target, runs::state(run))?;
        writeln!(out, "next: {next}")
    });
    if args.yes {
        return Ok(());
    }
    if !console.is_interactive() {
        return Err(CoordError::usage("nobody can be asked whether to go on").hint("say --yes, or run on a terminal"));
    }
    if console.confirms("go on?") {
        return Ok(());
    }
    Err(CoordError::new(Exit::Interrupted, "not confirmed, nothing was changed"))
}

/// Whether a step in doubt has made its new primary. An order that its agent still carries out is waited for.
async fn look(context: &Context, seat: &Seat, step: &Step) -> Result<bool, Fault> {
    let agents = &context.agents;
    let (on, task) = match step {
        Step::Attach { replica, .. } => (replica, format!("attach-{}", replica.instance)),
        Step::Promote { on } => (on, format!("promote-{}", on.instance)),
        Step::HandOver { from, to, .. } => {
            // Its agent gives up by itself.
            settled(context, seat, from, &format!("hand-over-{}", from.instance)).await?;
            let report = agents.observe_instance(&to.instance).await?;
            return Ok(report.server.running().is_some_and(|now| matches!(now.role, Role::Primary { .. })));
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
                return Err(Fault::new(baton_proto::FaultKind::Server, format!("the server of {on} does not answer"))
                    .hint(format!("start the server of {on}, then run this again")));
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

/// Waits for the end of a task, however it ends.
async fn settled(context: &Context, seat: &Seat, on: &InstanceRef, task: &str) -> Result<(), Fault> {
    match context.agents.join(&seat.run, task, on, Until::End, |_| {}).await {
        Ok(Followed::Done(_) | Followed::Ready | Followed::Unknown) => Ok(()),
        Err(fault) if fault.kind == baton_proto::FaultKind::Peer => Err(fault),
        Err(_) => Ok(()),
    }
}

/// A failover goes on only while the primary is lost: one that came back has what its clients wrote since.
async fn still_lost(context: &Context, run: &Run) -> Result<(), CoordError> {
    if !matches!(run.plan.goal, Goal::Failover(_)) || run.is_served() || matches!(run.next(), Next::Undo(_)) {
        return Ok(());
    }
    let (world, topology) = observe::survey(&context.inventory, &context.agents).await;
    let group = topology.groups.iter().find(|group| group.members().any(|member| *member == run.plan.source));
    let Some(lives) = group.and_then(|group| lost::lives(group, &world)) else { return Ok(()) };
    let mut error =
        CoordError::new(Exit::Refused, format!("the primary that run {} was to replace lives", run.plan.run));
    error.run = Some(Box::new(run.plan.run.clone()));
    Err(error.because(lives).hint(format!(
        "`coord abort {0}` puts back what it did; or stop that server, then `coord resume {0}`",
        run.plan.run
    )))
}

fn halted(run: &RunId, message: String, fault: &Fault) -> CoordError {
    let mut error = CoordError::new(Exit::Halted, message).because(fault);
    error.run = Some(Box::new(run.clone()));
    let hint = fault.hint.clone().unwrap_or_else(|| "bring its agent back, then run this again".into());
    error.hint(format!("{hint}; `coord abort {run}` undoes what can be undone meanwhile"))
}
