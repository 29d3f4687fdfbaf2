//! A link in user space, for kernels without netem: what one host sends is read from its TUN device, and written to the
//! other's when it is due. Each direction has a rate, a delay, a loss, a queue with tail drop and counters. One thread looks
//! after both: on virtual machines a timer costs more than what is done when it is due.
//!
//! ```text
//!   read -> lost by chance? -> queue full? -> departs when the link is free -> arrives one delay later -> write
//!           `---------------- line.rs, by segment ----------------------------------------------'
//! ```
//!
//! A host hands over many segments as one packet, and is given runs of them, as with the offloads of a network card: so the
//! link costs the hosts little, as a wire costs them nothing. `segments.rs` cuts.

mod line;
mod segments;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bench::tun;
use crate::namespace::Namespace;

use line::Line;
pub use line::Shape;
use segments::{FRAME_BYTES_MAX, Packet};

pub const MTU: usize = 1500;
/// Packets read before what is due is written: more would delay those.
const BATCH: usize = 64;
/// While packets are under way the thread rests between two looks, as network cards do: packets then come many to a
/// wake-up, which keeps the link's own share of the cores small. The rest is this part of the round trip, within bounds.
const REST_PART: u32 = 100;
const REST_MIN: Duration = Duration::from_micros(80);
const REST_MAX: Duration = Duration::from_micros(400);
/// Longest sleep of an idle thread: it looks whether it is to end.
const IDLE: Duration = Duration::from_millis(100);
/// The link is hardware elsewhere: it goes before the programs that are measured.
const NICE: i32 = -15;

/// What one direction has seen so far.
#[derive(Debug, Default)]
struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    udp_bytes: AtomicU64,
    udp_packets: AtomicU64,
    dropped_full: AtomicU64,
    dropped_by_chance: AtomicU64,
}

/// A reading of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Sent into the link, the lost ones too.
    pub packets: u64,
    pub bytes: u64,
    pub udp_packets: u64,
    pub udp_bytes: u64,
    /// Lost to a full queue.
    pub dropped_full: u64,
    pub dropped_by_chance: u64,
}

impl Count {
    pub fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
            udp_packets: self.udp_packets - before.udp_packets,
            udp_bytes: self.udp_bytes - before.udp_bytes,
            dropped_full: self.dropped_full - before.dropped_full,
            dropped_by_chance: self.dropped_by_chance - before.dropped_by_chance,
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            udp_packets: self.udp_packets + other.udp_packets,
            udp_bytes: self.udp_bytes + other.udp_bytes,
            dropped_full: self.dropped_full + other.dropped_full,
            dropped_by_chance: self.dropped_by_chance + other.dropped_by_chance,
        }
    }

    /// Lost to a full queue, of a hundred.
    pub fn lost_percent(self) -> Option<f64> {
        (self.packets > 0).then(|| self.dropped_full as f64 * 100.0 / self.packets as f64)
    }
}

/// A link that runs until it is dropped.
#[derive(Debug)]
pub struct Link {
    counters: [Arc<Counters>; 2],
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Link {
    /// Starts a link between two devices.
    pub fn start(shape: Shape, ends: [File; 2]) -> std::io::Result<Self> {
        let [first, second] = ends;
        let stop = Arc::new(AtomicBool::new(false));
        let counters = [Arc::<Counters>::default(), Arc::default()];
        let [forth, back] = counters.clone();
        let ways = [
            Way::new(shape, first.try_clone()?, second.try_clone()?, forth, 0),
            Way::new(shape, second, first, back, 1),
        ];
        let rest = (shape.round_trip / REST_PART).clamp(REST_MIN, REST_MAX);
        let own = stop.clone();
        let thread = std::thread::Builder::new().name("link".into()).spawn(move || serve(ways, rest, &own))?;
        Ok(Self { counters, thread: Some(thread), stop })
    }

    /// What crossed from the first host to the second.
    pub fn forth(&self) -> Count {
        read(&self.counters[0])
    }

    /// What crossed back.
    pub fn back(&self) -> Count {
        read(&self.counters[1])
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("warning: the thread of the link panicked");
        }
    }
}

