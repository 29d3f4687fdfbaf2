//! What is wrong with a group, in sentences, and the next command.

use baton_proto::control::{Reach, ReachVerdict};
use baton_proto::deposed::{Deposition, Held};
use baton_proto::{InstanceRef, RunId};

use super::one_line;
use crate::topology::{Group, Place, PrimaryState, Probe, Replica, ReplicaLink, Topology, Trouble, Verdict, World};

/// Says what is wrong, the primary first.
pub fn issues(group: &Group, world: &World) -> Vec<String> {
    let mut issues: Vec<String> = of_primary(group).into_iter().collect();
    issues.extend(of_verdict(group));
    issues.extend(world.probes.iter().filter(|probe| asks_for(probe, group)).map(|probe| match &probe.answer {
        Ok(reach) => format!("tried from {}, {} {}", probe.from, probe.to, tried(reach)),
        Err(fault) => format!("{} could not try {}: {}", probe.from, probe.to, one_line(&fault.to_string())),
    }));
    issues.extend(group.replicas.iter().filter_map(of_replica));
    issues.extend(strays(group, world).map(|(name, held)| of_stray(name, held)));
    issues.extend(deposed_by(group, world).map(|held| of_deposition(held, world)));
    issues.extend(group.strangers.iter().map(|address| format!("its replica {address} is reported by no agent")));
    issues.extend(group.members().filter_map(|name| {
        let error = world.instance(name)?.settings.error.as_ref()?;
        Some(format!("configuration of {name} cannot be read: {}", one_line(error)))
    }));
    issues
}

/// The primaries that were replaced in this group.
fn deposed_by<'a>(group: &'a Group, world: &'a World) -> impl Iterator<Item = &'a Held> {
    world.depositions().into_iter().filter(|held| {
        let successor = &held.deposition.successor;
        group.members().chain(&group.rivals).any(|member| member == successor)
    })
}

/// The replicas that were left behind when the primary that they follow was replaced.
fn strays<'a>(group: &'a Group, world: &'a World) -> impl Iterator<Item = (&'a InstanceRef, &'a Held)> {
    // Linked to the replaced primary, one gets what that gets.
    let unlinked = group.replicas.iter().filter(|replica| replica.is_running() && !replica.is_linked());
    unlinked.filter_map(|replica| Some((&replica.instance, world.stray(&replica.instance)?)))
}

fn of_stray(name: &InstanceRef, held: &Held) -> String {
    let Deposition { run, successor, .. } = &held.deposition;
    let replaced = held.deposition.name();
    format!("{name} was left behind when run {run} replaced {replaced}: nothing that {successor} takes comes to it")
}

fn of_deposition(held: &Held, world: &World) -> String {
    let note = &held.deposition;
    let (name, run, successor) = (note.name(), &note.run, &note.successor);
    let says = format!("{name} was deposed by run {run}, and {successor} took its place");
    let instance = note.instance.clone().map(|instance| InstanceRef { host: note.host.clone(), instance });
    let running = instance.and_then(|name| world.instance(&name)?.server.running());
    match (running.map(|running| note.past_fork(&running.replication)), &held.untold) {
        (Some(Some(bytes)), _) => format!("{says}; it is {bytes} bytes past the fork"),
        (Some(None), _) => format!("{says}; how far it is past the fork is forgotten"),
        (None, Some(why)) if !held.told => format!("{says}; its agent could not be told yet: {}", one_line(why)),
        (None, _) => says,
    }
}

fn asks_for(probe: &Probe, group: &Group) -> bool {
    probe.to == group.primary.address && group.replica(&probe.from).is_some()
}

fn of_primary(group: &Group) -> Option<String> {
    if group.primary.is_forgotten() {
        return None;
    }
    let name = match &group.primary.place {
        Place::Instance(instance) => instance.to_string(),
        Place::Host(host) => host.to_string(),
        Place::Unknown => group.primary.address.to_string(),
    };
    let address = &group.primary.address;
    Some(match (&group.primary.state, &group.primary.place) {
        (PrimaryState::Stopped, _) => format!("{name} is stopped, says its agent"),
        (PrimaryState::Silent { error }, _) => format!("{name} does not answer its agent: {}", one_line(error)),
        (PrimaryState::Denied { error, .. }, _) => format!("{name} refuses its agent: {}", one_line(error)),
        (PrimaryState::Unreachable { error }, _) => format!("{name} cannot be asked: {}", one_line(error)),
        (PrimaryState::Unwatched, Place::Host(host)) => {
            format!("the agent of {host} answers, and has no instance at {address}")
        }
        (PrimaryState::Unwatched, _) => format!(
            "no host of the inventory has the address {}; if it is another address of one, add it to that host's \
             `addresses` in coord.toml",
            address.host
        ),
        (PrimaryState::Running { .. } | PrimaryState::Circle, _) => return None,
    })
}

