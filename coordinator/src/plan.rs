//! The plan: what was observed and what is wanted go in, checks and steps come out, as a value. A dry run prints it, a
//! real run carries out the very same one.
//!
//! ```text
//!   World, Intent ──cast──> who plays which part ──> Scene ──checks──> every refusal at once
//!                                                      └─────steps──> the steps, and how each replica will join
//! ```
//!
//! To add a check: a function in `plan/checks/` and its name in a list of `plan/checks.rs`. To add a step: a variant of
//! [`Step`], its place in `plan/steps.rs`, and what it orders in `drive/hands.rs`.

pub mod backlog;
pub mod cast;
pub mod checks;
pub mod landing;
pub mod left;
pub mod pace;
pub mod resync;
pub mod spool;
pub mod step;
pub mod steps;

use std::collections::BTreeMap;
use std::fmt;

use baton_proto::control::SaveMethod;
use baton_proto::data::Budget;
use baton_proto::report::{InstanceReport, Role, Running};
use baton_proto::{Fault, HostPort, InstanceRef, RunId};
use serde::{Deserialize, Serialize};

pub use crate::plan::landing::Way;
pub use crate::plan::pace::Expected;
pub use crate::plan::resync::{Forecast, Resync};
pub use crate::plan::step::Step;
use crate::topology::stand::Seen;
use crate::topology::{Group, World};

/// How a lost primary is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The target becomes the primary; the source stays a replica, frozen until it follows the target.
    Replace,
    /// The source becomes the primary at once; the target is built as its replica.
    Promote,
    /// The source becomes the primary, and nothing is built: it is the target as well.
    InPlace,
}

/// What the plan is to achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    Failover(Mode),
    /// The snapshot alone is moved; no role changes.
    Copy {
        start: bool,
    },
    /// A primary that lives hands its role to one of its replicas: the source to the target.
    Switchover {
        timeout_ms: u32,
    },
    /// The target becomes a replica of the source, which serves meanwhile.
    Clone,
    /// The target, which the source or one before it has replaced, becomes its replica.
    Rejoin,
}

impl Goal {
    /// Whether the group goes on from the target, or the target from the group, once service is restored: what was written
    /// since is nowhere else, so it is not taken back.
    pub fn moves_the_group(self) -> bool {
        matches!(self, Goal::Failover(Mode::Replace) | Goal::Switchover { .. } | Goal::Rejoin)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Goal::Failover(Mode::Replace) => "failover (replace)",
            Goal::Failover(Mode::Promote) => "failover (promote)",
            Goal::Failover(Mode::InPlace) => "failover (in place)",
            Goal::Copy { .. } => "copy",
            Goal::Switchover { .. } => "switchover",
            Goal::Clone => "clone",
            Goal::Rejoin => "rejoin",
        })
    }
}

/// What the operator wants, beside whom it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    pub goal: Goal,
    /// `None`: the plan chooses.
    pub snapshot: Option<SaveMethod>,
    /// `None`: the plan chooses.
    pub landing: Option<Way>,
    /// What the transfer may use of the source and its network.
    pub budget: Budget,
    /// The operator agrees that the data on the target is replaced.
    pub replace_target_data: bool,
    /// The operator's belief of who the primary is.
    pub expect_primary: Option<HostPort>,
    /// Where the operator saw the group's data stand.
    pub expect_lineage: Option<Seen>,
    /// A primary that hangs counts as dead.
    pub hung_is_dead: bool,
    /// The longest that the source may have been without its primary.
    pub max_data_age_seconds: Option<u64>,
    /// Compare what a deposed primary holds with its successor, for so long at most.
    pub compare_seconds: Option<u32>,
}

impl Intent {
    /// What is wanted by someone who says no more than the goal.
    pub fn of(goal: Goal) -> Intent {
        Intent {
            goal,
            snapshot: None,
            landing: None,
            budget: Budget::default(),
            replace_target_data: false,
            expect_primary: None,
            expect_lineage: None,
            hung_is_dead: false,
            max_data_age_seconds: None,
            compare_seconds: None,
        }
    }
}

/// An instance with a part in the plan.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    pub name: &'a InstanceRef,
    pub report: &'a InstanceReport,
}

impl<'a> Member<'a> {
    pub fn running(&self) -> Option<&'a Running> {
        self.report.server.running()
    }
}

/// A dump that is so many times smaller than its server's memory is one of other days: in memory, small keys take some times
/// what they take in a dump.
const MEMORY_PER_DUMP_MAX: u64 = 16;
/// What a snapshot takes of the memory that its data set takes: a half to nine tenths, of data of usual kinds.
const SNAPSHOT_SHARE: f64 = 0.7;

/// Everything that checks and steps look at.
pub struct Scene<'a> {
    pub run: &'a RunId,
    pub world: &'a World,
    pub intent: &'a Intent,
    /// The group that lost its primary, or whose primary is to hand over. A copy has none.
    pub group: Option<&'a Group>,
    pub source: Member<'a>,
    pub target: Member<'a>,
    /// The other survivors of the group; in a switchover its other replicas.
    pub siblings: Vec<Member<'a>>,
    /// Why each survivor that could have been the source is not.
    pub passed_over: &'a [(InstanceRef, String)],
    /// What became of the rehearsal on each instance that was asked for one.
    pub rehearsals: &'a BTreeMap<InstanceRef, Result<(), Fault>>,
}

