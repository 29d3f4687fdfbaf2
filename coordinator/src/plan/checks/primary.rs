//! Checks on the lost primary: it must be dead for everyone who could know.

use super::{danger, ok, refuse};
use crate::plan::cast;
use crate::plan::{Check, Scene};
use crate::report::units::Span;
use crate::topology::{Group, PrimaryState, ReplicaLink};

/// A primary is dead when neither its agent nor its port answers, and no replica is linked to it. What cannot be seen
/// from one place may live; the replicas' own links are the proof.
pub(super) fn is_dead(scene: &Scene) -> Vec<Check> {
    const ID: &str = "primary-dead";
    let Some(group) = scene.group else { return Vec::new() };
    let name = &group.name;
    let mut against = signs_of_life(scene, group);
    for replica in group.replicas.iter().filter(|replica| replica.is_linked()) {
        against.push(format!("replica {} is linked to {name}", replica.instance));
    }
    if !against.is_empty() {
        let stop = format!("{name} lives; if it has to go, stop its server first, then run this again");
        return against.into_iter().map(|sign| danger(ID, sign, &stop)).collect();
    }
    let tried: Vec<_> = probes(scene, group).filter(|probe| probe.answer.is_ok()).collect();
    let stopped_by_its_agent = matches!(group.primary.state, PrimaryState::Stopped);
    if tried.is_empty() && !stopped_by_its_agent {
        let text = format!("no host could try to reach {name} at {}", group.primary.address);
        return vec![refuse(ID, text, "see `coord status` for the agents of its replicas")];
    }
    let down = group.replicas.iter().filter_map(|replica| match replica.link {
        ReplicaLink::Down { since_seconds } | ReplicaLink::Fenced { since_seconds, .. } => since_seconds,
        _ => None,
    });
    let since = down.max().map(|seconds| format!(", links down for {}", Span(seconds))).unwrap_or_default();
    let who = match &group.primary.state {
        PrimaryState::Stopped => "its agent says that it is stopped".to_owned(),
        _ => {
            let witnesses: Vec<_> = tried.iter().map(|probe| probe.from.to_string()).collect();
            format!("neither its agent nor its port answers, tried from {}", witnesses.join(", "))
        }
    };
    vec![ok(ID, format!("{name} at {}: {who}{since}", group.primary.address))]
}

fn probes<'a>(scene: &'a Scene, group: &'a Group) -> impl Iterator<Item = &'a crate::topology::Probe> {
    scene.world.probes.iter().filter(|probe| probe.to == group.primary.address)
}

fn signs_of_life(scene: &Scene, group: &Group) -> Vec<String> {
    let name = &group.name;
    let mut signs = Vec::new();
    match &group.primary.state {
        PrimaryState::Running { .. } => signs.push(format!("{name} runs and answers as a primary")),
        PrimaryState::Silent { error } => {
            signs.push(format!("{name} has a server process that does not answer: {error}"))
        }
        PrimaryState::Denied { user, error } => {
            signs.push(format!("{name} runs, and refuses its agent, user `{user}`: {error}"));
        }
        PrimaryState::Circle => signs.push(format!("{name} follows one of its own replicas")),
        PrimaryState::Stopped | PrimaryState::Unreachable { .. } | PrimaryState::Unwatched => {}
    }
    for probe in probes(scene, group) {
        if let Ok(reach) = &probe.answer
            && reach.verdict.is_alive()
        {
            signs.push(format!("{name} at {} answers {}: {}", probe.to, probe.from, reach.detail));
        }
    }
    signs
}

/// The operator's belief is compared with what is: two people who mend the same outage must not do it twice.
pub(super) fn is_expected(scene: &Scene) -> Vec<Check> {
    const ID: &str = "primary-expected";
    let (Some(group), Some(expected)) = (scene.group, &scene.intent.expect_primary) else { return Vec::new() };
    if cast::is_expected(expected, &group.primary.address) {
        return vec![ok(ID, format!("the primary is {expected}, as expected"))];
    }
    let text = format!("the primary is {}, not {expected}: the group has changed", group.primary.address);
    vec![danger(ID, text, "look at `coord status` again")]
}
