//! `coord rate RUN RATE`: changes how fast a run's snapshot is sent. The run may be driven by another `coord`, or by none
//! any more: the rate is the source's agent's, which sends on by itself.

use baton_proto::{Fault, FaultKind, RunId};
use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::runs;
use crate::error::{CoordError, Exit};
use crate::rate::Limit;

#[derive(Args)]
pub struct RateArgs {
    /// The run's name, such as fo-7k2m; `coord runs` lists them
    run: RunId,
    /// Send no faster than this, such as 50MB/s or 400Mbit/s; or `unlimited`
    rate: Limit,
}

pub async fn run(context: &Context, args: &RateArgs) -> Result<Exit, CoordError> {
    let records = context.journals.read(&args.run).map_err(runs::unreadable)?;
    let replayed = runs::replay(&records)?;
    let source = &replayed.plan.source;
    let limited = context.agents.limit(&source.host, &args.run, args.rate.0).await;
    let was = match limited {
        Ok(was) if !was.is_empty() => was,
        Ok(_) => return Err(nothing_is_sent(args, source, None, &runs::state(&replayed))),
        Err(fault) if fault.kind == FaultKind::NotFound => {
            return Err(nothing_is_sent(args, source, Some(&fault), &runs::state(&replayed)));
        }
        Err(fault) => {
            return Err(CoordError::of_fault(Exit::Preflight, format!("change the rate of {}", args.run), &fault));
        }
    };
    let (run, now) = (&args.run, args.rate);
    context.console.event(&json!({
        "event": "rate", "run": run, "source": source.to_string(), "was": was, "max_rate": now.0,
    }));
    context.console.result(|out| {
        for was in was {
            writeln!(out, "rate of {run} from {source}: {} -> {now}", Limit(was))?;
        }
        Ok(())
    });
    Ok(Exit::Done)
}

fn nothing_is_sent(
    args: &RateArgs,
    source: &baton_proto::InstanceRef,
    fault: Option<&Fault>,
    state: &str,
) -> CoordError {
    let message = format!("nothing of run {} is being sent from {source}, so there is no rate to change", args.run);
    let mut error = CoordError::new(Exit::Preflight, message).because(format!("the run is {state}"));
    error.causes.extend(fault.map(ToString::to_string));
    error.run = Some(Box::new(args.run.clone()));
    error.hint(format!("see `coord show {}`; a rate from the start is given with --max-rate", args.run))
}
