//! `coord resume RUN` and `coord abort RUN`: takes up a run that stopped half-way, on any machine that reaches the agents.
//!
//! ```text
//!   find the journal ──> is somebody at work? ──> take the next turn ──> look at what is in doubt ──> drive
//! ```
//!
//! The turn is taken before the journal is read for good and anything is looked at: from then on nobody else changes what was
//! seen.

mod doubt;

use std::time::Duration;

use baton_proto::{Fault, FaultKind, HostName, InstanceRef, RunId};
use clap::Args;
use tokio::time::Instant;

use crate::cli::context::Context;
use crate::cli::execute::{self, carry_out};
use crate::cli::runs;
use crate::client::Seat;
use crate::drive::Log;
use crate::error::{CoordError, Exit};
use crate::journal::JournalError;
use crate::journal::find::{Found, find};
use crate::journal::kept::Kept;
use crate::observe;
use crate::plan::Step;
use crate::run::{Aim, End, Event, Next, Run};
use crate::seat;
use crate::topology::World;

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
    /// Abort without this host, which is gone for good: what cannot be undone there is left, and named
    #[arg(long, value_name = "HOST")]
    without: Vec<HostName>,
    /// Go by what this host keeps of the run's journal, though no operator who is believed has signed it: after `coord show`
    #[arg(long, value_name = "HOST")]
    believe: Vec<HostName>,
}

/// How long nothing may be heard of a coordinator that is at work. It asks the agent that it waits for four times a second; one
/// whose agent is being restarted falls silent for as long.
const QUIET: Duration = Duration::from_secs(3);
/// What a coordinator asked in its last moment may still come to an agent within this time.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// How long it is looked whether one is at work. A look takes seconds where a server that loads does not answer.
const LOOKS_MAX: Duration = Duration::from_secs(30);
/// How often the agents are asked whether they hear of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn run(context: &Context, args: &ResumeArgs, aim: Aim) -> Result<Exit, CoordError> {
    let found = match journal(context, args).await {
        Err(unknown @ JournalError::Unknown { .. }) => return never_begun(context, args, aim, unknown).await,
        found => found.map_err(runs::unreadable)?,
    };
    let run = runs::replay(&found.records)?;
    let instances = run.plan.instances();
    if run.is_over() {
        return over(context, &run, &found, aim).await;
    }
    if !args.take_over {
        await_quiet(context, &args.run, &instances).await?;
    }
    // The turn is chosen before anybody is asked: if another is taken meanwhile, this one is refused.
    let seat = Seat::new(args.run.clone(), next_epoch(context, &found, &instances).await);
    if ask(context, args, &run, aim)? && !args.take_over {
        await_quiet(context, &args.run, &instances).await?;
    }
    for host in &args.without {
        context.agents.give_up(host);
    }
    let mut absent =
        seat::take_over(&context.agents, &instances, &seat).await.map_err(|fault| refused(args, &fault))?;
    seat::take_over(&context.agents, &run.plan.outsiders(), &seat).await.map_err(|fault| refused(args, &fault))?;
    if aim == Aim::Resume
        && let Some((instance, fault)) = absent.first()
    {
        return Err(halted(args, aim, format!("the agent of {} does not answer", instance.host), fault));
    }
    // Nobody else writes into it any more: what stands there now is all there is.
    let found = journal(context, args).await.map_err(runs::unreadable)?;
    let mut run = runs::replay(&found.records)?;
    if run.is_over() {
        return over(context, &run, &found, aim).await;
    }
    // What only such a host knows to be begun is not known here.
    let untold = |instance: &&InstanceRef| {
        let known = absent.iter().any(|(away, _)| away == *instance) || args.without.contains(&instance.host);
        found.untold.iter().find(|(host, _)| !known && *host == instance.host)
    };
    let untold: Vec<_> =
        instances.iter().filter_map(|instance| Some((instance.clone(), untold(&instance)?.1.clone()))).collect();
    match untold.first() {
        Some((instance, fault)) if aim == Aim::Resume => {
            return Err(halted(args, aim, format!("{} does not tell its journal of the run", instance.host), fault));
        }
        _ => absent.extend(untold),
    }
    let served = match (run.doubtful(), aim) {
        (None, _) => None,
        (Some(step), Aim::Resume) => Some(doubt::look(context, &seat, step).await.map_err(|fault| {
            halted(args, aim, format!("it is not known whether step `{}` was done", step.name()), &fault)
        })?),
        // What is not known is not taken back.
        (Some(step), Aim::Abort) => doubt::look(context, &seat, step).await.ok(),
    };
    if aim == Aim::Resume && served != Some(true) {
        doubt::still_lost(context, &run).await?;
    }
    let taken_up = Event::TakenUp {
        epoch: seat.turn.epoch,
        by: context.operator.clone(),
        to: aim,
        served,
        absent: absent.into_iter().map(|(instance, _)| instance).collect(),
        without: args.without.clone(),
    };
    let unwritten = |error: JournalError| {
        let hint = format!("{}, then run this again", error.hint());
        CoordError::new(Exit::Halted, error).hint(hint)
    };
    let file = context.journals.adopt(&args.run, &found.text).map_err(unwritten)?;
    let mut journal = Kept::new(file, found.text, &context.agents, &seat, instances);
    journal.append(&taken_up, None).await.map_err(unwritten)?;
    run.apply(taken_up).map_err(|error| CoordError::new(Exit::Defect, error))?;
    let wanted = if aim == Aim::Abort { End::RolledBack } else { End::Done };
    carry_out(context, run, &mut journal, &seat, wanted).await
}

