//! `coord runs` and `coord show RUN`: what the journals tell.

use baton_proto::RunId;
use serde_json::json;

use crate::error::{CoordError, Exit};
use crate::inventory::{Inventory, Places};
use crate::journal::{JournalError, Journals, Record};
use crate::report::console::Console;
use crate::report::progress::is_begun_only;
use crate::report::{self, summary, units};
use crate::run::{End, Event, Next, Run};

/// Opens the journals; no agent is needed to read them.
fn journals(config: Option<&std::path::Path>) -> Result<Journals, CoordError> {
    Ok(Journals::new(&Inventory::find(config, &Places::of_environment())?.state))
}

/// Lists the runs, newest first.
pub fn list(config: Option<&std::path::Path>, console: Console) -> Result<Exit, CoordError> {
    let journals = journals(config)?;
    let runs = journals.list().map_err(unreadable)?;
    if runs.is_empty() {
        console.result(|out| writeln!(out, "no runs yet"));
    }
    for run in runs {
        // One damaged journal must not hide the others.
        match journals.read(&run).map_err(unreadable).and_then(|records| Ok((begun(&records), replay(&records)?))) {
            Ok((begun, replayed)) => {
                let plan = &replayed.plan;
                let state = state(&replayed);
                console.event(&json!({
                    "event": "run", "run": run, "goal": plan.goal.to_string(), "begun_unix_ms": begun, "state": state,
                    "failed": plan.failed, "source": plan.source.to_string(), "target": plan.target.to_string(),
                }));
                console.result(|out| {
                    let about = format!("{} -> {}", plan.source, plan.target);
                    writeln!(out, "{run:<10} {:<20} {:<18} {about:<28} {state}", time(begun), plan.goal)
                });
            }
            Err(error) => console.note(|out| writeln!(out, "warning: {run}: {}", error.message)),
        }
    }
    Ok(Exit::Done)
}

/// Shows one run: its plan, its events, how it ended.
pub fn show(config: Option<&std::path::Path>, run: &RunId, console: Console) -> Result<Exit, CoordError> {
    let records = journals(config)?.read(run).map_err(unreadable)?;
    let replayed = replay(&records)?;
    for record in &records {
        console
            .event(&json!({ "event": "record", "run": run, "at_unix_ms": record.at_unix_ms, "record": record.event }));
    }
    console.result(|out| {
        report::plan::write(&replayed.plan, out)?;
        for record in &records {
            if let Some(line) = describe(&record.event) {
                writeln!(out, " {}  {line}", time(record.at_unix_ms))?;
            }
        }
        match replayed.next() {
            Next::End(end) => {
                writeln!(out, "ended: {}", state(&replayed))?;
                summary::write(&replayed, end, console.verbose, out)
            }
            _ => writeln!(out, "not ended: {}", state(&replayed)),
        }
    });
    if let Next::End(end) = replayed.next() {
        console.event(&summary::event(&replayed, end));
    }
    Ok(Exit::Done)
}

pub(super) fn replay(records: &[Record]) -> Result<Run, CoordError> {
    let events = records.iter().map(|record| record.event.clone());
    Run::replay(events).map_err(|error| CoordError::new(Exit::Defect, "the journal makes no sense").because(error))
}

pub(super) fn unreadable(error: JournalError) -> CoordError {
    let unknown = matches!(error, JournalError::Unknown { .. });
    let converted = CoordError::new(if unknown { Exit::Usage } else { Exit::Defect }, error);
    if unknown { converted.hint("`coord runs` lists them") } else { converted }
}

fn begun(records: &[Record]) -> u64 {
    records.first().map_or(0, |record| record.at_unix_ms)
}

pub(super) fn state(run: &Run) -> String {
    match run.next() {
        Next::End(End::Done) => "done".into(),
        Next::End(End::Degraded) => "degraded".into(),
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
        Event::Begun { .. } => "begun".into(),
        Event::StepStarted { step, .. } => format!("{step} started"),
        Event::StepDone { step, seconds, learnt, .. } if is_begun_only(step, learnt) => {
            format!("{step} begun in {}, to be sent while it is written", units::Seconds(*seconds))
        }
        Event::StepDone { step, seconds, .. } => format!("{step} done in {}", units::Seconds(*seconds)),
        Event::StepFailed { step, fault, .. } => format!("{step} failed: {fault}"),
        Event::UndoStarted { step, .. } => format!("undo of {step} started"),
        Event::Undone { step, .. } => format!("{step} undone"),
        Event::UndoFailed { step, fault, .. } => format!("undo of {step} failed: {fault}"),
        Event::Interrupted => "interrupted".into(),
        Event::Ended { .. } => return None,
    })
}

/// A time as RFC 3339 in UTC.
fn time(unix_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(at).to_string()
}
