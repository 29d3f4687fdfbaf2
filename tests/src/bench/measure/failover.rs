//! `failover`: a primary is lost, and its place taken by C: by hand, by the servers' own resync, and by Baton. The clock runs
//! from "A is dead" until C serves as primary and B is in sync with it. What all of them need before is not counted: A and B
//! have their data, and C has a server that does not run yet.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::bench::bars;
use crate::bench::cpu;
use crate::bench::files::{FileKind, Snapshot};
use crate::bench::flow::ceiling;
use crate::bench::lab::{Copied, DISKLESS_DELAY, Lab};
use crate::bench::level::await_level;
use crate::bench::measure::{Setting, say};
use crate::bench::network::Kind;
use crate::bench::peers::Peer;
use crate::bench::probe::median;
use crate::bench::report::{Section, Table, figure};
use crate::host::{Host, SERVER_PORT};
use crate::world::{A, C};

/// A way to replace a lost primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `SAVE` on B, `scp`, start C, `SLAVEOF C` on B.
    Scp,
    /// The same with `rsync -z` (zstd).
    Rsync,
    /// Promote B, have C take everything by a full resync, and swap the two.
    Native,
    /// The same, where somebody has set `repl-diskless-sync-delay 0` before.
    NativeAtOnce,
    /// `coord failover --landing file`.
    File,
    /// `coord failover --landing live`.
    Live,
}

pub const WAYS: [Way; 6] = [Way::Scp, Way::Rsync, Way::Native, Way::NativeAtOnce, Way::File, Way::Live];

