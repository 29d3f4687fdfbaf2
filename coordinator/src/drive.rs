//! Carries a run out: asks the machine what comes next, has it done, writes down what happened.
//!
//! The order is fixed: a step's start is in the journal before anything is done, its end before the next step starts. If
//! the journal cannot be written the run stops there.

pub mod hands;

use std::future::Future;
use std::time::Instant;

use baton_proto::control::Progress;
use baton_proto::{Fault, FaultKind, HostName, InstanceRef};

use crate::journal::JournalError;
use crate::plan::Step;
use crate::run::machine::MachineError;
use crate::run::{End, Event, Learnt, Ledger, Next, Run};
use crate::seat::hosts;

/// Does what steps say. The real one orders agents about; tests have their own.
pub trait Hands {
    /// Waits until a step may be begun. Of many runs each has its turn; one alone always has.
    fn admitted(&self, _: &Step) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

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
    /// What is done next on the word of the event is done on these hosts; on any, if they are not told.
    fn append(
        &mut self,
        event: &Event,
        acts_on: Option<&[HostName]>,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Goes on having the event kept in other places too, while it is acted on. Ends when another coordinator has the run.
    fn spread(&mut self) -> impl Future<Output = Fault> + Send {
        std::future::pending()
    }
}

/// How the operator says that the run is to stop: once, and once more if it is to be left at once.
pub trait Interrupts {
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

/// Hears of events and progress, and shows them.
pub trait Watcher: Sync {
    fn on_event(&self, run: &Run, event: &Event);
    fn on_progress(&self, step: &Step, on: &InstanceRef, progress: &Progress);
    /// The run stops after this step.
    fn on_stopping(&self, step: &Step);
}

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("the run's journal cannot be written, so the run stops here")]
    Journal(JournalError),
    /// Another coordinator has taken the run up. Nothing more is done or written here.
    #[error("{0}")]
    Held(Fault),
    #[error("the run does not follow its plan")]
    Machine(#[from] MachineError),
}

impl From<JournalError> for DriveError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Held(fault) => DriveError::Held(fault),
            other => DriveError::Journal(other),
        }
    }
}

/// Drives a run to its end. Interrupted, it stops at the next point at which it can be resumed or aborted: after the step,
/// or at once in one that agents go on with by themselves.
pub async fn drive(
    run: &mut Run,
    hands: &impl Hands,
    log: &mut impl Log,
    watcher: &impl Watcher,
    interrupts: &mut impl Interrupts,
) -> Result<End, DriveError> {
    let mut stopping = false;
    loop {
        if stopping && matches!(run.next(), Next::Do(_) | Next::Undo(_)) {
            record(run, log, watcher, Event::Interrupted, None).await?;
        }
        let (before, index) = match run.next() {
            Next::End(end) => {
                record(run, log, watcher, Event::Ended { end }, None).await?;
                return Ok(end);
            }
            Next::Do(index) => (Event::StepStarted { index, step: name(run, index) }, index),
            Next::Undo(index) => (Event::UndoStarted { index, step: name(run, index) }, index),
        };
        let undoing = matches!(before, Event::UndoStarted { .. });
        let Some(step) = run.step(index).cloned() else {
            return Err(MachineError::NoPlan.into());
        };
        if !undoing {
            tokio::select! {
                biased;
                () = hands.admitted(&step) => {}
                () = interrupts.next() => {
                    stopping = true;
                    continue;
                }
                held = log.spread() => return Err(DriveError::Held(held)),
            }
        }
        let acts_on = if undoing { None } else { Some(hosts(step.acts_on())) };
        record(run, log, watcher, before, acts_on.as_deref()).await?;
        let point = if undoing { format!("undo-{}", step.name()) } else { step.name().to_owned() };
        tokio::select! {
            biased;
            () = baton_hold::at(|| format!("{point}-before")) => {}
            held = log.spread() => return Err(DriveError::Held(held)),
        }
        let started = Instant::now();
        let shown = |on: &InstanceRef, progress: &Progress| watcher.on_progress(&step, on, progress);
        let work =
            async { if undoing { hands.undo(&step).await } else { hands.perform(&step, &run.ledger, &shown).await } };
        let result = tokio::select! {
            result = work => result,
            () = left(&step, undoing, interrupts, watcher, &mut stopping) => continue,
            held = log.spread() => return Err(DriveError::Held(held)),
        };
        if let Err(fault) = &result
            && fault.kind == FaultKind::Held
        {
            return Err(DriveError::Held(fault.clone()));
        }
        baton_hold::at(|| format!("{point}-after")).await;
        let (step, seconds) = (step.name().to_owned(), started.elapsed().as_secs_f64());
        let after = match (undoing, result) {
            (false, Ok(learnt)) => Event::StepDone { index, step, seconds, learnt },
            (false, Err(fault)) => Event::StepFailed { index, step, fault },
            (true, Ok(learnt)) => Event::Undone { index, step, learnt },
            (true, Err(fault)) => Event::UndoFailed { index, step, fault },
        };
        record(run, log, watcher, after, None).await?;
    }
}

/// Resolves when the step is to be left in the middle. Interrupted once, it is only if its agents go on by themselves.
async fn left(
    step: &Step,
    undoing: bool,
    interrupts: &mut impl Interrupts,
    watcher: &impl Watcher,
    stopping: &mut bool,
) {
    interrupts.next().await;
    if !*stopping && (undoing || !step.can_be_left()) {
        *stopping = true;
        watcher.on_stopping(step);
        interrupts.next().await;
    }
    *stopping = true;
}

async fn record(
    run: &mut Run,
    log: &mut impl Log,
    watcher: &impl Watcher,
    event: Event,
    acts_on: Option<&[HostName]>,
) -> Result<(), DriveError> {
    log.append(&event, acts_on).await?;
    run.apply(event.clone())?;
    watcher.on_event(run, &event);
    Ok(())
}

fn name(run: &Run, index: usize) -> String {
    run.step(index).map_or("", Step::name).to_owned()
}

#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turn_tests;