/// The journal by which the run is taken up: what an operator has written, and is not kept by a host that is gone.
async fn journal(context: &Context, args: &ResumeArgs) -> Result<Found, JournalError> {
    let hosts = context.inventory.names().into_iter().filter(|host| !args.without.contains(host)).collect();
    let found = find(&context.journals, hosts, &context.agents, &args.run).await?;
    match found.doubted(&args.run) {
        Some(JournalError::Unsealed { host, .. }) if args.believe.contains(&host) => Ok(found),
        Some(doubt) => Err(doubt),
        None => Ok(found),
    }
}

fn refused(args: &ResumeArgs, fault: &Fault) -> CoordError {
    CoordError::of_fault(Exit::Refused, format!("take up {}", args.run), fault)
}

/// A coordinator that was lost between its claims and the first line of its journal has done nothing yet.
async fn never_begun(
    context: &Context,
    args: &ResumeArgs,
    aim: Aim,
    unknown: JournalError,
) -> Result<Exit, CoordError> {
    let id = &args.run;
    let world = observe::observe(&context.inventory, &context.agents, &context.inventory.names()).await;
    let all = world.instances().map(|(instance, _)| instance);
    let held: Vec<InstanceRef> = all.filter(|instance| holds(&world, instance, id)).collect();
    if held.is_empty() {
        return Err(runs::unreadable(unknown));
    }
    // A journal that could not be told just now is not none.
    for host in seat::hosts(&held) {
        match context.agents.recall(&host, id).await {
            Err(fault) if fault.kind == FaultKind::NotFound => {}
            Err(fault) => {
                return Err(halted(args, aim, format!("{host} does not tell its journal of run {id}"), &fault));
            }
            Ok(_) => {
                let error =
                    CoordError::new(Exit::Halted, format!("{host} keeps a journal of run {id} that is not understood"));
                return Err(error.hint("take it up with the version of coord that began it"));
            }
        }
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
    let instances: Vec<InstanceRef> = run.plan.instances().into_iter().chain(run.plan.outsiders()).collect();
    let seat = Seat::new(id.clone(), next_epoch(context, found, &instances).await);
    let world = observe::observe(&context.inventory, &context.agents, &seat::hosts(&instances)).await;
    let held: Vec<InstanceRef> = instances.into_iter().filter(|instance| holds(&world, instance, id)).collect();
    let left = seat::take_over(&context.agents, &held, &seat).await;
    left.map_err(|fault| CoordError::of_fault(Exit::Refused, format!("give back what {id} has"), &fault))?;
    execute::give_back(context, &run.plan, &seat).await;
    for instance in &held {
        context.console.note(|out| writeln!(out, "{instance} was still held by run {id}, and is free now"));
    }
    let state = runs::state(run);
    context.console.event(&crate::report::summary::event(run, end_of(run)));
    let stands = matches!(end_of(run), End::Done | End::Degraded);
    if aim == Aim::Abort && stands && held.is_empty() {
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
        let looked = began.elapsed();
        let world = observe::observe(&context.inventory, &context.agents, &hosts).await;
        let claims = instances.iter().filter_map(|instance| world.instance(instance)?.claim.as_ref());
        let of_run: Vec<_> = claims.filter(|claim| claim.run == *run).collect();
        let Some(alive) = of_run.iter().find(|claim| claim.is_alive(QUIET)) else { return Ok(()) };
        // One that died a moment ago falls silent within this time; and it is not heard of any more, however long a look takes.
        let quiet = alive.quiet_ms.map_or(Duration::MAX, Duration::from_millis);
        let heard_since = looked.saturating_sub(quiet) > ON_THE_WAY;
        if began.elapsed() > QUIET * 2 && (heard_since || began.elapsed() > LOOKS_MAX) {
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

/// Tells whether a person was asked, which may have taken a while.
fn ask(context: &Context, args: &ResumeArgs, run: &Run, aim: Aim) -> Result<bool, CoordError> {
    let console = context.console;
    let plan = &run.plan;
    let next = match (aim, run.doubtful(), run.next()) {
        (Aim::Abort, _, _) => "what it did is undone as far as it can be".to_owned(),
        (Aim::Resume, _, Next::Do(index)) => run.step(index).map(Step::title).unwrap_or_default(),
        (Aim::Resume, _, _) => "it goes on where it stopped".to_owned(),
    };
    console.note(|out| {
        writeln!(out, "run {}: {}, {}, {}", plan.run, plan.goal, plan.parts(), runs::state(run))?;
        writeln!(out, "next: {next}")
    });
    if args.yes {
        return Ok(false);
    }
    if !console.is_interactive() {
        return Err(CoordError::usage("nobody can be asked whether to go on").hint("say --yes, or run on a terminal"));
    }
    if console.confirms("go on?") {
        return Ok(true);
    }
    Err(CoordError::new(Exit::Interrupted, "not confirmed, nothing was changed"))
}

fn halted(args: &ResumeArgs, aim: Aim, message: String, fault: &Fault) -> CoordError {
    let run = &args.run;
    let mut error = CoordError::new(Exit::Halted, message).because(fault);
    error.run = Some(Box::new(run.clone()));
    let hint = fault.hint.clone().unwrap_or_else(|| "bring its agent back, then run this again".into());
    match aim {
        Aim::Resume => error.hint(format!("{hint}; `coord abort {run}` undoes what can be undone meanwhile")),
        Aim::Abort => error.hint(hint),
    }
}
