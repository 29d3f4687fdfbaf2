//! What is planned for each group, and what became of it. Pure.

use baton_proto::RunId;

use crate::batch::pairing::By;
use crate::error::Exit;
use crate::plan::{Check, Level, Plan, Way};
use crate::run::End;

/// One group of the lost host.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub group: String,
    pub outlook: Outlook,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outlook {
    /// It has a plan, which may be refused.
    Planned(Box<Prospect>),
    /// It cannot even have one.
    Without(Vec<Check>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Prospect {
    pub plan: Plan,
    pub by: By,
    /// None: nothing is moved.
    pub way: Option<Way>,
    /// What the data set that is moved takes in memory: the snapshot is no larger.
    pub bytes: u64,
    /// The longest that it takes from the start of the save until the target serves, as far as can be foretold.
    pub seconds: Option<f64>,
}

impl Row {
    pub fn checks(&self) -> &[Check] {
        match &self.outlook {
            Outlook::Planned(prospect) => &prospect.plan.checks,
            Outlook::Without(checks) => checks,
        }
    }

    pub fn prospect(&self) -> Option<&Prospect> {
        match &self.outlook {
            Outlook::Planned(prospect) => Some(prospect),
            Outlook::Without(_) => None,
        }
    }

    /// The exit code of its refusal, if it is refused.
    pub fn refusal(&self) -> Option<Exit> {
        match self.checks().iter().map(|check| check.level).max() {
            Some(Level::Danger) => Some(Exit::Refused),
            Some(Level::Refuse) => Some(Exit::Preflight),
            _ => None,
        }
    }

    pub fn refusals(&self) -> impl Iterator<Item = &Check> {
        self.checks().iter().filter(|check| check.level >= Level::Refuse)
    }

    pub fn warnings(&self) -> impl Iterator<Item = &Check> {
        self.checks().iter().filter(|check| check.level == Level::Warn)
    }
}

/// What became of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub group: String,
    pub run: Option<RunId>,
    /// How its run ended, if it came to one.
    pub end: Option<End>,
    pub exit: Exit,
    pub seconds: f64,
    /// Seconds until a primary served again.
    pub service: Option<f64>,
    /// Why, where it is not done.
    pub why: Option<String>,
    /// What to do next, if anything.
    pub next: Option<String>,
}

impl Outcome {
    /// How it ended, in a word.
    pub fn word(&self) -> &'static str {
        match self.end {
            Some(End::Done) => "done",
            Some(End::Degraded) => "degraded",
            Some(End::Refused) => "refused",
            Some(End::RolledBack) => "rolled-back",
            Some(End::Interrupted) => "interrupted",
            Some(End::Failed) => "failed",
            None if matches!(self.exit, Exit::Refused | Exit::Preflight | Exit::Usage) => "refused",
            None => "failed",
        }
    }
}

/// The exit code of all: the worst.
pub fn exit_of(outcomes: &[Outcome]) -> Exit {
    Exit::worst(outcomes.iter().map(|outcome| outcome.exit))
}
