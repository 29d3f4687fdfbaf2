//! Who plays which part: the group that lost its primary, the source among its survivors, the target.

mod switchover;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use baton_proto::report::Running;
use baton_proto::{Fault, HostPort, InstanceRef, Lineage, RunId};

use crate::inventory::Word;
use crate::plan::{Goal, Intent, Member, Mode, Scene};
use crate::topology::{Group, Replica, ReplicaLink, Topology, WordError, World};

/// The parts of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Cast {
    pub group: Option<Group>,
    pub source: InstanceRef,
    pub target: InstanceRef,
    pub siblings: Vec<InstanceRef>,
    /// Why each survivor that is not the source is not.
    pub passed_over: Vec<(InstanceRef, String)>,
}

/// Why no plan can be made at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    #[error(transparent)]
    Word(#[from] WordError),
    #[error("no group has its primary on {word}; {}", known(groups))]
    NoGroup { word: Word, groups: Vec<String> },
    #[error("no group has that name")]
    NoSuchGroup,
    #[error("{word} leads {} groups; name one of them, or a host for all with `--to HOST`: {}", groups.len(), groups.join(", "))]
    SeveralGroups { word: Word, groups: Vec<String> },
    #[error("no surviving replica of {group} can be the source")]
    NoSource { group: String, reasons: Vec<String> },
    #[error("{source_word} is no replica of {group} that could be the source")]
    BadSource { source_word: Word, group: String, reasons: Vec<String> },
    #[error(
        "{target} is a member of the group of {group}: data is moved to a server that belongs to none; to have it take over \
         in place, leave --mode and --source out"
    )]
    TargetInGroup { target: InstanceRef, group: String },
    #[error("{0} cannot be source and target at once")]
    Same(InstanceRef),
    #[error("{target} is no replica of {primary}")]
    NoReplica { primary: InstanceRef, target: InstanceRef },
    #[error("{word} is not the primary: {lead} leads the group")]
    NotPrimary { word: InstanceRef, lead: String },
}

fn known(groups: &[String]) -> String {
    if groups.is_empty() {
        "no group is known at all".into()
    } else {
        format!("groups are led by {}", groups.join(", "))
    }
}

impl CastError {
    /// The reasons behind it, one a line.
    pub fn reasons(&self) -> &[String] {
        match self {
            CastError::NoSource { reasons, .. } | CastError::BadSource { reasons, .. } => reasons,
            _ => &[],
        }
    }
}

impl Cast {
    /// Finds the parts of the failover of one group. Without a target, a survivor takes over in place.
    pub fn of_group(world: &World, group: &Group, to: Option<&Word>, source: Option<&Word>) -> Result<Cast, CastError> {
        let target = to.map(|to| world.named(&to.host, to.instance.as_ref())).transpose()?;
        if let Some(target) = target.as_ref().filter(|target| group.members().any(|member| member == *target)) {
            return Err(CastError::TargetInGroup { target: target.clone(), group: group.name.clone() });
        }
        let survivors: Vec<Survivor> =
            group.replicas.iter().map(|replica| Survivor::of(group, replica, world)).collect();
        let reasons = |survivors: &[Survivor]| {
            survivors
                .iter()
                .filter_map(|survivor| Some(format!("{}: {}", survivor.name, survivor.unfit.as_ref()?)))
                .collect()
        };
        let chosen = match source {
            Some(word) => survivors.iter().find(|s| s.unfit.is_none() && fits(word, s.name)).ok_or_else(|| {
                CastError::BadSource {
                    source_word: word.clone(),
                    group: group.name.clone(),
                    reasons: reasons(&survivors),
                }
            })?,
            None => freshest(&survivors)
                .ok_or_else(|| CastError::NoSource { group: group.name.clone(), reasons: reasons(&survivors) })?,
        };
        let others = || survivors.iter().filter(|survivor| survivor.name != chosen.name);
        let siblings = others().filter(|survivor| survivor.unfit.is_none()).map(|s| s.name.clone()).collect();
        let passed_over = others().map(|other| (other.name.clone(), other.why_not(chosen))).collect();
        let source = chosen.name.clone();
        Ok(Cast { group: Some(group.clone()), target: target.unwrap_or(source.clone()), source, siblings, passed_over })
    }

    /// Whether the source takes over where it is, and nothing is built.
    pub fn is_in_place(&self) -> bool {
        self.source == self.target
    }

    /// Finds the parts of a copy or a clone as they were named.
    pub fn pair(world: &World, source: &Word, target: &Word) -> Result<Cast, CastError> {
        let source = world.named(&source.host, source.instance.as_ref())?;
        let target = world.named(&target.host, target.instance.as_ref())?;
        if source == target {
            return Err(CastError::Same(source));
        }
        Ok(Cast { group: None, source, target, siblings: Vec::new(), passed_over: Vec::new() })
    }

    /// Who will have to reach whom: each replica its primary to be.
    pub fn paths(&self, goal: Goal) -> Vec<(InstanceRef, InstanceRef)> {
        let to = |upstream: &InstanceRef, others: &[&InstanceRef]| {
            others.iter().map(|from| ((*from).clone(), upstream.clone())).collect::<Vec<_>>()
        };
        let mut followers: Vec<&InstanceRef> = self.siblings.iter().collect();
        match goal {
            Goal::Failover(Mode::Replace) | Goal::Switchover { .. } => {
                followers.insert(0, &self.source);
                to(&self.target, &followers)
            }
            Goal::Failover(Mode::InPlace) => to(&self.source, &followers),
            Goal::Failover(Mode::Promote) => {
                followers.push(&self.target);
                to(&self.source, &followers)
            }
            Goal::Clone | Goal::Rejoin => to(&self.source, &[&self.target]),
            Goal::Copy { .. } => Vec::new(),
        }
    }

