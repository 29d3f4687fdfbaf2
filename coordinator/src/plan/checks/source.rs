//! Checks on the source and the other survivors.

use baton_proto::control::SaveMethod;
use baton_proto::report::{Link, Role};

use super::{danger, ok, refuse, warn};
use crate::plan::steps::{save_method, streams};
use crate::plan::{Check, Goal, Member, Mode, Scene, left};
use crate::report::units::{Bytes, Span};

/// What a replica tells as its offset that has none.
const NO_OFFSET: u64 = 1;

/// The source holds the most. One that holds less loses what the others have.
pub(super) fn is_freshest(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-freshest";
    let Some(running) = scene.source.running() else { return Vec::new() };
    let own = &running.replication.lineage;
    let ahead = scene.siblings.iter().find_map(|sibling| {
        let other = &sibling.running()?.replication.lineage;
        (other.offset > own.offset).then(|| (sibling.name, other.offset - own.offset))
    });
    let mut checks = vec![match ahead {
        Some((other, bytes)) => danger(
            ID,
            format!("{} is {bytes} bytes behind {other}, which would lose them", scene.source.name),
            match scene.intent.goal {
                Goal::Failover(Mode::InPlace) => format!("say --to {other}"),
                _ => format!("take {other} as the source, or leave --source out"),
            },
        ),
        None => ok(ID, format!("{} stands at {own}, the furthest of {}", scene.source.name, scene.siblings.len() + 1)),
    }];
    for (name, why) in scene.passed_over {
        checks.push(ok("source-others", format!("{name} is not the source: {why}")));
    }
    checks
}

/// Somebody follows the survivor that takes over: else what is written to it is nowhere else.
pub(super) fn is_followed(scene: &Scene) -> Vec<Check> {
    let name = scene.source.name;
    let check = || {
        let says = format!("nobody will follow {name}: what is written to it is nowhere else");
        warn("primary-followed", says, format!("give it a replica afterwards: `coord clone {name} TARGET`"))
    };
    scene.siblings.is_empty().then(check).into_iter().collect()
}

/// The source holds something. An empty one may never have come level with the primary that was lost.
pub(super) fn has_data(scene: &Scene) -> Vec<Check> {
    let empty = scene.source.running().is_some_and(|running| running.keyspace.is_empty());
    let says = || format!("{} holds no key: if the lost primary held any, they are not here", scene.source.name);
    let check = || {
        warn(
            "source-empty",
            says(),
            "if the primary held any, do not go on: look for its dump and its append-only file first",
        )
    };
    empty.then(check).into_iter().collect()
}

/// The source knows where its data stands, so that its snapshot tells, and what loads it can be held against it. A replica
/// that was started on its append-only file has forgotten: it stands at the very beginning of a history of its own, and has
/// no backlog. Promoted, it begins one that it can tell.
pub(super) fn knows_its_history(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-history";
    let Some(running) = scene.source.running() else { return Vec::new() };
    let is_alone = matches!(&running.role, Role::Replica { link: Link::Down { .. }, .. });
    let replication = &running.replication;
    let forgot = replication.backlog.is_none() && replication.lineage.offset <= NO_OFFSET;
    if scene.intent.goal != Goal::Failover(Mode::Replace) || !is_alone || !forgot {
        return Vec::new();
    }
    let name = scene.source.name;
    let says = format!(
        "{name} has forgotten where its data stands, as a replica does that is started again on its append-only file: \
         its snapshot would not tell, and nothing could be held against it"
    );
    vec![refuse(ID, says, "use --mode promote, by which it begins a new history; or another survivor with --source")]
}

/// The source's data is not older than the operator allows.
pub(super) fn is_recent(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-age";
    let Some(max) = scene.intent.max_data_age_seconds else { return Vec::new() };
    let name = scene.source.name;
    match without_primary_since(scene.source) {
        Some(seconds) if seconds <= max => vec![ok(ID, format!("{name} lost its primary {} ago", Span(seconds)))],
        Some(seconds) => vec![danger(
            ID,
            format!("{name} lost its primary {} ago, and --max-data-age is {}", Span(seconds), Span(max)),
            "raise --max-data-age if data of that age will do",
        )],
        None => vec![danger(
            ID,
            format!("{name} does not know when it lost its primary"),
            "leave --max-data-age out if its data will do",
        )],
    }
}

fn without_primary_since(source: Member) -> Option<u64> {
    match &source.running()?.role {
        Role::Replica { link: Link::Up { last_io_seconds }, .. } => Some(*last_io_seconds),
        Role::Replica { link: Link::Down { since_seconds }, .. } => *since_seconds,
        _ => None,
    }
}

