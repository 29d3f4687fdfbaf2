//! What is tried before a plan is made: the ways that data, replicas and agents will take. Several plans are tried for at
//! once, and what they have in common is tried once.

use std::collections::{BTreeMap, BTreeSet};

use baton_proto::report::ServerState;
use baton_proto::{Fault, InstanceRef};

use crate::cli::context::Context;
use crate::observe::{self, together};
use crate::plan::Goal;
use crate::plan::cast::Cast;
use crate::topology::World;

/// Seconds for which a stopped target listens, so that its replicas to be can try it: long enough for every one of them.
const REHEARSAL_SECONDS: u32 = 10;

/// Has each target's agent try the lost primary as well: it stands where none of the replicas may.
pub(super) async fn hear_targets(context: &Context, casts: &[Cast], world: &mut World) {
    let lost = |cast: &Cast| {
        let group = cast.group.as_ref().filter(|group| !group.primary.is_forgotten())?;
        Some((cast.target.clone(), group.primary.clone()))
    };
    // One that is of the group was heard with it.
    let lost: Vec<_> = casts.iter().filter(|cast| !cast.is_in_place()).filter_map(lost).collect();
    let doors: BTreeSet<_> = lost
        .iter()
        .filter_map(|(target, primary)| Some((target.host.clone(), primary.place.host()?.clone())))
        .filter(|(from, to)| from != to)
        .collect();
    let questions: Vec<_> = lost.into_iter().map(|(target, primary)| (target, primary.address)).collect();
    let (probes, knocks) =
        tokio::join!(observe::reach(&context.agents, &questions), observe::knock(&context.agents, &doors));
    world.probes.extend(probes);
    world.knocks.extend(knocks);
}

/// Has each target's agent dial the source's, as it will for the snapshot.
pub(super) async fn try_transfers(context: &Context, casts: &[Cast], world: &mut World) {
    let doors: BTreeSet<_> = casts
        .iter()
        .map(|cast| (cast.target.host.clone(), cast.source.host.clone()))
        .filter(|(from, to)| from != to)
        .collect();
    world.knocks.extend(observe::knock(&context.agents, &doors).await);
}

/// Has every replica to be try its primary to be. A stopped server is stood in for by a rehearsal of its agent.
pub(super) async fn try_paths(
    context: &Context,
    casts: &[Cast],
    goal: Goal,
    world: &mut World,
) -> BTreeMap<InstanceRef, Result<(), Fault>> {
    let mut stopped = BTreeSet::new();
    let mut questions = Vec::new();
    for (from, to) in casts.iter().flat_map(|cast| cast.paths(goal)) {
        let Some(report) = world.instance(&to) else { continue };
        questions.push((from, report.address.clone()));
        if matches!(report.server, ServerState::Stopped) {
            stopped.insert(to);
        }
    }
    let rehearsed =
        together(&stopped, |on| async move { (on.clone(), context.agents.rehearse(on, REHEARSAL_SECONDS).await) });
    let rehearsals: BTreeMap<_, _> = rehearsed.await.into_iter().collect();
    if !matches!(goal, Goal::Switchover { .. }) {
        try_transfers(context, casts, world).await;
    }
    let answers = observe::reach(&context.agents, &questions).await;
    world.probes.extend(answers);
    // The port is free again once the plan is made. One that could not be freed is so in a few seconds.
    let listening = rehearsals.iter().filter(|(_, rehearsed)| rehearsed.is_ok());
    together(listening, |(on, _)| context.agents.rehearse(on, 0)).await;
    rehearsals
}
