//! What comes next in a run.
//!
//! ```text
//!                 step done                    last step done
//!   Forward(n) ──────────────> Forward(n+1) ─────────────────────> Ended(done | degraded)
//!      │  │  └─ step failed, degrade ─> Forward(n+1), with a shortfall
//!      │  └──── step failed, halt ───────────────────────────────> Ended(failed)
//!      │ step failed, undo
//!      ▼
//!   Undoing(n) ── undone ──> Undoing(n-1) ... ───────────────────> Ended(rolled-back | refused | degraded)
//!            └─── undo failed, noted, and the rest is undone ────> Ended(failed)
//!
//!   interrupted: Ended(interrupted), from Forward and from Undoing.
//! ```
//!
//! The state is a fold over events: the journal keeps the events, and replaying them is how a run is taken up again.

use baton_proto::{Fault, FaultKind};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::plan::step::{OnFailure, Step};
use crate::run::ledger::{Learnt, Ledger};

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Always the first.
    Begun {
        plan: Box<Plan>,
    },
    StepStarted {
        index: usize,
        step: String,
    },
    StepDone {
        index: usize,
        step: String,
        seconds: f64,
        learnt: Vec<Learnt>,
    },
    StepFailed {
        index: usize,
        step: String,
        fault: Fault,
    },
    UndoStarted {
        index: usize,
        step: String,
    },
    Undone {
        index: usize,
        step: String,
        learnt: Vec<Learnt>,
    },
    UndoFailed {
        index: usize,
        step: String,
        fault: Fault,
    },
    Interrupted,
    /// Always the last.
    Ended {
        end: End,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Done,
    Degraded,
    Refused,
    RolledBack,
    Interrupted,
    Failed,
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Do(usize),
    Undo(usize),
    End(End),
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MachineError {
    #[error("the journal does not begin with a plan")]
    NoPlan,
    #[error("event `{event}` does not fit a run that is {phase}")]
    Misfit { event: String, phase: String },
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Forward {
        index: usize,
    },
    /// `left` steps from the start are still to be undone.
    Undoing {
        left: usize,
    },
    Interrupted,
    Ended(End),
}

/// A run: its plan, what it has learnt, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub plan: Plan,
    pub ledger: Ledger,
    /// The failure that decided the run's end.
    pub failure: Option<Failure>,
    /// Undos that failed: the state of their hosts needs a person.
    pub undo_failures: Vec<Failure>,
    /// Seconds that each finished step took.
    pub times: Vec<(String, f64)>,
    phase: Phase,
    served: bool,
}

/// A step and what went wrong in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub index: usize,
    pub fault: Fault,
}

impl Run {
    pub fn new(plan: Plan) -> Run {
        Run {
            plan,
            ledger: Ledger::default(),
            failure: None,
            undo_failures: Vec::new(),
            times: Vec::new(),
            phase: Phase::Forward { index: 0 },
            served: false,
        }
    }

    /// Rebuilds a run from its events.
    pub fn replay(events: impl IntoIterator<Item = Event>) -> Result<Run, MachineError> {
        let mut events = events.into_iter();
        let Some(Event::Begun { plan }) = events.next() else {
            return Err(MachineError::NoPlan);
        };
        let mut run = Run::new(*plan);
        for event in events {
            run.apply(event)?;
        }
        Ok(run)
    }

    /// The step at an index that came out of this run's own plan.
    pub fn step(&self, index: usize) -> Option<&Step> {
        self.plan.steps.get(index)
    }

    pub fn next(&self) -> Next {
        match self.phase {
            Phase::Forward { index } if index < self.plan.steps.len() => Next::Do(index),
            Phase::Forward { .. } => Next::End(self.good_end()),
            Phase::Undoing { left } => match self.undoable_below(left) {
                Some(index) => Next::Undo(index),
                None => Next::End(self.end_after_undo()),
            },
            Phase::Interrupted => Next::End(End::Interrupted),
            Phase::Ended(end) => Next::End(end),
        }
    }

