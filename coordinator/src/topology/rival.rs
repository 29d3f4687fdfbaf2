//! Primaries whose data comes from one lineage: a returned primary beside the replica that was promoted, or a copy that
//! went its own way. Both take writes, and neither has the other's.

use std::cmp::Reverse;

use baton_proto::ReplId;
use baton_proto::report::InstanceReport;

use super::{Group, PrimaryState, World};

/// Puts primaries whose data comes from the same lineage into one group, under the one that has the better claim. A
/// group whose own primary is gone stays by itself; the primary that holds its data is named in it.
pub(super) fn join(groups: Vec<Group>, world: &World) -> Vec<Group> {
    let (mut alive, mut gone): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(|group| group.primary.state.is_running());
    alive.sort_by_cached_key(|group| Reverse(claim(group, world)));
    let mut joined: Vec<Group> = Vec::new();
    for group in alive {
        let kin = joined.iter_mut().find(|other| shared(&primary_ids(other, world), &primary_ids(&group, world)));
        match kin {
            Some(other) => {
                other.rivals.extend(group.primary.place.instance().cloned());
                other.replicas.extend(group.replicas);
                other.replicas.sort_by(|a, b| a.instance.cmp(&b.instance));
                other.strangers.extend(group.strangers);
            }
            None => joined.push(group),
        }
    }
    for group in &mut gone {
        let held: Vec<ReplId> =
            group.replicas.iter().filter_map(|replica| replica.lineage.as_ref()).map(|l| l.id.clone()).collect();
        let heirs = joined.iter().filter(|other| shared(&primary_ids(other, world), &held));
        group.rivals = heirs.filter_map(|other| other.primary.place.instance().cloned()).collect();
    }
    joined.append(&mut gone);
    joined
}

/// The ids under which a group's running primary knows its data.
fn primary_ids(group: &Group, world: &World) -> Vec<ReplId> {
    let report = group.primary.place.instance().and_then(|name| world.instance(name));
    report.map(|report| ids(report).into_iter().cloned().collect()).unwrap_or_default()
}

fn shared(a: &[ReplId], b: &[ReplId]) -> bool {
    a.iter().any(|id| b.contains(id))
}

/// What speaks for a primary among rivals: linked replicas, then data that goes on from another lineage (it was promoted
/// or built from a snapshot), then the amount of it.
fn claim(group: &Group, world: &World) -> (usize, bool, u64) {
    let linked = group.replicas.iter().filter(|replica| replica.is_linked()).count() + group.strangers.len();
    let PrimaryState::Running { keys, .. } = group.primary.state else { return (linked, false, 0) };
    (linked, primary_ids(group, world).len() > 1, keys)
}

/// The replication ids that a running server knows its data by.
pub(super) fn ids(report: &InstanceReport) -> Vec<&ReplId> {
    let Some(running) = report.server.running() else { return Vec::new() };
    let second = running.replication.second.as_ref().map(|second| &second.id);
    std::iter::once(&running.replication.lineage.id).chain(second).filter(|id| !id.is_none()).collect()
}
