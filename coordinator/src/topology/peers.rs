//! Whom the agent of a host asks at its start whether servers of it were replaced: the agents of all that is, or was, in a
//! group with them. Those hold the notes.

use std::collections::BTreeMap;

use baton_proto::{HostName, HostPort};

use super::{Topology, World};

/// The agents that know less, or otherwise, than is seen now, and what each is to keep. One that was a peer stays one as long
/// as it is in the inventory: who is away now is not seen in a group, and may hold a note all the same.
pub fn unknown_peers(world: &World, topology: &Topology) -> Vec<(HostName, BTreeMap<HostName, HostPort>)> {
    let asking = world.hosts.keys().filter_map(|host| Some((host, world.report(host)?.peers.as_ref()?)));
    let due = asking.filter_map(|(host, known)| {
        let beside = topology.on_host(host).flat_map(|group| {
            let members = group.members().chain(&group.rivals).map(|member| &member.host);
            members.chain(group.primary.place.host())
        });
        let peers = known.keys().chain(beside).filter(|peer| *peer != host);
        let peers: BTreeMap<_, _> =
            peers.filter_map(|peer| Some((peer.clone(), world.hosts.get(peer)?.agent.clone()))).collect();
        (peers != *known).then(|| (host.clone(), peers))
    });
    due.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::HostView;
    use crate::topology::fixture::*;

    fn knowing(mut world: World, name: &str, known: Option<&[(&str, &str)]>) -> World {
        let known = known.map(|known| known.iter().map(|(peer, address)| (host(peer), at(address))).collect());
        if let HostView::Answered { report, .. } = &mut world.hosts.get_mut(&host(name)).unwrap().view {
            report.peers = known;
        }
        world
    }

    fn due(world: &World) -> Vec<(HostName, BTreeMap<HostName, HostPort>)> {
        unknown_peers(world, &Topology::of(world))
    }

    #[test]
    fn those_of_a_group_learn_of_each_other_once_and_a_spare_of_nobody() {
        let (a, b) = (("machine-a", "10.0.0.1:7400"), ("machine-b", "10.0.0.2:7400"));
        let world = ["machine-a", "machine-b", "machine-c"];
        let world = world.into_iter().fold(healthy(), |world, name| knowing(world, name, Some(&[])));
        let peer = |(name, address): (&str, &str)| BTreeMap::from([(host(name), at(address))]);
        assert_eq!(due(&world), [(host("machine-a"), peer(b)), (host("machine-b"), peer(a))]);
        let world = knowing(knowing(world, "machine-a", Some(&[b])), "machine-b", Some(&[a]));
        assert_eq!(due(&world), []);
        assert_eq!(due(&knowing(world, "machine-a", None)), [], "it does not ask");
    }

    #[test]
    fn who_is_away_stays_a_peer_and_who_is_in_no_inventory_does_not() {
        let known = [("machine-b", "10.0.0.2:7400"), ("machine-z", "10.0.0.9:7400")];
        let alone = instance("default", "10.0.0.1:6379").primary(lineage('a', 1), 1);
        let world = World::default().with("machine-a", "10.0.0.1:7400", vec![alone]);
        let world = knowing(world.without("machine-b", "10.0.0.2:7400", "gone"), "machine-a", Some(&known));
        assert_eq!(due(&world), [(host("machine-a"), BTreeMap::from([(host("machine-b"), at("10.0.0.2:7400"))]))]);
    }
}
