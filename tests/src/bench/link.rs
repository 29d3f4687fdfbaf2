//! A link in user space, for kernels without netem: what one host sends is read from its TUN device, and written to the
//! other's when it is due. Each direction has a rate, a delay, a loss, a queue with tail drop, counters, and a thread.
//!
//! ```text
//!   read -> lost by chance? -> queue full? -> departs when the link is free -> arrives one delay later -> write
//! ```

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
use crate::rng::Rng;

pub const MTU: usize = 1500;
/// What Ethernet adds to each packet: preamble, header, checksum, gap.
const FRAME_BYTES: usize = 38;
/// A queue holds one round trip at full rate, or this much where that is less, as switches do.
const QUEUE_BYTES_MIN: u64 = 512 << 10;
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
const UDP: u8 = 17;

/// What a link is like. Both directions are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub megabits: f64,
    pub round_trip: Duration,
    /// Of a hundred packets, how many are lost by chance, in each direction.
    pub loss_percent: f64,
}

impl Shape {
    fn bytes_per_second(&self) -> f64 {
        self.megabits * 1e6 / 8.0
    }

    pub fn queue_bytes(&self) -> u64 {
        QUEUE_BYTES_MIN.max((self.bytes_per_second() * self.round_trip.as_secs_f64()) as u64)
    }
}

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
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Link {
    /// Starts a link between two devices.
    pub fn start(shape: Shape, ends: [File; 2]) -> std::io::Result<Self> {
        let [first, second] = ends;
        let stop = Arc::new(AtomicBool::new(false));
        let counters = [Arc::<Counters>::default(), Arc::default()];
        let pairs = [(first.try_clone()?, second.try_clone()?), (second, first)];
        let threads = pairs.into_iter().zip(&counters).enumerate().map(|(number, ((from, to), counters))| {
            let way = Way::new(shape, from, to, counters.clone(), number as u64);
            let stop = stop.clone();
            std::thread::Builder::new().name(format!("link-{number}")).spawn(move || way.run(&stop))
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self { counters, threads, stop })
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
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("warning: a thread of the link panicked");
            }
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

/// One direction.
struct Way {
    from: File,
    to: File,
    line: Line,
    /// Packets under way, in the order of their arrival, each with its time.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// Buffers for reuse.
    spare: Vec<Vec<u8>>,
    rest: Duration,
    counters: Arc<Counters>,
}

impl Way {
    fn new(shape: Shape, from: File, to: File, counters: Arc<Counters>, seed: u64) -> Self {
        let line = Line::new(shape, seed, Instant::now());
        let rest = (shape.round_trip / REST_PART).clamp(REST_MIN, REST_MAX);
        Self { from, to, line, under_way: VecDeque::new(), spare: Vec::new(), rest, counters }
    }

    fn run(mut self, stop: &AtomicBool) {
        // Both only make the link smoother: without them it works all the same.
        let _ = rustix::process::nice(NICE);
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        while !stop.load(Ordering::Relaxed) {
            let taken = self.take();
            self.deliver();
            if taken > 0 || !self.under_way.is_empty() {
                std::thread::sleep(self.rest);
            } else {
                self.wait();
            }
        }
    }

    /// Sleeps until a packet comes.
    fn wait(&self) {
        let Ok(timeout) = Timespec::try_from(IDLE) else { return };
        // An interrupted wait only means one more look.
        let _ = poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&timeout));
    }

    /// Reads what the host sends, and yields how many packets it took.
    fn take(&mut self) -> usize {
        let now = Instant::now();
        for taken in 0..BATCH {
            let mut buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(MTU));
            buffer.resize(MTU, 0);
            match self.from.read(&mut buffer) {
                Ok(length) if length > 0 => buffer.truncate(length),
                _ => {
                    self.spare.push(buffer);
                    return taken;
                }
            }
            match self.pass(now, &buffer) {
                Some(due) => self.under_way.push_back((due, buffer)),
                None => self.spare.push(buffer),
            }
        }
        BATCH
    }

    fn pass(&mut self, now: Instant, packet: &[u8]) -> Option<Instant> {
        let add = |counter: &AtomicU64, number: usize| counter.fetch_add(number as u64, Ordering::Relaxed);
        // The kernel sends IPv6 neighbour discovery by itself, which nobody answers here.
        if packet.first().is_none_or(|first| first >> 4 != 4) {
            return None;
        }
        add(&self.counters.packets, 1);
        add(&self.counters.bytes, packet.len());
        if packet.get(9) == Some(&UDP) {
            add(&self.counters.udp_packets, 1);
            add(&self.counters.udp_bytes, packet.len());
        }
        match self.line.send(now, packet.len()) {
            Passage::Arrives(due) => return Some(due),
            Passage::Full => add(&self.counters.dropped_full, 1),
            Passage::Lost => add(&self.counters.dropped_by_chance, 1),
        };
        None
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

/// When a packet arrives, if it does. No socket and no clock.
#[derive(Debug)]
struct Line {
    shape: Shape,
    free_at: Instant,
    rng: Rng,
}

#[derive(Debug, PartialEq, Eq)]
enum Passage {
    Arrives(Instant),
    Full,
    Lost,
}

impl Line {
    fn new(shape: Shape, seed: u64, now: Instant) -> Self {
        Self { shape, free_at: now, rng: Rng::new(seed) }
    }

    fn send(&mut self, now: Instant, bytes: usize) -> Passage {
        // A millionth is fine enough for every loss that is asked for.
        if (self.rng.below(1_000_000) as f64) < self.shape.loss_percent * 10_000.0 {
            return Passage::Lost;
        }
        let rate = self.shape.bytes_per_second();
        let starts = self.free_at.max(now);
        if (starts - now).as_secs_f64() * rate > self.shape.queue_bytes() as f64 {
            return Passage::Full;
        }
        self.free_at = starts + Duration::from_secs_f64((bytes + FRAME_BYTES) as f64 / rate);
        Passage::Arrives(self.free_at + self.shape.round_trip / 2)
    }
}

/// Starts a link between two namespaces, on devices of this name.
pub fn between(shape: Shape, hosts: [&Namespace; 2], device: &str) -> anyhow::Result<Link> {
    let [first, second] = hosts;
    Ok(Link::start(shape, [tun::open(first, device)?, tun::open(second, device)?])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { megabits: 200.0, round_trip: Duration::from_millis(40), loss_percent: 0.0 };

    #[test]
    fn a_packet_arrives_after_its_own_time_on_the_line_and_the_delay() {
        let now = Instant::now();
        let mut line = Line::new(SHAPE, 1, now);
        // 1500 + 38 bytes at 25 MB/s take 61.52 microseconds.
        let first = now + Duration::from_nanos(61_520) + Duration::from_millis(20);
        assert_eq!(line.send(now, 1500), Passage::Arrives(first));
        assert_eq!(line.send(now, 1500), Passage::Arrives(first + Duration::from_nanos(61_520)));
    }

    #[test]
    fn a_burst_fills_the_queue_of_one_round_trip_and_the_rest_is_dropped() {
        let now = Instant::now();
        let mut line = Line::new(SHAPE, 1, now);
        let passed = (0..2000).filter(|_| matches!(line.send(now, 1500), Passage::Arrives(_))).count();
        // Those that begin within the first million bytes.
        assert_eq!(passed as u64, 1_000_000 / 1538 + 1);
        let later = now + Duration::from_millis(40);
        assert!(matches!(line.send(later, 1500), Passage::Arrives(_)));
    }

    #[test]
    fn loss_by_chance_is_as_frequent_as_asked_for() {
        let mut now = Instant::now();
        let mut line = Line::new(Shape { loss_percent: 0.5, ..SHAPE }, 7, now);
        let mut lost = 0;
        for _ in 0..100_000 {
            now += Duration::from_millis(1);
            lost += u32::from(line.send(now, 100) == Passage::Lost);
        }
        assert!((400..600).contains(&lost), "{lost} of 100000");
    }
}
