//! `coord runs` and `coord show RUN`: what the journals tell.

use std::time::Duration;

use baton_proto::RunId;
use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::error::{CoordError, Exit};
use crate::inventory::{Inventory, Places};
use crate::journal::find::{Found, find};
use crate::journal::{JournalError, Journals, Record};
use crate::observe::{OBSERVE_TIMEOUT, together};
use crate::report::console::Console;
use crate::report::progress::is_begun_only;
use crate::report::{self, summary, units};
use crate::run::{Aim, End, Event, Next, Run};

/// Opens the journals; no agent is needed to read them.
fn journals(config: Option<&std::path::Path>) -> Result<Journals, CoordError> {
    Ok(Journals::new(&Inventory::find(config, &Places::of_environment())?.state))
}

#[derive(Args)]
pub struct RunsArgs {
    /// Ask all agents as well: they keep the journals of runs that were driven from other machines
    #[arg(long)]
    pub agents: bool,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The run's name, such as fo-7k2m
    run: RunId,
    /// Go on showing what happens, until the run has ended
    #[arg(long, short = 'f')]
    follow: bool,
}

/// How often a run that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Lists the runs of this machine, newest first.
pub fn list(config: Option<&std::path::Path>, console: Console) -> Result<Exit, CoordError> {
    let journals = journals(config)?;
    let runs = journals.list().map_err(unreadable)?;
    if runs.is_empty() {
        console.result(|out| writeln!(out, "no runs yet; `coord runs --agents` asks the agents as well"));
    }
    for run in runs {
        tell(&run, journals.read(&run).map_err(unreadable), console);
    }
    Ok(Exit::Done)
}

