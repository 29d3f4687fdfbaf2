//! A deposed primary: that it is one before it is joined to its successor, and that it is none where it would lead.

use baton_proto::report::{Link, Role};

use super::{danger, ok, refuse};
use crate::plan::{Check, Member, Scene};
use crate::report::units::Bytes;

/// The target of a rejoin was deposed, and its successor leads.
pub(super) fn is_deposed(scene: &Scene) -> Vec<Check> {
    let id = "deposed";
    let (target, source) = (scene.target.name, scene.source.name);
    let Some(held) = scene.world.joins_after(target) else {
        let says = format!("no agent knows of a run that has replaced {target}");
        return vec![refuse(id, says, "see `coord status`; an empty server is made a replica by `coord clone`")];
    };
    let note = &held.deposition;
    let is_stray = scene.world.deposed(target).is_none();
    let Some(running) = scene.target.running() else {
        let says = format!("the server of {target} does not answer, and what it holds cannot be saved aside");
        let remedy = if is_stray { "" } else { ": its agent keeps it off writes" };
        return vec![refuse(id, says, format!("start the server on {}{remedy}", target.host))];
    };
    if let Role::Replica { primary, link: Link::Up { .. } | Link::Syncing, .. } = &running.role
        && is_stray
    {
        let says = format!("{target} is linked to {primary}, which run {} has replaced", note.run);
        return vec![refuse(
            id,
            says,
            format!("join that first, and {target} gets what it gets: `coord rejoin {}`", note.name()),
        )];
    }
    let stands = matches!(scene.source.running(), Some(running) if matches!(running.role, Role::Primary { .. }));
    if !stands {
        let says = format!("{source} leads nobody now, so that nothing could be followed");
        return vec![refuse(id, says, "see `coord status`, and replace the primary that was lost first")];
    }
    let what = if is_stray {
        format!("run {} replaced the primary that it followed", note.run)
    } else {
        format!("run {} deposed it", note.run)
    };
    let says = match note.past_fork(&running.replication) {
        Some(0) => format!("{what}, and it holds nothing that {source} has not"),
        Some(bytes) => {
            format!("{what}; it is {} past the fork, which are saved aside", Bytes(bytes))
        }
        None => {
            format!("{what}; all that it holds is saved aside, since its history is forgotten")
        }
    };
    vec![ok(id, says)]
}

/// There is room to save aside what it holds.
pub(super) fn has_room(scene: &Scene) -> Vec<Check> {
    let files = &scene.target.report.files;
    let needed = scene.target.running().map_or(0, |running| running.memory.used_bytes);
    match &files.write_error {
        Some(error) => vec![refuse("aside-room", format!("its disk cannot be written: {error}"), "mend the disk")],
        None if files.free_bytes < needed => {
            let says = format!("{} are free, and {} may be needed", Bytes(files.free_bytes), Bytes(needed));
            vec![refuse("aside-room", says, format!("make room in {}", scene.target.report.settings.dir))]
        }
        None => vec![ok("aside-room", format!("{} are free for what is saved aside", Bytes(files.free_bytes)))],
    }
}

/// Who is to lead or to be the copy that all others come from was not replaced before.
pub(super) fn nobody_is_deposed(scene: &Scene) -> Vec<Check> {
    let deposed = |member: &Member| {
        let note = &scene.world.deposed(member.name)?.deposition;
        let says = format!("{} was deposed by run {}, and may hold what nobody else has", member.name, note.run);
        Some(danger("deposed", says, format!("join it to its successor first: `coord rejoin {}`", member.name)))
    };
    [scene.source, scene.target].iter().filter_map(deposed).collect()
}