impl Way {
    pub fn named(name: &str) -> Result<Way, String> {
        match name {
            "scp" => Ok(Way::Scp),
            "rsync" => Ok(Way::Rsync),
            "native" => Ok(Way::Native),
            "native-at-once" => Ok(Way::NativeAtOnce),
            "file" => Ok(Way::File),
            "live" => Ok(Way::Live),
            _ => Err(format!("no way `{name}`; there are scp, rsync, native, native-at-once, file, live")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Scp => "SAVE, scp, start, SLAVEOF",
            Way::Rsync => "SAVE, rsync -z, start, SLAVEOF",
            Way::Native => "promote B, full sync, swap",
            Way::NativeAtOnce => "the same, resync delay 0",
            Way::File => "baton, by file",
            Way::Live => "baton, live",
        }
    }
}

/// What each stage of a failover takes by itself.
#[derive(Debug, Default)]
struct Stages {
    save: Vec<f64>,
    load: Vec<f64>,
    wire: Vec<f64>,
    megabytes: Vec<f64>,
    cores: Vec<f64>,
}

pub fn run(setting: &Setting, links: &[Kind], ways: &[Way]) -> anyhow::Result<Section> {
    let file = setting.file_or(bars::REFERENCE);
    let snapshot = setting.snapshot(file)?;
    let mut table =
        Table::new(&["link", "way", "seconds", "fastest", "slowest", "resync", "live/way", "bar", "verdict"]);
    let mut slowest = Table::new(&[
        "link",
        "on the wire, MB",
        "SAVE, s",
        "wire, s",
        "load, s",
        "all CPU / 2, s",
        "live to the longest",
        "bar",
        "verdict",
    ]);
    let mut notes = Vec::new();
    for kind in links {
        let limit = ceiling(&setting.lab(*kind)?.network)?;
        let (mut times, mut stages) = (each_way(ways), Stages::default());
        for turn in 1..=setting.repetitions {
            for (way, seconds, resync) in &mut times {
                let what = format!("{}, {}, turn {turn}", kind.name, way.name());
                match replace(setting, *kind, &snapshot, *way, limit, &mut stages) {
                    Ok((took, joined)) => {
                        say(&format!("{what}: {took:.2} s, {joined}"));
                        seconds.push(took);
                        *resync = joined;
                    }
                    Err(error) => {
                        say(&format!("{what}: {error:#}"));
                        notes.push(format!("failed: {what}: {error:#}"));
                    }
                }
            }
        }
        add_rows(&mut table, *kind, file, &times);
        add_stages(&mut slowest, *kind, &times, &stages);
    }
    let text = format!(
        "{file} ({:.1} MB as a dump), medians of {} runs in turns, each with servers of its own: from \"A is dead\" until C \
         serves as primary and B is in sync. The servers have the settings that they come with; a full resync then waits for \
         `repl-diskless-sync-delay`, which is 5 s. SAVE is with `rdbcompression no`, as Baton has it written; the load is that of \
         the file by a server that is started on it; the wire is Baton's bytes at the rate of a raw TCP flow; CPU is that of \
         the whole machine during the live run.",
        snapshot.megabytes(),
        setting.repetitions
    );
    // More runs of one link stand beside those of all, and do not replace them.
    let title = match links {
        [one] => format!("Failover, {} alone", one.title),
        _ => "Failover".to_owned(),
    };
    Ok(Section { title, text, tables: vec![table, slowest], notes })
}

/// Loses A, and replaces it in one way. Yields the seconds, and how B joined.
fn replace(
    setting: &Setting,
    kind: Kind,
    snapshot: &Snapshot,
    way: Way,
    limit: f64,
    stages: &mut Stages,
) -> anyhow::Result<(f64, String)> {
    let lab = Lab::with_primary(kind, setting.tcp.as_deref(), &setting.program)?;
    fs::hard_link(&snapshot.path, lab.a().dump_path()).context("give A its dump")?;
    if way == Way::NativeAtOnce {
        lab.b().configure(|conf| {
            conf.set(DISKLESS_DELAY, 0);
        });
    }
    lab.a().start_server();
    lab.b().start_server();
    in_sync(lab.b(), lab.a())?;
    if matches!(way, Way::File | Way::Live) {
        lab.start_agents();
    }
    if way == Way::Live {
        stages.save.push(save_alone(lab.b()));
    }
    rustix::fs::sync();
    lab.a().lose();
    lab.b().await_info("master_link_status", "down");
    let begun = Instant::now();
    let mut took = None;
    match way {
        Way::Scp => by_hand(&lab, Peer::Scp, stages)?,
        Way::Rsync => by_hand(&lab, Peer::Rsync, stages)?,
        Way::Native | Way::NativeAtOnce => native(&lab)?,
        Way::File | Way::Live => {
            let landing = if way == Way::File { "file" } else { "live" };
            let before = cpu::machine_seconds();
            let coord = lab.start_coord(&["failover", A, "--to", C, "--landing", landing, "--yes"])?;
            let level = in_sync(lab.b(), lab.c()).map(|()| begun.elapsed().as_secs_f64());
            // What it still does then is no part of it: the others write no configuration and make no trial write.
            let Copied { bytes_wire, .. } = coord.wait()?;
            took = Some(level?);
            if way == Way::Live {
                let used = cpu::machine_seconds().zip(before).map(|(after, before)| (after - before) / 2.0);
                stages.cores.extend(used);
                let megabytes = bytes_wire.map(|bytes| bytes as f64 / 1e6);
                stages.megabytes.extend(megabytes);
                stages.wire.extend(megabytes.map(|megabytes| megabytes / limit));
            }
        }
    }
    in_sync(lab.b(), lab.c())?;
    let took = took.unwrap_or_else(|| begun.elapsed().as_secs_f64());
    ensure!(lab.c().info("role") == "master", "C is no primary");
    let keys = |host: &Host| host.client().call(&["DBSIZE"]).int();
    ensure!(keys(lab.b()) == keys(lab.c()) && keys(lab.c()) > 0, "B and C do not hold the same");
    let full = lab.c().info("sync_full");
    Ok((took, if full == "0" { "partial".to_owned() } else { "full".to_owned() }))
}

fn save_alone(host: &Host) -> f64 {
    let mut client = host.client();
    client.call(&["CONFIG", "SET", "rdbcompression", "no"]);
    let begun = Instant::now();
    client.call(&["SAVE"]);
    let seconds = begun.elapsed().as_secs_f64();
    client.call(&["CONFIG", "SET", "rdbcompression", "yes"]);
    // What was written for the measurement is not what the run is to find.
    let _ = fs::remove_file(host.dump_path());
    seconds
}

fn by_hand(lab: &Lab, peer: Peer, stages: &mut Stages) -> anyhow::Result<()> {
    lab.b().client().call(&["SAVE"]);
    peer.carry_by_ssh(lab)?;
    let begun = Instant::now();
    lab.c().start_server();
    stages.load.push(begun.elapsed().as_secs_f64());
    follow(lab.b(), lab.c());
    Ok(())
}

fn native(lab: &Lab) -> anyhow::Result<()> {
    lab.b().client().call(&["SLAVEOF", "NO", "ONE"]);
    lab.c().start_server();
    follow(lab.c(), lab.b());
    in_sync(lab.c(), lab.b())?;
    lab.c().client().call(&["SLAVEOF", "NO", "ONE"]);
    follow(lab.b(), lab.c());
    Ok(())
}

pub(super) fn follow(replica: &Host, primary: &Host) {
    replica.client().call(&["SLAVEOF", &primary.ip.to_string(), &SERVER_PORT.to_string()]);
}

fn in_sync(replica: &Host, primary: &Host) -> anyhow::Result<()> {
    await_level(replica, primary, || Ok(()))
}

fn each_way(ways: &[Way]) -> Vec<Times> {
    ways.iter().map(|way| (*way, Vec::new(), "-".to_owned())).collect()
}

type Times = (Way, Vec<f64>, String);

fn add_rows(table: &mut Table, kind: Kind, file: FileKind, all: &[Times]) {
    let live = live(all);
    for (way, seconds, resync) in all {
        let edge = |pick: fn(f64, f64) -> f64| seconds.iter().copied().reduce(pick);
        let ratio = live.zip(median(seconds)).map(|(live, other)| live / other).filter(|_| *way != Way::Live);
        let [bar, verdict] = bars::at_most(ratio, bars::failover_ratio(kind.name, file, *way));
        let [least, most] = [edge(f64::min), edge(f64::max)].map(|edge| figure(edge, 2));
        let named = [kind.title.to_owned(), way.name().to_owned(), figure(median(seconds), 2), least, most];
        table.row(named.into_iter().chain([resync.clone(), figure(ratio, 2), bar, verdict]));
    }
}

fn live(all: &[Times]) -> Option<f64> {
    all.iter().find(|(way, ..)| *way == Way::Live).and_then(|(_, seconds, _)| median(seconds))
}

fn add_stages(table: &mut Table, kind: Kind, all: &[Times], stages: &Stages) {
    let each = [&stages.save, &stages.wire, &stages.load, &stages.cores].map(|seconds| median(seconds));
    let longest = each.iter().copied().collect::<Option<Vec<f64>>>().and_then(|all| all.into_iter().reduce(f64::max));
    let multiple = live(all).zip(longest).map(|(live, longest)| live / longest);
    let [bar, verdict] = bars::at_most(multiple, Some(bars::STAGES_MAX));
    let cells = each.map(|seconds| figure(seconds, 2));
    let on_the_wire = figure(median(&stages.megabytes), 1);
    let named = [kind.title.to_owned(), on_the_wire].into_iter().chain(cells);
    table.row(named.chain([figure(multiple, 2), bar, verdict]));
}
