//! Whether a primary that counts as lost takes writes after all.

use baton_proto::report::Role;

use super::{Group, World};

/// How a group's lost primary was seen to live, if it was. One that its agent holds off writes, as a replica, does not count.
pub fn lives(group: &Group, world: &World) -> Option<String> {
    let primary = &group.primary;
    if let Some(running) =
        primary.place.instance().and_then(|name| world.instance(name)).and_then(|report| report.server.running())
    {
        return matches!(running.role, Role::Primary { .. })
            .then(|| format!("{} answers its agent as a primary", group.name));
    }
    if let Some(replica) = group.replicas.iter().find(|replica| replica.is_linked()) {
        return Some(format!("{} is linked to it", replica.instance));
    }
    let spoke = world.probes.iter().find(|probe| {
        probe.to == primary.address && probe.answer.as_ref().is_ok_and(baton_proto::control::Reach::speaks)
    });
    spoke.map(|probe| format!("tried from {}, {} answers", probe.from, probe.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use crate::topology::fixture::{Populate, healthy, lost_primary};
    use baton_proto::control::ReachVerdict;

    fn of(world: &World) -> Option<String> {
        lives(&Topology::of(world).groups[0], world)
    }

    #[test]
    fn a_lost_primary_lives_if_anybody_hears_it() {
        assert!(of(&healthy()).is_some());
        assert_eq!(of(&lost_primary()), None);
        let spoke = lost_primary().probe("machine-b", "10.0.0.1:6379", ReachVerdict::Open);
        assert!(of(&spoke).unwrap().contains("tried from machine-b"));
        let refused = lost_primary().probe("machine-b", "10.0.0.1:6379", ReachVerdict::Refused);
        assert_eq!(of(&refused), None);
    }
}
