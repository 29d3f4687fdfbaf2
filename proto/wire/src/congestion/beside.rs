//! Beside a rival: others keep a queue. Holds a share of what is in flight, and lets it grow or shrink slowly; one that
//! gives way to every queue gets nothing beside TCP, and one that ignores it leaves nothing to TCP.

use super::cruise::Rival;
use super::model::{HEADROOM_SECONDS, Model};
use super::round::Shown;

/// Rounds of a cycle. In the first one less is in flight, to see whether the queue is still another's.
const ROUNDS: u32 = 16;
/// What is in flight then, of rate x round-trip time, where the path's own delay is not known...
const YIELD_PART: f64 = 0.75;
/// ...and by how much of it the round-trip time falls if the queue is our own.
const YIELD_FALL: f64 = 0.10;

/// The window grows by this each round, little enough to let CUBIC have its turn.
const GROWTH_PACKETS: u64 = 4;
const GROWTH_PART: f64 = 0.002;
/// Shorter rounds grow by that part of it: CUBIC grows by the clock, not by the round.
const GROWTH_ROUND_SECONDS: f64 = 0.020;
/// On loss beyond the bound it falls by this, but not again within so many rounds.
const CUT: f64 = 0.85;
const CUT_ROUNDS: u32 = 30;
/// Where the path's rate without a rival is known, the window falls each round while it has more than this part of it,
const SHARE_HIGH: f64 = 0.55;
const SHARE_FALL: f64 = 0.985;
/// and rises while it has less than this.
const SHARE_LOW: f64 = 0.40;
const SHARE_RISE: f64 = 1.04;
/// Where it is not known, the window rises as fast up to so many times what it was when the rival was found.
const RISE_FACTOR: f64 = 2.0;
/// A rival that ignores loss causes it in so many of the rounds, and to give way to it is to get nothing: then there is
/// no cut, and more growth.
const LOSSY_DEAF: f64 = 0.25;
const LOSSY_GAIN: f64 = 0.1;
const DEAF_FACTOR: f64 = 2.0;
/// Loss in a round from which on the window does not grow, whoever causes it (but beside a rival that ignores it), and from
/// which on it falls each round.
/// A rival that probes costs us a tenth of a round and more now and then.
const LOSS_FULL: f64 = 0.15;
const LOSS_FLOOD: f64 = 0.25;
/// Most in flight, as a multiple of the path's rate x delay.
const BDPS_MAX: f64 = 3.0;
/// A round-trip time below all that was known by this: the rival has gone that had hidden the path's own delay.
const DELAY_FALL: f64 = 0.9;

/// What a round has shown of the rival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    There,
    /// It sends nothing, at present.
    Gone,
    /// The queue was our own.
    Nobody,
}

#[derive(Debug, Clone)]
pub(super) struct Beside {
    why: Rival,
    window: f64,
    round: u32,
    rtt_least: f64,
    /// The smallest round-trip time known when the rival was found, and that of the last round that was no yield.
    rtt_known: f64,
    rtt_before: f64,
    since_cut: u32,
    /// Where the path's rate is not known, the window rises fast up to this.
    rise_to: f64,
    /// Part of the rounds that were lossy of late.
    lossy_rounds: f64,
}

impl Beside {
    /// `back` is what was in flight beside a rival that had just gone.
    pub(super) fn new(model: &Model, why: Rival, shown: &Shown, back: Option<f64>) -> Beside {
        // What was lost before the rival was found is taken back.
        let share = model.capacity().map_or(0.0, |capacity| capacity * SHARE_LOW);
        let window = (shown.rate.max(share) * shown.rtt).max(back.unwrap_or(0.0));
        Beside {
            why,
            window,
            rise_to: window * RISE_FACTOR,
            // Where it is not sure whose the queue is, that is found out soon.
            round: if why == Rival::Flat { ROUNDS - 4 } else { 2 },
            rtt_least: f64::MAX,
            rtt_known: model.rtt_min(),
            rtt_before: shown.rtt,
            since_cut: 0,
            lossy_rounds: 0.0,
        }
    }

    /// What is in flight but for yields.
    pub(super) fn held(&self) -> f64 {
        self.window
    }

    pub(super) fn window(&self, model: &Model) -> u64 {
        model.window(match (self.round, self.why) {
            (0, Rival::Queue) => (model.rate() * model.rtt_min()).min(self.window),
            (0, Rival::Flat) => self.window * YIELD_PART,
            _ => self.window,
        })
    }

    pub(super) fn judge(&mut self, model: &Model, shown: &Shown, lossy: bool) -> Stand {
        self.since_cut = self.since_cut.saturating_add(1);
        self.lossy_rounds += (f64::from(u8::from(lossy)) - self.lossy_rounds) * LOSSY_GAIN;
        self.rtt_least = self.rtt_least.min(shown.rtt);
        let yielded = self.round <= 1;
        if !yielded {
            self.steer(model, shown, lossy);
            self.rtt_before = shown.rtt;
        }
        let fell = self.round == 1 && shown.rtt < self.rtt_before * (1.0 - YIELD_FALL);
        if model.rtt_min() < self.rtt_known * DELAY_FALL {
            return Stand::Gone;
        }
        if self.why == Rival::Flat && fell {
            return Stand::Nobody;
        }
        self.round = self.round.saturating_add(1);
        if self.round < ROUNDS {
            return Stand::There;
        }
        let drained = self.why == Rival::Queue && self.rtt_least <= model.queue_from();
        (self.round, self.rtt_least) = (0, f64::MAX);
        if drained { Stand::Gone } else { Stand::There }
    }

    fn steer(&mut self, model: &Model, shown: &Shown, lossy: bool) {
        let deaf = self.lossy_rounds > LOSSY_DEAF;
        if shown.loss > LOSS_FLOOD || (lossy && !deaf && self.since_cut >= CUT_ROUNDS) {
            self.since_cut = 0;
            self.window *= CUT;
            return;
        }
        if shown.app_limited || (shown.loss > LOSS_FULL && !deaf) {
            return;
        }
        let growth = GROWTH_PACKETS.saturating_mul(model.mtu) as f64 + self.window * GROWTH_PART;
        let growth = growth * (shown.rtt / GROWTH_ROUND_SECONDS).min(1.0);
        let share = model.capacity().map(|capacity| shown.rate / capacity.max(1.0));
        self.window = match share {
            Some(SHARE_HIGH..) => self.window * SHARE_FALL,
            None if self.window < self.rise_to => (self.window * SHARE_RISE).max(self.window + growth),
            Some(..SHARE_LOW) => (self.window * SHARE_RISE).max(self.window + growth),
            _ if deaf => self.window + growth * DEAF_FACTOR,
            _ => self.window + growth,
        };
        let rate = model.capacity().unwrap_or_else(|| model.rate());
        self.window = self.window.min(rate * (model.rtt_min() + HEADROOM_SECONDS) * BDPS_MAX);
    }
}