    /// Puts the parts on the stage.
    pub fn scene<'a>(
        &'a self,
        world: &'a World,
        intent: &'a Intent,
        rehearsals: &'a BTreeMap<InstanceRef, Result<(), Fault>>,
        run: &'a RunId,
    ) -> Option<Scene<'a>> {
        let member = |name: &'a InstanceRef| world.instance(name).map(|report| Member { name, report });
        Some(Scene {
            run,
            world,
            intent,
            group: self.group.as_ref(),
            source: member(&self.source)?,
            target: member(&self.target)?,
            siblings: self.siblings.iter().filter_map(member).collect(),
            passed_over: &self.passed_over,
            rehearsals,
        })
    }
}

/// Whether a word means an instance, or all of its host.
pub fn fits(word: &Word, instance: &InstanceRef) -> bool {
    instance.host == word.host && word.instance.as_ref().is_none_or(|name| *name == instance.instance)
}

/// The one group whose primary is, or was last, there.
pub fn lost_group<'a>(topology: &'a Topology, failed: &Word) -> Result<&'a Group, CastError> {
    let led = |group: &&Group| {
        let place = &group.primary.place;
        place.host() == Some(&failed.host) && place.instance().is_none_or(|instance| fits(failed, instance))
    };
    let fitting: Vec<&Group> = topology.groups.iter().filter(led).collect();
    match fitting.as_slice() {
        [group] => Ok(group),
        [] => {
            let groups = topology.groups.iter().map(|group| group.name.clone()).collect();
            Err(CastError::NoGroup { word: failed.clone(), groups })
        }
        several => {
            let groups = several.iter().map(|group| group.name.clone()).collect();
            Err(CastError::SeveralGroups { word: failed.clone(), groups })
        }
    }
}

/// A replica of the lost primary, and why it could not be the source.
struct Survivor<'a> {
    name: &'a InstanceRef,
    lineage: Option<&'a Lineage>,
    priority: u64,
    unfit: Option<String>,
}

impl<'a> Survivor<'a> {
    fn of(group: &Group, replica: &'a Replica, world: &World) -> Self {
        let running = world.instance(&replica.instance).and_then(|report| report.server.running());
        let priority = running.map_or(0, priority);
        let deposed = world.deposed(&replica.instance).map(|held| &held.deposition.run);
        let deposed = deposed.map(|run| format!("it was deposed by run {run}: `coord rejoin {}`", replica.instance));
        let unfit = deposed.or_else(|| unfit(group, replica, running));
        Survivor { name: &replica.instance, lineage: replica.lineage.as_ref(), priority, unfit }
    }

    fn offset(&self) -> u64 {
        self.lineage.map_or(0, |lineage| lineage.offset)
    }

    fn why_not(&self, chosen: &Survivor) -> String {
        if let Some(unfit) = &self.unfit {
            return unfit.clone();
        }
        match chosen.offset().checked_sub(self.offset()) {
            Some(0) => format!("as fresh as {}, which was taken by priority or name", chosen.name),
            Some(behind) => format!("{behind} bytes behind {}", chosen.name),
            None => format!("{} bytes ahead of {}, which was asked for", self.offset() - chosen.offset(), chosen.name),
        }
    }
}

fn priority(running: &Running) -> u64 {
    match &running.role {
        baton_proto::report::Role::Replica { priority, .. } => *priority,
        baton_proto::report::Role::Primary { .. } => 0,
    }
}

fn unfit(group: &Group, replica: &Replica, running: Option<&Running>) -> Option<String> {
    match &replica.link {
        ReplicaLink::Stopped => return Some("it is stopped".into()),
        ReplicaLink::Silent { error } => return Some(format!("it does not answer: {error}")),
        ReplicaLink::Denied { user, error } => {
            let remedy = "mend `user` and `password_file` in its agent.toml, or requirepass in its redis.conf";
            return Some(format!("it refuses its agent, user `{user}`: {error} ({remedy})"));
        }
        ReplicaLink::Loading => return Some("it is loading".into()),
        ReplicaLink::Up | ReplicaLink::Syncing | ReplicaLink::Down { .. } | ReplicaLink::Fenced { .. } => {}
    }
    let (Some(_), Some(lineage)) = (running, &replica.lineage) else {
        return Some("it does not answer".into());
    };
    if replica.chained {
        return Some("it follows another replica, not the primary".into());
    }
    let foreign = group.lineage.as_ref().is_some_and(|id| *id != lineage.id);
    foreign.then(|| format!("its data has another history ({})", lineage.id.short()))
}

/// The fit survivor with the highest offset; among equals the one of the best (lowest, but not 0) priority, then by name.
fn freshest<'a, 'b>(survivors: &'b [Survivor<'a>]) -> Option<&'b Survivor<'a>> {
    let fit = survivors.iter().filter(|survivor| survivor.unfit.is_none());
    fit.min_by_key(|survivor| {
        let priority = if survivor.priority == 0 { u64::MAX } else { survivor.priority };
        (Reverse(survivor.offset()), priority, survivor.name.clone())
    })
}

/// Whether two addresses are the same to the eye: an operator's belief is compared as written.
pub fn is_expected(expected: &HostPort, found: &HostPort) -> bool {
    expected.port == found.port && expected.host.eq_ignore_ascii_case(&found.host)
}