/// Lists the runs of this machine and those that agents know of.
pub async fn list_everywhere(context: &Context) -> Result<Exit, CoordError> {
    let mut runs = context.journals.list().map_err(unreadable)?;
    let told = together(context.inventory.names(), |host| async move {
        tokio::time::timeout(OBSERVE_TIMEOUT, context.agents.runs(&host)).await.ok()?.ok()
    });
    for run in told.await.into_iter().flatten().flatten() {
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let mut found = Vec::new();
    for run in runs {
        let journal = find(&context.journals, context.inventory.names(), &context.agents, &run).await;
        let records = journal.map_err(unreadable).map(|journal| {
            warn_of(&journal, &run, context.console);
            journal.records
        });
        found.push((records.as_ref().map_or(0, |records| begun(records)), run, records));
    }
    found.sort_by_key(|(begun, ..)| std::cmp::Reverse(*begun));
    for (_, run, records) in found {
        tell(&run, records, context.console);
    }
    Ok(Exit::Done)
}

/// Tells of a run in a line. One damaged journal must not hide the others.
fn tell(run: &RunId, records: Result<Vec<Record>, CoordError>, console: Console) {
    match records.and_then(|records| Ok((begun(&records), replay(&records)?))) {
        Ok((begun, replayed)) => {
            let plan = &replayed.plan;
            let state = state(&replayed);
            console.event(&json!({
                "event": "run", "run": run, "goal": plan.goal.to_string(), "begun_unix_ms": begun, "state": state,
                "failed": plan.failed, "source": plan.source.to_string(), "target": plan.target.to_string(),
            }));
            console.result(|out| {
                let about = plan.parts();
                writeln!(out, "{run:<10} {:<20} {:<18} {about:<28} {state}", time(begun), plan.goal)
            });
        }
        Err(error) => console.note(|out| writeln!(out, "warning: {run}: {}", error.message)),
    }
}

/// Shows one run: its plan, its events, how it ended. One that is followed is shown until it has.
pub async fn show(context: &Context, args: &ShowArgs) -> Result<Exit, CoordError> {
    let (run, console) = (&args.run, context.console);
    let mut shown = 0;
    let replayed = loop {
        let found = find(&context.journals, context.inventory.names(), &context.agents, run).await;
        let found = found.map_err(unreadable)?;
        if shown == 0 {
            warn_of(&found, run, console);
        }
        let records = found.records;
        let replayed = replay(&records)?;
        let fresh = records.get(shown..).unwrap_or_default();
        for record in fresh {
            console.event(
                &json!({ "event": "record", "run": run, "at_unix_ms": record.at_unix_ms, "record": record.event }),
            );
        }
        console.result(|out| {
            if shown == 0 {
                report::plan::write(&replayed.plan, out)?;
            }
            for record in fresh {
                if let Some(line) = describe(&record.event) {
                    writeln!(out, " {}  {line}", time(record.at_unix_ms))?;
                }
            }
            Ok(())
        });
        shown = records.len();
        if !args.follow || matches!(replayed.next(), Next::End(_)) {
            break replayed;
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    };
    console.result(|out| match replayed.next() {
        Next::End(end) => {
            writeln!(out, "ended: {}", state(&replayed))?;
            summary::write(&replayed, end, console.verbose, out)?;
            if replayed.is_over() {
                Ok(())
            } else {
                writeln!(out, "to go on: `coord resume {run}`, or `coord abort {run}`")
            }
        }
        _ => writeln!(out, "not ended: {}", state(&replayed)),
    });
    if let Next::End(end) = replayed.next() {
        console.event(&summary::event(&replayed, end));
    }
    Ok(Exit::Done)
}

/// What nobody would act on can be looked at all the same.
fn warn_of(found: &Found, run: &RunId, console: Console) {
    if let Some(doubt) = found.doubted(run) {
        console.note(|out| writeln!(out, "warning: {doubt}"));
    }
}

pub(super) fn replay(records: &[Record]) -> Result<Run, CoordError> {
    let events = records.iter().map(|record| record.event.clone());
    Run::replay(events).map_err(|error| CoordError::new(Exit::Defect, "the journal makes no sense").because(error))
}

pub(super) fn unreadable(error: JournalError) -> CoordError {
    if let JournalError::Unsealed { run, host, .. } = &error {
        let hint = format!(
            "see what it says with `coord show {run}`; `coord resume {run} --believe {host}` goes by it, and \
             `coord abort {run} --without {host}` undoes the run by what the others keep"
        );
        return CoordError::new(Exit::Refused, &error).hint(hint);
    }
    let unknown = matches!(error, JournalError::Unknown { .. });
    let newer = matches!(error, JournalError::Line { .. } | JournalError::Copy { .. });
    let converted = CoordError::new(if unknown { Exit::Usage } else { Exit::Defect }, error);
    match (unknown, newer) {
        (true, _) => converted.hint("`coord runs --agents` lists them"),
        (_, true) => converted.hint("if a newer coord began the run, take it up with that one"),
        _ => converted,
    }
}

fn begun(records: &[Record]) -> u64 {
    records.first().map_or(0, |record| record.at_unix_ms)
}

pub(super) fn state(run: &Run) -> String {
    match run.next() {
        Next::End(End::Done) => "done".into(),
        Next::End(End::Degraded) if run.is_over() => "degraded".into(),
        Next::End(End::Degraded) => "degraded, and not cleared away".into(),
        Next::End(End::Refused) => "refused".into(),
        Next::End(End::RolledBack) => "rolled-back".into(),
        Next::End(End::Interrupted) => "interrupted".into(),
        Next::End(End::Failed) => "failed".into(),
        Next::Do(index) => format!("at step {} of {}", index + 1, run.plan.steps.len()),
        Next::Undo(index) => format!("undoing step {}", index + 1),
    }
}

fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::Begun { by, .. } => format!("begun by {by}"),
        Event::StepStarted { step, .. } => format!("{step} started"),
        Event::StepDone { step, seconds, learnt, .. } if is_begun_only(step, learnt) => {
            format!("{step} begun in {}, to be sent while it is written", units::Seconds(*seconds))
        }
        Event::StepDone { step, seconds, .. } => format!("{step} done in {}", units::Seconds(*seconds)),
        Event::StepFailed { step, fault, .. } => format!("{step} failed: {fault}"),
        Event::UndoStarted { step, .. } => format!("undo of {step} started"),
        Event::Undone { step, .. } => format!("{step} undone"),
        Event::UndoFailed { step, fault, .. } => format!("undo of {step} failed: {fault}"),
        Event::TakenUp { by, to: Aim::Resume, .. } => format!("taken up by {by}, to go on"),
        Event::TakenUp { by, to: Aim::Abort, .. } => format!("taken up by {by}, to be undone"),
        Event::Interrupted => "interrupted".into(),
        Event::Ended { .. } => return None,
    })
}

/// A time as RFC 3339 in UTC.
fn time(unix_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(at).to_string()
}
