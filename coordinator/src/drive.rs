//! Carries a run out: asks the machine what comes next, has it done, writes down what happened.
//!
//! The order is fixed: a step's start is in the journal before anything is done, its end before the next step starts. If
//! the journal cannot be written the run stops there.

pub mod hands;

use std::future::Future;
use std::time::Instant;

use baton_proto::control::Progress;
use baton_proto::{Fault, InstanceRef};

use crate::journal::JournalError;
use crate::plan::Step;
use crate::run::machine::MachineError;
use crate::run::{End, Event, Learnt, Ledger, Next, Run};

/// Does what steps say. The real one orders agents about; tests have their own.
pub trait Hands {
    fn perform(
        &self,
        step: &Step,
        ledger: &Ledger,
        progress: &(dyn Fn(&InstanceRef, &Progress) + Sync),
    ) -> impl Future<Output = Result<Vec<Learnt>, Fault>> + Send;

    fn undo(&self, step: &Step) -> impl Future<Output = Result<Vec<Learnt>, Fault>> + Send;
}

/// Where events are kept.
pub trait Log {
    fn append(&mut self, event: &Event) -> Result<(), JournalError>;
}

impl Log for crate::journal::Journal {
    fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        crate::journal::Journal::append(self, event)
    }
}

/// Hears of events and progress, and shows them.
pub trait Watcher: Sync {
    fn on_event(&self, run: &Run, event: &Event);
    fn on_progress(&self, step: &Step, on: &InstanceRef, progress: &Progress);
}

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("the run's journal cannot be written, so the run stops here")]
    Journal(#[from] JournalError),
    #[error("the run does not follow its plan")]
    Machine(#[from] MachineError),
}

/// Drives a run to its end. `interrupted` resolves when the operator wants it to stop; what agents are doing then, they
/// finish by themselves.
pub async fn drive(
    run: &mut Run,
    hands: &impl Hands,
    log: &mut impl Log,
    watcher: &impl Watcher,
    interrupted: impl Future<Output = ()>,
) -> Result<End, DriveError> {
    let mut interrupted = std::pin::pin!(interrupted);
    loop {
        let (before, index) = match run.next() {
            Next::End(end) => {
                record(run, log, watcher, Event::Ended { end })?;
                return Ok(end);
            }
            Next::Do(index) => (Event::StepStarted { index, step: name(run, index) }, index),
            Next::Undo(index) => (Event::UndoStarted { index, step: name(run, index) }, index),
        };
        let undoing = matches!(before, Event::UndoStarted { .. });
        let Some(step) = run.step(index).cloned() else {
            return Err(MachineError::NoPlan.into());
        };
        record(run, log, watcher, before)?;
        let started = Instant::now();
        let shown = |on: &InstanceRef, progress: &Progress| watcher.on_progress(&step, on, progress);
        let work =
            async { if undoing { hands.undo(&step).await } else { hands.perform(&step, &run.ledger, &shown).await } };
        let result = tokio::select! {
            result = work => result,
            () = &mut interrupted => {
                record(run, log, watcher, Event::Interrupted)?;
                continue;
            }
        };
        let (step, seconds) = (step.name().to_owned(), started.elapsed().as_secs_f64());
        let after = match (undoing, result) {
            (false, Ok(learnt)) => Event::StepDone { index, step, seconds, learnt },
            (false, Err(fault)) => Event::StepFailed { index, step, fault },
            (true, Ok(learnt)) => Event::Undone { index, step, learnt },
            (true, Err(fault)) => Event::UndoFailed { index, step, fault },
        };
        record(run, log, watcher, after)?;
    }
}

fn record(run: &mut Run, log: &mut impl Log, watcher: &impl Watcher, event: Event) -> Result<(), DriveError> {
    log.append(&event)?;
    run.apply(event.clone())?;
    watcher.on_event(run, &event);
    Ok(())
}

fn name(run: &Run, index: usize) -> String {
    run.step(index).map_or("", Step::name).to_owned()
}

#[cfg(test)]
mod tests;
