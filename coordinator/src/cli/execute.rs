//! From a plan to its end: shown, confirmed, journaled, driven, told.

use baton_proto::control::SaveMethod;
use baton_proto::data::Budget;
use baton_proto::{Fault, FaultKind, InstanceRef, RunId};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::context::Context;
use crate::client::Seat;
use crate::drive::hands::AgentHands;
use crate::drive::{self, DriveError, Interrupts, Log, Watcher};
use crate::error::{CoordError, Exit};
use crate::journal::JournalError;
use crate::journal::copies::Kept;
use crate::observe;
use crate::plan::{Goal, Level, Mode, Plan, Step, Way};
use crate::rate::MaxRate;
use crate::report::progress::Display;
use crate::report::{self, summary};
use crate::run::{End, Event, Run};
use crate::seat;
use crate::topology::describe;

/// What the operator agrees to beforehand.
#[derive(Args)]
pub struct Consent {
    /// Show the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// How a snapshot is moved, for every verb that moves one.
#[derive(Args)]
pub struct Moving {
    /// How the snapshot is made
    #[arg(long, value_enum, default_value_t = SnapshotChoice::Auto)]
    snapshot: SnapshotChoice,
    /// How the snapshot comes into the target's server
    #[arg(long, value_enum, default_value_t = LandingChoice::Auto)]
    landing: LandingChoice,
    /// Go on although the target holds data; its old dump is kept aside
    #[arg(long)]
    pub replace_target_data: bool,
    /// Send no faster than this, such as 50MB/s or 400Mbit/s; `coord rate` changes it meanwhile
    #[arg(long, value_name = "RATE")]
    max_rate: Option<MaxRate>,
    /// Cores of the source that pack the snapshot [default: leaves one to its server]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpu: Option<u32>,
}

impl Moving {
    pub fn method(&self) -> Option<SaveMethod> {
        self.snapshot.method()
    }

    pub fn way(&self) -> Option<Way> {
        self.landing.way()
    }

