//! Whether a primary is dead: what everyone who could know has seen, and what follows from it.
//!
//! What cannot be seen from one place may live. So the agents of the whole group try it, its agent and its server's port,
//! and the replicas tell of their own links. The first row that fits decides:
//!
//! ```text
//!   it answers its agent as a primary, or speaks to anyone       -> alive
//!   a replica is linked to it                                    -> linked
//!   its process is there or its port accepts, and nothing comes  -> hung
//!   its agent says that no server runs                           -> server down
//!   another agent reaches its agent, and its port refuses all    -> server down
//!   another agent reaches its agent                              -> unreachable from here
//!   nobody could try its port                                    -> unreachable from here
//!   nothing answers anybody                                      -> dead
//! ```

use std::fmt;

use baton_proto::HostName;
use baton_proto::control::ReachVerdict;
use baton_proto::report::{Link, Role};

use super::{Door, Group, PrimaryState, Probe, ReplicaLink, World};
use crate::report::units::Span;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Dead,
    /// The host lives, and nothing listens at the server's port.
    ServerDown,
    /// A process that accepts connections and answers nothing: it may wake up and go on.
    Hung,
    /// Somebody else sees it, or nobody could look.
    UnreachableFromHere,
    /// It may be invisible to all agents, but its data flows.
    Linked,
    Alive,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Death::Dead => "dead",
            Death::ServerDown => "agent up, server down",
            Death::Hung => "hung",
            Death::UnreachableFromHere => "unreachable from here",
            Death::Linked => "a replica is still linked",
            Death::Alive => "alive",
        })
    }
}

/// A verdict, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquest {
    pub death: Death,
    /// What each saw, in words, the coordinator first.
    pub testimony: Vec<String>,
    /// Hosts from which the server's port was tried.
    pub tried_from: Vec<HostName>,
    /// The longest that a replica has been without it.
    pub alone_seconds: Option<u64>,
}

/// Hears everyone about the primary of a group.
pub fn inquest(group: &Group, world: &World) -> Inquest {
    let probes: Vec<&Probe> = world.probes.iter().filter(|probe| probe.to == group.primary.address).collect();
    let mut tried_from: Vec<HostName> =
        probes.iter().filter(|probe| probe.answer.is_ok()).map(|probe| probe.from.host.clone()).collect();
    tried_from.dedup();
    let alone = group.replicas.iter().filter_map(|replica| match replica.link {
        ReplicaLink::Down { since_seconds } | ReplicaLink::Fenced { since_seconds, .. } => since_seconds,
        _ => None,
    });
    Inquest {
        death: death(group, world, &probes),
        testimony: testimony(group, world, &probes),
        tried_from,
        alone_seconds: alone.max(),
    }
}

fn death(group: &Group, world: &World, probes: &[&Probe]) -> Death {
    let state = &group.primary.state;
    let answers = || probes.iter().filter_map(|probe| probe.answer.as_ref().ok());
    let alive = matches!(
        state,
        PrimaryState::Running { .. }
            | PrimaryState::Denied { .. }
            | PrimaryState::Strange { .. }
            | PrimaryState::Circle
    );
    if alive || answers().any(baton_proto::control::Reach::speaks) {
        return Death::Alive;
    }
    if group.replicas.iter().any(super::Replica::is_linked) {
        return Death::Linked;
    }
    if matches!(state, PrimaryState::Silent { .. }) || answers().any(|reach| reach.hung) {
        return Death::Hung;
    }
    if matches!(state, PrimaryState::Stopped) {
        return Death::ServerDown;
    }
    let agent_seen = doors(group, world).any(|knock| knock.door == Door::Open);
    let all_refused = answers().count() > 0 && answers().all(|reach| reach.verdict == ReachVerdict::Refused);
    match (agent_seen, all_refused) {
        (true, true) => Death::ServerDown,
        (true, false) => Death::UnreachableFromHere,
        (false, _) if answers().count() == 0 => Death::UnreachableFromHere,
        (false, _) => Death::Dead,
    }
}

/// How the group's agents found the primary's.
fn doors<'a>(group: &'a Group, world: &'a World) -> impl Iterator<Item = &'a super::Knock> {
    let host = group.primary.place.host();
    world.knocks.iter().filter(move |knock| Some(&knock.to) == host)
}

fn testimony(group: &Group, world: &World, probes: &[&Probe]) -> Vec<String> {
    let mut lines = vec![match &group.primary.state {
        PrimaryState::Running { .. } => "coord: it runs and answers as a primary".into(),
        PrimaryState::Stopped => "coord: its agent says that it is stopped".into(),
        PrimaryState::Silent { error } => format!("coord: its agent says that its process does not answer: {error}"),
        PrimaryState::Denied { user, error } => {
            format!("coord: its agent says that it runs, and refuses it, user `{user}`: {error}")
        }
        PrimaryState::Strange { error } => format!("coord: it is not understood: {error}"),
        PrimaryState::Unreachable { error } => format!("coord: its agent does not answer: {error}"),
        PrimaryState::Unwatched => "coord: no agent of the inventory has it".into(),
        PrimaryState::Circle => "coord: it follows one of its own replicas".into(),
    }];
    for knock in doors(group, world) {
        lines.push(match &knock.door {
            Door::Open => format!("{}: its agent answers", knock.from),
            Door::Shut(why) => format!("{}: its agent does not answer: {why}", knock.from),
            Door::Untried(why) => format!("{}: its agent was not tried: {why}", knock.from),
        });
    }
    for probe in probes {
        let (from, to) = (&probe.from, &probe.to);
        lines.push(match &probe.answer {
            Ok(reach) if reach.hung => format!("{from}: {to} hangs: {}", reach.detail),
            Ok(reach) if reach.speaks() => format!("{from}: {to} answers: {}", reach.detail),
            Ok(reach) => format!("{from}: {to} does not answer: {}", reach.detail),
            Err(fault) => format!("{from}: could not try {to}: {fault}"),
        });
    }
    lines.extend(group.replicas.iter().filter_map(|replica| link_words(replica, world)));
    lines
}

