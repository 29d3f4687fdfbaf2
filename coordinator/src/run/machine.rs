//! What comes next in a run.
//!
//! ```text
//!                 step done                    last step done
//!   Forward(n) ──────────────> Forward(n+1) ─────────────────────> Ended(done | degraded)
//!      │  │  ├─ step failed, degrade ─> Forward(n+1), with a shortfall
//!      │  │  └─ step failed, stay open ──────────────────────────> Stopped at the first step that can be repeated, degraded
//!      │  └──── step failed, halt ───────────────────────────────> Stopped at Forward(n), failed
//!      │ step failed, undo
//!      ▼
//!   Undoing(n) ── undone ──> Undoing(n-1) ... ───────────────────> Ended(rolled-back | refused | degraded)
//!            └─── undo failed, noted, and the rest is undone ────> Stopped at the highest such Undoing(n), failed
//!
//!   interrupted: Stopped where it is, from Forward and from Undoing.
//!   taken up to resume: goes on where it is or was stopped.     taken up to abort:
//!     before another may serve ─────────────> Undoing
//!     once the target serves, or all is done > Forward to the steps that make it last and clear away; the others are missing
//!   taken up from the Undoing of a handover that has come to its end since: as from Forward, at that step.
//! ```
//!
//! The state is a fold over events: the journal keeps the events, and replaying them is how a run is taken up again. A step
//! that was begun and of whose end nothing is known is *in doubt*: who takes the run up looks, and says what was found.

mod taken_up;

use baton_proto::{Fault, FaultKind, HostName, InstanceRef};

