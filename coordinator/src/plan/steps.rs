//! The steps of each goal, in their order. The order is the safety: nothing follows the target before the gate.

mod rejoin;
mod switchover;

use baton_proto::InstanceRef;
use baton_proto::control::{Landing, SaveMethod};
use baton_proto::report::{Link, Role};

pub(super) use self::switchover::seen_as;
use crate::plan::Step;
use crate::plan::spool::{self, Spool};
use crate::plan::step::{Survivor, Upstream};
use crate::plan::{Goal, Member, Mode, Scene, Way, backlog, landing, left, pace};
use crate::report::units::Bytes;

/// A data set of this size is saved in less than a second, which a reader hardly notices; above it, a server with
/// readers is asked for a forked save.
const QUICK_SAVE_BYTES_MAX: u64 = 64_000_000;

/// How long a server may take to load its snapshot: an hour covers some 500 GB at the speed of a slow disk.
pub const LOAD_TIMEOUT_SECONDS: u32 = 3600;

/// The plan's steps.
pub fn of(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    match scene.intent.goal {
        Goal::Failover(Mode::Replace) => replace(scene, method),
        Goal::Failover(Mode::Promote) => promote(scene, method),
        Goal::Failover(Mode::InPlace) => in_place(scene),
        Goal::Copy { start } => copy(scene, method, start),
        Goal::Switchover { timeout_ms } => switchover::steps(scene, timeout_ms),
        Goal::Clone => clone(scene, method),
        Goal::Rejoin => rejoin::steps(scene),
    }
}

fn replace(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let siblings = names(&scene.siblings);
    let to = upstream(scene.target);
    let survivors: Vec<_> = [source.clone()].into_iter().chain(siblings.clone()).collect();
    let members: Vec<_> = [scene.source].into_iter().chain(scene.siblings.iter().copied()).collect();
    let mut steps = vec![fence(&members)];
    steps.extend(rejoin::depose(scene, scene.target));
    steps.extend(land(scene, method, None));
    steps.push(Step::Gate { source: source.clone(), target: to.clone() });
    steps.extend(aof(scene, true));
    steps.push(Step::Attach { replica: source.clone(), to: to.clone() });
    if !siblings.is_empty() {
        steps.push(Step::AttachSiblings { replicas: siblings, to });
    }
    steps.push(Step::Persist { instances: [target.clone()].into_iter().chain(survivors).collect() });
    steps.push(Step::Canary { primary: target, replica: source });
    steps.push(release(scene));
    steps.extend(left::step(scene));
    steps
}

fn promote(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let siblings = names(&scene.siblings);
    let to = upstream(scene.source);
    let members: Vec<_> = [scene.source].into_iter().chain(scene.siblings.iter().copied()).collect();
    let mut steps = vec![fence(&members)];
    steps.extend(rejoin::depose(scene, scene.source));
    steps.push(Step::Promote { on: source.clone() });
    if !siblings.is_empty() {
        steps.push(Step::AttachSiblings { replicas: siblings.clone(), to: to.clone() });
    }
    // After the siblings have joined: some servers empty their backlog when its size is changed.
    steps.extend(kept(scene));
    steps.extend(land(scene, method, Some(&to)));
    steps.extend(aof(scene, false));
    steps.push(Step::Attach { replica: target.clone(), to });
    steps.push(Step::Persist { instances: [source.clone(), target.clone()].into_iter().chain(siblings).collect() });
    steps.push(Step::Canary { primary: source, replica: target });
    steps.push(release(scene));
    steps.extend(left::step(scene));
    steps
}

fn in_place(scene: &Scene) -> Vec<Step> {
    let source = scene.source.name.clone();
    let siblings = names(&scene.siblings);
    let members: Vec<_> = scene.members().collect();
    let mut steps = vec![fence(&members)];
    steps.extend(rejoin::depose(scene, scene.source));
    steps.push(Step::Promote { on: source.clone() });
    if !siblings.is_empty() {
        steps.push(Step::AttachSiblings { replicas: siblings.clone(), to: upstream(scene.source) });
    }
    steps.push(Step::Persist { instances: names(&members) });
    if let Some(replica) = siblings.into_iter().next() {
        steps.push(Step::Canary { primary: source, replica });
    }
    steps.extend(left::step(scene));
    steps
}

fn copy(scene: &Scene, method: SaveMethod, start: bool) -> Vec<Step> {
    let mut steps = if start { land(scene, method, None) } else { place(scene, method, false) };
    if start {
        steps.extend(aof(scene, false));
    }
    steps.push(release(scene));
    steps
}

fn clone(scene: &Scene, method: SaveMethod) -> Vec<Step> {
    let (source, target) = (scene.source.name.clone(), scene.target.name.clone());
    let to = upstream(scene.source);
    let mut steps = kept(scene);
    steps.extend(land(scene, method, Some(&to)));
    steps.extend(aof(scene, false));
    steps.push(Step::Attach { replica: target.clone(), to });
    steps.push(Step::Persist { instances: vec![target.clone()] });
    if scene.source.running().is_some_and(|running| matches!(running.role, Role::Primary { .. })) {
        steps.push(Step::Canary { primary: source, replica: target });
    }
    steps.push(release(scene));
    steps
}

/// Has what is written from the snapshot on kept at the source.
fn kept(scene: &Scene) -> Vec<Step> {
    let Some(sizing) = backlog::of(scene) else { return Vec::new() };
    let source = &scene.source.name;
    let (bytes, hold_seconds) = (sizing.bytes, sizing.hold_seconds());
    let mut steps = vec![Step::Backlog { source: (*source).clone(), bytes, hold_seconds }];
    if let Some(Ok(_)) = spool::of(scene) {
        steps.push(Step::Spool { source: (*source).clone() });
    }
    steps
}

