//! `civility`: what a move does to others on the link: packets it loses, delay it adds, and the share it leaves to a TCP
//! flow.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::bench::bars;
use crate::bench::files::FileKind;
use crate::bench::flow::Flow;
use crate::bench::lab::Lab;
use crate::bench::link::Count;
use crate::bench::measure::{Setting, say};
use crate::bench::network::WAN;
use crate::bench::peers::Peer;
use crate::bench::probe::{Probe, idle, median, percentile};
use crate::bench::report::{Section, Table, figure};
use crate::dataset::Mix;

/// Nothing compresses it, so both sides of the contest always have bytes to send.
pub const FILE: FileKind = FileKind::new(Mix::Random, 525);
const IDLE_TIME: Duration = Duration::from_secs(3);
/// How long both flows have to settle, and how long their shares are then counted.
const SETTLE: Duration = Duration::from_secs(4);
const COUNTED: Duration = Duration::from_secs(20);

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let kind = setting.link.unwrap_or(WAN);
    let snapshot = setting.snapshot(setting.file_or(FILE))?;
    let lab = setting.lab(kind)?;
    lab.start_agents();
    let mut notes = Vec::new();
    let idle_median = median(&idle(&lab.network, IDLE_TIME)?).context("no probe came back on an idle link")?;
    let mut queue = Table::new(&["who", "figure", "value", "bar", "verdict"]);
    for peer in [Peer::Baton, Peer::Socket] {
        lab.place(&snapshot)?;
        let before = [lab.network.forth()?, lab.network.back()?];
        let probe = Probe::start(&lab.network)?;
        let carried = peer.carry(&lab);
        let seen = probe.finish();
        let after = [lab.network.forth()?, lab.network.back()?];
        let seconds = match carried {
            Ok(seconds) => seconds,
            Err(error) => {
                notes.push(format!("failed: {}: {error:#}", peer.name()));
                continue;
            }
        };
        say(&format!("civility, {}: {seconds:.2} s", peer.name()));
        let mut row = |name: &str, value: Option<f64>, bar: Option<f64>| {
            let bar = bar.filter(|_| peer == Peer::Baton);
            let [bar, verdict] = bars::at_most(value, bar);
            queue.row([peer.name().to_owned(), name.to_owned(), figure(value, 2), bar, verdict]);
        };
        let lost = |way: usize| Some(after[way]?.since(before[way]?)).and_then(Count::lost_percent);
        row("packets lost to a full queue, B to C, %", lost(0), Some(bars::LOST_PERCENT_MAX));
        row("packets lost to a full queue, C to B, %", lost(1), Some(bars::LOST_PERCENT_MAX));
        let added = |percent| percentile(&seen, percent).map(|value| value - idle_median);
        row("delay added, median, ms", added(50.0), Some(bars::QUEUE_MS_MAX));
        row("delay added, 90 %, ms", added(90.0), None);
        row("delay added, 99 %, ms", added(99.0), None);
    }
    let mut shares = Table::new(&["who", "MB/s on the wire", "share, %", "bar", "verdict"]);
    match contest(&lab, &snapshot) {
        Ok([baton, flow]) => {
            for (name, rate) in [("baton", baton), ("one TCP flow", flow)] {
                let share = Some(rate * 100.0 / (baton + flow)).filter(|share| share.is_finite());
                let [bar, verdict] = bars::at_least(share, Some(bars::SHARE_PERCENT_MIN));
                shares.row([name.to_owned(), figure(Some(rate), 2), figure(share, 1), bar, verdict]);
            }
        }
        Err(error) => notes.push(format!("failed: beside a TCP flow: {error:#}")),
    }
    let text = format!(
        "On {} with {}; idle round trip {idle_median:.2} ms; TCP is {}. Delay is that of small datagrams, one every 10 ms, \
         from the start of the first program to the end of the last. The shares are of {} s, {} s after Baton's first bytes.",
        kind.title,
        snapshot.kind,
        lab.network.b.tcp()?,
        COUNTED.as_secs(),
        SETTLE.as_secs()
    );
    Ok(Section { title: "Civility".to_owned(), text, tables: vec![queue, shares], notes })
}

/// Lets Baton and a TCP flow share the link, and yields what each got, in MB/s on the wire.
fn contest(lab: &Lab, snapshot: &crate::bench::files::Snapshot) -> anyhow::Result<[f64; 2]> {
    lab.place(snapshot)?;
    let flow = Flow::start(&lab.network)?;
    let count = || lab.network.forth()?.context("this link keeps no counters; choose a shaped one");
    let idle_bytes = count()?.udp_bytes;
    let mut coord = lab.start_copy("existing")?;
    // Half a megabyte is more than the handshake and the plan.
    while count()?.udp_bytes < idle_bytes + 500_000 {
        anyhow::ensure!(!coord.ended(), "the copy ended before it had begun: {:?}", coord.wait());
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(SETTLE);
    let (begun, before) = (Instant::now(), count()?);
    std::thread::sleep(COUNTED);
    let (seconds, seen) = (begun.elapsed().as_secs_f64(), count()?.since(before));
    anyhow::ensure!(!coord.ended(), "the copy ended before the shares were counted; take a larger file");
    drop(flow);
    coord.wait()?;
    let rate = |bytes: u64| bytes as f64 / 1e6 / seconds;
    Ok([rate(seen.udp_bytes), rate(seen.bytes - seen.udp_bytes)])
}
