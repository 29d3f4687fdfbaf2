//! `switchover`: for how long writes are blocked while a live primary hands over, as Baton tells it and as a client sees
//! it. On loopback, without the link of the other measurements: it is the servers' handshakes that are measured.

use anyhow::Context as _;

use crate::bench::bars;
use crate::bench::measure::{Setting, say};
use crate::bench::probe::{median, percentile};
use crate::bench::report::{Section, Table, figure};
use crate::coord::code;
use crate::dataset::Dataset;
use crate::wait::wait_until;
use crate::world::{A, B, World};
use crate::writer::Writers;

/// Each run is over in a second or two, so there can be more of them than of the others.
const RUNS_A_REPETITION: usize = 5;
/// Data that the servers hold.
const DATA_BYTES: u64 = 1 << 20;
/// Writes after which clients are taken to be under way.
const WRITES: u64 = 500;

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let world = World::of_three(&setting.program);
    world.start();
    Dataset::mixed(7, DATA_BYTES).load(&mut world.a().client());
    let (mut told, mut seen, mut lost) = (Vec::new(), Vec::new(), 0);
    let runs = setting.repetitions * RUNS_A_REPETITION;
    for turn in 1..=runs {
        let (from, to) = if turn % 2 == 1 { (A, B) } else { (B, A) };
        world.host(to).await_in_sync_with(world.host(from));
        let writers = Writers::start(1, &[world.host(from), world.host(to)]);
        wait_until("the client writes", || writers.acknowledged() > WRITES);
        let said = world.coord(&["switchover", from, "--to", to, "--yes", "--json"]).ends_with(code::DONE);
        let before = writers.acknowledged();
        wait_until("the client goes on", || writers.acknowledged() > before + WRITES);
        let written = writers.stop();
        lost += written.missing_on(world.host(to)).len();
        told.push(
            said.result()["blocked_ms"].as_f64().context("the run did not tell for how long writes were blocked")?,
        );
        seen.push(written.longest_gap.as_secs_f64() * 1000.0);
        say(&format!("switchover, turn {turn}: told {told:.1?} ms, the client waited {seen:.1?} ms"));
    }
    let most = percentile(&told, 100.0);
    let [bar, verdict] = bars::at_most(median(&told), Some(bars::BLOCKED_MS_MAX));
    let head =
        ["blocked as told, ms", "at most", "longest wait of a client, ms", "at most", "writes lost", "bar", "verdict"];
    let mut table = Table::new(&head);
    let client = [figure(median(&seen), 1), figure(percentile(&seen, 100.0), 1)];
    let [seen, seen_most] = client;
    table.row([figure(median(&told), 1), figure(most, 1), seen, seen_most, lost.to_string(), bar, verdict]);
    let text = format!("On loopback, medians of {runs} runs to and fro, under one client that writes all the time.");
    let notes = if lost > 0 { vec![format!("failed: {lost} acknowledged writes were lost")] } else { Vec::new() };
    Ok(Section { title: "Switchover".to_owned(), text, tables: vec![table], notes })
}
