//! The steps of each goal, in their order. The order is the safety: nothing follows the target before the gate.

mod switchover;

use baton_proto::InstanceRef;
use baton_proto::control::SaveMethod;

pub(super) use self::switchover::seen_as;
use crate::plan::Step;
use crate::plan::step::{Survivor, Upstream};
use crate::plan::{Goal, Member, Mode, Scene};

/// A data set of this size is saved in less than a second, which a reader hardly notices; above it, a server with
/// readers is asked for a forked save.
const QUICK_SAVE_BYTES_MAX: u64 = 64_000_000;

/// The plan's steps.
pub fn of(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    match scene.intent.goal {
        Goal::Failover(Mode::Replace) => replace(scene, method),
        Goal::Failover(Mode::Promote) => promote(scene, method),
        Goal::Copy { start } => copy(scene, method, start),
        Goal::Switchover { timeout_ms } => switchover::steps(scene, timeout_ms),
    }
}

fn replace(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let siblings = names(&scene.siblings);
    let to = upstream(scene.target);
    let survivors: Vec<_> = [source.clone()].into_iter().chain(siblings.clone()).collect();
    let members: Vec<_> = [scene.source].into_iter().chain(scene.siblings.iter().copied()).collect();
    let mut steps = vec![fence(&members)];
    steps.extend(land(scene, method));
    steps.push(Step::Start { target: target.clone(), follow: None });
    steps.push(Step::Gate { source: source.clone(), target: to.clone() });
    steps.extend(aof(scene, true));
    steps.push(Step::Attach { replica: source.clone(), to: to.clone() });
    if !siblings.is_empty() {
        steps.push(Step::AttachSiblings { replicas: siblings, to });
    }
    steps.push(Step::Persist { instances: [target.clone()].into_iter().chain(survivors).collect() });
    steps.push(Step::Canary { primary: target, replica: source });
    steps.push(release(scene));
    steps
}

fn promote(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let siblings = names(&scene.siblings);
    let to = upstream(scene.source);
    let members: Vec<_> = [scene.source].into_iter().chain(scene.siblings.iter().copied()).collect();
    let mut steps = vec![fence(&members), Step::Promote { on: source.clone() }];
    if !siblings.is_empty() {
        steps.push(Step::AttachSiblings { replicas: siblings.clone(), to: to.clone() });
    }
    steps.extend(land(scene, method));
    steps.push(Step::Start { target: target.clone(), follow: Some(to.clone()) });
    steps.push(Step::Attach { replica: target.clone(), to });
    steps.extend(aof(scene, false));
    steps.push(Step::Persist { instances: [source.clone(), target.clone()].into_iter().chain(siblings).collect() });
    steps.push(Step::Canary { primary: source, replica: target });
    steps.push(release(scene));
    steps
}

fn copy(scene: &Scene, method: SaveMethod, start: bool) -> Vec<Step> {
    let mut steps = land(scene, method);
    if start {
        steps.push(Step::Start { target: scene.target.name.clone(), follow: None });
        steps.extend(aof(scene, false));
    }
    steps.push(release(scene));
    steps
}

/// Brings the snapshot to where the target will load it.
fn land(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let budget = scene.intent.budget;
    let loads = scene.intent.goal != Goal::Copy { start: false };
    let mut steps = vec![
        Step::Snapshot { source: source.clone(), method },
        Step::Transfer { source, target: target.clone(), method, budget, loads },
    ];
    if let Some(running) = scene.target.running() {
        let save = !running.keyspace.is_empty();
        let appendonly = running.persistence.aof_enabled;
        steps.push(Step::Stop { target: target.clone(), save, appendonly });
    }
    steps.push(Step::Install { target });
    steps
}

fn fence(members: &[Member]) -> Step {
    let survivor = |member: &Member| {
        let lineage = member.running()?.replication.lineage.clone();
        Some(Survivor { instance: member.name.clone(), lineage })
    };
    Step::Fence { replicas: members.iter().filter_map(survivor).collect() }
}

fn aof(scene: &Scene, guards: bool) -> Option<Step> {
    let wanted = scene.target.report.settings.appendonly;
    wanted.then(|| Step::EnableAof { target: scene.target.name.clone(), guards })
}

fn release(scene: &Scene) -> Step {
    Step::Release {
        source: scene.source.name.clone(),
        target: scene.target.name.clone(),
        keep_old: holds_somebodys_data(scene.target),
    }
}

/// Whether what the snapshot replaces may be of worth to somebody. A dump of a few keys is as small as an empty one, and a
/// server that runs empty may have a full one beside it, so every dump counts.
fn holds_somebodys_data(target: Member) -> bool {
    let files = &target.report.files;
    let has_keys = target.running().is_some_and(|running| !running.keyspace.is_empty());
    has_keys || files.has_aof || files.dump_bytes.is_some()
}

/// How the snapshot is written, and why so.
pub fn save_method(scene: &Scene) -> (SaveMethod, String) {
    if let Some(method) = scene.intent.snapshot {
        return (method, "as asked".into());
    }
    let Some(running) = scene.source.running() else {
        return (SaveMethod::Existing, "the source does not run".into());
    };
    let serves_writes = !matches!(scene.intent.goal, Goal::Failover(Mode::Replace));
    let quick = running.memory.used_bytes <= QUICK_SAVE_BYTES_MAX;
    let host = scene.world.report(&scene.source.name.host);
    let fork_fits = host.is_some_and(|host| host.memory_available_bytes > running.memory.used_bytes);
    match (serves_writes, running.clients, fork_fits) {
        (false, 0, _) => (SaveMethod::Save, "the source is frozen and has no clients".into()),
        (false, _, _) if quick => (SaveMethod::Save, "the data set is small".into()),
        (false, clients, true) => (SaveMethod::Bgsave, format!("{clients} clients read from the source meanwhile")),
        (true, _, true) => (SaveMethod::Bgsave, "the source serves meanwhile".into()),
        (_, _, false) => {
            (SaveMethod::Save, "memory is too short for a fork; the source serves nobody meanwhile".into())
        }
    }
}

fn names(members: &[Member]) -> Vec<InstanceRef> {
    members.iter().map(|member| member.name.clone()).collect()
}

fn upstream(member: Member) -> Upstream {
    Upstream { instance: member.name.clone(), address: member.report.address.clone() }
}
