//! What is tried before a plan is made: the ways that data, replicas and agents will take. Several plans are tried for at
//! once, and what they have in common is tried once.

use std::collections::{BTreeMap, BTreeSet};

use baton_proto::report::ServerState;
use baton_proto::{Fault, InstanceRef};

use crate::cli::context::Context;
use crate::observe::{self, together};
use crate::plan::Goal;
use crate::plan::cast::Cast;
use crate::topology::{Knock, Probe, World};

/// Seconds for which a stopped target listens, so that its replicas to be can try it: long enough for every one of them.
const REHEARSAL_SECONDS: u32 = 10;

/// What servers and agents said of others.
type Heard = (Vec<Probe>, Vec<Knock>);

/// Has each target's agent dial the source's, as it will for the snapshot.
pub(super) async fn try_transfers(context: &Context, casts: &[Cast], world: &mut World) {
    let knocks = transfers(context, casts).await;
    world.knocks.extend(knocks);
}

/// Tries all ways that the plans will take, at once. A stopped target is stood in for by a rehearsal of its agent; yields how
/// those began.
pub(super) async fn try_paths(
    context: &Context,
    casts: &[Cast],
    goal: Goal,
    world: &mut World,
) -> BTreeMap<InstanceRef, Result<(), Fault>> {
    let sends = async {
        match goal {
            Goal::Switchover { .. } => Vec::new(),
            _ => transfers(context, casts).await,
        }
    };
    let hears = async {
        match goal {
            Goal::Failover(_) => lost_primaries(context, casts).await,
            _ => Heard::default(),
        }
    };
    let ((rehearsals, answers), sent, heard) = tokio::join!(replicas(context, casts, goal, world), sends, hears);
    world.probes.extend(heard.0.into_iter().chain(answers));
    world.knocks.extend(heard.1.into_iter().chain(sent));
    rehearsals
}

/// Has each target's agent try the lost primary as well: it stands where none of the replicas may.
async fn lost_primaries(context: &Context, casts: &[Cast]) -> Heard {
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
    tokio::join!(observe::reach(&context.agents, &questions), observe::knock(&context.agents, &doors))
}

async fn transfers(context: &Context, casts: &[Cast]) -> Vec<Knock> {
    let doors: BTreeSet<_> = casts
        .iter()
        .map(|cast| (cast.target.host.clone(), cast.source.host.clone()))
        .filter(|(from, to)| from != to)
        .collect();
    observe::knock(&context.agents, &doors).await
}

/// Has every replica to be try its primary to be.
async fn replicas(
    context: &Context,
    casts: &[Cast],
    goal: Goal,
    world: &World,
) -> (BTreeMap<InstanceRef, Result<(), Fault>>, Vec<Probe>) {
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
    let answers = observe::reach(&context.agents, &questions).await;
    // The port is free again once the plan is made. One that could not be freed is so in a few seconds.
    let listening = rehearsals.iter().filter(|(_, rehearsed)| rehearsed.is_ok());
    together(listening, |(on, _)| context.agents.rehearse(on, 0)).await;
    (rehearsals, answers)
}
