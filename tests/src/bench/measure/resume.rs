//! `resume`: an agent is killed half-way and started again at once: how long until bytes flow, and how many flow twice.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::bench::bars;
use crate::bench::files::{FileKind, Snapshot};
use crate::bench::lab::{Coord, Lab};
use crate::bench::measure::{Setting, say};
use crate::bench::network::WAN;
use crate::bench::report::{Section, Table, figure};
use crate::dataset::Mix;
use crate::host::Host;

/// Nothing compresses it, so that the bytes of two runs can be compared whatever levels were chosen.
pub const FILE: FileKind = FileKind::new(Mix::Random, 525);
/// Bytes that are more than handshakes and orders: chunks flow again.
const FLOWS_BYTES: u64 = 1 << 20;
/// Longest that is waited for them.
const FLOWS_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// What one interrupted run came to.
struct Resumed {
    flows_seconds: f64,
    sent_bytes: u64,
    total_seconds: f64,
}

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let kind = setting.link.unwrap_or(WAN);
    let snapshot = setting.snapshot(setting.file_or(FILE))?;
    let lab = setting.lab(kind)?;
    lab.start_agents();
    lab.place(&snapshot)?;
    let sent = || lab.network.udp_bytes_forth().context("this link keeps no counters; choose a shaped one");
    let before = sent()?;
    let whole = lab.start_copy("existing")?.wait().context("without a break")?;
    let whole_bytes = sent()? - before;
    say(&format!("resume, without a break: {:.2} s, {whole_bytes} bytes on the wire", whole.seconds));
    let head = ["killed", "figure", "value", "bar", "verdict"];
    let mut table = Table::new(&head);
    let mut notes = Vec::new();
    for (name, host) in [("the target's agent", lab.c()), ("the source's agent", lab.b())] {
        let resumed = interrupted(&lab, &snapshot, host, whole_bytes);
        if let Err(error) = &resumed {
            say(&format!("resume, {name}: {error:#}"));
            notes.push(format!("failed: {name}: {error:#}"));
        }
        let resumed = resumed.ok();
        let mut row = |figure_name: &str, value: Option<f64>, bar: Option<f64>| {
            let [bar, verdict] = bars::at_most(value, bar);
            table.row([name.to_owned(), figure_name.to_owned(), figure(value, 2), bar, verdict]);
        };
        let twice = |resumed: &Resumed| (resumed.sent_bytes as f64 / whole_bytes as f64 - 1.0) * 100.0;
        let flows = resumed.as_ref().map(|resumed| resumed.flows_seconds);
        row("seconds from the restart until bytes flow", flows, Some(bars::RESUME_SECONDS_MAX));
        row("sent twice, %", resumed.as_ref().map(twice), Some(bars::SENT_TWICE_PERCENT_MAX));
        let longer = resumed.as_ref().map(|resumed| resumed.total_seconds / whole.seconds);
        row("total time, as a multiple of that without a break", longer, None);
    }
    let text = format!(
        "On {} with {}: kill -9 when half of the bytes have crossed, and a restart at once. Without a break it took {:.2} s \
         and {:.1} MB on the wire; \"sent twice\" is what B sent beyond that, whatever the cause, in percent.",
        kind.title,
        snapshot.kind,
        whole.seconds,
        whole_bytes as f64 / 1e6
    );
    Ok(Section { title: "Resume after kill -9".to_owned(), text, tables: vec![table], notes })
}

fn interrupted(lab: &Lab, snapshot: &Snapshot, host: &Host, whole_bytes: u64) -> anyhow::Result<Resumed> {
    lab.place(snapshot)?;
    let sent = || lab.network.udp_bytes_forth().unwrap_or_default();
    let before = sent();
    let mut coord = lab.start_copy("existing")?;
    let mut await_bytes = |bytes: u64, what: &str| {
        let begun = Instant::now();
        while sent() < bytes {
            ensure!(begun.elapsed() < FLOWS_TIMEOUT, "{what} did not happen within {} s", FLOWS_TIMEOUT.as_secs());
            if coord.ended() {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        Ok(true)
    };
    ensure!(await_bytes(before + whole_bytes / 2, "half of the transfer")?, "the copy ended before it was half-way");
    host.restart_agent();
    let (restarted, at_restart) = (Instant::now(), sent());
    let flows = await_bytes(at_restart + FLOWS_BYTES, "the second half")?;
    let flows_seconds = restarted.elapsed().as_secs_f64();
    let copied = outcome(coord)?;
    ensure!(flows, "the copy ended before bytes flowed again");
    snapshot.verify(&lab.arrived_path())?;
    Ok(Resumed { flows_seconds, sent_bytes: sent() - before, total_seconds: copied })
}

fn outcome(coord: Coord) -> anyhow::Result<f64> {
    Ok(coord.wait().context("after the restart")?.seconds)
}
