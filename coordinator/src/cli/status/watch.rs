//! `coord status --watch`: the same again and again. On a terminal it is painted over; elsewhere what changed is told, and
//! nothing as long as nothing does.

mod changes;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use self::changes::{Change, Seen};
use super::{Selection, StatusArgs, lines, write};
use crate::cli::signals::Signals;
use crate::client::Agents;
use crate::drive::Interrupts;
use crate::error::CoordError;
use crate::inventory::Inventory;
use crate::observe::again::Looks;
use crate::report::console::Console;

/// Shows how things stand every so many seconds, until the command is told to end or nobody reads it any more. Neither is a
/// failure, whatever was seen last.
pub(super) async fn run(
    args: &StatusArgs,
    every: Duration,
    inventory: &Inventory,
    agents: &Agents,
    console: Console,
) -> Result<(), CoordError> {
    let mut signals = Signals::listen();
    tokio::select! {
        () = signals.next() => Ok(()),
        ended = watch(args, every, inventory, agents, console) => ended,
    }
}

async fn watch(
    args: &StatusArgs,
    every: Duration,
    inventory: &Inventory,
    agents: &Agents,
    console: Console,
) -> Result<(), CoordError> {
    let painted = !console.json && io::stdout().is_terminal();
    let mut resized = signal(SignalKind::window_change()).ok();
    let mut looks = Looks::new(inventory, agents);
    let mut seen = Seen::default();
    loop {
        let (world, topology) = looks.look().await;
        let (text, lines) = match Selection::of(args, &world, &topology, inventory) {
            Ok(selection) => {
                let mut text = Vec::new();
                // Nothing that is written into memory fails.
                let _ = write(&mut text, &selection, &topology, &world);
                (String::from_utf8_lossy(&text).into_owned(), lines::lines(&selection, &topology, &world))
            }
            Err(error) if seen.is_empty() => return Err(error),
            // What was asked for has been there, and is known to nobody now.
            Err(error) => (format!("{}\n", error.message), Vec::new()),
        };
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let changes = seen.changes(&lines);
        let head = format!("{now}  every {}, until Ctrl-C", humantime::format_duration(every));
        let is_read = match (console.json, painted) {
            (true, _) => console.tells(|out| tell(out, &changes, &now)),
            (false, true) => console.tells(|out| screen::paint(out, &head, &text, screen::size())),
            (false, false) if changes.is_empty() => true,
            (false, false) => console.tells(|out| block(out, &changes, &now, &text)),
        };
        if !is_read {
            return Ok(());
        }
        let rest = looks.rest(every);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => break,
                Some(()) = screen::resized(&mut resized), if painted => {
                    console.tells(|out| screen::paint_anew(out, &head, &text, screen::size()));
                }
            }
        }
    }
}

/// A line a change, for programs.
fn tell(out: &mut dyn Write, changes: &[Change], now: &str) -> io::Result<()> {
    for change in changes {
        let mut line = change.line();
        if let Value::Object(line) = &mut line {
            line.insert("at".into(), now.into());
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// All that stands, below what changed.
fn block(out: &mut dyn Write, changes: &[Change], now: &str, text: &str) -> io::Result<()> {
    let what: Vec<String> = changes.iter().map(ToString::to_string).collect();
    writeln!(out, "{now}  {}", what.join(", "))?;
    writeln!(out, "{text}")
}
