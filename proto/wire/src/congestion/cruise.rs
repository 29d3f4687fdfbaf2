//! Cruise: alone on the path as far as can be seen. In flight is rate x delay and the headroom.

use super::model::{HEADROOM_SECONDS, Model};
use super::round::Shown;

/// Rounds of a cycle. In the first one what is beyond rate x delay is let go, so that a queue of our own drains: what
/// remains is a queue of others, and otherwise the path's delay is seen afresh.
const ROUNDS: u32 = 8;
/// How far below rate x delay the first round goes where packets are lost.
const YIELD_PART: f64 = 0.10;
/// The last round has more in flight, to find out whether there is more to have; the first one drains it.
const PROBE_PART: f64 = 0.35;

/// A rate beyond the one known by this, without a queue, starts start-up again...
const SURGE: f64 = 1.12;
/// ...but not sooner than so many rounds after the last one; twice as many each time that it was in vain.
pub(super) const SURGE_PAUSE_ROUNDS: u32 = 24;
pub(super) const SURGE_PAUSE_ROUNDS_MAX: u32 = 1536;
/// There is no pause where this part of what the path was seen to carry is not reached: it may have recovered.
const SURGE_BELOW: f64 = 0.7;

/// A whole cycle's mean beyond the smallest round-trip time by this many headrooms is a queue of others: one that has
/// been there since before the connection, so that the path's own delay was never seen.
const MEAN_HEADROOMS: f64 = 1.5;
/// So little of the fall that the own queue's draining makes shows that what is full is full of others' packets.
const FALL_PART: f64 = 0.35;
/// More of the rate within a cycle by this is a path that is not full.
const GROWTH: f64 = 1.05;
/// Suspicious cycles, less those that are not, before a rival is assumed.
const SUSPICIONS: u32 = 2;
/// Loss far beyond the bound takes the rate for this much of what it was...
const COLLAPSE_FACTOR: f64 = 0.7;
/// ...but if after so many rounds of it not even so much more of what is sent arrives, it is the path that loses it, and all
/// that would come of going on is to stop: the rate is taken back.
const COLLAPSE_ROUNDS: i32 = 3;
const COLLAPSE_HELP: f64 = 1.2;
/// A queue that is still there, and still full, after so many rounds of it is filled by others.
const CROWDED_ROUNDS: i32 = 2;

/// Why a rival is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rival {
    /// There is a queue that does not drain.
    Queue,
    /// The delay does not depend on us, and there is nothing more to have.
    Flat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Stay,
    /// There is more to have: start-up again.
    Surge,
    Rival(Rival),
}

#[derive(Debug, Clone)]
pub(super) struct Cruise {
    round: u32,
    rtt_least: f64,
    rtt_sum: f64,
    /// Round-trip time and rate of the packets that were sent in the first round.
    yielded: (f64, f64),
    /// Whether the window was used up in each round of the cycle.
    used: bool,
    suspicions: u32,
    surge_after: u32,
    /// Rounds in a row that took the rate for less, and the loss in the first of them.
    collapse: (i32, f64),
}

impl Cruise {
    /// `surge_after` is the rounds in which start-up is not tried again.
    pub(super) fn new(surge_after: u32) -> Cruise {
        Cruise {
            round: 0,
            rtt_least: f64::MAX,
            rtt_sum: 0.0,
            yielded: (0.0, 0.0),
            used: true,
            suspicions: 0,
            surge_after,
            collapse: (0, 0.0),
        }
    }

    pub(super) fn window(&self, model: &Model) -> u64 {
        let headroom = model.headroom;
        let delay = model.rtt_min();
        let (part, jitter, batch) = match self.round {
            // Where packets are lost it must be seen whether fewer are when there is surely no queue.
            0 => (delay * YIELD_PART * (headroom - 1.0), 0.5 * headroom, headroom),
            round if round + 1 >= ROUNDS => {
                (delay * PROBE_PART * headroom, 0.25 + 0.75 * headroom, 0.5 + 0.5 * headroom)
            }
            _ => (model.headroom_part_seconds() * headroom, 0.25 + 0.75 * headroom, 0.5 + 0.5 * headroom),
        };
        let seconds = delay + part + HEADROOM_SECONDS * jitter;
        model.window(model.rate() * model.loss_factor() * seconds + batch * model.batch_bytes())
    }

