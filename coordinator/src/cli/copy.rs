//! `coord copy SOURCE TARGET`: moves a snapshot, and changes nobody's role.

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::execute::{self, Consent};
use crate::cli::failover::{no_cast, no_scene};
use crate::cli::moving::Moving;
use crate::cli::trials;
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::cast::Cast;
use crate::plan::{Goal, Plan};

#[derive(Args)]
pub struct CopyArgs {
    /// The host, or host/instance, whose data is copied
    source: String,
    /// The host, or host/instance, that receives it
    target: String,
    /// Start the target's server on the snapshot
    #[arg(long)]
    start: bool,
    #[command(flatten)]
    moving: Moving,
    #[command(flatten)]
    consent: Consent,
}

pub async fn run(context: &Context, args: &CopyArgs) -> Result<Exit, CoordError> {
    let source = context.inventory.word(&args.source)?;
    let target = context.inventory.word(&args.target)?;
    let plan = async {
        // Every host is looked at: a replica anywhere may follow the target's address.
        let mut world = observe::observe(&context.inventory, &context.agents, &context.inventory.names()).await;
        let cast = Cast::pair(&world, &source, &target).map_err(|error| no_cast(error, &[]))?;
        let intent = args.moving.intent(Goal::Copy { start: args.start });
        trials::try_transfers(context, std::slice::from_ref(&cast), &mut world).await;
        let run = execute::new_run(context, "cp")?;
        let nobody = BTreeMap::new();
        let scene = cast.scene(&world, &intent, &nobody, &run).ok_or_else(no_scene)?;
        Ok(Plan::build(None, &scene))
    };
    execute::execute(context, plan, &args.consent).await
}
