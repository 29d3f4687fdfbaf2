//! How a run that did not come to a good end is told: the error, the state of every host involved, and the next command.

use baton_proto::{FaultKind, InstanceRef};

use crate::cli::context::Context;
use crate::drive::{DriveError, Watcher};
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::{Goal, Level, Mode, Plan, Step};
use crate::report::progress::Display;
use crate::run::{End, Event, Run};
use crate::topology::describe;

pub(super) fn exit_of(end: End, run: &Run) -> Exit {
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

pub(super) fn refused(plan: &Plan) -> CoordError {
    let exit = if plan.level() == Level::Danger { Exit::Refused } else { Exit::Preflight };
    let mut error = CoordError::new(exit, format!("{} is refused, nothing was changed", plan.goal));
    for check in plan.refusals() {
        error = error.because(format!("{}: {}", check.id, check.says));
    }
    error.hint = plan.refusals().find_map(|check| check.remedy.clone());
    error.run = Some(Box::new(plan.run.clone()));
    error
}

pub(super) fn stopped(run: &Run, display: &Display, error: &DriveError) -> CoordError {
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

pub(super) async fn failed(context: &Context, run: &Run, end: End, exit: Exit) -> CoordError {
    let mut error = failure(run, end, exit);
    error.state = states(context, &run.plan).await;
    error
}

/// The error without a fresh look at the hosts.
pub(super) fn failure(run: &Run, end: End, exit: Exit) -> CoordError {
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
        error.causes.extend(undo.fault.hint.iter().map(|hint| format!("  by hand: {hint}")));
    }
    error.told = true;
    let gone = run.undo_failures.iter().any(|undo| undo.fault.kind == FaultKind::Peer);
    let again = if gone {
        format!(
            "`coord abort {0}` tries it again; `coord abort {0} --without HOST` gives up a host that is gone for good",
            plan.run
        )
    } else if run.is_over() {
        again(plan)
    } else {
        format!("`coord resume {0}`, or `coord abort {0}`", plan.run)
    };
    error.hint = Some(match (error.hint.take(), end) {
        (Some(hint), _) => format!("{hint}; then {again}"),
        (None, End::Interrupted) => format!("its agents finish what they were doing; to go on, {again}"),
        (None, _) => format!("mend the cause, then {again}"),
    });
    error
}

/// The command to give next for a run that ended so, if one is needed.
pub(super) fn next(run: &Run, end: End) -> Option<String> {
    let id = &run.plan.run;
    match end {
        End::Done => None,
        End::Degraded if run.is_over() => Some(format!("coord show {id}")),
        _ if run.is_over() => Some(again(&run.plan).trim_start_matches("run `").trim_end_matches('`').to_owned()),
        _ if run.undo_failures.is_empty() => Some(format!("coord resume {id}")),
        _ => Some(format!("coord abort {id}")),
    }
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
pub(super) async fn states(context: &Context, plan: &Plan) -> Vec<String> {
    let mut involved: Vec<&InstanceRef> = vec![&plan.source, &plan.target];
    involved.extend(&plan.siblings);
    let mut hosts: Vec<_> = involved.iter().map(|instance| instance.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    let world = observe::observe(&context.inventory, &context.agents, &hosts).await;
    involved.into_iter().map(|instance| describe(&world, instance)).collect()
}
