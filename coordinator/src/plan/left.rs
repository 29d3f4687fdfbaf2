//! The replicas that a plan cannot move along: which they are, and how it is told at the end of the run whether they were
//! left behind.

use std::fmt;

use baton_proto::report::{HostReport, InstanceReport};
use baton_proto::{HostName, HostPort, InstanceRef};
use serde::{Deserialize, Serialize};

use super::steps::upstream;
use super::{Goal, Member, Mode, Scene, Step};
use crate::topology::remembered::{Holds, silent};
use crate::topology::{Place, upstream_address};

/// A reported replica that is not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmoved {
    pub instance: InstanceRef,
    /// The command that moves it, once it is well.
    pub command: String,
}

/// A host whose agent did not answer when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    pub host: HostName,
    /// Whether it is known to hold a replica of the group.
    pub known: bool,
    /// The command that moves what is left there, once its agent answers.
    pub command: String,
}

/// The step that looks for them. None: everybody answers, and is moved.
pub(super) fn step(scene: &Scene) -> Option<Step> {
    let group = scene.group?;
    let silent = silent(group, scene.world);
    let hosts: Vec<Unseen> = silent
        .iter()
        .filter(|silent| silent.holds.may_be_a_replica())
        .map(|silent| Unseen {
            host: silent.host.clone(),
            known: silent.holds.is_a_replica(),
            command: once_it_is_well(scene, &silent.host),
        })
        .collect();
    let is_listed = |address: &HostPort| silent.iter().any(|silent| silent.holds == Holds::Listed(address.clone()));
    let strangers = group.strangers.iter().filter(|address| !is_listed(address)).cloned().collect::<Vec<_>>();
    let replicas = passed_over(scene);
    if hosts.is_empty() && strangers.is_empty() && replicas.is_empty() {
        return None;
    }
    let mut from: Vec<HostPort> = [group.primary.address.clone()].into();
    from.extend(group.replicas.iter().filter(|replica| !replica.chained).filter_map(|replica| replica.follows.clone()));
    from.sort();
    from.dedup();
    Some(Step::LeftBehind { replicas, hosts, strangers, from, to: upstream(successor(scene)) })
}

fn successor<'a>(scene: &Scene<'a>) -> Member<'a> {
    match scene.intent.goal {
        Goal::Failover(Mode::Promote) => scene.source,
        _ => scene.target,
    }
}

/// The reported replicas that are not moved, though they follow the primary that is replaced. One that was deposed itself is
/// no replica of it yet.
fn passed_over(scene: &Scene) -> Vec<Unmoved> {
    let Some(group) = scene.group else { return Vec::new() };
    let has_a_part = |name: &InstanceRef| {
        name == scene.source.name
            || name == scene.target.name
            || scene.siblings.iter().any(|sibling| sibling.name == name)
    };
    let left = group.replicas.iter().filter(|replica| !replica.chained && !has_a_part(&replica.instance));
    let names = left.map(|replica| &replica.instance).filter(|name| {
        scene.passed_over.iter().any(|(other, _)| other == *name) && scene.world.deposed(name).is_none()
    });
    names.map(|name| Unmoved { instance: name.clone(), command: once_it_is_well(scene, name) }).collect()
}

/// The command that moves what was left: an instance, or all of a host.
pub fn once_it_is_well(scene: &Scene, name: impl fmt::Display) -> String {
    match scene.intent.goal {
        Goal::Switchover { .. } => format!("`coord switchover {} --to {}` again", scene.source.name, scene.target.name),
        _ => match scene.group.map(|group| &group.primary.place) {
            // Nobody is deposed where no agent could be told.
            None | Some(Place::Unknown) => format!("have it follow {} by hand", successor(scene).report.address),
            Some(_) => format!("`coord rejoin {name}`"),
        },
    }
}

/// Whom a server follows, as far as it concerns a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The new primary.
    New,
    /// The one that was replaced, or nobody since it was fenced off that; `runs` tells whether it answers.
    Old { runs: bool },
    /// Somebody else, or nobody.
    Other,
}

pub fn follows(report: &InstanceReport, from: &[HostPort], to: &HostPort) -> Follows {
    match upstream_address(report) {
        Some(address) if address == *to => Follows::New,
        Some(address) if from.contains(&address) => Follows::Old { runs: report.server.running().is_some() },
        _ => Follows::Other,
    }
}

/// What is missing of a host that did not answer when the plan was made, by what it says now.
pub fn missing_of(unseen: &Unseen, now: Result<&HostReport, String>, from: &[HostPort], to: &HostPort) -> Vec<String> {
    let Unseen { host, known, command } = unseen;
    let report = match now {
        Ok(report) => report,
        Err(why) if *known => {
            return vec![format!("{host} was left behind: its agent does not answer ({why}); once it does: {command}")];
        }
        Err(_) => return Vec::new(),
    };
    let found: Vec<_> = report.instances.iter().map(|instance| (instance, follows(instance, from, to))).collect();
    let left = found.iter().filter_map(|(instance, follows)| match follows {
        Follows::Old { runs } => {
            let name = InstanceRef { host: host.clone(), instance: instance.name.clone() };
            Some(left_behind(&name, *runs, command))
        }
        Follows::New | Follows::Other => None,
    });
    left.collect()
}

/// One that was left behind, and what to do about it.
pub fn left_behind(name: &InstanceRef, runs: bool, command: &str) -> String {
    if runs {
        format!("{name} was left behind: it follows the replaced primary; to move it: {command}")
    } else {
        format!(
            "{name} was left behind: its server does not answer, and would follow the replaced primary; once it runs: {command}"
        )
    }
}
