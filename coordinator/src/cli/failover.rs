//! `coord failover FAILED --to TARGET`: replaces a lost primary.

use std::collections::BTreeMap;

use baton_proto::{Fault, HostName, HostPort, InstanceRef};
use clap::{Args, ValueEnum};

use crate::cli::context::Context;
use crate::cli::execute::{self, Consent};
use crate::cli::moving::Moving;
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::cast::{Cast, CastError};
use crate::plan::{Goal, Intent, Mode, Plan};
use crate::topology::World;
use crate::topology::stand::Seen;

#[derive(Args)]
pub struct FailoverArgs {
    /// The host, or host/instance, of the lost primary
    failed: String,
    /// The host, or host/instance, that takes its place
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// Take this survivor as the source instead of the freshest
    #[arg(long, value_name = "HOST")]
    source: Option<String>,
    /// replace: the target becomes the primary; promote: the source does, and the target becomes its replica
    #[arg(long, value_enum, default_value_t = ModeChoice::Replace)]
    mode: ModeChoice,
    #[command(flatten)]
    moving: Moving,
    /// Refuse if the group's primary is another than this
    #[arg(long, value_name = "HOST:PORT")]
    expect_primary: Option<HostPort>,
    /// Refuse if the group's data stands elsewhere than this, as `coord status -v` prints it
    #[arg(long, value_name = "ID:OFFSET")]
    expect_lineage: Option<Seen>,
    /// Replace a primary that accepts connections and answers nothing; it must not wake up afterwards
    #[arg(long)]
    hung_is_dead: bool,
    /// Refuse if the source lost its primary longer ago than this, such as 1h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_data_age: Option<std::time::Duration>,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeChoice {
    Replace,
    Promote,
}

/// Seconds for which a stopped target listens, so that its replicas to be can try it: long enough for every one of them.
const REHEARSAL_SECONDS: u32 = 10;

pub async fn run(context: &Context, args: &FailoverArgs) -> Result<Exit, CoordError> {
    let failed = context.inventory.word(&args.failed)?;
    let to = context.inventory.word(&args.to)?;
    let source = args.source.as_deref().map(|word| context.inventory.word(word)).transpose()?;
    let mode = match args.mode {
        ModeChoice::Replace => Mode::Replace,
        ModeChoice::Promote => Mode::Promote,
    };
    let intent = Intent {
        goal: Goal::Failover(mode),
        snapshot: args.moving.method(),
        landing: args.moving.way(),
        budget: args.moving.budget(),
        replace_target_data: args.moving.replace_target_data,
        expect_primary: args.expect_primary.clone(),
        expect_lineage: args.expect_lineage.clone(),
        hung_is_dead: args.hung_is_dead,
        max_data_age_seconds: args.max_data_age.map(|age| age.as_secs()),
        compare_seconds: None,
    };
    let plan = async {
        let (mut world, topology) = observe::survey(&context.inventory, &context.agents).await;
        let cast = Cast::failover(&world, &topology, &failed, &to, source.as_ref())
            .map_err(|error| no_cast(error, &topology.unreachable))?;
        hear_target(context, &cast, &mut world).await;
        let rehearsals = try_paths(context, &cast, intent.goal, &mut world).await;
        let run = execute::new_run(context, "fo")?;
        let scene = cast.scene(&world, &intent, &rehearsals, &run).ok_or_else(no_scene)?;
        Ok(Plan::build(Some(failed.to_string()), &scene))
    };
    execute::execute(context, plan, &args.consent).await
}

/// Tells why there is no plan. What cannot be seen may be the reason.
pub fn no_cast(error: CastError, unreachable: &[(HostName, String)]) -> CoordError {
    let mut converted = CoordError::new(Exit::Preflight, &error).hint("see `coord status`");
    converted.causes = error.reasons().to_vec();
    let unseen = unreachable.iter().map(|(host, why)| format!("the agent of {host} does not answer: {why}"));
    converted.causes.extend(unseen);
    converted
}

/// A scene needs the reports of all who have a part.
pub fn no_scene() -> CoordError {
    CoordError::new(Exit::Preflight, "a host stopped answering while the plan was made").hint("run this again")
}

/// Has the target's agent try the lost primary as well: it stands where none of the replicas may.
async fn hear_target(context: &Context, cast: &Cast, world: &mut World) {
    let Some(group) = cast.group.as_ref().filter(|group| !group.primary.is_forgotten()) else { return };
    let target = &cast.target;
    let doors: Vec<_> = group
        .primary
        .place
        .host()
        .filter(|host| **host != target.host)
        .map(|host| (target.host.clone(), host.clone()))
        .into_iter()
        .collect();
    let question = [(target.clone(), group.primary.address.clone())];
    let (probes, knocks) =
        tokio::join!(observe::reach(&context.agents, &question), observe::knock(&context.agents, &doors));
    world.probes.extend(probes);
    world.knocks.extend(knocks);
}

/// Has the target's agent dial the source's, as it will for the snapshot.
pub async fn try_transfer(context: &Context, cast: &Cast, world: &mut World) {
    if cast.source.host != cast.target.host {
        let door = [(cast.target.host.clone(), cast.source.host.clone())];
        world.knocks.extend(observe::knock(&context.agents, &door).await);
    }
}

/// Has every replica to be try its primary to be. A stopped server is stood in for by a rehearsal of its agent.
pub async fn try_paths(
    context: &Context,
    cast: &Cast,
    goal: Goal,
    world: &mut World,
) -> BTreeMap<InstanceRef, Result<(), Fault>> {
    let paths = cast.paths(goal);
    let mut rehearsals = BTreeMap::new();
    let mut questions = Vec::new();
    for (from, to) in paths {
        let Some(report) = world.instance(&to) else { continue };
        let stopped = matches!(report.server, baton_proto::report::ServerState::Stopped);
        if stopped && !rehearsals.contains_key(&to) {
            let rehearsed = context.agents.rehearse(&to, REHEARSAL_SECONDS).await;
            rehearsals.insert(to.clone(), rehearsed);
        }
        questions.push((from, report.address.clone()));
    }
    if !matches!(goal, Goal::Switchover { .. }) {
        try_transfer(context, cast, world).await;
    }
    let answers = observe::reach(&context.agents, &questions).await;
    world.probes.extend(answers);
    for (on, rehearsed) in &rehearsals {
        // The port is free again once the plan is made. One that could not be freed is so in a few seconds.
        if rehearsed.is_ok() {
            let _ = context.agents.rehearse(on, 0).await;
        }
    }
    rehearsals
}
