//! Start-up: doubles each round until the rate stops growing.

use super::model::Model;
use super::round::Shown;

/// A round has grown if its rate is this much more than the best one before...
const GROWTH: f64 = 1.25;
/// ...and so many rounds without growth are the end, one with loss.
const STALLS_MAX: u32 = 3;
/// So many times the loss of the round before, while the rate grows, is a queue that others keep full.
const CROWDED: f64 = 1.5;

/// What is made of a queue: alone on the path, the rate has stopped growing by then; beside a rival it grows on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// No queue was seen.
    Free,
    /// One was seen in this round: the window waits.
    Seen,
    /// It waits for the whole round, whose rate then decides.
    Waiting,
    /// The rate grew nevertheless; for a round the queue is no matter.
    Passed,
}

/// What follows start-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Alone,
    Rival,
}

#[derive(Debug, Clone)]
pub(super) struct Startup {
    /// Rate that was known before.
    known: f64,
    best: f64,
    grown: bool,
    stalls: u32,
    trial: Trial,
    rival: bool,
    /// What was lost of the round before.
    loss: f64,
}

impl Startup {
    /// Begins where `rate` is known already.
    pub(super) fn new(rate: f64) -> Startup {
        Startup { known: rate, best: rate, grown: true, stalls: 0, trial: Trial::Free, rival: false, loss: 0.0 }
    }

    /// Whether the window grows by what is acknowledged.
    pub(super) fn grows(&self) -> bool {
        matches!(self.trial, Trial::Free | Trial::Passed)
    }

    /// Whether nothing was found beyond what was known before.
    pub(super) fn in_vain(&self) -> bool {
        self.best < self.known * GROWTH
    }

    /// Whether the last round has shown more than was known before.
    pub(super) fn has_grown(&self) -> bool {
        self.grown
    }

    pub(super) fn saw_rtt(&mut self, model: &Model, rtt: f64) {
        if self.trial == Trial::Free && self.best > 0.0 && rtt > model.queue_from() {
            self.trial = Trial::Seen;
        }
    }

    pub(super) fn judge(&mut self, model: &Model, shown: &Shown, lossy: bool) -> Option<End> {
        let grown = shown.rate >= self.best * GROWTH;
        self.stalls = match grown {
            true => 0,
            false if shown.app_limited => self.stalls,
            false => self.stalls.saturating_add(1),
        };
        self.grown = grown;
        self.best = self.best.max(shown.rate);
        let mut full = false;
        self.trial = match self.trial {
            Trial::Seen => Trial::Waiting,
            // One late acknowledgement; there is no queue.
            Trial::Waiting if shown.rtt <= model.queue_from() => Trial::Free,
            Trial::Waiting if grown => {
                self.rival = true;
                Trial::Passed
            }
            // Too little of a queue for one that doubling has made.
            Trial::Waiting if shown.rtt < model.overshot_from() => Trial::Passed,
            Trial::Waiting => {
                full = !shown.app_limited;
                Trial::Free
            }
            Trial::Free | Trial::Passed => {
                full = self.stalls >= STALLS_MAX;
                Trial::Free
            }
        };
        // Alone, a full queue lets the rate grow no more; and what the path loses by itself is the same part in each round.
        let crowded = self.loss > 0.0 && shown.loss > self.loss * CROWDED;
        self.rival |= grown && !shown.app_limited && crowded && shown.loss > model.collapse_from();
        self.loss = shown.loss;
        let ended = full || shown.loss > model.collapse_from() || (lossy && !grown && !shown.app_limited);
        ended.then_some(if self.rival { End::Rival } else { End::Alone })
    }
}
