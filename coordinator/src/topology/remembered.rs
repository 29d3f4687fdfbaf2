//! What is known of hosts that do not answer: what was last seen of them, and what others say of them.

use std::collections::BTreeMap;

use baton_proto::report::Role;
use baton_proto::{HostName, HostPort, InstanceName, InstanceRef, ReplId, RunId};
use serde::{Deserialize, Serialize};

use super::{Group, HostView, Topology, World, group, instance_ref, rival};

/// For how long it is believed of a host that it had no part in a group. That it had one is believed for ever: to look for a
/// replica that is there no more costs a glance, and to miss one its data.
const APART_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// A host when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub seen_unix: u64,
    /// Those of its instances that belonged to a group.
    pub members: Vec<Membership>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub instance: InstanceName,
    /// Of the group's primary.
    pub primary: HostPort,
    /// The history that the group's data stood in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<ReplId>,
}

/// A host whose agent does not answer, and what it may hold of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    pub host: HostName,
    pub holds: Holds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// Replicas of the group, when it was last seen.
    Replicas { instances: Vec<InstanceRef>, seen_unix: u64 },
    /// A replica that the group's primary lists, at this address.
    Listed(HostPort),
    /// Nothing of the group, when it was last seen.
    Nothing { seen_unix: u64 },
    /// A primary that a run has replaced, which is joined again when it is back. No replica is known there.
    Deposed(RunId),
    /// A member of another group, which names it.
    OfAnother(String),
    /// Nobody has seen it.
    Unknown,
}

impl Holds {
    /// Whether it may be a replica that is left behind.
    pub fn may_be_a_replica(&self) -> bool {
        matches!(self, Holds::Replicas { .. } | Holds::Listed(_) | Holds::Unknown)
    }

    pub fn is_a_replica(&self) -> bool {
        matches!(self, Holds::Replicas { .. } | Holds::Listed(_))
    }
}

impl Topology {
    /// What is to be remembered of the hosts that answered.
    pub fn seen(&self, world: &World, now_unix: u64) -> BTreeMap<HostName, Remembered> {
        let hosts = world.hosts.keys().filter_map(|host| Some((host, world.report(host)?)));
        let seen = hosts.map(|(host, report)| {
            let membership = |instance: &InstanceName| {
                let group = self.group_of(&instance_ref(host, instance))?;
                let (primary, history) = (group.primary.address.clone(), group.lineage.clone());
                Some(Membership { instance: instance.clone(), primary, history })
            };
            let members = report.instances.iter().filter_map(|instance| membership(&instance.name)).collect();
            (host.clone(), Remembered { seen_unix: now_unix, members })
        });
        seen.collect()
    }
}

/// The hosts that do not answer, but for that of the group's primary.
pub fn silent(group: &Group, world: &World) -> Vec<Silent> {
    let is_silent = |host: &&HostName| {
        let view = world.hosts.get(*host).map(|host| &host.view);
        matches!(view, Some(HostView::Unreachable { .. })) && group.primary.place.host() != Some(*host)
    };
    let silent = world.hosts.keys().filter(is_silent);
    silent.map(|host| Silent { host: host.clone(), holds: holds(host, group, world) }).collect()
}

fn holds(host: &HostName, group: &Group, world: &World) -> Holds {
    let seen_by = group.primary.place.host().unwrap_or(host);
    let listed = group.strangers.iter().find(|address| world.place(address, seen_by).host() == Some(host));
    if let Some(address) = listed {
        return Holds::Listed(address.clone());
    }
    let deposed = world.depositions().into_iter().map(|held| &held.deposition).find(|note| note.host == *host);
    let is_deposed = |name: &InstanceName| {
        deposed.is_some_and(|note| note.instance.as_ref().is_none_or(|instance| instance == name))
    };
    let remembered = world.remembered.get(host);
    let members = remembered.into_iter().flat_map(|remembered| &remembered.members);
    let own = members.filter(|member| is_of(member, group, world) && !is_deposed(&member.instance));
    let instances: Vec<_> = own.map(|member| instance_ref(host, &member.instance)).collect();
    let seen_unix = remembered.map(|remembered| remembered.seen_unix);
    match (seen_unix, deposed) {
        (Some(seen_unix), _) if !instances.is_empty() => return Holds::Replicas { instances, seen_unix },
        (_, Some(note)) => return Holds::Deposed(note.run.clone()),
        (Some(seen_unix), None) if world.observed_unix.saturating_sub(seen_unix) <= APART_SECONDS_MAX => {
            return Holds::Nothing { seen_unix };
        }
        _ => {}
    }
    match named_by_another(host, group, world) {
        Some(other) => Holds::OfAnother(other),
        None => Holds::Unknown,
    }
}

/// Whether what was remembered is of this group: it had the same primary, or one that this group has replaced, or its data is
/// of the same history.
fn is_of(member: &Membership, group: &Group, world: &World) -> bool {
    let replaced = || {
        let notes = world.depositions();
        let mut notes = notes.into_iter().map(|held| &held.deposition).filter(|note| note.address == member.primary);
        notes.any(|note| group.members().any(|own| *own == note.successor))
    };
    let kin = || {
        let reports = group.members().filter_map(|own| world.instance(own));
        let mut known = reports.flat_map(rival::ids).chain(&group.lineage);
        known.any(|id| member.history.as_ref() == Some(id))
    };
    member.primary == group.primary.address || kin() || replaced()
}

/// A server of another group that follows the host, or is followed from there.
fn named_by_another(host: &HostName, group: &Group, world: &World) -> Option<String> {
    let others = world.instances().filter(|(name, _)| !group.members().any(|own| own == name));
    let is_there = |address: &HostPort, seen_from: &HostName| world.place(address, seen_from).host() == Some(host);
    let mut naming = others.filter(|(name, report)| {
        let follows = group::upstream_address(report).is_some_and(|address| is_there(&address, &name.host));
        let followed = || match report.server.running().map(|running| &running.role) {
            Some(Role::Primary { replicas }) => replicas.iter().any(|line| is_there(&line.address, &name.host)),
            _ => false,
        };
        follows || followed()
    });
    naming.next().map(|(name, _)| name.to_string())
}