fn read(counters: &Counters) -> Count {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Count {
        packets: of(&counters.packets),
        bytes: of(&counters.bytes),
        udp_packets: of(&counters.udp_packets),
        udp_bytes: of(&counters.udp_bytes),
        dropped_full: of(&counters.dropped_full),
        dropped_by_chance: of(&counters.dropped_by_chance),
    }
}

/// Carries packets both ways until it is to stop.
fn serve(mut ways: [Way; 2], rest: Duration, stop: &AtomicBool) {
    // Both only make the link smoother: without them it works all the same.
    let _ = rustix::process::nice(NICE);
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    while !stop.load(Ordering::Relaxed) {
        let mut busy = false;
        for way in &mut ways {
            let taken = way.take();
            way.deliver();
            busy |= taken > 0 || !way.under_way.is_empty();
        }
        if busy {
            std::thread::sleep(rest);
        } else if let Ok(timeout) = Timespec::try_from(IDLE) {
            let mut ends = ways.each_ref().map(|way| PollFd::new(&way.from, PollFlags::IN));
            // An interrupted wait only means one more look.
            let _ = poll(&mut ends, Some(&timeout));
        }
    }
}

/// One direction.
struct Way {
    from: File,
    to: File,
    line: Line,
    /// What was read last.
    frame: Vec<u8>,
    /// Runs under way, in the order of their arrival, each with its time.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// Buffers for reuse.
    spare: Vec<Vec<u8>>,
    counters: Arc<Counters>,
}

impl Way {
    fn new(shape: Shape, from: File, to: File, counters: Arc<Counters>, seed: u64) -> Self {
        let line = Line::new(shape, seed, Instant::now());
        let frame = vec![0; FRAME_BYTES_MAX];
        Self { from, to, line, frame, under_way: VecDeque::new(), spare: Vec::new(), counters }
    }

    /// Reads what the host sends, and yields how many packets it took.
    fn take(&mut self) -> usize {
        let now = Instant::now();
        let mut frame = std::mem::take(&mut self.frame);
        let mut taken = 0;
        while taken < BATCH
            && let Ok(length @ 1..) = self.from.read(&mut frame)
        {
            self.pass(now, frame.get(..length).unwrap_or_default());
            taken += 1;
        }
        self.frame = frame;
        taken
    }

    /// Puts what arrives of a packet under way.
    fn pass(&mut self, now: Instant, frame: &[u8]) {
        // The kernel sends IPv6 neighbour discovery by itself, which nobody answers here.
        let Some(packet) = Packet::read(frame) else { return };
        let add = |counter: &AtomicU64, number: u64| counter.fetch_add(number, Ordering::Relaxed);
        let (segments, bytes) = (packet.lengths().len() as u64, packet.lengths().sum::<usize>() as u64);
        add(&self.counters.packets, segments);
        add(&self.counters.bytes, bytes);
        if packet.is_udp() {
            add(&self.counters.udp_packets, segments);
            add(&self.counters.udp_bytes, bytes);
        }
        let sent = self.line.send(now, packet.lengths());
        add(&self.counters.dropped_full, sent.full);
        add(&self.counters.dropped_by_chance, sent.lost);
        for run in sent.runs {
            let mut buffer = self.spare.pop().unwrap_or_default();
            if packet.write(&run.segments, &mut buffer).is_some() {
                self.under_way.push_back((run.due, buffer));
            }
        }
    }

    /// Writes what is due.
    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some((due, packet)) = self.under_way.pop_front() {
            if due > now {
                self.under_way.push_front((due, packet));
                return;
            }
            // A host that is going down no longer takes packets; nor does a wire care.
            match self.to.write(&packet) {
                Err(error) if error.kind() == ErrorKind::Interrupted => self.under_way.push_front((due, packet)),
                _ => self.spare.push(packet),
            }
        }
    }
}

/// Starts a link between two namespaces, on devices of this name.
pub fn between(shape: Shape, hosts: [&Namespace; 2], device: &str) -> anyhow::Result<Link> {
    let [first, second] = hosts;
    Ok(Link::start(shape, [tun::open(first, device)?, tun::open(second, device)?])?)
}
