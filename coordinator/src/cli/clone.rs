//! `coord clone SOURCE TARGET`: builds a replica of a server that runs, from a snapshot and what was written since.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::cli::context::Context;
use crate::cli::execute::{self, Consent};
use crate::cli::failover::{no_cast, no_scene};
use crate::cli::moving::Moving;
use crate::cli::trials;
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::cast::Cast;
use crate::plan::{Goal, Plan};
use crate::topology::World;
use crate::topology::writes::Writes;

#[derive(Args)]
pub struct CloneArgs {
    /// The host, or host/instance, that is followed; a primary, or a replica
    source: String,
    /// The host, or host/instance, that becomes its replica
    target: String,
    #[command(flatten)]
    moving: Moving,
    #[command(flatten)]
    consent: Consent,
}

/// How long the source is looked at to tell how much is written there: short of a wait, and long enough that writers which
/// work in bursts are seen.
const WRITES_SPAN: Duration = Duration::from_secs(1);

pub async fn run(context: &Context, args: &CloneArgs) -> Result<Exit, CoordError> {
    let source = context.inventory.word(&args.source)?;
    let target = context.inventory.word(&args.target)?;
    let plan = async {
        // Every host is looked at: a replica anywhere may follow the target's address.
        let mut world = observe::observe(&context.inventory, &context.agents, &context.inventory.names()).await;
        let cast = Cast::pair(&world, &source, &target).map_err(|error| no_cast(error, &[]))?;
        let intent = args.moving.intent(Goal::Clone);
        measure_writes(context, &cast, &mut world).await;
        let rehearsals = trials::try_paths(context, std::slice::from_ref(&cast), intent.goal, &mut world).await;
        let run = execute::new_run(context, "cl")?;
        let scene = cast.scene(&world, &intent, &rehearsals, &run).ok_or_else(no_scene)?;
        Ok(Plan::build(None, &scene))
    };
    execute::execute(context, plan, &args.consent).await
}

/// Looks at the source twice more. A source that does not answer is refused by the checks.
async fn measure_writes(context: &Context, cast: &Cast, world: &mut World) {
    let Ok(before) = context.agents.observe_instance(&cast.source).await else { return };
    let begun = Instant::now();
    sleep(WRITES_SPAN).await;
    let Ok(after) = context.agents.observe_instance(&cast.source).await else { return };
    let seconds = begun.elapsed().as_secs_f64();
    let looks = before.server.running().zip(after.server.running());
    if let Some(writes) = looks.and_then(|(before, after)| Writes::between(before, after, seconds)) {
        world.writes.insert(cast.source.clone(), writes);
    }
}
