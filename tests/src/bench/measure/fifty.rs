//! `fifty`: fifty servers on three hosts; how long a look at all of them takes, and to replace all primaries of one host by one
//! command. On loopback, without the link of the other measurements: it is the number of servers that is measured.

use std::time::Instant;

use anyhow::ensure;
use serde_json::Value;

use crate::bench::bars;
use crate::bench::measure::{Setting, say};
use crate::bench::probe::{median, percentile};
use crate::bench::report::{Section, Table, figure};
use crate::dataset::Dataset;
use crate::fleet::{FIRST_PORT, Fleet};
use crate::process::hermetic;
use crate::programs;
use crate::world::{A, C};

/// Primaries of one host, each with a replica on another. With the servers of the third they are fifty.
const GROUPS: u16 = 16;
const SPARES: u16 = 18;
/// Data of each group.
const DATA_BYTES: u64 = 4 << 20;
/// Looks a repetition.
const LOOKS: usize = 5;

/// Seconds of each command, turn by turn.
#[derive(Default)]
struct Taken {
    status: Vec<f64>,
    status_lost: Vec<f64>,
    dry_run: Vec<f64>,
    failover: Vec<f64>,
}

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let (mut taken, mut notes) = (Taken::default(), Vec::new());
    for turn in 1..=setting.repetitions {
        if let Err(error) = turn_of(setting, &mut taken) {
            notes.push(format!("failed: turn {turn}: {error:#}"));
        }
        let last = |taken: &[f64]| figure(taken.last().copied(), 2);
        say(&format!("fifty, turn {turn}: status {} s, failover {} s", last(&taken.status), last(&taken.failover)));
    }
    let mut table = Table::new(&["command", "seconds", "fastest", "slowest", "bar", "verdict"]);
    let (bar, failover) = (Some(bars::STATUS_SECONDS_MAX), format!("coord failover {A} --to {C}"));
    for (command, taken, bar) in [
        ("coord status".to_owned(), &taken.status, bar),
        (format!("coord status, {A} lost"), &taken.status_lost, None),
        (format!("{failover} --dry-run"), &taken.dry_run, None),
        (failover, &taken.failover, None),
    ] {
        let [bar, verdict] = bars::at_most(median(taken), bar);
        let figures = [median(taken), percentile(taken, 0.0), percentile(taken, 100.0)].map(|taken| figure(taken, 2));
        table.row([command].into_iter().chain(figures).chain([bar, verdict]));
    }
    let text = format!(
        "{GROUPS} primaries on one host, with {} MB of mixed data each, their replicas on a second, {SPARES} empty servers on \
         a third, on loopback: {} servers and three agents on this machine. Medians of {} fleets, with {LOOKS} looks at \
         each; the failover is timed from the command to its end, which is when all {GROUPS} groups are served by the third \
         host and their replicas are in sync.",
        DATA_BYTES >> 20,
        2 * GROUPS + SPARES,
        setting.repetitions
    );
    Ok(Section { title: "Fifty servers".to_owned(), text, tables: vec![table], notes })
}

fn turn_of(setting: &Setting, taken: &mut Taken) -> anyhow::Result<()> {
    let fleet = Fleet::new(&setting.program, GROUPS, SPARES);
    fleet.load(|port| Dataset::mixed(port.into(), DATA_BYTES));
    for _ in 0..LOOKS {
        taken.status.push(coord(&fleet, &["status", "--json"])?.0);
    }
    fleet.lose_a();
    for _ in 0..LOOKS {
        taken.status_lost.push(coord(&fleet, &["status", "--json"])?.0);
    }
    let failover = ["failover", A, "--to", C, "--json"];
    taken.dry_run.push(coord(&fleet, &[&failover[..], &["--dry-run"]].concat())?.0);
    let (seconds, events) = coord(&fleet, &[&failover[..], &["--yes"]].concat())?;
    let done = events.iter().filter(|event| event["event"] == "result" && event["outcome"] == "done").count();
    ensure!(done == usize::from(GROUPS), "{done} of {GROUPS} groups were replaced");
    (FIRST_PORT..FIRST_PORT + GROUPS).for_each(|port| fleet.assert_moved(port, port));
    taken.failover.push(seconds);
    Ok(())
}

/// Runs `coord`. Yields the seconds that it took and the events that it told.
fn coord(fleet: &Fleet, args: &[&str]) -> anyhow::Result<(f64, Vec<Value>)> {
    let mut command = hermetic(&programs::coord(), fleet.world.dir());
    let begun = Instant::now();
    let output = command.args(args).output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "coord {}: {}: {complaints}", args.join(" "), output.status);
    Ok((seconds, said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
}
