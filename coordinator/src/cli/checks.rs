//! `coord checks`: the catalogue of the preflight. It talks to nobody.

use crate::plan::checks::catalogue;
use crate::report::console::Console;

#[derive(clap::Args)]
pub struct ChecksArgs {
    /// Write the table of docs/checks.md
    #[arg(long)]
    markdown: bool,
}

pub fn run(args: &ChecksArgs, console: Console) {
    for entry in catalogue::all() {
        let mut event = serde_json::json!({ "event": "check" });
        if let (Some(event), Ok(serde_json::Value::Object(more))) = (event.as_object_mut(), serde_json::to_value(entry))
        {
            event.extend(more);
        }
        console.event(&event);
    }
    console.result(|out| if args.markdown { catalogue::markdown(out) } else { catalogue::text(out) });
}
