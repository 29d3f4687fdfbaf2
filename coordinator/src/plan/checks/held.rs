//! Whether another run has one of the instances.

use super::{danger, ok};
use crate::plan::{Check, Scene};
use crate::report::units::Span;

/// One run at a time changes an instance. What another has left half done is finished or undone first.
pub(super) fn is_nobodys(scene: &Scene) -> Vec<Check> {
    const ID: &str = "held";
    let held = scene.members().filter_map(|member| Some((member, member.report.claim.as_ref()?)));
    let rivals: Vec<Check> = held
        .filter(|(_, claim)| claim.run != *scene.run)
        .map(|(member, claim)| {
            let (name, run, by) = (member.name, &claim.run, &claim.by);
            let now = scene.world.report(&name.host).map_or(0, |report| report.clock_unix_ms / 1000);
            let since = Span(now.saturating_sub(claim.since_unix));
            let heard = match claim.quiet_ms {
                Some(quiet) => format!("its coordinator was last heard of {} ago", Span(quiet / 1000)),
                None => "nothing was heard of its coordinator since the agent was started".into(),
            };
            danger(
                ID,
                format!("{name} is held by run {run} of operator {by}, begun {since} ago; {heard}"),
                format!("watch it with `coord show {run} -f`; if its coordinator is gone, `coord resume {run}` or `coord abort {run}`"),
            )
        })
        .collect();
    if rivals.is_empty() { vec![ok(ID, "no other run has any of the servers")] } else { rivals }
}
