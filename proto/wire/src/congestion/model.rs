//! What is known of the path: the rate at which data arrives, the smallest round-trip time, and what loss is its own.

use std::time::Duration;

use super::round::Shown;
use super::window::{Best, Window};

/// Packets in flight before anything is known. Three times what RFC 6928 allows TCP: agents have private paths, the
/// pacer spreads them, and two rounds fewer are half a tenth of a whole transfer.
pub(super) const INITIAL_PACKETS: u64 = 32;
/// Packets in flight at least, so that acknowledgements (one for ten packets) keep coming without a timer.
const PACKETS_MIN: u64 = 16;
/// Packets that wait for their acknowledgement, which comes for ten together.
const BATCH_PACKETS: u64 = 10;

/// How long the smallest round-trip time counts. A path whose delay has grown is known after that.
const RTT_SPAN: Duration = Duration::from_secs(10);
/// How long the largest rate counts, at least and in rounds.
const RATE_SPAN_MIN: Duration = Duration::from_millis(300);
const RATE_ROUNDS: u32 = 8;

/// What is in flight beyond rate x delay. The time covers the jitter of timers, of batches of packets and of
/// acknowledgements at both hosts; the part lets the rate grow where there is room, and bridges the moments in which a
/// host that has better to do does not send. Both together stay well below what a person at a terminal notices.
pub(super) const HEADROOM_SECONDS: f64 = 0.003;
const HEADROOM_PART: f64 = 0.25;
const HEADROOM_PART_SECONDS_MAX: f64 = 0.010;
/// Least part of the headroom. Without any the rate could only fall, loss being the path's own or not.
const HEADROOM_LEAST: f64 = 0.1;
const HEADROOM_STEP: f64 = 0.02;

/// A round-trip time longer than the smallest one by this is a queue.
const QUEUE_PART: f64 = 0.125;
const QUEUE_SECONDS_MIN: f64 = 0.004;

/// Loss up to this is taken as the path's own; more of it takes the headroom away.
const LOSS_BOUND: f64 = 0.02;
/// Loss that is seen also while the own queue drains is the path's own: the bound is this much more than that.
const LOSS_OWN_FACTOR: f64 = 1.5;
/// How fast it is learnt, a cycle.
const LOSS_OWN_GAIN: f64 = 0.3;
/// Loss beyond this, and beyond the bound, is a path that carries much less than thought.
const LOSS_COLLAPSE: f64 = 0.15;
/// A path that loses more than this by itself is not believed in.
const LOSS_OWN_MAX: f64 = 0.5;

/// How fast the rate without a rival is forgotten, a cycle.
const CAPACITY_FADE: f64 = 0.98;

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) mtu: u64,
    /// Bytes a second.
    rate: Window,
    /// Seconds.
    rtt: Window,
    /// Rate of the path when it was seen without a rival.
    capacity: Option<f64>,
    /// How much of the headroom is used, 0 to 1.
    pub(super) headroom: f64,
    /// Part of the packets that the path loses by itself.
    loss_own: f64,
}

impl Model {
    pub(super) fn new(mtu: u64) -> Model {
        Model {
            mtu,
            rate: Window::new(Best::Largest),
            rtt: Window::new(Best::Smallest),
            capacity: None,
            headroom: 1.0,
            loss_own: 0.0,
        }
    }

    pub(super) fn saw_rtt(&mut self, now: Duration, rtt: f64) {
        self.rtt.push(now, RTT_SPAN, rtt);
    }

    /// Takes in a round. Returns whether it lost more than the path loses by itself.
    pub(super) fn saw_round(&mut self, now: Duration, shown: &Shown) -> bool {
        if !shown.app_limited || shown.rate > self.rate() {
            let span = Duration::from_secs_f64(shown.rtt).saturating_mul(RATE_ROUNDS).max(RATE_SPAN_MIN);
            self.rate.push(now, span, shown.rate);
        }
        self.capacity = self.capacity.map(|capacity| capacity.max(shown.rate));
        let lossy = shown.loss > self.loss_bound() || shown.marked;
        self.headroom =
            if lossy { (self.headroom * 0.5).max(HEADROOM_LEAST) } else { (self.headroom + HEADROOM_STEP).min(1.0) };
        lossy
    }

