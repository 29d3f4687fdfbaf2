//! Which free server takes the place of which lost primary. Pure.
//!
//! The same port first, since clients, firewalls and people know a server by it; then the same instance name; then in order,
//! servers without data of their own first. One that cannot read what a group's servers write is not given to it.

use std::fmt;

use baton_proto::version::{RdbFormat, ServerVersion};
use baton_proto::{HostName, InstanceName, InstanceRef};

use crate::topology::{Group, PrimaryState, Topology, World};

/// A group that needs a new server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub group: String,
    /// Of its lost primary.
    pub port: u16,
    /// The lost primary's name, if its agent still tells it.
    pub instance: Option<InstanceName>,
    /// What its servers write.
    pub writes: Vec<RdbFormat>,
}

/// A server that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Free {
    pub instance: InstanceRef,
    pub port: u16,
    pub version: Option<ServerVersion>,
    pub holds_data: bool,
}

/// Why two belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It is of the group itself.
    Group,
    Port,
    Name,
    Order,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            By::Group => "in place",
            By::Port => "same port",
            By::Name => "same name",
            By::Order => "order",
        })
    }
}

impl Lost {
    pub fn of(group: &Group, world: &World) -> Lost {
        let running = |name: &InstanceRef| world.instance(name)?.server.running().map(|running| running.version);
        Lost {
            group: group.name.clone(),
            port: group.primary.address.port,
            instance: group.primary.place.instance().map(|own| own.instance.clone()),
            writes: group.members().filter_map(running).map(|version| version.writes()).collect(),
        }
    }

    fn is_read_by(&self, free: &Free) -> bool {
        // One whose version is not known is refused by its own check, which tells why.
        free.version.is_none_or(|version| self.writes.iter().all(|format| version.reads(*format)))
    }
}

/// The groups whose primary is, or was last, on that host, by port.
pub fn led_by<'a>(topology: &'a Topology, host: &HostName) -> Vec<&'a Group> {
    let mut groups: Vec<&Group> = topology.led_by(host).collect();
    groups.sort_by(|a, b| (a.primary.address.port, &a.name).cmp(&(b.primary.address.port, &b.name)));
    groups
}

/// The servers of a host that nobody uses and no run holds, by port; if their data may be replaced, also primaries that
/// nobody follows.
pub fn free_on(world: &World, topology: &Topology, host: &HostName, replace_data: bool) -> Vec<Free> {
    let alone = |group: &&Group| {
        let leads = matches!(group.primary.state, PrimaryState::Running { .. });
        leads && group.replicas.is_empty() && group.strangers.is_empty() && group.rivals.is_empty()
    };
    let alone = topology.groups.iter().filter(alone).filter_map(|group| group.primary.place.instance());
    let known = topology.spares.iter().chain(alone.filter(|_| replace_data)).filter(|name| name.host == *host);
    let free = known.filter(|name| world.deposed(name).is_none()).filter_map(|name| {
        let report = world.instance(name).filter(|report| report.claim.is_none())?;
        let running = report.server.running();
        let in_memory = running.is_some_and(|running| !running.keyspace.is_empty());
        let on_disk =
            running.is_none() && (report.files.dump_bytes.is_some_and(|bytes| bytes > 0) || report.files.has_aof);
        Some(Free {
            instance: name.clone(),
            port: report.address.port,
            version: running.map(|running| running.version).or(report.binary),
            holds_data: in_memory || on_disk,
        })
    });
    let mut free: Vec<Free> = free.collect();
    free.sort_by(|a, b| (a.port, &a.instance).cmp(&(b.port, &b.instance)));
    free
}

