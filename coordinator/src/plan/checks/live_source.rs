//! Checks on a source that serves while a replica is built from it.

use baton_proto::control::SaveMethod;
use baton_proto::report::{Link, Role};

use super::{ok, refuse, warn};
use crate::plan::{Check, Goal, Scene, Way};
use crate::plan::{backlog, spool};
use crate::report::units::Bytes;

/// The source can be followed: a primary can, and a replica whose own link is up.
pub(super) fn serves(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-serves";
    let (name, target) = (scene.source.name, scene.target.name);
    let Some(running) = scene.source.running() else {
        let text = format!("the server of {name} does not answer, and nothing can follow it");
        return vec![refuse(ID, text, format!("start it, or move its dump with `coord copy {name} {target}`"))];
    };
    let mut checks = vec![match &running.role {
        Role::Primary { .. } => ok(ID, format!("{name} is a primary")),
        Role::Replica { primary, link: Link::Up { .. }, .. } => {
            ok(ID, format!("{name} follows {primary}; its new replica follows it, not {primary}"))
        }
        Role::Replica { primary, .. } => refuse(
            ID,
            format!("{name} is not linked to its primary {primary}, so nothing can follow it"),
            "see `coord status`; `coord failover` replaces a lost primary",
        ),
    }];
    if scene.intent.snapshot == Some(SaveMethod::Existing) {
        let text = "what was written since an existing dump is not kept any more";
        checks.push(refuse("source-snapshot", text, "leave --snapshot existing out, so that one is written"));
    }
    checks
}

/// The source's backlog can hold what is written until the new replica asks for it.
pub(super) fn keeps_what_is_written(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-backlog";
    let (Some(sizing), Some(running)) = (backlog::of(scene), scene.source.running()) else { return Vec::new() };
    let (name, settings) = (scene.source.name, &scene.source.report.settings);
    let has_none = running.replication.backlog.is_none();
    if has_none && !settings.configurable {
        let text = format!("{name} has no backlog, and its agent may not use CONFIG there to have one made");
        return vec![refuse(ID, text, "allow the agent's user CONFIG")];
    }
    let spool = spool::of(scene);
    if let Some(Ok(spool)) = &spool {
        let (holds, says) = (Bytes(sizing.bytes), spool.says());
        let text =
            format!("{name}: {sizing}, and its backlog cannot hold more than {holds}; so its agent spools {says}");
        return vec![ok(ID, text)];
    }
    if !sizing.fits() {
        let mut text = format!("{name}: {sizing}, and its backlog cannot hold more than {}", Bytes(sizing.bytes));
        if let Some(Err(why)) = spool {
            text = format!("{text}; nor can its agent spool it: {why}");
        }
        // Asked for, it is the landing alone that forbids a spool.
        let mut size = format!("set repl-backlog-size {} there", sizing.least_bytes());
        if scene.intent.landing == Some(Way::File) {
            size = format!("leave `--landing file` out: a server that is fed live can be fed a spool; or {size}");
        }
        return vec![match scene.intent.goal {
            Goal::Clone => {
                let remedy =
                    format!("{size}, raise --max-rate, run it when less is written, or make room in its memory");
                refuse(ID, text, remedy)
            }
            // A lost primary is replaced all the same.
            _ => warn(ID, text, format!("{size}; else the data crosses the network twice")),
        }];
    }
    let will = match (sizing.bytes > sizing.present_bytes, has_none) {
        (_, true) => format!("a backlog of {} is made, without a fork", Bytes(sizing.bytes)),
        (true, _) => {
            format!("the backlog is made {} for the while, now {}", Bytes(sizing.bytes), Bytes(sizing.present_bytes))
        }
        (false, _) => format!("the backlog of {} holds that", Bytes(sizing.present_bytes)),
    };
    vec![ok(ID, format!("{name}: {sizing}; {will}"))]
}
