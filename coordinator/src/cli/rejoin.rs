//! `coord rejoin HOST`: makes a primary that was replaced a replica of its successor, after what it holds was saved aside;
//! or a replica of it that was left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_proto::InstanceRef;
use baton_proto::report::{Link, Role};
use clap::Args;

use crate::cli::context::Context;
use crate::cli::execute::{self, Consent};
use crate::cli::trials;
use crate::error::{CoordError, Exit};
use crate::observe;
use crate::plan::cast::Cast;
use crate::plan::{Goal, Intent, Plan};
use crate::topology::World;

#[derive(Args)]
pub struct RejoinArgs {
    /// The host, or host/instance, of the primary that was replaced, or of a replica of it that was left behind
    deposed: String,
    /// Tell in which keys it differs from its successor, before it follows: how many are on one side only or have other
    /// values, with some of their names. A report: nothing depends on it
    #[arg(long)]
    compare: bool,
    /// Compare for no longer than this; what was found until then is told
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = limit, requires = "compare")]
    compare_limit: u32,
    #[command(flatten)]
    consent: Consent,
}

/// How many handovers the successor is followed through: each is one that leads no more, and follows the next.
const HANDOVERS_MAX: usize = 16;
/// The group lacks a replica for as long.
const COMPARE_MAX: Duration = Duration::from_secs(24 * 3600);

fn limit(text: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_secs(1) || time > COMPARE_MAX {
        return Err(format!("it must be between 1s and {}h", COMPARE_MAX.as_secs() / 3600));
    }
    u32::try_from(time.as_secs()).map_err(|error| error.to_string())
}

pub async fn run(context: &Context, args: &RejoinArgs) -> Result<Exit, CoordError> {
    let word = context.inventory.word(&args.deposed)?;
    let plan = async {
        let mut world = observe::observe(&context.inventory, &context.agents, &context.inventory.names()).await;
        let refused = |says: String| CoordError::new(Exit::Preflight, says).hint("see `coord status`");
        let deposed = world.named(&word.host, word.instance.as_ref()).map_err(|error| {
            refused(error.to_string()).hint(format!("start the agent on {}: it keeps its server off writes", word.host))
        })?;
        let Some(held) = world.joins_after(&deposed) else {
            return Err(refused(format!(
                "no agent knows of a run that has replaced {deposed}, or the primary that it follows"
            ))
            .hint("see `coord status`; a server without data of worth becomes a replica by `coord clone`"));
        };
        let successor = leader(&world, &held.deposition.successor);
        let cast =
            Cast { group: None, source: successor, target: deposed, siblings: Vec::new(), passed_over: Vec::new() };
        let compare_seconds = args.compare.then_some(args.compare_limit);
        let intent = Intent { compare_seconds, ..Intent::of(Goal::Rejoin) };
        trials::try_paths(context, std::slice::from_ref(&cast), intent.goal, &mut world).await;
        let rehearsals = BTreeMap::new();
        let run = execute::new_run(context, "re")?;
        let scene = cast.scene(&world, &intent, &rehearsals, &run).ok_or_else(|| {
            let successor = &cast.source;
            refused(format!("{successor}, which took the place of {}, does not answer", cast.target)).hint(format!(
                "bring its agent back, or replace it: `coord failover {successor} --to TARGET --dry-run`; if no other copy is \
                 left than that of {}, see the runbook \"The old primary has the only copy\"",
                cast.target
            ))
        })?;
        Ok(Plan::build(None, &scene))
    };
    execute::execute(context, plan, &args.consent).await
}

/// Who leads now what the successor led: it may have handed over since.
fn leader(world: &World, successor: &InstanceRef) -> InstanceRef {
    let mut leader = successor.clone();
    for _ in 0..HANDOVERS_MAX {
        let running = world.instance(&leader).and_then(|report| report.server.running());
        let Some(Role::Replica { primary, link: Link::Up { .. }, .. }) = running.map(|running| &running.role) else {
            break;
        };
        match world.place(primary, &leader.host).instance() {
            Some(next) => leader = next.clone(),
            None => break,
        }
    }
    leader
}