/// Brings the snapshot into the target's server, which is a primary afterwards, or follows `follow`.
fn land(scene: &Scene, method: SaveMethod, follow: Option<&Upstream>) -> Vec<Step> {
    let target = scene.target.name.clone();
    match landing::of(scene) {
        Way::File => {
            let mut steps = place(scene, method, true);
            steps.push(Step::Start { target, follow: follow.cloned() });
            steps
        }
        Way::Live => {
            let follow = follow.map(|upstream| upstream.address.clone());
            let timeout_seconds = LOAD_TIMEOUT_SECONDS;
            let live = match (follow, spool::of(scene)) {
                (Some(follow), Some(Ok(Spool { near_bytes, .. }))) => {
                    Landing::Spooled { follow, near_bytes, timeout_seconds }
                }
                (follow, _) => Landing::Live { follow, timeout_seconds },
            };
            let mut steps = Vec::new();
            if landing::boots(scene) {
                steps.push(Step::Boot { target });
            }
            steps.extend(send(scene, method, live));
            steps
        }
    }
}

fn send(scene: &Scene, method: SaveMethod, landing: Landing) -> [Step; 2] {
    let (source, target, budget) = (scene.source.name.clone(), scene.target.name.clone(), scene.intent.budget);
    [Step::Snapshot { source: source.clone(), method }, Step::Transfer { source, target, method, budget, landing }]
}

/// Brings the snapshot to where a server that is started loads it; `loads` tells that it will be at once.
fn place(scene: &Scene, method: SaveMethod, loads: bool) -> Vec<Step> {
    let target = scene.target.name.clone();
    let mut steps = Vec::from(send(scene, method, Landing::File { loads }));
    if let Some(running) = scene.target.running() {
        let save = !running.keyspace.is_empty();
        let appendonly = running.persistence.aof_enabled;
        steps.push(Step::Stop { target: target.clone(), save, appendonly });
    }
    steps.push(Step::Install { target });
    steps
}

pub(super) fn fence(members: &[Member]) -> Step {
    let survivor = |member: &Member| {
        let lineage = member.running()?.replication.lineage.clone();
        Some(Survivor { instance: member.name.clone(), lineage })
    };
    Step::Fence { replicas: members.iter().filter_map(survivor).collect() }
}

/// Before the target is attached: that also has one follow that came up without its role, since it was restarted before.
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
    if let Err(why) = disk_takes_a_snapshot(scene)
        && streams(scene).is_ok()
    {
        return (SaveMethod::Stream, why);
    }
    let host = scene.world.report(&scene.source.name.host);
    let fork_fits = host.is_some_and(|host| host.memory_available_bytes > running.memory.used_bytes);
    if fork_fits
        && streams(scene).is_ok()
        && let Some(why) = pace::disk_holds_up(scene)
    {
        return (SaveMethod::Stream, why);
    }
    // Nobody has agreed to its clients being kept waiting.
    if scene.intent.goal == Goal::Clone {
        return (SaveMethod::Bgsave, "the source serves meanwhile".into());
    }
    let serves_writes = !matches!(scene.intent.goal, Goal::Failover(Mode::Replace));
    let quick = running.memory.used_bytes <= QUICK_SAVE_BYTES_MAX;
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

/// Whether the source's disk has room for a snapshot and can be written. The error says why not.
pub fn disk_takes_a_snapshot(scene: &Scene) -> Result<(), String> {
    let files = &scene.source.report.files;
    let needed = scene.data_bytes();
    if files.write_error.is_some() {
        return Err("its disk cannot be written".into());
    }
    if files.free_bytes < needed {
        return Err(format!("its disk has {} free, and {} may be needed", Bytes(files.free_bytes), Bytes(needed)));
    }
    Ok(())
}

/// Whether the source can stream its snapshot. A replica that has lost its primary serves its data only when its agent
/// takes the primary's place, and that is done to fenced ones alone. The error says why not, and what to do.
pub fn streams(scene: &Scene) -> Result<(), (String, &'static str)> {
    let Some(running) = scene.source.running() else { return Err(("it does not run".into(), "start it")) };
    match &running.role {
        Role::Primary { .. } | Role::Replica { link: Link::Up { .. }, .. } => Ok(()),
        Role::Replica { .. } if matches!(scene.intent.goal, Goal::Copy { .. }) => Err((
            "its link to its primary is down, and a copy leaves it as it is".into(),
            "use --snapshot save or bgsave, with room on its disk",
        )),
        // Promoted first, it serves by itself.
        Role::Replica { .. } if scene.intent.goal == Goal::Failover(Mode::Promote) => Ok(()),
        // In its primary's place its agent is a plain one.
        Role::Replica { .. } if scene.source.report.settings.tls_replication => Err((
            "it replicates over TLS only, which its agent does not speak in the place of its primary".into(),
            "use --snapshot save or bgsave, with room on its disk",
        )),
        Role::Replica { .. } if running.version.continues_as_replica() => Ok(()),
        Role::Replica { .. } => Err((
            format!("{} cannot go on from where it stands", running.version),
            "use --snapshot save or bgsave, with room on its disk",
        )),
    }
}

fn names(members: &[Member]) -> Vec<InstanceRef> {
    members.iter().map(|member| member.name.clone()).collect()
}

pub(super) fn upstream(member: Member) -> Upstream {
    Upstream { instance: member.name.clone(), address: member.report.address.clone() }
}