fn of_verdict(group: &Group) -> Option<String> {
    match &group.verdict {
        Verdict::PrimaryUnreachable { .. } => Some(
            "do not fail over: the primary lives and its replicas follow it; look at its agent and the network".into(),
        ),
        Verdict::PrimaryAnswers { .. } => {
            Some("do not fail over: the primary lives; look at why its replicas are not linked, passwords first".into())
        }
        Verdict::PrimaryDiffers { replica } => {
            Some(format!("{replica} must not follow {}: it would lose its data and take over the other's", group.name))
        }
        Verdict::TwoPrimaries { others } => {
            let all: Vec<String> =
                std::iter::once(group.name.clone()).chain(others.iter().map(ToString::to_string)).collect();
            Some(format!("each of {} takes writes that the others do not get", all.join(", ")))
        }
        Verdict::PrimarySucceeded { by, .. } => {
            by.first().map(|by| format!("another failover would make a second primary beside {by}"))
        }
        _ => None,
    }
}

fn of_replica(replica: &Replica) -> Option<String> {
    let name = &replica.instance;
    Some(match &replica.link {
        ReplicaLink::Silent { error } => format!("{name} does not answer its agent: {}", one_line(error)),
        ReplicaLink::Denied { user, error } => {
            format!("{name} refuses its agent (user {user}): {}", one_line(error))
        }
        ReplicaLink::Fenced { run: Some(run), .. } => format!("{name} was taken off its primary by run {run}"),
        ReplicaLink::Fenced { run: None, .. } => {
            format!("{name} is fenced, and its agent no longer knows by which run")
        }
        _ => return None,
    })
}

fn tried(reach: &Reach) -> String {
    let words = match reach.verdict {
        ReachVerdict::Open => "answers",
        ReachVerdict::Rehearsal => "is held by an agent's rehearsal",
        ReachVerdict::Busy => "answers, but is not ready",
        ReachVerdict::Denied => "answers, but its protected mode lets nobody in",
        ReachVerdict::Unauthorised if reach.tls => "answers, but TLS with it fails",
        ReachVerdict::Unauthorised => "answers, but refuses the replica's password",
        ReachVerdict::Refused => "has nobody listening",
        ReachVerdict::Silent => "does not answer",
        ReachVerdict::Unreachable => "cannot be reached",
    };
    match one_line(&reach.detail) {
        detail if detail.is_empty() => words.into(),
        detail => format!("{words}: {detail}"),
    }
}

/// The commands that a person would give next: first the run that holds a replica is looked at, then the dead primary is
/// replaced.
pub fn next(group: &Group, topology: &Topology, world: &World) -> Vec<String> {
    let (held, lost) = match &group.verdict {
        Verdict::PrimaryDead { .. } => (held_by(group), true),
        Verdict::PrimarySucceeded { .. } | Verdict::PrimaryDiffers { .. } => (held_by(group), false),
        Verdict::Replica { trouble: Trouble::Fenced { run }, .. } => (run.as_ref(), false),
        _ => (None, false),
    };
    let failover = if lost { failover(group, topology, world) } else { None };
    // Only where its agent answers can it be joined, and not while the run that deposed it is at work.
    let at_work =
        |run: &RunId| world.instances().any(|(_, report)| report.claim.as_ref().is_some_and(|claim| claim.run == *run));
    let back = deposed_by(group, world)
        .filter(|held| world.report(&held.deposition.host).is_some() && !at_work(&held.deposition.run));
    let rejoin = back.map(|held| format!("coord rejoin {}", held.deposition.name()));
    let stray = strays(group, world).map(|(name, _)| format!("coord rejoin {name}"));
    held.map(|run| format!("coord show {run}")).into_iter().chain(failover).chain(rejoin).chain(stray).collect()
}

/// The run that holds a replica of the group.
fn held_by(group: &Group) -> Option<&RunId> {
    group.replicas.iter().find_map(|replica| match &replica.link {
        ReplicaLink::Fenced { run, .. } => run.as_ref(),
        _ => None,
    })
}

fn failover(group: &Group, topology: &Topology, world: &World) -> Option<String> {
    let failed = match &group.primary.place {
        Place::Instance(instance) => instance.to_string(),
        // A host that is gone and led several: all of them, onto one host.
        Place::Host(host) if world.report(host).is_none() && topology.led_by(host).count() > 1 => {
            let to = topology.spare_for(group, world).map(|spare| format!(" --to {}", spare.host)).unwrap_or_default();
            return Some(format!("coord failover {host}{to} --dry-run"));
        }
        Place::Host(host) => host.to_string(),
        // It cannot be named on the command line before the inventory has its address, as an issue says.
        Place::Unknown => return None,
    };
    Some(match topology.spare_for(group, world) {
        Some(spare) => format!("coord failover {failed} --to {spare} --dry-run"),
        None => format!("coord failover {failed} --dry-run   (in place: no spare is known)"),
    })
}
