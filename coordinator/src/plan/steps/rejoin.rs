//! The note of a lost primary, and the way of one that was replaced back into its group.

use baton_proto::compared::Comparing;
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::{HostName, InstanceRef};

use super::{fence, upstream};
use crate::plan::{Member, Scene, Step};

/// Has the group note that the lost primary is replaced. None: no agent could ever be told, since the inventory has no
/// host of it.
pub(super) fn depose(scene: &Scene, successor: Member) -> Option<Step> {
    let lost = &scene.group?.primary;
    let host: &HostName = lost.place.host()?;
    let deposition = Deposition {
        run: scene.run.clone(),
        host: host.clone(),
        instance: lost.place.instance().map(|named| named.instance.clone()),
        agent: scene.world.hosts.get(host)?.agent.clone(),
        address: lost.address.clone(),
        fork: scene.source.running()?.replication.lineage.clone(),
        successor: successor.name.clone(),
        successor_address: successor.report.address.clone(),
        standing: Standing::Deposed,
        since_unix: unix_now(scene),
        seal: None,
    };
    let keepers = scene.members().map(|member| member.name.clone()).collect();
    // Its agent may answer although its server is down: then what starts the server again brings it up fenced.
    let own = lost.place.instance().cloned();
    Some(Step::Depose { keepers, own, deposition: Box::new(deposition) })
}

/// By the source's clock: agents tell how old a note is by their own.
fn unix_now(scene: &Scene) -> u64 {
    scene.world.report(&scene.source.name.host).map_or(0, |report| report.clock_unix_ms / 1000)
}

pub(super) fn steps(scene: &Scene) -> Vec<Step> {
    let (primary, deposed) = (scene.source.name.clone(), scene.target.name.clone());
    let Some(held) = scene.world.joins_after(&deposed) else { return Vec::new() };
    let note = Box::new(held.deposition.clone());
    let over = Box::new(Deposition { standing: Standing::Rejoined, ..held.deposition.clone() });
    let keepers = keepers(scene, &deposed, &over);
    let to = upstream(scene.source);
    let compare = scene.intent.compare_seconds;
    let compare = compare.map(|limit_seconds| Comparing { with: to.address.clone(), limit_seconds });
    // A replica that was left behind is fenced like those that were not, and the note of its primary stands.
    let is_stray = scene.world.deposed(&deposed).is_none();
    let mut steps: Vec<Step> = is_stray.then(|| fence(&[scene.target])).into_iter().collect();
    steps.push(Step::SaveAside { deposed: deposed.clone(), primary: primary.clone(), deposition: note, compare });
    steps.push(Step::Attach { replica: deposed.clone(), to });
    if !is_stray {
        steps.push(Step::Depose { keepers, own: Some(deposed.clone()), deposition: over });
    }
    steps.push(Step::Persist { instances: vec![deposed.clone()] });
    steps.push(Step::Canary { primary, replica: deposed });
    steps
}

/// An instance of each host whose agent holds the note.
fn keepers(scene: &Scene, deposed: &InstanceRef, note: &Deposition) -> Vec<InstanceRef> {
    let hosts = scene.world.hosts.keys().filter(|host| **host != deposed.host);
    hosts
        .filter_map(|host| {
            let report = scene.world.report(host)?;
            report.depositions.iter().find(|held| held.deposition.run == note.run)?;
            let instance = report.instances.first()?.name.clone();
            Some(InstanceRef { host: host.clone(), instance })
        })
        .collect()
}