fn link_words(replica: &super::Replica, world: &World) -> Option<String> {
    let name = &replica.instance;
    let running = world.instance(name)?.server.running()?;
    let Role::Replica { link, .. } = &running.role else { return None };
    Some(match (&replica.link, link) {
        (ReplicaLink::Fenced { .. }, _) => format!("{name}: is fenced off it"),
        (_, Link::Up { last_io_seconds }) => {
            format!("{name}: is linked to it, and last heard from it {} ago", Span(*last_io_seconds))
        }
        (_, Link::Syncing) => format!("{name}: is syncing with it"),
        (_, Link::Down { since_seconds: Some(seconds) }) => {
            format!("{name}: has had no link to it for {}", Span(*seconds))
        }
        (_, Link::Down { since_seconds: None }) => format!("{name}: has no link to it"),
    })
}

#[cfg(test)]
mod tests {
    use baton_proto::control::Reach;
    use baton_proto::report::ServerState;

    use super::*;
    use crate::topology::fixture::*;
    use crate::topology::{Knock, Topology};

    const A: &str = "10.0.0.1:6379";
    const B: &str = "machine-b";

    fn judged(world: &World) -> Death {
        let topology = Topology::of(world);
        inquest(topology.led_by(&host("machine-a")).next().unwrap(), world).death
    }

    fn with_a(state: ServerState) -> World {
        lost_primary().with("machine-a", "10.0.0.1:7400", vec![instance("default", A).state(state)])
    }

    fn door(mut world: World, door: Door) -> World {
        world.knocks.push(Knock { from: host(B), to: host("machine-a"), door });
        world
    }

    fn hung(mut world: World) -> World {
        let reach =
            Reach { verdict: ReachVerdict::Busy, detail: "accepts, and says nothing".into(), hung: true, tls: false };
        world.probes.push(Probe { from: named(B), to: at(A), answer: Ok(reach) });
        world
    }

    #[test]
    fn each_row_of_the_table_decides_where_none_before_it_does() {
        use ReachVerdict::{Busy, Denied, Open, Refused, Silent, Unauthorised, Unreachable};
        let shut = || Door::Shut("no agent listens".into());
        let linked = || {
            let b = instance("default", "10.0.0.2:6379").replica(A, up(), lineage('a', 1000), 200);
            lost_primary().with(B, "10.0.0.2:7400", vec![b])
        };
        let silent = || with_a(ServerState::Silent { error: "no answer".into() });
        let rows = [
            ("it runs", healthy(), Death::Alive),
            ("it answers a replica", lost_primary().probe(B, A, Open), Death::Alive),
            ("it is loading", lost_primary().probe(B, A, Busy), Death::Alive),
            ("it refuses strangers", lost_primary().probe(B, A, Denied), Death::Alive),
            ("it refuses a password", lost_primary().probe(B, A, Unauthorised), Death::Alive),
            (
                "it refuses its agent",
                with_a(ServerState::Denied { user: "default".into(), error: "NOAUTH".into() }),
                Death::Alive,
            ),
            ("it answers one of two", lost_primary().probe("d", A, Refused).probe(B, A, Open), Death::Alive),
            ("it is linked though nobody reaches it", door(linked().probe(B, A, Silent), shut()), Death::Linked),
            ("it hangs, and its link has not broken yet", hung(linked()), Death::Linked),
            ("it hangs", hung(lost_primary()), Death::Hung),
            ("it hangs for one and is silent for another", hung(lost_primary().probe("d", A, Silent)), Death::Hung),
            ("its agent sees a process that does not answer", silent(), Death::Hung),
            ("its agent says that it is stopped", with_a(ServerState::Stopped), Death::ServerDown),
            ("its host refuses", door(lost_primary().probe(B, A, Refused), Door::Open), Death::ServerDown),
            (
                "its agent is seen by b",
                door(lost_primary().probe(B, A, Silent), Door::Open),
                Death::UnreachableFromHere,
            ),
            ("nobody could try", lost_primary(), Death::UnreachableFromHere),
            ("nobody could try its port", door(lost_primary(), shut()), Death::UnreachableFromHere),
            ("nothing listens", door(lost_primary().probe(B, A, Refused), shut()), Death::Dead),
            ("its host is silent", door(lost_primary().probe(B, A, Silent), shut()), Death::Dead),
            ("its host is unreachable", lost_primary().probe(B, A, Unreachable), Death::Dead),
            (
                "an old agent cannot knock",
                door(lost_primary().probe(B, A, Refused), Door::Untried("too old".into())),
                Death::Dead,
            ),
        ];
        for (what, world, death) in rows {
            assert_eq!(judged(&world), death, "{what}");
        }
    }

    #[test]
    fn everyone_is_heard_in_words() {
        let world = door(lost_primary().probe(B, A, ReachVerdict::Refused), Door::Shut("no agent listens".into()));
        let topology = Topology::of(&world);
        let heard = inquest(&topology.groups[0], &world);
        assert_eq!(heard.testimony.len(), 4, "{heard:#?}");
        assert!(heard.testimony[0].starts_with("coord: its agent does not answer"));
        assert!(heard.testimony[1].starts_with("machine-b: its agent does not answer: no agent"));
        assert!(heard.testimony[2].contains("10.0.0.1:6379 does not answer"));
        assert!(heard.testimony[3].contains("no link to it for 3m12s"));
        assert_eq!((heard.tried_from, heard.alone_seconds), (vec![host(B)], Some(192)));
    }
}
