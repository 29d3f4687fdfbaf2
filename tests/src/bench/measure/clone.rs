//! `clone`: a replica is built of a primary that is written to all the time, by the servers' own full resync and by Baton.
//! The clock runs from the order until the replica is level. That it joined partially, the primary's own counters tell.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::bench::bars;
use crate::bench::files::{FileKind, Snapshot};
use crate::bench::lab::Coord;
use crate::bench::level::await_level;
use crate::bench::measure::failover::follow;
use crate::bench::measure::{Setting, say};
use crate::bench::network::{Kind, WAN};
use crate::bench::probe::median;
use crate::bench::report::{Section, Table, figure};
use crate::steady::{self, Steady};
use crate::world::{B, C};

pub const FILE: FileKind = bars::REFERENCE;
/// Bytes a second that are written.
const WRITES: u64 = 5_000_000;
/// The primary's backlog: the default of Redis, which Valkey has larger.
const BACKLOG_BYTES: u64 = 1 << 20;
/// How long it is written to before the order: long enough for its rate to be measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// A way to build a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `REPLICAOF` on an empty server that runs.
    Native,
    /// `coord clone`, to a server that does not run yet.
    Clone,
}

const WAYS: [Way; 2] = [Way::Native, Way::Clone];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Native => "REPLICAOF, full resync",
            Way::Clone => "coord clone",
        }
    }
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
struct Built {
    seconds: f64,
    /// Full and partial resyncs that the primary has counted.
    counted: (u64, u64),
    /// What the primary's host has sent, if the link counts.
    megabytes: Option<f64>,
    /// What was written meanwhile.
    written: f64,
}

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let kind = setting.link.unwrap_or(WAN);
    let snapshot = setting.snapshot(setting.file_or(FILE))?;
    let (mut runs, mut notes) = (WAYS.map(|way| (way, Vec::new())), Vec::new());
    for turn in 1..=setting.repetitions {
        for (way, built) in &mut runs {
            let what = format!("{}, {}, turn {turn}", kind.name, way.name());
            match build(setting, kind, &snapshot, *way) {
                Ok(one) => {
                    say(&format!("{what}: {one:.2?}"));
                    built.push(one);
                }
                Err(error) => {
                    say(&format!("{what}: {error:#}"));
                    notes.push(format!("failed: {what}: {error:#}"));
                }
            }
        }
    }
    let text = format!(
        "{} ({:.1} MB as a dump) on a primary without replicas, under {} MB/s of writes, with a backlog of {} MiB as configured; on \
         {}, medians of {} runs in turns: from the order until the replica has all that the primary had written. The resyncs \
         are those that the primary has counted. A primary that never had a replica makes its backlog when it is first asked \
         for a full resync: `coord clone` asks, takes nothing, and is counted for it.",
        snapshot.kind,
        snapshot.megabytes(),
        WRITES / 1_000_000,
        BACKLOG_BYTES >> 20,
        kind.title,
        setting.repetitions
    );
    Ok(Section { title: "Clone under writes".to_owned(), text, tables: vec![table(&runs)], notes })
}

fn table(runs: &[(Way, Vec<Built>)]) -> Table {
    let head = ["way", "seconds", "on the wire, MB", "written meanwhile, MB", "full", "partial", "bar", "verdict"];
    let mut table = Table::new(&head);
    for (way, built) in runs {
        let of = |pick: fn(&Built) -> Option<f64>| median(&built.iter().filter_map(pick).collect::<Vec<_>>());
        let figures = [of(|one| Some(one.seconds)), of(|one| one.megabytes), of(|one| Some(one.written))];
        let counted =
            |pick: fn(&Built) -> u64| built.iter().map(|one| pick(one).to_string()).collect::<Vec<_>>().join(", ");
        let (full, partial) = (counted(|one| one.counted.0), counted(|one| one.counted.1));
        let joined = built.iter().filter(|one| one.counted.1 > 0).count() as f64 / built.len() as f64;
        let bar = (*way == Way::Clone).then_some(bars::CLONES_PARTIAL_MIN);
        let [bar, verdict] = bars::at_least(Some(joined).filter(|_| !built.is_empty()), bar);
        let [seconds, megabytes, written] = figures.map(|value| figure(value, 2));
        table.row([way.name().to_owned(), seconds, megabytes, written, full, partial, bar, verdict]);
    }
    table
}

/// Builds C of B in one way, while B is written to.
fn build(setting: &Setting, kind: Kind, snapshot: &Snapshot, way: Way) -> anyhow::Result<Built> {
    let lab = setting.lab(kind)?;
    for host in [lab.b(), lab.c()] {
        host.configure(|conf| {
            conf.set("repl-backlog-size", BACKLOG_BYTES);
        });
    }
    lab.place(snapshot)?;
    lab.b().start_server();
    match way {
        Way::Native => lab.c().start_server(),
        Way::Clone => lab.start_agents(),
    }
    let writer = Steady::start(lab.b(), WRITES);
    std::thread::sleep(WARM_UP);
    let number = |name: &str| lab.b().info(name).parse::<u64>().with_context(|| format!("read {name}"));
    let sent = || Ok::<_, anyhow::Error>(lab.network.forth()?.map(|count| count.bytes as f64 / 1e6));
    let (sent_before, input_before) = (sent()?, number("total_net_input_bytes")?);
    let begun = Instant::now();
    let seconds = match way {
        Way::Native => {
            follow(lab.c(), lab.b());
            await_level(lab.c(), lab.b(), || Ok(()))?;
            begun.elapsed().as_secs_f64()
        }
        Way::Clone => {
            let mut coord = Some(lab.start_coord(&["clone", B, C, "--yes"])?);
            // It ends a moment later, if it does not fail before.
            let end = |coord: Option<Coord>| coord.map_or(Ok(()), |coord| coord.wait().map(drop));
            await_level(lab.c(), lab.b(), || end(coord.take_if(|coord| coord.ended())))?;
            let seconds = begun.elapsed().as_secs_f64();
            end(coord)?;
            seconds
        }
    };
    let megabytes = sent()?.zip(sent_before).map(|(after, before)| after - before);
    let written = (number("total_net_input_bytes")? - input_before) as f64 / 1e6;
    let counted = (number("sync_full")?, number("sync_partial_ok")?);
    let acknowledged = writer.acknowledged();
    await_level(lab.c(), lab.b(), || Ok(()))?;
    let missing = steady::missing_on(lab.c(), &acknowledged);
    ensure!(missing.is_empty(), "C lacks {} of the writes that B has acknowledged", missing.len());
    let [ours, theirs] = [lab.c(), lab.b()].map(|host| host.client().call(&["DBSIZE"]).int());
    ensure!(ours == theirs, "C has {ours} keys of {theirs}");
    Ok(Built { seconds, counted, megabytes, written })
}
