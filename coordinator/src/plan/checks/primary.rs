//! Checks on the lost primary: it must be dead for everyone who could know.

use super::{danger, ok, refuse, warn};
use crate::plan::cast;
use crate::plan::{Check, Goal, Scene};
use crate::report::units::Span;
use crate::topology::death::{self, Death, Inquest};
use crate::topology::stand::Seen;

/// Everyone who could know is heard. Only a dead primary is replaced; one that hangs only if the operator says so.
pub(super) fn is_dead(scene: &Scene) -> Vec<Check> {
    const ID: &str = "primary-dead";
    let Some(group) = scene.group else { return Vec::new() };
    let (name, address) = (&group.name, &group.primary.address);
    let Inquest { death, testimony, tried_from, alone_seconds } = death::inquest(group, scene.world);
    let seen = testimony.join("; ");
    let since = alone_seconds.map(|seconds| format!(", links down for {}", Span(seconds))).unwrap_or_default();
    let from = tried_from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let stop = format!("if it has to go, stop its server first, then run this again; `coord status -v {name}`");
    vec![match death {
        Death::Dead => {
            ok(ID, format!("{name} at {address}: neither its agent nor its port answers, tried from {from}{since}"))
        }
        Death::ServerDown if from.is_empty() => {
            ok(ID, format!("{name} at {address}: its agent says that it is stopped{since}"))
        }
        Death::ServerDown => ok(ID, format!("{name} at {address}: nothing listens, tried from {from}{since}")),
        Death::Hung if scene.intent.hung_is_dead => warn(
            "primary-hung",
            format!("{name} at {address} hangs, and counts as dead as asked: {seen}"),
            "see that it cannot wake up: end its process, or switch its host off",
        ),
        Death::Hung => danger(
            "primary-hung",
            format!("{name} at {address} hangs, and may wake up and take writes: {seen}"),
            "end its process, then run this again; or say --hung-is-dead",
        ),
        Death::Alive => danger(ID, format!("{name} lives: {seen}"), stop),
        Death::Linked => danger(ID, format!("{name} lives, since a replica is linked to it: {seen}"), stop),
        Death::UnreachableFromHere => refuse(
            ID,
            format!("{name} at {address} is not known to be dead, only not seen from here: {seen}"),
            "run this where its agent is reached, or see `coord status -v` for the agents of its replicas",
        ),
    }]
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

/// A lineage compare-and-swap: the group stands where the operator saw it stand. One that serves may have gone on.
pub(super) fn stands_as_seen(scene: &Scene) -> Vec<Check> {
    const ID: &str = "lineage-expected";
    let (Some(group), Some(expected)) = (scene.group, &scene.intent.expect_lineage) else { return Vec::new() };
    let Some(found) = group.stand() else {
        let text = "nobody of the group tells where its data stands".to_owned();
        return vec![danger(ID, text, "look at `coord status -v` again")];
    };
    let serves = matches!(scene.intent.goal, Goal::Switchover { .. });
    if expected.fits(&found, serves) {
        return vec![ok(ID, format!("the group stands at {}, as expected", Seen::of(&found)))];
    }
    let text = format!("the group stands at {}, not at {expected}: it has changed since", Seen::of(&found));
    vec![danger(ID, text, "look at `coord status -v` again; another run may be at work, see `coord runs`")]
}
