//! A path in virtual time: a bottleneck with a queue that drops what does not fit, a delay, random loss, and flows over it
//! that pace and detect loss as quinn does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::ops::RangeBounds;
use std::time::Duration;

use super::super::pilot::Pilot;
use super::rivals::{Bbr, Cubic};

pub(super) const PACKET: u64 = 1_400;
/// One acknowledgement for so many packets, or after the delay.
const ACK_EVERY: u32 = 10;
const ACK_DELAY: Duration = Duration::from_millis(10);
const REORDER: u64 = 3;
/// All that is in flight counts as lost after such a silence.
const PROBE_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) rate: f64,
    pub(super) rtt: Duration,
    pub(super) queue_bytes: f64,
    pub(super) loss: f64,
    pub(super) trouble: Option<Trouble>,
}

/// What goes wrong for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    /// Nothing moves, and nothing is lost: a machine in between is not given a core.
    Frozen,
    /// Everything is lost.
    Cut,
    /// The path carries this part of its rate.
    Slow(f64),
    /// It is frozen for so long, time and again.
    Stutter { frozen: Duration, every: Duration },
    /// The sender hears nothing for so long, time and again, and then all of it at once: its host is busy.
    Busy { deaf: Duration, every: Duration },
    /// There is nothing to send.
    Idle,
}

impl Path {
    fn trouble_at(&self, now: Duration) -> Option<What> {
        self.trouble.filter(|trouble| (trouble.from..trouble.until).contains(&now)).map(|trouble| trouble.what)
    }

    /// When it moves again.
    fn frozen_until(&self, now: Duration) -> Duration {
        match self.trouble_at(now) {
            Some(What::Frozen) => self.trouble.map_or(now, |trouble| trouble.until),
            Some(What::Stutter { frozen, every }) => self.end_of_pause(now, frozen, every),
            _ => now,
        }
    }

    /// When the sender hears what reaches it now.
    fn heard_at(&self, now: Duration) -> Duration {
        match self.trouble_at(now) {
            Some(What::Busy { deaf, every }) => self.end_of_pause(now, deaf, every),
            _ => now,
        }
    }

    /// The end of a pause that begins each period, from the trouble's start on.
    fn end_of_pause(&self, now: Duration, pause: Duration, every: Duration) -> Duration {
        let from = self.trouble.map_or(now, |trouble| trouble.from);
        let into = Duration::from_nanos(((now - from).as_nanos() % every.as_nanos()) as u64);
        now + pause.saturating_sub(into)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Ours,
    Cubic,
    Bbr,
    /// Has nothing to send after that time.
    CubicUntil(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send(usize),
    Arrive(usize, u64),
    AckTimer(usize, u64),
    Ack(usize, u64),
    Probe(usize),
}

pub(super) struct Flow {
    steer: Steer,
    until: Duration,
    next: u64,
    in_flight: u64,
    /// Sent and not yet acknowledged or lost.
    sent: BTreeMap<u64, Duration>,
    srtt: Duration,
    tokens: f64,
    refilled: Duration,
    send_at: Option<Duration>,
    /// When the last acknowledgement came.
    heard: Duration,
    /// The receiver: arrived and not acknowledged, and the number of the acknowledgement to come.
    arrived: Vec<u64>,
    acks: u64,
    on_the_way: BTreeMap<u64, Vec<u64>>,
    delivered: Vec<(Duration, u64)>,
    queued: Vec<Duration>,
    packets_sent: u64,
    packets_lost: u64,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second: Vec<String> = (0..self.delivered.last().map_or(0, |last| last.0.as_secs() + 1))
            .map(|s| format!("{:.1}", self.rate(Duration::from_secs(s)..Duration::from_secs(s + 1)) / 1e6))
            .collect();
        let lost = self.lost_part() * 100.0;
        write!(f, "{lost:.2} % lost, queueing {:?}/{:?}, ", self.queueing(0.5), self.queueing(0.9))?;
        write!(f, "MB/s in each second: {}", per_second.join(" "))
    }
}

impl Flow {
    fn new(kind: Kind) -> Flow {
        let until = match kind {
            Kind::CubicUntil(until) => until,
            _ => Duration::MAX,
        };
        Flow {
            steer: match kind {
                Kind::Ours => Steer::Ours(Box::new(Pilot::new(Duration::ZERO, PACKET))),
                Kind::Bbr => Steer::Bbr(Bbr::default()),
                Kind::Cubic | Kind::CubicUntil(_) => Steer::Cubic(Cubic::default()),
            },
            until,
            next: 0,
            in_flight: 0,
            sent: BTreeMap::new(),
            srtt: Duration::ZERO,
            tokens: 10.0 * PACKET as f64,
            refilled: Duration::ZERO,
            send_at: None,
            heard: Duration::ZERO,
            arrived: Vec::new(),
            acks: 0,
            on_the_way: BTreeMap::new(),
            delivered: Vec::new(),
            queued: Vec::new(),
            packets_sent: 0,
            packets_lost: 0,
        }
    }