/// Gives each group a server, as far as there are any. The answers are in the order of the groups.
pub fn pair(lost: &[Lost], free: &[Free]) -> Vec<Option<(InstanceRef, By)>> {
    let mut left: Vec<&Free> = free.iter().collect();
    let mut pairs: Vec<Option<(InstanceRef, By)>> = vec![None; lost.len()];
    for by in [By::Port, By::Name, By::Order] {
        if by == By::Order {
            left.sort_by_key(|free| free.holds_data);
        }
        for (group, pair) in lost.iter().zip(&mut pairs).filter(|(_, pair)| pair.is_none()) {
            let fits = |free: &&Free| match by {
                By::Port => free.port == group.port,
                By::Name => group.instance.as_ref() == Some(&free.instance.instance),
                By::Group | By::Order => true,
            };
            if let Some(at) = left.iter().position(|free| fits(free) && group.is_read_by(free)) {
                *pair = Some((left.remove(at).instance.clone(), by));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use baton_proto::version::Product;
    use proptest::prelude::*;

    use super::*;
    use crate::topology::fixture::{Populate, Shape, host, instance, lineage, named, up};

    fn version(text: &str) -> ServerVersion {
        ServerVersion::new(Product::Redis, text).unwrap()
    }

    fn lost(port: u16, name: Option<&str>) -> Lost {
        let instance = name.map(|name| InstanceName::new(name).unwrap());
        Lost { group: format!("a:{port}"), port, instance, writes: vec![version("7.0.15").writes()] }
    }

    fn free(name: &str, port: u16) -> Free {
        Free { instance: named(name), port, version: Some(version("7.0.15")), holds_data: false }
    }

    fn paired(lost: &[Lost], free: &[Free]) -> Vec<Option<(String, By)>> {
        pair(lost, free).into_iter().map(|pair| pair.map(|(instance, by)| (instance.to_string(), by))).collect()
    }

    #[test]
    fn the_same_port_comes_before_the_same_name_and_that_before_order() {
        let groups = [lost(1, Some("x")), lost(2, Some("y")), lost(3, None), lost(4, None)];
        let servers = [free("c/y", 9), free("c/x", 2), free("c/z", 7), free("c/w", 8)];
        let by_order = |name: &str| Some((name.to_owned(), By::Order));
        let second = Some(("c/x".to_owned(), By::Port));
        // The first would have had `x` by name, but that has gone by port.
        assert_eq!(paired(&groups, &servers), [by_order("c/y"), second, by_order("c/z"), by_order("c/w")]);
        let named = [lost(1, Some("y")), lost(2, Some("q"))];
        let both = [Some(("c/y".to_owned(), By::Name)), Some(("c/x".to_owned(), By::Port))];
        assert_eq!(paired(&named, &servers), both);
    }

    #[test]
    fn who_comes_last_goes_without_if_there_are_too_few() {
        let groups = [lost(1, None), lost(2, None), lost(3, None)];
        let found = paired(&groups, &[free("c/k", 3), free("c/l", 9)]);
        assert_eq!(found, [Some(("c/l".to_owned(), By::Order)), None, Some(("c/k".to_owned(), By::Port))]);
    }

    #[test]
    fn a_server_that_is_too_old_is_passed_over_and_one_with_data_comes_last() {
        let old = Free { version: Some(version("6.2.0")), ..free("c/old", 1) };
        let full = Free { holds_data: true, ..free("c/full", 2) };
        let unknown = Free { version: None, ..free("c/unknown", 5) };
        assert_eq!(
            paired(&[lost(1, None)], &[old.clone(), unknown.clone()])[0],
            Some(("c/unknown".to_owned(), By::Order))
        );
        assert_eq!(paired(&[lost(1, None)], std::slice::from_ref(&old)), [None]);
        let found = paired(&[lost(7, None), lost(8, None)], &[full, free("c/empty", 3)]);
        assert_eq!(found, [Some(("c/empty".to_owned(), By::Order)), Some(("c/full".to_owned(), By::Order))]);
    }

    #[test]
    fn only_servers_that_nobody_uses_are_free() {
        let stopped = |name: &str, port: u16| instance(name, &format!("10.0.0.3:{port}"));
        let mut held = stopped("held", 4);
        held.claim = Some(baton_proto::claim::Claim {
            run: baton_proto::RunId::new("fo-2222").unwrap(),
            turn: baton_proto::claim::Turn { epoch: 1, holder: 1 },
            by: "eve".into(),
            since_unix: 0,
            quiet_ms: None,
        });
        let servers = vec![
            stopped("stopped", 3),
            stopped("empty", 1).primary(lineage('c', 0), 0),
            stopped("full", 2).primary(lineage('d', 10), 5),
            held,
            stopped("busy", 5).replica("10.0.0.1:6379", up(), lineage('a', 1), 3),
        ];
        let world = World::default().with("c", "10.0.0.3:7400", servers);
        let topology = Topology::of(&world);
        let names = |replace| {
            let free = free_on(&world, &topology, &host("c"), replace);
            free.into_iter().map(|free| free.instance.instance.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["empty", "stopped"]);
        assert_eq!(names(true), ["empty", "full", "stopped"]);
    }

    proptest! {
        #[test]
        fn nobody_is_given_twice_and_nobody_goes_without_while_there_are_free_ones(
            ports in proptest::collection::btree_set(1u16..40, 0..20),
            others in proptest::collection::btree_set(1u16..40, 0..20),
        ) {
            let groups: Vec<Lost> = ports.iter().map(|port| lost(*port, None)).collect();
            let servers: Vec<Free> = others.iter().map(|port| free(&format!("c/r{port}"), *port)).collect();
            let pairs = pair(&groups, &servers);
            let given: Vec<_> = pairs.iter().flatten().map(|(instance, _)| instance.clone()).collect();
            let distinct: std::collections::BTreeSet<_> = given.iter().cloned().collect();
            prop_assert_eq!(given.len(), distinct.len());
            prop_assert_eq!(given.len(), groups.len().min(servers.len()));
            for (group, pair) in groups.iter().zip(&pairs) {
                if others.contains(&group.port) {
                    prop_assert_eq!(pair, &Some((named(&format!("c/r{}", group.port)), By::Port)));
                }
            }
        }
    }
}