    pub fn budget(&self) -> Budget {
        Budget { max_rate: self.max_rate.map(MaxRate::bytes_per_second), cpu: self.cpu }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SnapshotChoice {
    /// SAVE where nobody is served meanwhile, else BGSAVE; a stream where the source's disk has no room
    Auto,
    /// The server writes it and serves nobody meanwhile
    Save,
    /// A fork of the server writes it
    Bgsave,
    /// The dump that is there is taken as it is
    Existing,
    /// A fork of the server sends it through memory; nothing is written on the source's disk
    Stream,
}

impl SnapshotChoice {
    pub fn method(self) -> Option<SaveMethod> {
        match self {
            SnapshotChoice::Auto => None,
            SnapshotChoice::Save => Some(SaveMethod::Save),
            SnapshotChoice::Bgsave => Some(SaveMethod::Bgsave),
            SnapshotChoice::Existing => Some(SaveMethod::Existing),
            SnapshotChoice::Stream => Some(SaveMethod::Stream),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LandingChoice {
    /// Live where the target is empty and its server can, else by file
    Auto,
    /// The target's server loads while the bytes arrive
    Live,
    /// The file is put in place, and the target's server is started on it
    File,
}

impl LandingChoice {
    pub fn way(self) -> Option<Way> {
        match self {
            LandingChoice::Auto => None,
            LandingChoice::Live => Some(Way::Live),
            LandingChoice::File => Some(Way::File),
        }
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

/// Shows the plan and, if it may be, carries it out.
pub async fn execute(context: &Context, plan: Plan, consent: &Consent) -> Result<Exit, CoordError> {
    let console = context.console;
    console.result(|out| report::plan::write(&plan, out));
    for event in report::plan::events(&plan) {
        console.event(&event);
    }
    if plan.level() >= Level::Refuse {
        return Err(refused(&plan));
    }
    if consent.dry_run {
        return Ok(Exit::Done);
    }
    if !consent.yes {
        if !console.is_interactive() {
            return Err(
                CoordError::usage("nobody can be asked whether to go on").hint("say --yes, or run on a terminal")
            );
        }
        if !console.confirms("go on?") {
            return Err(CoordError::new(Exit::Interrupted, "not confirmed, nothing was changed"));
        }
    }
    let seat = Seat::new(plan.run.clone(), 1);
    let instances = plan.instances();
    baton_hold::at(|| "claim-before".into()).await;
    seat::take(&context.agents, &instances, &seat).await.map_err(|fault| held(&plan, &fault))?;
    let hosts = seat::hosts(&instances);
    let begun = async {
        let file = context.journals.create(&plan.run)?;
        let mut journal = Kept::new(file, String::new(), &context.agents, &seat, hosts.clone());
        journal.append(&Event::Begun { plan: Box::new(plan.clone()) }).await?;
        Ok::<_, JournalError>(journal)
    };
    match begun.await {
        Ok(mut journal) => carry_out(context, Run::new(plan), &mut journal, &seat, End::Done).await,
        Err(error) => {
            seat::give_back(&context.agents, &hosts, &seat).await;
            Err(CoordError::new(Exit::Preflight, error).hint("mend `state` in coord.toml"))
        }
    }
}

/// Another run has an instance, or its agent cannot tell.
fn held(plan: &Plan, fault: &Fault) -> CoordError {
    let exit = if fault.kind == FaultKind::Held { Exit::Refused } else { Exit::Preflight };
    let mut error = CoordError::of_fault(exit, format!("{} is refused, nothing was changed", plan.goal), fault);
    error.run = Some(Box::new(plan.run.clone()));
    error
}

/// Drives a run, new or taken up again, and tells how it ended. `wanted` is the end that the operator asked for.
pub async fn carry_out(
    context: &Context,
    mut run: Run,
    journal: &mut impl Log,
    seat: &Seat,
    wanted: End,
) -> Result<Exit, CoordError> {
    let display = Display::new(context.console, seat.run.as_str());
    let forecasts = run.plan.forecasts.clone();
    let hands = AgentHands { agents: &context.agents, seat, taken_up: run.taken_up, forecasts: &forecasts };
    let driven = drive::drive(&mut run, &hands, journal, &display, &mut Signals::listen()).await;
    let end = driven.map_err(|error| stopped(&run, &display, &error))?;
    if run.is_over() {
        give_back(context, &run.plan, seat).await;
    }
    context.console.event(&summary::event(&run, end));
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

/// Gives back what the run has, also of the lost primary's agent.
pub async fn give_back(context: &Context, plan: &Plan, seat: &Seat) {
    let own = plan.steps.iter().filter_map(|step| match step {
        Step::Depose { own, .. } => own.as_ref(),
        _ => None,
    });
    let hosts = seat::hosts(plan.instances().iter().chain(own));
    seat::give_back(&context.agents, &hosts, seat).await;
}

/// What the operator, the terminal or the system sends when the command is to end.
struct Signals([Option<Signal>; 3]);

impl Signals {
    fn listen() -> Signals {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Signals(kinds.map(|kind| signal(kind).ok()))
    }
}

impl Interrupts for Signals {
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = caught(interrupt) => {}
            () = caught(terminate) => {}
            () = caught(hangup) => {}
        }
    }
}

async fn caught(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn exit_of(end: End, run: &Run) -> Exit {
    let mismatch = run.failure.as_ref().is_some_and(|failure| failure.fault.kind == FaultKind::Verification);
    match end {
        End::Done => Exit::Done,
        End::Degraded => Exit::Degraded,
        End::Refused => Exit::Refused,
        End::RolledBack if mismatch => Exit::Mismatch,
        End::RolledBack => Exit::RolledBack,
        End::Interrupted => Exit::Interrupted,
        End::Failed => Exit::Halted,
    }
}

fn refused(plan: &Plan) -> CoordError {
    let exit = if plan.level() == Level::Danger { Exit::Refused } else { Exit::Preflight };
    let mut error = CoordError::new(exit, format!("{} is refused, nothing was changed", plan.goal));
    for check in plan.refusals() {
        error = error.because(format!("{}: {}", check.id, check.says));
    }
    error.hint = plan.refusals().find_map(|check| check.remedy.clone());
    error.run = Some(Box::new(plan.run.clone()));
    error
}

fn stopped(run: &Run, display: &Display, error: &DriveError) -> CoordError {
    display.on_event(run, &Event::Ended { end: End::Failed });
    if let DriveError::Held(fault) = error {
        let mut converted = CoordError::of_fault(Exit::Halted, "nothing more is done here", fault);
        converted.run = Some(Box::new(run.plan.run.clone()));
        return converted.hint(format!("watch it with `coord show {} -f`", run.plan.run));
    }
    let mut converted = CoordError::new(Exit::Halted, error);
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        converted = converted.because(cause);
        source = cause.source();
    }
    let id = &run.plan.run;
    converted
        .hint(format!("mend what keeps the journal from being written, then `coord resume {id}` or `coord abort {id}`"))
}

async fn failed(context: &Context, run: &Run, end: End, exit: Exit) -> CoordError {
    let plan = &run.plan;
    let what = match end {
        End::RolledBack => "failed and was rolled back",
        End::Refused => "was refused and rolled back",
        End::Interrupted => "was interrupted",
        _ => "stopped half-way",
    };
    let mut error = match &run.failure {
        Some(failure) => {
            let step = run.step(failure.index).map_or("step", Step::name);
            let mut error = CoordError::of_fault(exit, step, &failure.fault);
            error.causes.push(format!("run {} {what}", plan.run));
            error
        }
        None => CoordError::new(exit, format!("run {} {what}", plan.run)),
    };
    for undo in &run.undo_failures {
        let step = run.step(undo.index).map_or("step", Step::name);
        error.causes.push(format!("undo of {step}: {}", undo.fault));
    }
    error.told = true;
    error.state = states(context, plan).await;
    let again = if run.is_over() { again(plan) } else { format!("`coord resume {0}`, or `coord abort {0}`", plan.run) };
    error.hint = Some(match (error.hint.take(), end) {
        (Some(hint), _) => format!("{hint}; then {again}"),
        (None, End::Interrupted) => format!("its agents finish what they were doing; to go on, {again}"),
        (None, _) => format!("mend the cause, then {again}"),
    });
    error
}

/// The command that tries once more.
fn again(plan: &Plan) -> String {
    if let Goal::Switchover { .. } = plan.goal {
        return format!("run `coord switchover {} --to {}`", plan.source, plan.target);
    }
    if plan.goal == Goal::Rejoin {
        return format!("run `coord rejoin {}`", plan.target);
    }
    match &plan.failed {
        Some(failed) => {
            let mode = if plan.goal == Goal::Failover(Mode::Promote) { " --mode promote" } else { "" };
            format!("run `coord failover {failed} --to {}{mode}`", plan.target)
        }
        None => {
            if plan.goal == Goal::Clone {
                return format!("run `coord clone {} {}`", plan.source, plan.target);
            }
            let start = if plan.goal == (Goal::Copy { start: true }) { " --start" } else { "" };
            format!("run `coord copy {} {}{start}`", plan.source, plan.target)
        }
    }
}

/// A sentence for each host involved, from a fresh look.
async fn states(context: &Context, plan: &Plan) -> Vec<String> {
    let mut involved: Vec<&InstanceRef> = vec![&plan.source, &plan.target];
    involved.extend(&plan.siblings);
    let mut hosts: Vec<_> = involved.iter().map(|instance| instance.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    let world = observe::observe(&context.inventory, &context.agents, &hosts).await;
    involved.into_iter().map(|instance| describe(&world, instance)).collect()
}