impl<'a> Scene<'a> {
    /// Everyone whose role or data the run changes, each once.
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> {
        let target = Some(self.target).filter(|target| target.name != self.source.name);
        [self.source].into_iter().chain(target).chain(self.siblings.iter().copied())
    }

    /// Memory that the data set takes, and so an upper bound of its snapshot's size.
    pub fn data_bytes(&self) -> u64 {
        let used = self.source.running().map_or(0, |running| running.memory.used_bytes);
        used.max(self.source.report.files.dump_bytes.unwrap_or(0))
    }

    /// Best guess of the snapshot's size: that of the last one, if it can be of the same data.
    pub fn snapshot_bytes(&self) -> u64 {
        let data = self.data_bytes();
        match self.source.report.files.dump_bytes {
            Some(dump) if dump > data / MEMORY_PER_DUMP_MAX => dump,
            _ => (data as f64 * SNAPSHOT_SHARE) as u64,
        }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    /// It would not work.
    Refuse,
    /// It could lose data.
    Danger,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Refuse | Level::Danger => "refuse",
        })
    }
}

/// One line of the preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub id: String,
    pub level: Level,
    pub says: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What will be done, and whether it may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub run: RunId,
    pub goal: Goal,
    /// The lost primary, as the operator named it.
    pub failed: Option<String>,
    pub source: InstanceRef,
    pub target: InstanceRef,
    pub siblings: Vec<InstanceRef>,
    /// The primary that the source follows, where that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<InstanceRef>,
    pub checks: Vec<Check>,
    /// How each replica will join its primary.
    pub forecasts: Vec<Forecast>,
    /// How long it takes until the target has loaded, if it is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    pub steps: Vec<Step>,
}

impl Plan {
    /// Builds the plan. It may only be carried out if [`Plan::refusals`] is empty.
    pub fn build(failed: Option<String>, scene: &Scene) -> Plan {
        let checks = checks::of(scene);
        let method = steps::save_method(scene).0;
        Plan {
            run: scene.run.clone(),
            goal: scene.intent.goal,
            failed,
            source: scene.source.name.clone(),
            target: scene.target.name.clone(),
            siblings: scene.siblings.iter().map(|sibling| sibling.name.clone()).collect(),
            above: above(scene),
            forecasts: resync::forecasts(scene),
            expected: pace::expected(scene),
            steps: steps::of(scene, method),
            checks,
        }
    }

    pub fn refusals(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.level >= Level::Refuse)
    }

    /// Who plays the parts, in a few words.
    pub fn parts(&self) -> String {
        match self.goal {
            Goal::Failover(Mode::InPlace) => format!("{} takes over", self.source),
            _ => format!("{} -> {}", self.source, self.target),
        }
    }

    pub fn warnings(&self) -> usize {
        self.checks.iter().filter(|check| check.level == Level::Warn).count()
    }

    /// The worst that any check says.
    pub fn level(&self) -> Level {
        self.checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
    }

    /// Every instance that the run changes, in the order in which they are claimed: whoever claims the first of them has
    /// the run, so two that begin at the same moment do not each get a part.
    pub fn instances(&self) -> Vec<InstanceRef> {
        let mut instances: Vec<InstanceRef> =
            [&self.source, &self.target].into_iter().chain(&self.siblings).cloned().collect();
        for step in &self.steps {
            if let Step::Depose { keepers, .. } = step {
                instances.extend(keepers.iter().cloned());
            }
        }
        instances.sort();
        instances.dedup();
        instances
    }

    /// The lost primary's own instance, if its agent may have been told of the run. It need not answer.
    pub fn outsiders(&self) -> Vec<InstanceRef> {
        let instances = self.instances();
        let own = self.steps.iter().filter_map(|step| match step {
            Step::Depose { own, .. } => own.as_ref(),
            _ => None,
        });
        own.filter(|own| !instances.contains(own)).cloned().collect()
    }

    /// Who is the primary once the run is done, and who its replicas are.
    pub fn outcome(&self) -> (Option<&InstanceRef>, Vec<&InstanceRef>) {
        let siblings = self.siblings.iter();
        match self.goal {
            Goal::Failover(Mode::Replace) | Goal::Switchover { .. } => {
                (Some(&self.target), [&self.source].into_iter().chain(siblings).collect())
            }
            Goal::Failover(Mode::Promote) => (Some(&self.source), siblings.chain([&self.target]).collect()),
            Goal::Failover(Mode::InPlace) => (Some(&self.source), siblings.collect()),
            Goal::Copy { .. } => (None, Vec::new()),
            Goal::Rejoin => (Some(&self.source), vec![&self.target]),
            Goal::Clone => (Some(self.above.as_ref().unwrap_or(&self.source)), vec![&self.target]),
        }
    }
}

/// The primary of a source that is cloned and is a replica itself, if it is one that is known.
fn above(scene: &Scene) -> Option<InstanceRef> {
    let Role::Replica { primary, .. } = &scene.source.running()?.role else { return None };
    let place = scene.world.place(primary, &scene.source.name.host);
    place.instance().filter(|_| scene.intent.goal == Goal::Clone).cloned()
}

#[cfg(test)]
mod tests;
