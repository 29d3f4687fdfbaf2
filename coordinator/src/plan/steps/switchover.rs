//! The steps of a switchover. The one that matters is one action of one agent; what follows moves the others along.

use baton_proto::HostPort;
use baton_proto::report::Role;

use super::{names, upstream};
use crate::plan::{Scene, Step, left};

pub(super) fn steps(scene: &Scene, timeout_ms: u32) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let siblings = names(&scene.siblings);
    let to = upstream(scene.target);
    let seen_as = seen_as(scene).unwrap_or_else(|| to.address.clone());
    let mut steps = vec![Step::HandOver { from: source.clone(), to: to.clone(), seen_as, timeout_ms }];
    if !siblings.is_empty() {
        steps.push(Step::AttachSiblings { replicas: siblings.clone(), to });
    }
    steps.push(Step::Persist { instances: [target.clone(), source.clone()].into_iter().chain(siblings).collect() });
    steps.push(Step::Canary { primary: target, replica: source });
    steps.extend(left::step(scene));
    steps
}

/// The target's address as the source knows it: among its replicas, or as its primary already. Servers behind a
/// translation of addresses advertise another one than their primary sees.
pub(in crate::plan) fn seen_as(scene: &Scene) -> Option<HostPort> {
    let (source, target) = (scene.source, scene.target);
    let known: Vec<&HostPort> = match &source.running()?.role {
        Role::Primary { replicas } => replicas.iter().filter(|line| line.online).map(|line| &line.address).collect(),
        Role::Replica { primary, .. } => vec![primary],
    };
    let advertised = known.iter().find(|address| ***address == target.report.address);
    let placed = || {
        let is_target =
            |address: &&&HostPort| scene.world.place(address, &source.name.host).instance() == Some(target.name);
        known.iter().find(is_target)
    };
    advertised.or_else(placed).map(|address| (*address).clone())
}
