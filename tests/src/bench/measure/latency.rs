//! `latency`: how long readers of a live source wait: while nothing else happens, during a `BGSAVE` alone, and during a
//! copy that begins with one. Readers ask for random keys, each as soon as it has its last answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::bench::bars;
use crate::bench::files::FileKind;
use crate::bench::lab::Lab;
use crate::bench::measure::{Setting, say};
use crate::bench::network::GIGABIT;
use crate::bench::probe::percentile;
use crate::bench::report::{Section, Table, figure};
use crate::rng::Rng;

pub const FILE: FileKind = bars::REFERENCE;
/// Connections that read at once.
const READERS: u64 = 8;
const IDLE_TIME: Duration = Duration::from_secs(5);
/// Keys are drawn from below this number; a reader does not mind that some are absent, since both cost one look-up.
const KEYS: u64 = 1_000_000;
/// Longest that a `BGSAVE` is waited for.
const SAVE_TIMEOUT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

pub fn run(setting: &Setting) -> anyhow::Result<Section> {
    let kind = setting.link.unwrap_or(GIGABIT);
    let snapshot = setting.snapshot(setting.file_or(FILE))?;
    let lab = setting.lab(kind)?;
    lab.place(&snapshot)?;
    lab.b().start_server();
    lab.start_agents();
    let head =
        ["meanwhile", "reads a second", "median, ms", "p99, ms", "p99.9, ms", "p99 to BGSAVE alone", "bar", "verdict"];
    let mut table = Table::new(&head);
    let mut notes = Vec::new();
    let (mut idle, mut save, mut copy) = (Seen::default(), Seen::default(), Seen::default());
    for turn in 1..=setting.repetitions {
        idle.add(during(&lab, || {
            std::thread::sleep(IDLE_TIME);
            Ok(())
        })?);
        save.add(during(&lab, || bgsave(&lab))?);
        lab.clear_target()?;
        match during(&lab, || lab.start_copy("bgsave")?.wait().map(|_| ())) {
            Ok(seen) => copy.add(seen),
            Err(error) => notes.push(format!("failed: the copy, turn {turn}: {error:#}")),
        }
        say(&format!("latency, turn {turn} of {}", setting.repetitions));
    }
    let alone = save.percentile(99.0);
    for (name, seen) in [("nothing", &idle), ("BGSAVE alone", &save), ("coord copy --snapshot bgsave", &copy)] {
        let is_copy = std::ptr::eq(seen, &raw const copy);
        let multiple = seen.percentile(99.0).zip(alone).map(|(p99, alone)| p99 / alone).filter(|_| is_copy);
        let [bar, verdict] = bars::at_most(multiple, Some(bars::LATENCY_MAX).filter(|_| is_copy));
        let rate = (seen.seconds > 0.0).then(|| seen.waits_ms.len() as f64 / seen.seconds);
        let percentiles = [50.0, 99.0, 99.9].map(|percent| figure(seen.percentile(percent), 3));
        table.row([name.to_owned(), figure(rate, 0)].into_iter().chain(percentiles).chain([
            figure(multiple, 2),
            bar,
            verdict,
        ]));
    }
    let text = format!(
        "A server with the data of {}, on {}; {READERS} connections on B's own host read random keys in a closed loop (the \
         load of `redis-benchmark -t get`, which cannot tell periods apart); {} turns, their waits taken together.",
        snapshot.kind, kind.title, setting.repetitions
    );
    Ok(Section { title: "Readers of a live source".to_owned(), text, tables: vec![table], notes })
}

fn bgsave(lab: &Lab) -> anyhow::Result<()> {
    let mut client = lab.b().client();
    client.call(&["BGSAVE"]);
    let begun = Instant::now();
    while client.field("rdb_bgsave_in_progress") != "0" {
        anyhow::ensure!(begun.elapsed() < SAVE_TIMEOUT, "the BGSAVE does not end");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits of readers, in milliseconds, over some time.
#[derive(Debug, Default)]
struct Seen {
    waits_ms: Vec<f64>,
    seconds: f64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.waits_ms.extend(other.waits_ms);
        self.seconds += other.seconds;
    }

    fn percentile(&self, percent: f64) -> Option<f64> {
        percentile(&self.waits_ms, percent)
    }
}

/// Lets readers read while something is done.
fn during(lab: &Lab, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Seen> {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let readers: Vec<_> = (0..READERS).map(|seed| reader(lab, seed, stop.clone())).collect::<Result<_, _>>()?;
    let done = work();
    stop.store(true, Ordering::Relaxed);
    let mut seen = Seen::default();
    for reader in readers {
        let waits = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen.waits_ms.extend(waits.context("a reader lost its server")?);
    }
    seen.seconds = begun.elapsed().as_secs_f64();
    done.map(|()| seen)
}

fn reader(lab: &Lab, seed: u64, stop: Arc<AtomicBool>) -> anyhow::Result<JoinHandle<anyhow::Result<Vec<f64>>>> {
    let mut client = lab.b().try_client().map_err(anyhow::Error::msg)?;
    Ok(std::thread::spawn(move || {
        let (mut rng, mut waits) = (Rng::new(seed), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let key = format!("user:{}:profile", rng.below(KEYS));
            let begun = Instant::now();
            client.try_call(&["GET", &key]).map_err(anyhow::Error::msg)?;
            waits.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(waits)
    }))
}
