//! From a plan to its end: shown, confirmed, journaled, driven, told.

use std::future::Future;

use baton_proto::{Fault, FaultKind, RunId};
use clap::Args;

use crate::cli::context::Context;
use crate::cli::ended::{exit_of, failed, refused, states, stopped};
use crate::cli::signals::Signals;
use crate::client::Seat;
use crate::drive::hands::AgentHands;
use crate::drive::{self, Hands, Log};
use crate::error::{CoordError, Exit};
use crate::journal::JournalError;
use crate::journal::kept::Kept;
use crate::observe;
use crate::plan::{Level, Plan};
use crate::report::console::Console;
use crate::report::progress::Display;
use crate::report::{self, summary};
use crate::run::{End, Event, Run};
use crate::seat;

/// What the operator agrees to beforehand.
#[derive(Args)]
pub struct Consent {
    /// Show the plan and stop
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Asks the operator, unless that was answered beforehand.
    pub(super) async fn obtain(&self, console: Console, signals: &mut Signals) -> Result<(), CoordError> {
        if self.yes {
            return Ok(());
        }
        if !console.is_interactive() {
            return Err(
                CoordError::usage("nobody can be asked whether to go on").hint("say --yes, or run on a terminal")
            );
        }
        if !signals.unless(async { Ok(console.confirmed("go on?").await) }).await? {
            return Err(CoordError::new(Exit::Interrupted, "not confirmed, nothing was changed"));
        }
        Ok(())
    }
}

/// Letters of run names: none that are taken for another when read aloud or off a screen.
const ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstvwxyz";
const RUN_LETTERS: usize = 4;
/// How often a name is drawn until a free one is found; among 810 000 the first is nearly always free.
const DRAWS_MAX: usize = 100;

/// Names a new run.
pub fn new_run(context: &Context, verb: &str) -> Result<RunId, CoordError> {
    for _ in 0..DRAWS_MAX {
        let letters = (0..RUN_LETTERS).map(|_| {
            let draw = rand::random_range(0..ALPHABET.len());
            ALPHABET.get(draw).copied().map_or('x', char::from)
        });
        let name: String = format!("{verb}-").chars().chain(letters).collect();
        let run = RunId::new(&name).map_err(|error| CoordError::new(Exit::Defect, error))?;
        if !context.journals.exists(&run) {
            return Ok(run);
        }
    }
    Err(CoordError::new(Exit::Defect, "no free run name was found").hint("clear out old journals"))
}

/// Has a plan made, which changes nothing, and goes on with it.
pub async fn execute(
    context: &Context,
    plan: impl Future<Output = Result<Plan, CoordError>>,
    consent: &Consent,
) -> Result<Exit, CoordError> {
    let mut signals = Signals::listen();
    let plan = looked(plan, &mut signals).await?;
    go_on(context, plan, consent, &mut signals).await
}

/// Has plans made, which is left at once when the command is to end.
pub(super) async fn looked<T>(
    plan: impl Future<Output = Result<T, CoordError>>,
    signals: &mut Signals,
) -> Result<T, CoordError> {
    let looking = async {
        baton_hold::at(|| "look-before".into()).await;
        plan.await
    };
    signals.unless(looking).await
}

/// Shows the plan and, if it may be, carries it out.
pub(super) async fn go_on(
    context: &Context,
    plan: Plan,
    consent: &Consent,
    signals: &mut Signals,
) -> Result<Exit, CoordError> {
    let console = context.console;
    console.result(|out| report::plan::write(&plan, out));
    for event in report::plan::events(&plan) {
        console.event(&event);
    }
    if plan.level() >= Level::Refuse {
        return Err(match rival(context, &plan).await {
            Some(rival) => rival,
            None => refused(&plan),
        });
    }
    if consent.dry_run {
        return Ok(Exit::Done);
    }
    consent.obtain(console, signals).await?;
    let seat = Seat::new(plan.run.clone(), 1);
    let mut journal = begin(context, &plan, &seat).await?;
    drive_on(context, Run::new(plan), &mut journal, &seat, (End::Done, signals)).await
}