    /// Bytes a second that arrived within a time.
    pub(super) fn rate(&self, within: impl RangeBounds<Duration>) -> f64 {
        let mut inside = self.delivered.iter().filter(|(at, _)| within.contains(at));
        let Some(first) = inside.next() else { return 0.0 };
        let (bytes, last) = inside.fold((0, first.0), |(bytes, _), &(at, more)| (bytes + more, at));
        bytes as f64 / (last - first.0).as_secs_f64().max(0.1)
    }

    pub(super) fn lost_part(&self) -> f64 {
        self.packets_lost as f64 / self.packets_sent as f64
    }

    /// Time its packets have waited in the queue: the quantile.
    pub(super) fn queueing(&self, quantile: f64) -> Duration {
        let mut queued = self.queued.clone();
        queued.sort_unstable();
        queued.get((queued.len() as f64 * quantile) as usize).copied().unwrap_or_default()
    }

    /// Fills quinn's bucket: 1.25 windows in a round-trip time, bursts of 2 ms between 10 and 256 packets.
    fn refill(&mut self, now: Duration) {
        let paced = self.steer.window() as f64 * 1.25 / self.srtt.as_secs_f64();
        let per_second = self.steer.pace().unwrap_or(paced);
        let packet = PACKET as f64;
        let capacity = (per_second / 1.25 * 0.002).clamp(10.0 * packet, 256.0 * packet);
        self.tokens = (self.tokens + per_second * (now - self.refilled).as_secs_f64()).min(capacity);
        self.refilled = now;
    }

    fn lose(&mut self, now: Duration, number: u64, persistent: bool) {
        if self.sent.remove(&number).is_some() {
            self.in_flight -= PACKET;
            self.packets_lost += 1;
            self.steer.lost(now, persistent);
        }
    }
}

struct World<'a> {
    path: &'a Path,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    order: u64,
    link_free: Duration,
    flows: Vec<Flow>,
    random: u64,
}

impl Path {
    /// Runs flows, each from its time on, and returns what became of them.
    pub(super) fn run(&self, flows: &[(Kind, Duration)], end: Duration) -> Vec<Flow> {
        let mut world = World {
            path: self,
            events: BinaryHeap::new(),
            order: 0,
            link_free: Duration::ZERO,
            flows: flows.iter().map(|&(kind, _)| Flow::new(kind)).collect(),
            random: 88_172_645_463_325_252,
        };
        for (index, &(_, start)) in flows.iter().enumerate() {
            world.flows[index].srtt = self.rtt;
            world.flows[index].refilled = start;
            world.at(start, Event::Send(index));
            world.at(start + PROBE_AFTER, Event::Probe(index));
        }
        while let Some(Reverse((now, _, event))) = world.events.pop() {
            if now > end {
                break;
            }
            world.handle(now, event);
        }
        world.flows
    }
}

