//! Whether a primary that a run counts as lost takes writes after all.

use baton_proto::control::Reach;
use baton_proto::deposed::Deposition;
use baton_proto::report::{Link, Role};

use super::{Probe, World};

/// How it was seen to live, if it was, by what its agent and its former replicas say and how it answered when it was tried. One
/// that its agent holds off writes, as a replica, does not count.
pub fn lives(note: &Deposition, world: &World, probes: &[Probe]) -> Option<String> {
    let own = world.instances().find(|(name, report)| {
        let named = note.instance.as_ref().map_or(report.address == note.address, |named| *named == name.instance);
        name.host == note.host && named
    });
    if let Some(running) = own.and_then(|(_, report)| report.server.running()) {
        let leads = matches!(running.role, Role::Primary { .. });
        return leads.then(|| format!("{} answers its agent as a primary", note.name()));
    }
    let linked = world.instances().find(|(_, report)| {
        let role = report.server.running().map(|running| &running.role);
        matches!(role, Some(Role::Replica { primary, link: Link::Up { .. } | Link::Syncing, .. }) if *primary == note.address)
    });
    if let Some((replica, _)) = linked {
        return Some(format!("{replica} is linked to it"));
    }
    let spoke = probes.iter().find(|probe| probe.answer.as_ref().is_ok_and(Reach::speaks));
    spoke.map(|probe| format!("tried from {}, {} answers", probe.from, probe.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::fixture::{Populate, Shape, at, healthy, host, instance, lineage, lost_primary, named};
    use baton_proto::RunId;
    use baton_proto::control::ReachVerdict;
    use baton_proto::deposed::Standing;

    fn of(world: &World) -> Option<String> {
        let note = Deposition {
            run: RunId::new("fo-1").unwrap(),
            host: host("machine-a"),
            instance: None,
            agent: at("10.0.0.1:7400"),
            address: at("10.0.0.1:6379"),
            fork: lineage('a', 1000),
            successor: named("machine-c"),
            successor_address: at("10.0.0.3:6379"),
            standing: Standing::Deposed,
            since_unix: 0,
            seal: None,
        };
        lives(&note, world, &world.probes)
    }

    #[test]
    fn a_lost_primary_lives_if_anybody_hears_it_lead() {
        assert!(of(&healthy()).is_some());
        assert_eq!(of(&lost_primary()), None);
        let spoke = lost_primary().probe("machine-b", "10.0.0.1:6379", ReachVerdict::Open);
        assert!(of(&spoke).unwrap().contains("tried from machine-b"));
        let refused = lost_primary().probe("machine-b", "10.0.0.1:6379", ReachVerdict::Refused);
        assert_eq!(of(&refused), None);
    }

    #[test]
    fn one_that_is_fenced_counts_as_lost_and_so_does_a_target_that_leads_nobody() {
        let fenced = instance("default", "10.0.0.1:6379").replica(
            "127.0.0.1:1",
            crate::topology::fixture::down(1),
            lineage('a', 9),
            1,
        );
        let world = lost_primary().with("machine-a", "10.0.0.1:7400", vec![fenced]).with(
            "machine-c",
            "10.0.0.3:7400",
            vec![instance("default", "10.0.0.3:6379").primary(lineage('c', 0), 0)],
        );
        assert_eq!(of(&world), None);
    }
}