/// Claims all that a new run changes, and begins its journal.
pub(super) async fn begin<'a>(context: &'a Context, plan: &Plan, seat: &'a Seat) -> Result<Kept<'a>, CoordError> {
    let instances = plan.instances();
    baton_hold::at(|| "claim-before".into()).await;
    seat::take(&context.agents, &instances, seat).await.map_err(|fault| held(plan, &fault))?;
    baton_hold::at(|| "claim-after".into()).await;
    let hosts = seat::hosts(&instances);
    let begun = async {
        let file = context.journals.create(&plan.run)?;
        let mut journal = Kept::new(file, String::new(), &context.agents, seat, instances);
        let begun = Event::Begun { plan: Box::new(plan.clone()), by: context.operator.clone() };
        // Nothing is done on a host before that host has it.
        journal.append(&begun, Some(&[])).await?;
        Ok::<_, JournalError>(journal)
    };
    match begun.await {
        Ok(journal) => Ok(journal),
        Err(error) => {
            seat::give_back(&context.agents, &hosts, seat).await;
            let hint = error.hint();
            Err(CoordError::new(Exit::Preflight, error).hint(hint))
        }
    }
}

/// Another run that took the servers while the plan was made: what it had done by then may be all that the checks saw.
async fn rival(context: &Context, plan: &Plan) -> Option<CoordError> {
    if plan.refusals().any(|check| check.id == "held") {
        return None;
    }
    let instances = plan.instances();
    let world = observe::observe(&context.inventory, &context.agents, &seat::hosts(&instances)).await;
    let claims = instances.iter().filter_map(|instance| Some((instance, world.instance(instance)?.claim.as_ref()?)));
    let (instance, claim) = claims.into_iter().find(|(_, claim)| claim.run != plan.run)?;
    let run = &claim.run;
    let fault = Fault::new(FaultKind::Held, format!("{instance} is held by run {run} of operator {}", claim.by))
        .because("it took the servers while this plan was made")
        .hint(format!("watch it with `coord show {run} -f`"));
    Some(held(plan, &fault))
}

/// Another run has an instance, or its agent cannot tell.
fn held(plan: &Plan, fault: &Fault) -> CoordError {
    let exit = if fault.kind == FaultKind::Held { Exit::Refused } else { Exit::Preflight };
    let mut error = CoordError::of_fault(exit, format!("{} is refused, nothing was changed", plan.goal), fault);
    error.run = Some(Box::new(plan.run.clone()));
    error
}

/// Drives a run that is taken up again, and tells how it ended. `wanted` is the end that the operator asked for.
pub async fn carry_out(
    context: &Context,
    run: Run,
    journal: &mut impl Log,
    seat: &Seat,
    wanted: End,
) -> Result<Exit, CoordError> {
    drive_on(context, run, journal, seat, (wanted, &mut Signals::listen())).await
}

async fn drive_on(
    context: &Context,
    mut run: Run,
    journal: &mut impl Log,
    seat: &Seat,
    (wanted, signals): (End, &mut Signals),
) -> Result<Exit, CoordError> {
    let display = Display::new(context.console, seat.run.as_str());
    let forecasts = run.plan.forecasts.clone();
    let hands = AgentHands { agents: &context.agents, seat, taken_up: run.taken_up, forecasts: &forecasts };
    let end = drive_to_end(context, &mut run, journal, &hands, (&display, signals), seat).await?;
    let exit = if end == wanted { Exit::Done } else { exit_of(end, &run) };
    if end == wanted && end == End::RolledBack {
        let states = states(context, &run.plan).await;
        context.console.result(|out| {
            writeln!(out, "run {} is aborted: all that it did is undone, but for the fence", seat.run)?;
            states.iter().try_for_each(|state| writeln!(out, "  state     {state}"))
        });
        return Ok(exit);
    }
    if matches!(end, End::Done | End::Degraded) {
        context.console.result(|out| summary::write(&run, end, context.console.verbose, out));
        return Ok(exit);
    }
    Err(failed(context, &run, end, exit).await)
}

/// Drives a run until it ends or stops, gives back what it has if it is over, and tells programs how it ended.
pub(super) async fn drive_to_end(
    context: &Context,
    run: &mut Run,
    journal: &mut impl Log,
    hands: &impl Hands,
    (display, signals): (&Display, &mut Signals),
    seat: &Seat,
) -> Result<End, CoordError> {
    let driven = drive::drive(run, hands, journal, display, signals).await;
    let end = driven.map_err(|error| stopped(run, display, &error))?;
    if run.is_over() {
        give_back(context, &run.plan, seat).await;
    }
    context.console.event(&summary::event(run, end));
    Ok(end)
}

/// Gives back what the run has, also of the lost primary's agent.
pub async fn give_back(context: &Context, plan: &Plan, seat: &Seat) {
    let hosts = seat::hosts(plan.instances().iter().chain(&plan.outsiders()));
    for fault in seat::give_back(&context.agents, &hosts, seat).await {
        let run = &seat.run;
        context.console.note(|out| {
            writeln!(
                out,
                "warning: a host still holds what run {run} had: {fault}; when it answers, `coord abort {run}` frees it"
            )
        });
    }
}
