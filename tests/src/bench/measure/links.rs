//! `links`: every peer on every link with every file, in turns.

use crate::bench::bars;
use crate::bench::cpu;
use crate::bench::files::{FileKind, Snapshot};
use crate::bench::flow::ceiling;
use crate::bench::lab::Lab;
use crate::bench::link::Count;
use crate::bench::measure::{Setting, say};
use crate::bench::network::{GIGABIT, Kind};
use crate::bench::peers::Peer;
use crate::bench::probe::{idle, median};
use crate::bench::report::{Section, Table, figure};
use crate::dataset::Mix;
use std::time::{Duration, Instant};

pub const FILES: [FileKind; 6] = [
    bars::REFERENCE,
    FileKind::new(Mix::Json, 525),
    FileKind::new(Mix::Random, 525),
    FileKind::new(Mix::Mixed, 2000),
    FileKind::new(Mix::Json, 2000),
    FileKind::new(Mix::Random, 2000),
];
const IDLE_TIME: Duration = Duration::from_secs(1);

/// Seconds of one peer, by repetition; a failed one is left out.
struct Times {
    peer: Peer,
    seconds: Vec<f64>,
}

/// Measures the files on the links.
pub fn run(setting: &Setting, links: &[Kind], peers: &[Peer]) -> anyhow::Result<Section> {
    let mut table =
        Table::new(&["link", "file", "peer", "seconds", "fastest", "slowest", "MB/s", "baton/peer", "bar", "verdict"]);
    let mut facts =
        Table::new(&["link", "idle RTT, ms", "raw TCP, MB/s", "TCP", "cores the link takes", "packets baton lost"]);
    let mut notes = Vec::new();
    for kind in links {
        let lab = setting.lab(*kind)?;
        let round_trip = median(&idle(&lab.network, IDLE_TIME)?);
        let (used, begun) = (cpu::link_seconds(), Instant::now());
        let limit = ceiling(&lab.network)?;
        let cores = kind.shape.map(|_| (cpu::link_seconds() - used) / begun.elapsed().as_secs_f64());
        say(&format!("{}: RTT {} ms, raw TCP {limit:.1} MB/s", kind.title, figure(round_trip, 2)));
        lab.start_agents();
        let mut lost = None;
        for file in setting.files_or(&FILES) {
            let snapshot = setting.snapshot(file)?;
            let times = take_turns(setting, &lab, &snapshot, peers, &mut lost, &mut notes)?;
            add_rows(&mut table, *kind, &snapshot, &times, limit);
        }
        let lost = lost.and_then(Count::lost_percent).map(|percent| format!("{percent:.2} %"));
        facts.row([
            kind.title.to_owned(),
            figure(round_trip, 2),
            figure(Some(limit), 1),
            lab.network.b.tcp()?,
            figure(cores, 2),
            lost.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let text = format!(
        "Medians of {} runs in turns, from a dump in the page cache to the same disk; every arrived file was compared with \
         the one sent. \"Raw TCP\" is memory to nowhere in the same run. Packets lost are those of B that met a full queue.",
        setting.repetitions
    );
    Ok(Section { title: "Links and peers".to_owned(), text, tables: vec![table, facts], notes })
}

fn take_turns(
    setting: &Setting,
    lab: &Lab,
    snapshot: &Snapshot,
    peers: &[Peer],
    lost: &mut Option<Count>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Times>> {
    let mut all: Vec<Times> = peers.iter().map(|peer| Times { peer: *peer, seconds: Vec::new() }).collect();
    for turn in 1..=setting.repetitions {
        for times in &mut all {
            lab.place(snapshot)?;
            let before = lab.network.forth()?;
            let carried = times.peer.carry(lab).and_then(|seconds| {
                snapshot.verify(&lab.arrived_path())?;
                Ok(seconds)
            });
            let what = format!("{}, {}, {}, turn {turn}", lab.network.kind.name, snapshot.kind, times.peer.name());
            match carried {
                Ok(seconds) => {
                    say(&format!("{what}: {seconds:.2} s"));
                    times.seconds.push(seconds);
                }
                Err(error) => {
                    say(&format!("{what}: {error:#}"));
                    notes.push(format!("failed: {what}: {error:#}"));
                }
            }
            if let (Peer::Baton, Some(before), Some(after)) = (times.peer, before, lab.network.forth()?) {
                *lost = Some(lost.unwrap_or_default().plus(after.since(before)));
            }
        }
    }
    Ok(all)
}

fn add_rows(table: &mut Table, kind: Kind, snapshot: &Snapshot, all: &[Times], limit: f64) {
    let baton = all.iter().find(|times| times.peer == Peer::Baton).and_then(|times| median(&times.seconds));
    let edge = |times: &Times, pick: fn(f64, f64) -> f64| times.seconds.iter().copied().reduce(pick);
    let mut row = |peer: &str, seconds: Option<f64>, edges: [Option<f64>; 2], bar: Option<f64>, is_baton: bool| {
        let ratio = baton.zip(seconds).map(|(baton, peer)| baton / peer).filter(|_| !is_baton);
        let [bar, verdict] = bars::at_most(ratio, bar);
        let rate = seconds.map(|seconds| snapshot.megabytes() / seconds);
        let cells = [figure(seconds, 2), figure(edges[0], 2), figure(edges[1], 2), figure(rate, 1), figure(ratio, 2)];
        let named = [kind.title.to_owned(), snapshot.kind.to_string(), peer.to_owned()];
        table.row(named.into_iter().chain(cells).chain([bar, verdict]));
    };
    for times in all {
        let bar = bars::ratio(kind.name, snapshot.kind, times.peer);
        let edges = [edge(times, f64::min), edge(times, f64::max)];
        row(times.peer.name(), median(&times.seconds), edges, bar, times.peer == Peer::Baton);
    }
    // What nothing compresses is bound by the wire, and the wire is what a raw flow makes of it.
    if snapshot.kind.mix == Mix::Random && kind == GIGABIT {
        row("(raw TCP)", Some(snapshot.megabytes() / limit), [None, None], Some(bars::WIRE_MAX), false);
    }
}