    /// Takes in what was lost of packets that were sent while no queue of ours was.
    pub(super) fn saw_own_loss(&mut self, loss: f64) {
        self.loss_own += (loss - self.loss_own) * LOSS_OWN_GAIN;
    }

    /// Loss from which on there is more of it than the path's own.
    fn loss_bound(&self) -> f64 {
        (self.loss_own * LOSS_OWN_FACTOR).max(LOSS_BOUND)
    }

    /// Loss from which on the path carries much less than thought.
    pub(super) fn collapse_from(&self) -> f64 {
        self.loss_bound().max(LOSS_COLLAPSE)
    }

    /// Takes loss as the path's own: sending less has not made less of it.
    pub(super) fn learn_own_loss(&mut self, loss: f64) {
        self.loss_own = self.loss_own.max(loss.min(LOSS_OWN_MAX));
    }

    /// What must be sent for each byte to arrive, where the path itself loses a part.
    pub(super) fn loss_factor(&self) -> f64 {
        if self.loss_own > LOSS_BOUND { 1.0 / (1.0 - self.loss_own.min(LOSS_OWN_MAX)) } else { 1.0 }
    }

    /// Takes the present rate as what the path carries: there is no rival.
    pub(super) fn saw_no_rival(&mut self) {
        let rate = self.rate();
        self.capacity = Some(self.capacity.map_or(rate, |capacity| rate.max(capacity * CAPACITY_FADE)));
    }

    /// Takes the rate for this much of what it was.
    pub(super) fn scale_rate(&mut self, factor: f64) {
        self.rate.scale(factor);
    }

    /// Bytes a second, the most of late.
    pub(super) fn rate(&self) -> f64 {
        self.rate.best().unwrap_or(0.0)
    }

    /// Rate of the path without rivals, if it was ever seen so.
    pub(super) fn capacity(&self) -> Option<f64> {
        self.capacity
    }

    pub(super) fn rtt_min(&self) -> f64 {
        self.rtt.best().unwrap_or(0.0)
    }

    /// The round-trip time from which on there is a queue.
    pub(super) fn queue_from(&self) -> f64 {
        let least = self.rtt_min();
        least + (least * QUEUE_PART).max(QUEUE_SECONDS_MIN) + self.batch_seconds()
    }

    /// The round-trip time from which on a queue can be one that a round of doubling has made.
    pub(super) fn overshot_from(&self) -> f64 {
        let least = self.rtt_min();
        (least * 1.5).max(least + QUEUE_SECONDS_MIN)
    }

    /// How long the headroom's bytes wait where it is used in full.
    pub(super) fn headroom_seconds(&self) -> f64 {
        self.headroom_part_seconds() + HEADROOM_SECONDS + self.batch_seconds()
    }

    /// The part of it that depends on the path's delay.
    pub(super) fn headroom_part_seconds(&self) -> f64 {
        (self.rtt_min() * HEADROOM_PART).min(HEADROOM_PART_SECONDS_MAX)
    }

    /// What a batch of packets takes; long where the path is slow.
    pub(super) fn batch_seconds(&self) -> f64 {
        match self.rate() {
            rate if rate > 0.0 => self.batch_bytes() / rate,
            _ => 0.0,
        }
    }

    pub(super) fn batch_bytes(&self) -> f64 {
        BATCH_PACKETS.saturating_mul(self.mtu) as f64
    }

    /// A window in bytes, never less than keeps acknowledgements coming.
    pub(super) fn window(&self, bytes: f64) -> u64 {
        (bytes as u64).max(PACKETS_MIN.saturating_mul(self.mtu))
    }
}
