//! `rss`: the peak memory of each agent with a smaller and a larger file, and what a byte costs with either.

use crate::bench::bars;
use crate::bench::cpu;
use crate::bench::files::FileKind;
use crate::bench::measure::{Setting, say};
use crate::bench::network::GIGABIT;
use crate::bench::peers::Peer;
use crate::bench::probe::median;
use crate::bench::report::{Section, Table, figure};
use crate::dataset::Mix;

pub const FILES: [FileKind; 2] = [bars::REFERENCE, FileKind::new(Mix::Mixed, 2000)];
const MIB: f64 = 1048576.0;

/// Measures with agents that were started for each file.
pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let kind = setting.link.unwrap_or(GIGABIT);
    let mut peaks = Table::new(&["file", "agent", "peak memory, MiB", "bar", "verdict", "core seconds a run"]);
    let mut costs = Table::new(&["file", "bytes", "seconds", "ns a byte", "to the first", "bar", "verdict"]);
    let mut notes = Vec::new();
    let mut first = None;
    for file in setting.files_or(&FILES) {
        let snapshot = setting.snapshot(file)?;
        let lab = setting.lab(kind)?;
        lab.start_agents();
        let mut seconds = Vec::new();
        for turn in 1..=setting.repetitions {
            lab.place(&snapshot)?;
            let carried = Peer::Baton.carry(&lab).and_then(|taken| {
                snapshot.verify(&lab.arrived_path())?;
                Ok(taken)
            });
            match carried {
                Ok(taken) => seconds.push(taken),
                Err(error) => notes.push(format!("failed: {file}, turn {turn}: {error:#}")),
            }
            say(&format!("rss, {file}, turn {turn}: {} s", figure(seconds.last().copied(), 2)));
        }
        for (name, host) in [("source", lab.b()), ("target", lab.c())] {
            // Of a run that failed, the peak is not that of a run.
            let peak = cpu::peak_memory(host.agent_pid()).filter(|_| !seconds.is_empty());
            let peak = peak.map(|bytes| bytes as f64 / MIB);
            let [bar, verdict] = bars::at_most(peak, Some(bars::MEMORY_MIB_MAX));
            let used = cpu::seconds(host.agent_pid()).map(|used| used / setting.repetitions as f64);
            peaks.row([file.to_string(), name.to_owned(), figure(peak, 1), bar, verdict, figure(used, 2)]);
        }
        let taken = median(&seconds);
        let cost = taken.map(|taken| taken * 1e9 / snapshot.bytes as f64);
        let growth = first.zip(cost).map(|(first, cost): (f64, f64)| cost / first);
        let [bar, verdict] = bars::at_most(growth, first.map(|_| bars::GROWTH_MAX));
        let cells = [figure(taken, 2), figure(cost, 2), figure(growth, 2), bar, verdict];
        costs.row([file.to_string(), snapshot.bytes.to_string()].into_iter().chain(cells));
        first = first.or(cost);
    }
    let text = format!("On {}, {} runs for each file, with agents started for it.", kind.title, setting.repetitions);
    Ok(Section { title: "Memory and size".to_owned(), text, tables: vec![peaks, costs], notes })
}
