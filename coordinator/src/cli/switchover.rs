//! `coord switchover PRIMARY --to REPLICA`: a primary that lives hands its role to one of its replicas.

use std::time::Duration;

use baton_proto::HostPort;
use clap::Args;

use crate::cli::context::Context;
use crate::cli::execute::{self, Consent};
use crate::cli::failover::{no_cast, no_scene};
use crate::cli::trials;
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::cast::Cast;
use crate::plan::{Goal, Intent, Plan};
use crate::topology::stand::Seen;

#[derive(Args)]
pub struct SwitchoverArgs {
    /// The host, or host/instance, of the primary
    primary: String,
    /// The host, or host/instance, of the replica that takes over
    #[arg(long, value_name = "REPLICA")]
    to: String,
    /// Give up if the replica has not caught up after this time; the primary is then the primary as before
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: u32,
    /// Refuse if the group's primary is another than this
    #[arg(long, value_name = "HOST:PORT")]
    expect_primary: Option<HostPort>,
    /// Refuse if the group's data stands elsewhere than this, as `coord status -v` prints it
    #[arg(long, value_name = "ID:OFFSET")]
    expect_lineage: Option<Seen>,
    #[command(flatten)]
    consent: Consent,
}

/// Writes wait for as long, so nobody wants more.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

fn timeout(text: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_millis(1) || time > TIMEOUT_MAX {
        return Err(format!("it must be between 1ms and {}s", TIMEOUT_MAX.as_secs()));
    }
    u32::try_from(time.as_millis()).map_err(|error| error.to_string())
}

pub async fn run(context: &Context, args: &SwitchoverArgs) -> Result<Exit, CoordError> {
    let primary = context.inventory.word(&args.primary)?;
    let to = context.inventory.word(&args.to)?;
    let intent = Intent {
        expect_primary: args.expect_primary.clone(),
        expect_lineage: args.expect_lineage.clone(),
        ..Intent::of(Goal::Switchover { timeout_ms: args.timeout })
    };
    let plan = async {
        let (mut world, topology) = observe::survey(&context.inventory, &context.agents).await;
        let cast = Cast::switchover(&world, &topology, &primary, &to)
            .map_err(|error| no_cast(error, &topology.unreachable))?;
        let rehearsals = trials::try_paths(context, std::slice::from_ref(&cast), intent.goal, &mut world).await;
        let run = execute::new_run(context, "so")?;
        let scene = cast.scene(&world, &intent, &rehearsals, &run).ok_or_else(no_scene)?;
        Ok(Plan::build(None, &scene))
    };
    execute::execute(context, plan, &args.consent).await
}
