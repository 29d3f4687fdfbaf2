//! The parts of a switchover: the primary that hands over is the source, the replica that takes over the target. When the
//! replica leads already, an earlier run got so far, and what is left of it is planned.

use baton_proto::InstanceRef;

use super::{Cast, CastError};
use crate::inventory::Word;
use crate::topology::{Group, Replica, ReplicaLink, Topology, World};

impl Cast {
    /// Finds the parts of a switchover.
    pub fn switchover(world: &World, topology: &Topology, primary: &Word, to: &Word) -> Result<Cast, CastError> {
        let source = world.named(&primary.host, primary.instance.as_ref())?;
        let target = world.named(&to.host, to.instance.as_ref())?;
        if source == target {
            return Err(CastError::Same(source));
        }
        let has_both = |group: &&Group| [&source, &target].iter().all(|part| group.members().any(|own| own == *part));
        let group = topology.groups.iter().find(has_both);
        let group = group.ok_or_else(|| CastError::NoReplica { primary: source.clone(), target: target.clone() })?;
        let lead = group.primary.place.instance();
        if lead != Some(&source) && lead != Some(&target) {
            return Err(CastError::NotPrimary { word: source, lead: group.name.clone() });
        }
        let follows_source = |replica: &&Replica| follows(world, replica, &source) && replica.instance != target;
        let others: Vec<_> = group.replicas.iter().filter(follows_source).collect();
        let siblings = others.iter().filter(|replica| unfit(replica).is_none()).map(|r| r.instance.clone()).collect();
        let passed_over = others.iter().filter_map(|r| Some((r.instance.clone(), unfit(r)?.to_owned()))).collect();
        Ok(Cast { group: Some(group.clone()), source, target, siblings, passed_over })
    }
}

fn follows(world: &World, replica: &Replica, primary: &InstanceRef) -> bool {
    let followed = replica.follows.as_ref().map(|address| world.place(address, &replica.instance.host));
    followed.is_some_and(|place| place.instance() == Some(primary))
}

/// Why a replica is not moved along. It goes on following the old primary, whose data is that of the new one.
fn unfit(replica: &Replica) -> Option<&'static str> {
    match replica.link {
        ReplicaLink::Up => None,
        ReplicaLink::Syncing => Some("it is in the middle of a full resync"),
        ReplicaLink::Loading => Some("it is loading"),
        ReplicaLink::Down { .. } => Some("its link is down"),
        ReplicaLink::Fenced { .. } => Some("a run has fenced it"),
        ReplicaLink::Stopped => Some("it is stopped"),
        ReplicaLink::Silent { .. } | ReplicaLink::Denied { .. } => Some("it does not answer its agent"),
    }
}