/// Nothing else works on the source's data at the moment.
pub(super) fn is_idle(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-idle";
    let name = scene.source.name;
    let Some(running) = scene.source.running() else {
        if scene.intent.snapshot == Some(SaveMethod::Existing) {
            return vec![ok(ID, format!("{name} does not run; its dump is taken as it is"))];
        }
        let text = format!("the server of {name} does not answer: {}", state_of(scene.source));
        return vec![refuse(ID, text, "start it, or take its dump as it is with --snapshot existing")];
    };
    if running.persistence.loading {
        return vec![refuse(ID, format!("{name} is loading"), "wait until it has loaded")];
    }
    if running.persistence.saving {
        let text = format!("{name} is saving already");
        return vec![refuse(ID, text, "wait until its save has ended, then run this again")];
    }
    vec![ok(ID, format!("{name} is neither loading nor saving"))]
}

pub(super) fn state_of(member: Member) -> String {
    use baton_proto::report::ServerState;
    match &member.report.server {
        ServerState::Stopped => "stopped".into(),
        ServerState::Silent { error } => error.clone(),
        ServerState::Denied { user, error } => format!("it refuses its agent, user `{user}`: {error}"),
        ServerState::Running(_) => "running".into(),
    }
}

/// The snapshot can be written where the source writes its dumps, beside the one that is there.
pub(super) fn can_save(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-save";
    let (name, files) = (scene.source.name, &scene.source.report.files);
    let settings = &scene.source.report.settings;
    let (method, why) = save_method(scene);
    if method == SaveMethod::Existing {
        return vec![match files.dump_bytes {
            Some(bytes) => ok(ID, format!("the existing dump of {name} is taken, {}", Bytes(bytes))),
            None => refuse(
                ID,
                format!("{name} has no {} in {}", settings.dbfilename, settings.dir),
                "leave --snapshot existing out, so that one is written",
            ),
        }];
    }
    if method == SaveMethod::Stream {
        return can_stream(scene, &why);
    }
    let mut checks = Vec::new();
    if let Some(error) = &files.write_error {
        let text = format!("{name} cannot write into {}: {error}", settings.dir);
        checks.push(refuse(
            ID,
            text,
            "mend owner and rights of the directory; the agent needs them as well; or use --snapshot stream",
        ));
    }
    let wanted = scene.data_bytes();
    if files.free_bytes < wanted {
        checks.push(refuse(
            "source-disk",
            format!(
                "{name} has {} free in {}, the snapshot may take {}",
                Bytes(files.free_bytes),
                settings.dir,
                Bytes(wanted)
            ),
            "make room there, lower disk_reserve in its agent.toml, or use --snapshot stream",
        ));
    }
    if checks.is_empty() {
        checks.push(ok(ID, format!("{name} saves by {method} ({why}), {} free", Bytes(files.free_bytes))));
    }
    if method == SaveMethod::Bgsave {
        checks.extend(can_fork(scene));
    }
    checks
}

/// Streamed, the snapshot needs no disk, and none keeps it.
fn can_stream(scene: &Scene, why: &str) -> Vec<Check> {
    const ID: &str = "source-save";
    let name = scene.source.name;
    if let Err((why, remedy)) = streams(scene) {
        return vec![refuse(ID, format!("{name} cannot stream its snapshot: {why}"), remedy)];
    }
    let because = if scene.intent.snapshot.is_some() { format!(" {why}") } else { format!(", since {why}") };
    let says = match scene.intent.goal {
        Goal::Failover(Mode::Replace) => format!(
            "{name} streams from memory{because}; no file of it stays there: until it follows {}, its memory, frozen and fenced, is the last copy",
            scene.target.name
        ),
        _ => format!("{name} streams from memory{because}; no file of it stays there"),
    };
    [ok(ID, says)].into_iter().chain(can_fork(scene)).collect()
}

fn can_fork(scene: &Scene) -> Option<Check> {
    let (name, wanted) = (scene.source.name, scene.data_bytes());
    let memory = scene.world.report(&name.host).map_or(u64::MAX, |host| host.memory_available_bytes);
    (memory < wanted).then(|| {
        warn(
            "source-memory",
            format!("{name} has {} of memory for the fork of a {} data set", Bytes(memory), Bytes(wanted)),
            "if it serves nobody, --snapshot save needs no fork",
        )
    })
}

/// The other survivors can be moved along.
pub(super) fn siblings_stand(scene: &Scene) -> Vec<Check> {
    const ID: &str = "siblings";
    let Some(group) = scene.group else { return Vec::new() };
    let moved: Vec<_> = scene.siblings.iter().map(|sibling| sibling.name).collect();
    let left = group.replicas.iter().filter(|replica| {
        !replica.chained && replica.instance != *scene.source.name && !moved.contains(&&replica.instance)
    });
    let reason = |name| scene.passed_over.iter().find(|(other, _)| other == name).map_or("", |(_, why)| why.as_str());
    left.map(|replica| {
        let name = &replica.instance;
        let remedy = format!("once it is well: {}", left::once_it_is_well(scene, name));
        warn(ID, format!("{name} is left as it is: {}", reason(name)), remedy)
    })
    .collect()
}
