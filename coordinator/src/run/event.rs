//! What happens in a run: the lines of its journal.

use baton_proto::{Fault, HostName, InstanceRef};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::run::ledger::Learnt;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Always the first.
    Begun {
        plan: Box<Plan>,
        /// The operator by name.
        #[serde(default)]
        by: String,
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
    /// A coordinator has taken the next turn. `served` is what was found of a step in doubt that makes a new primary:
    /// whether it had done so.
    TakenUp {
        epoch: u32,
        by: String,
        to: Aim,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        served: Option<bool>,
        /// Whose agents did not answer then: what they know of the run may be more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        absent: Vec<InstanceRef>,
        /// Hosts that are gone for good: what cannot be undone there is left.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        without: Vec<HostName>,
    },
    Interrupted,
    /// The last, unless the run is taken up again.
    Ended {
        end: End,
    },
}

/// What a run is taken up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    Resume,
    Abort,
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

impl Event {
    /// What happened, in a word or two.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Begun { .. } => "begun",
            Event::StepStarted { .. } => "step started",
            Event::StepDone { .. } => "step done",
            Event::StepFailed { .. } => "step failed",
            Event::UndoStarted { .. } => "undo started",
            Event::Undone { .. } => "undone",
            Event::UndoFailed { .. } => "undo failed",
            Event::TakenUp { .. } => "taken up",
            Event::Interrupted => "interrupted",
            Event::Ended { .. } => "ended",
        }
    }
}