use crate::plan::Plan;
use crate::plan::step::{OnFailure, Step};
use crate::run::event::{End, Event};
use crate::run::ledger::{Learnt, Ledger};

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

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    /// `begun`: the step's start is known, and not its end.
    Forward { index: usize, begun: bool },
    /// `left` steps from the start are still to be undone.
    Undoing { left: usize },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    At(Stand),
    /// It goes no further by itself, and can be taken up there.
    Stopped {
        at: Stand,
        end: End,
    },
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
    /// The step that makes a new primary, if it was begun and may have done so.
    in_doubt: Option<usize>,
    /// Somebody with a part did not answer when the run was taken up.
    blind: bool,
    /// Hosts that are given up.
    without: Vec<HostName>,
    /// It was aborted once the target served: only what makes that last is still done.
    closing: bool,
    /// The first of the last steps that can all be repeated, and how much was learnt before it.
    tail: Option<(usize, usize)>,
    /// The run was taken up, so a step may find done what it does.
    pub taken_up: bool,
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
            phase: Phase::At(Stand::Forward { index: 0, begun: false }),
            served: false,
            in_doubt: None,
            blind: false,
            without: Vec::new(),
            closing: false,
            tail: None,
            taken_up: false,
        }
    }

    /// Rebuilds a run from its events.
    pub fn replay(events: impl IntoIterator<Item = Event>) -> Result<Run, MachineError> {
        let mut events = events.into_iter();
        let Some(Event::Begun { plan, .. }) = events.next() else {
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
            Phase::At(Stand::Forward { index, .. }) if index < self.plan.steps.len() => Next::Do(index),
            Phase::At(Stand::Forward { .. }) => Next::End(self.good_end()),
            Phase::At(Stand::Undoing { left }) => match self.undoable_below(left) {
                Some(index) => Next::Undo(index),
                None => Next::End(self.end_after_undo()),
            },
            Phase::Stopped { end, .. } | Phase::Ended(end) => Next::End(end),
        }
    }

    /// Whether the step at which it stands was begun.
    pub fn is_begun(&self) -> bool {
        matches!(
            self.phase,
            Phase::At(Stand::Forward { begun: true, .. })
                | Phase::Stopped { at: Stand::Forward { begun: true, .. }, .. }
        )
    }

    /// Whether a new primary is known to serve.
    pub fn is_served(&self) -> bool {
        self.served
    }

    /// Whether there is nothing left to resume or to abort.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// The step that makes a new primary, was begun, and of which it is not known whether it has.
    pub fn doubtful(&self) -> Option<&Step> {
        let (Phase::At(stand) | Phase::Stopped { at: stand, .. }) = self.phase else { return None };
        self.step(self.doubtful_at(stand)?)
    }

    /// A handover goes on by itself: one whose undo could not tell how it stands may have come to its end since. What was to
    /// be attached may have been silent, and answer now.
    fn doubtful_at(&self, stand: Stand) -> Option<usize> {
        self.in_doubt.filter(|index| match (stand, self.step(*index)) {
            (Stand::Forward { index: at, .. }, _) => at == *index,
            (Stand::Undoing { left }, Some(Step::HandOver { .. })) => *index < left,
            (Stand::Undoing { .. }, Some(Step::Attach { .. })) => true,
            (Stand::Undoing { .. }, _) => false,
        })
    }

    /// Takes in what happened. An event that does not fit is an error that names both; it changes nothing.
    pub fn apply(&mut self, event: Event) -> Result<(), MachineError> {
        match (self.phase, event) {
            (Phase::At(Stand::Forward { index: at, .. }), Event::StepStarted { index, .. }) if at == index => {
                if self.step(index).is_some_and(Step::restores_service) {
                    self.in_doubt = Some(index);
                }
                if self.step(index).is_some_and(Step::is_repeatable) {
                    self.tail.get_or_insert((index, self.ledger.count()));
                } else {
                    self.tail = None;
                }
                self.phase = Phase::At(Stand::Forward { index, begun: true });
            }
            (Phase::At(Stand::Forward { index: at, .. }), Event::StepDone { index, learnt, step, seconds })
                if at == index =>
            {
                self.times.push((step, seconds));
                if self.step(index).is_some_and(Step::restores_service) {
                    self.served = true;
                    self.in_doubt = None;
                }
                self.ledger.extend(learnt);
                self.forward(index + 1);
            }
            (Phase::At(Stand::Forward { index: at, .. }), Event::StepFailed { index, fault, step }) if at == index => {
                self.on_failure(index, &step, fault);
            }
            (Phase::At(Stand::Undoing { .. }), Event::UndoStarted { .. }) => {}
            (Phase::At(Stand::Undoing { .. }), Event::Undone { index, learnt, .. }) => {
                if self.in_doubt == Some(index) {
                    // Undone is only what was seen not to have been done.
                    self.in_doubt = None;
                }
                self.ledger.extend(learnt);
                self.phase = Phase::At(Stand::Undoing { left: index });
            }
            (Phase::At(Stand::Undoing { .. }), Event::UndoFailed { index, fault, .. }) => {
                let on = self.step(index).and_then(Step::undone_on);
                if on.is_some_and(|on| self.without.contains(&on.host)) {
                    let step = self.step(index).map_or("step", Step::name);
                    self.ledger.extend([Learnt::Shortfall(format!("undo of {step}: {fault}"))]);
                } else {
                    self.undo_failures.push(Failure { index, fault });
                }
                self.phase = Phase::At(Stand::Undoing { left: index });
            }
            (Phase::At(at), Event::Interrupted) => self.phase = Phase::Stopped { at, end: End::Interrupted },
            (
                phase @ (Phase::At(at) | Phase::Stopped { at, .. }),
                Event::TakenUp { to, served, absent, without, .. },
            ) => {
                let is_open = matches!(phase, Phase::Stopped { end: End::Degraded, .. });
                if let Some((_, learnt)) = self.tail.filter(|_| is_open) {
                    // What was missing of what is done again is no more known to be missing.
                    self.ledger.forget_shortfalls_from(learnt);
                }
                let has_part = |name: &InstanceRef| absent.contains(name);
                self.blind = has_part(&self.plan.source) || has_part(&self.plan.target);
                self.without = without;
                self.take_up(at, to, served, is_open);
            }
            (phase, Event::Ended { end }) if self.next() == Next::End(end) => {
                self.phase = match (phase, self.undo_failures.iter().map(|failure| failure.index).max()) {
                    (Phase::At(Stand::Undoing { .. }), Some(highest)) => {
                        Phase::Stopped { at: Stand::Undoing { left: highest + 1 }, end }
                    }
                    (Phase::At(Stand::Undoing { .. }), None) => match self.in_doubt {
                        Some(index) => Phase::Stopped { at: Stand::Forward { index, begun: true }, end },
                        None => Phase::Ended(end),
                    },
                    (Phase::Stopped { .. }, _) => phase,
                    _ => Phase::Ended(end),
                };
            }
            (phase, event) => {
                let phase = format!("{phase:?}").to_lowercase();
                return Err(MachineError::Misfit { event: event.name().into(), phase });
            }
        }
        Ok(())
    }

    fn forward(&mut self, index: usize) {
        let due = |step: &Step| !self.closing || step.is_closing();
        let rest = self.plan.steps.iter().enumerate().skip(index);
        let index = rest.filter(|(_, step)| due(step)).map(|(index, _)| index).next().unwrap_or(self.plan.steps.len());
        self.phase = Phase::At(Stand::Forward { index, begun: false });
    }

    fn on_failure(&mut self, index: usize, step: &str, fault: Fault) {
        // What is refused was not begun, so it is not half done either. An earlier try was looked at when it was taken up.
        let refused = fault.kind == FaultKind::Refused;
        if refused && self.in_doubt == Some(index) {
            self.in_doubt = None;
        }
        if self.served && self.plan.goal.moves_the_group() && self.step(index).is_some_and(Step::restores_service) {
            // It was seen to have served before: whatever is refused now, nothing of that is taken back.
            return self.stop(index, fault);
        }
        match self.step(index).map_or(OnFailure::Halt, Step::on_failure) {
            OnFailure::Halt if refused => self.undo(index, fault),
            OnFailure::StayOpen if self.without.is_empty() => {
                self.failure = Some(Failure { index, fault });
                let index = self.tail.map_or(index, |(first, _)| first);
                self.phase = Phase::Stopped { at: Stand::Forward { index, begun: false }, end: End::Degraded };
            }
            OnFailure::Degrade | OnFailure::StayOpen => {
                self.ledger.extend([Learnt::Shortfall(format!("{step}: {fault}"))]);
                self.forward(index + 1);
            }
            OnFailure::Undo => self.undo(index, fault),
            OnFailure::Halt => self.stop(index, fault),
        }
    }

    fn stop(&mut self, index: usize, fault: Fault) {
        self.failure = Some(Failure { index, fault });
        self.phase = Phase::Stopped { at: Stand::Forward { index, begun: true }, end: End::Failed };
    }

    fn undo(&mut self, index: usize, fault: Fault) {
        self.failure = Some(Failure { index, fault });
        // The failed step itself may be half done.
        self.phase = Phase::At(Stand::Undoing { left: index + 1 });
    }

    fn undoable_below(&self, left: usize) -> Option<usize> {
        // Once another may serve, who was deposed stays so, whatever else is taken back. Where somebody with a part is away,
        // one may.
        let undone = |step: &Step| step.has_undo() && !(step.deposes() && (self.may_be_served() || self.blind));
        (0..left).rev().find(|index| self.step(*index).is_some_and(undone))
    }

    /// Whether a new primary may serve: a step that makes one, and failed, may have done so before it failed.
    fn may_be_served(&self) -> bool {
        self.served || self.in_doubt.is_some()
    }

    /// Whether the group goes on from the target, or may: then nothing of what made it so can be taken back.
    fn is_committed(&self) -> bool {
        self.may_be_served() && self.plan.goal.moves_the_group()
    }

    fn good_end(&self) -> End {
        if self.ledger.shortfalls().next().is_some() { End::Degraded } else { End::Done }
    }

    fn end_after_undo(&self) -> End {
        let refused = self.failure.as_ref().is_some_and(|failure| failure.fault.kind == FaultKind::Refused);
        match (self.undo_failures.is_empty() && self.in_doubt.is_none(), self.served, refused) {
            (false, _, _) => End::Failed,
            // A new primary serves; only what was to be built behind it is missing.
            (true, true, _) => End::Degraded,
            (true, false, true) => End::Refused,
            (true, false, false) => End::RolledBack,
        }
    }
}

#[cfg(test)]
mod table_tests;
