//! Hosts that do not answer, and may hold replicas of the group: they can be neither moved nor looked at.

use super::{ok, warn};
use crate::plan::{Check, Goal, Scene, left};
use crate::report::units::Span;
use crate::topology::remembered::{Holds, Silent, silent};

/// Each host that does not answer is named, with what it may hold.
pub(super) fn siblings_answer(scene: &Scene) -> Vec<Check> {
    const ID: &str = "siblings";
    let Some(group) = scene.group else { return Vec::new() };
    silent(group, scene.world).iter().map(|silent| check(ID, silent, &group.name, scene)).collect()
}

fn check(id: &str, silent: &Silent, group: &str, scene: &Scene) -> Check {
    let host = &silent.host;
    let ago = |seen_unix: u64| Span(scene.world.observed_unix.saturating_sub(seen_unix));
    // What it has of the lost primary's last writes nobody can compare.
    let more = match scene.intent.goal {
        Goal::Failover(_) => ", and may hold more than the source",
        _ => "",
    };
    let remedy = || format!("get its agent to answer first, or afterwards: {}", left::once_it_is_well(scene, host));
    match &silent.holds {
        Holds::Replicas { instances, seen_unix } => {
            let names = instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let says = format!(
                "the agent of {host} does not answer: {names}, a replica of this group when it was last seen {} ago, is left behind{more}",
                ago(*seen_unix)
            );
            warn(id, says, remedy())
        }
        Holds::Listed(address) => {
            let says = format!("the agent of {host} does not answer: its replica at {address} is left behind");
            warn(id, says, remedy())
        }
        Holds::Unknown => {
            let says = format!(
                "the agent of {host} does not answer: if there is a replica of {group}, it is left behind{more}"
            );
            warn(id, says, remedy())
        }
        Holds::Nothing { seen_unix } => {
            let ago = ago(*seen_unix);
            ok(
                id,
                format!(
                    "the agent of {host} does not answer; it held nothing of this group when it was last seen {ago} ago"
                ),
            )
        }
        Holds::Deposed(run) => ok(
            id,
            format!(
                "the agent of {host} does not answer; run {run} deposed its server, which joins by `coord rejoin {host}` when it is back"
            ),
        ),
        Holds::OfAnother(name) => {
            ok(id, format!("the agent of {host} does not answer; its server belongs to {name}, of another group"))
        }
    }
}