impl World<'_> {
    fn at(&mut self, time: Duration, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    fn handle(&mut self, now: Duration, event: Event) {
        match event {
            Event::Send(index) => {
                self.flows[index].send_at = None;
                self.send(now, index);
            }
            Event::Arrive(index, number) => {
                let flow = &mut self.flows[index];
                flow.arrived.push(number);
                flow.delivered.push((now, PACKET));
                if flow.arrived.len() as u32 > ACK_EVERY {
                    self.acknowledge(now, index);
                } else if flow.arrived.len() == 1 {
                    let acks = flow.acks;
                    self.at(now + ACK_DELAY, Event::AckTimer(index, acks));
                }
            }
            Event::AckTimer(index, acks) => {
                if self.flows[index].acks == acks && !self.flows[index].arrived.is_empty() {
                    self.acknowledge(now, index);
                }
            }
            Event::Ack(index, acks) => self.acknowledged(now, index, acks),
            Event::Probe(index) => {
                let flow = &mut self.flows[index];
                if flow.heard + PROBE_AFTER <= now {
                    let gone: Vec<u64> = flow.sent.keys().copied().collect();
                    gone.into_iter().for_each(|number| flow.lose(now, number, true));
                    self.send(now, index);
                }
                self.at(now + PROBE_AFTER, Event::Probe(index));
            }
        }
    }

    fn acknowledge(&mut self, now: Duration, index: usize) {
        let flow = &mut self.flows[index];
        let acks = flow.acks;
        flow.acks += 1;
        let numbers = std::mem::take(&mut flow.arrived);
        flow.on_the_way.insert(acks, numbers);
        self.at(self.path.heard_at(now + self.path.rtt / 2), Event::Ack(index, acks));
    }

    fn acknowledged(&mut self, now: Duration, index: usize, acks: u64) {
        let flow = &mut self.flows[index];
        flow.heard = now;
        let numbers = flow.on_the_way.remove(&acks).expect("sent once");
        let largest = *numbers.last().expect("never empty");
        for number in numbers {
            if let Some(sent) = flow.sent.remove(&number) {
                flow.in_flight -= PACKET;
                flow.steer.acked(now, sent);
                if number == largest {
                    flow.srtt = (flow.srtt * 7 + (now - sent)) / 8;
                }
            }
        }
        let limited = now > flow.until || self.path.trouble_at(now) == Some(What::Idle);
        flow.steer.batch(now, flow.in_flight, limited, flow.srtt);
        let gone: Vec<u64> =
            flow.sent.range(..largest.saturating_sub(REORDER - 1)).map(|(&number, _)| number).collect();
        gone.into_iter().for_each(|number| flow.lose(now, number, false));
        self.send(now, index);
    }

    /// Sends what the window and the bucket allow; comes back when the bucket allows more.
    fn send(&mut self, now: Duration, index: usize) {
        loop {
            let flow = &mut self.flows[index];
            if self.path.trouble_at(now) == Some(What::Idle) {
                let until = self.path.trouble.map_or(now, |trouble| trouble.until);
                self.at(until, Event::Send(index));
                return;
            }
            if now > flow.until || flow.in_flight + PACKET >= flow.steer.window() {
                return;
            }
            flow.refill(now);
            if flow.tokens < PACKET as f64 {
                if flow.send_at.is_none() {
                    // Timers have a resolution of 1 ms.
                    let at = now + Duration::from_millis(1);
                    flow.send_at = Some(at);
                    self.at(at, Event::Send(index));
                }
                return;
            }
            flow.tokens -= PACKET as f64;
            let number = flow.next;
            flow.next += 1;
            flow.in_flight += PACKET;
            flow.packets_sent += 1;
            flow.sent.insert(number, now);
            self.carry(now, index, number);
        }
    }

    fn carry(&mut self, now: Duration, index: usize, number: u64) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if ((self.random >> 11) as f64 / (1_u64 << 53) as f64) < self.path.loss {
            return;
        }
        let rate = match self.path.trouble_at(now) {
            Some(What::Cut) => return,
            Some(What::Slow(part)) => self.path.rate * part,
            _ => self.path.rate,
        };
        // What stands in the queue does not grow by being held up.
        let moves = self.path.frozen_until(now);
        let ahead = self.link_free.saturating_sub(moves);
        if ahead.as_secs_f64() * rate > self.path.queue_bytes {
            return;
        }
        let departs = moves + ahead;
        self.flows[index].queued.push(departs - now);
        self.link_free = departs + Duration::from_secs_f64(PACKET as f64 / rate);
        self.at(self.link_free + self.path.rtt / 2, Event::Arrive(index, number));
    }
}

enum Steer {
    Ours(Box<Pilot>),
    Cubic(Cubic),
    Bbr(Bbr),
}

impl Steer {
    fn window(&self) -> u64 {
        match self {
            Steer::Ours(pilot) => pilot.window(),
            Steer::Cubic(cubic) => (cubic.window * PACKET as f64) as u64,
            Steer::Bbr(bbr) => bbr.window(),
        }
    }

    /// Bytes a second, of one that paces by itself.
    fn pace(&self) -> Option<f64> {
        match self {
            Steer::Bbr(bbr) => bbr.pace(),
            _ => None,
        }
    }

    fn acked(&mut self, now: Duration, sent: Duration) {
        match self {
            Steer::Ours(pilot) => pilot.acked(sent, PACKET),
            Steer::Cubic(cubic) => cubic.acked += 1.0,
            Steer::Bbr(bbr) => bbr.acked(now, sent),
        }
    }

    fn batch(&mut self, now: Duration, in_flight: u64, app_limited: bool, srtt: Duration) {
        match self {
            Steer::Ours(pilot) => pilot.batch(now, in_flight, app_limited),
            Steer::Cubic(cubic) => cubic.batch(now, srtt),
            Steer::Bbr(_) => {}
        }
    }

    fn lost(&mut self, now: Duration, persistent: bool) {
        match self {
            Steer::Ours(pilot) => pilot.lost(now, PACKET, persistent),
            Steer::Cubic(cubic) => cubic.lost(now),
            Steer::Bbr(_) => {}
        }
    }
}