    /// Judges a round. `known` is the rate that was known before it, `before` that of the round before, `used` whether the
    /// window was used up, and `wary` whether a rival has just gone.
    pub(super) fn judge(
        &mut self,
        model: &mut Model,
        shown: &Shown,
        (known, before): (f64, f64),
        used: bool,
        wary: bool,
    ) -> Turn {
        if self.heed_loss(model, shown) {
            return Turn::Rival(Rival::Queue);
        }
        let fallen = model.capacity().is_some_and(|capacity| known < capacity * SURGE_BELOW);
        self.surge_after = if fallen { 0 } else { self.surge_after.saturating_sub(1) };
        // Acknowledgements that a busy host kept back come together with the next ones: two rounds show the path's rate.
        let rate = shown.rate.min((shown.rate + before) * 0.5);
        let surging = !shown.app_limited && rate > known * SURGE && shown.rtt <= model.queue_from();
        if surging && self.surge_after == 0 {
            return Turn::Surge;
        }
        self.rtt_least = self.rtt_least.min(shown.rtt);
        // The first two show the queue of the cycle before, and none.
        self.rtt_sum += if self.round > 1 { shown.rtt } else { 0.0 };
        self.used &= used && !shown.app_limited;
        if self.round == 1 {
            // These are the packets of the round before.
            model.saw_own_loss(shown.loss);
            self.yielded = (shown.rtt, shown.rate);
        }
        self.round = self.round.saturating_add(1);
        if self.round < ROUNDS { Turn::Stay } else { self.end_cycle(model, shown, wary) }
    }

    /// Takes the rate for less on much loss. Returns whether the loss is that of a queue that others fill.
    fn heed_loss(&mut self, model: &mut Model, shown: &Shown) -> bool {
        let (loss, (rounds, first)) = (shown.loss, self.collapse);
        if loss <= model.collapse_from() {
            self.collapse = (0, 0.0);
        } else if rounds >= COLLAPSE_ROUNDS && 1.0 - loss < (1.0 - first) * COLLAPSE_HELP {
            model.scale_rate(COLLAPSE_FACTOR.powi(-rounds));
            model.learn_own_loss(loss.min(first));
            self.collapse = (0, 0.0);
        } else if rounds >= CROWDED_ROUNDS && shown.rtt > model.queue_from() {
            model.scale_rate(COLLAPSE_FACTOR.powi(-rounds));
            self.collapse = (0, 0.0);
            return true;
        } else {
            model.scale_rate(COLLAPSE_FACTOR);
            self.collapse = (rounds.saturating_add(1), if rounds == 0 { loss } else { first });
        }
        false
    }

    fn end_cycle(&mut self, model: &mut Model, shown: &Shown, wary: bool) -> Turn {
        let mean = self.rtt_sum / f64::from(ROUNDS - 2);
        let headroom = model.headroom_seconds();
        let (yielded_rtt, yielded_rate) = self.yielded;
        let queue = self.rtt_least > model.queue_from() || mean > model.rtt_min() + headroom * MEAN_HEADROOMS;
        let fall = model.headroom_part_seconds() + HEADROOM_SECONDS * 0.5;
        // Where a batch takes longer than that, the fall cannot be seen.
        let visible = model.batch_seconds() < fall * 0.5;
        let flat = visible
            && self.used
            && model.headroom >= 1.0
            && mean - yielded_rtt < fall * FALL_PART
            && shown.rate < yielded_rate * GROWTH;
        if queue || flat {
            self.suspicions = self.suspicions.saturating_add(1);
        } else {
            self.suspicions = self.suspicions.saturating_sub(1);
            model.saw_no_rival();
        }
        (self.round, self.rtt_least, self.rtt_sum, self.used) = (0, f64::MAX, 0.0, true);
        if self.suspicions >= if wary { 1 } else { SUSPICIONS } {
            Turn::Rival(if queue { Rival::Queue } else { Rival::Flat })
        } else {
            Turn::Stay
        }
    }
}