    /// Takes in what happened. An event that does not fit is an error that names both; it changes nothing.
    pub fn apply(&mut self, event: Event) -> Result<(), MachineError> {
        match (&self.phase, event) {
            (Phase::Forward { index: at }, Event::StepStarted { index, .. }) if *at == index => {}
            (Phase::Forward { index: at }, Event::StepDone { index, learnt, step, seconds }) if *at == index => {
                self.times.push((step, seconds));
                self.served |= self.step(index).is_some_and(Step::restores_service);
                self.ledger.extend(learnt);
                self.phase = Phase::Forward { index: index + 1 };
            }
            (Phase::Forward { index: at }, Event::StepFailed { index, fault, step }) if *at == index => {
                self.on_failure(index, &step, fault);
            }
            (Phase::Undoing { .. }, Event::UndoStarted { .. }) => {}
            (Phase::Undoing { .. }, Event::Undone { index, learnt, .. }) => {
                self.ledger.extend(learnt);
                self.phase = Phase::Undoing { left: index };
            }
            (Phase::Undoing { .. }, Event::UndoFailed { index, fault, .. }) => {
                self.undo_failures.push(Failure { index, fault });
                self.phase = Phase::Undoing { left: index };
            }
            (Phase::Forward { .. } | Phase::Undoing { .. }, Event::Interrupted) => self.phase = Phase::Interrupted,
            (_, Event::Ended { end }) if self.next() == Next::End(end) => self.phase = Phase::Ended(end),
            (phase, event) => {
                let phase = format!("{phase:?}").to_lowercase();
                return Err(MachineError::Misfit { event: name(&event).into(), phase });
            }
        }
        Ok(())
    }

    fn on_failure(&mut self, index: usize, step: &str, fault: Fault) {
        let refused = fault.kind == FaultKind::Refused;
        match self.step(index).map_or(OnFailure::Halt, Step::on_failure) {
            // What is refused was not begun, so it is not half done either.
            OnFailure::Halt if refused => self.undo(index, fault),
            OnFailure::Degrade => {
                self.ledger.extend([Learnt::Shortfall(format!("{step}: {fault}"))]);
                self.phase = Phase::Forward { index: index + 1 };
            }
            OnFailure::Undo => self.undo(index, fault),
            OnFailure::Halt => {
                self.failure = Some(Failure { index, fault });
                self.phase = Phase::Ended(End::Failed);
            }
        }
    }

    fn undo(&mut self, index: usize, fault: Fault) {
        self.failure = Some(Failure { index, fault });
        // The failed step itself may be half done.
        self.phase = Phase::Undoing { left: index + 1 };
    }

    fn undoable_below(&self, left: usize) -> Option<usize> {
        // Once another may serve, who was deposed stays so, whatever else is taken back.
        let undone = |step: &Step| step.has_undo() && !(step.deposes() && self.may_be_served());
        (0..left).rev().find(|index| self.step(*index).is_some_and(undone))
    }

    /// Whether a new primary may serve: a step that makes one, and failed, may have done so before it failed.
    fn may_be_served(&self) -> bool {
        let tried = |failure: &Failure| {
            failure.fault.kind != FaultKind::Refused && self.step(failure.index).is_some_and(Step::restores_service)
        };
        self.served || self.failure.as_ref().is_some_and(tried)
    }

    fn good_end(&self) -> End {
        if self.ledger.shortfalls().next().is_some() { End::Degraded } else { End::Done }
    }

    fn end_after_undo(&self) -> End {
        let refused = self.failure.as_ref().is_some_and(|failure| failure.fault.kind == FaultKind::Refused);
        match (self.undo_failures.is_empty(), self.served, refused) {
            (false, _, _) => End::Failed,
            // A new primary serves; only what was to be built behind it is missing.
            (true, true, _) => End::Degraded,
            (true, false, true) => End::Refused,
            (true, false, false) => End::RolledBack,
        }
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Begun { .. } => "begun",
        Event::StepStarted { .. } => "step started",
        Event::StepDone { .. } => "step done",
        Event::StepFailed { .. } => "step failed",
        Event::UndoStarted { .. } => "undo started",
        Event::Undone { .. } => "undone",
        Event::UndoFailed { .. } => "undo failed",
        Event::Interrupted => "interrupted",
        Event::Ended { .. } => "ended",
    }
}
