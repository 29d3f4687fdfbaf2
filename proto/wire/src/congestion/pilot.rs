//! The controller itself, in plain numbers: no sockets, no clock, no quinn. Times are since the connection's start.

use std::time::Duration;

use super::beside::{Beside, Stand};
use super::cruise::{Cruise, Rival, SURGE_PAUSE_ROUNDS, SURGE_PAUSE_ROUNDS_MAX, Turn};
use super::delivery::Delivery;
use super::model::{INITIAL_PACKETS, Model};
use super::round::{Round, Shown};
use super::startup::{End, Startup};

/// A rival that is back so soon was never gone: BBR falls silent for a moment every ten seconds.
const PAUSE: Duration = Duration::from_secs(3);
/// Most in flight in start-up, in what the last rate and round-trip time make: twice what doubling needs.
const STARTUP_BDPS_MAX: f64 = 4.0;
/// The same after a round that had too little to send to show more than was known: what is not used now would be sent at
/// once when there is more again, and overflow the path's queue. It leaves room to see that there is more to have.
const STARTUP_IDLE_BDPS_MAX: f64 = 1.5;
/// What is kept of start-up's window beside a rival, as CUBIC keeps it after its first loss; and the part that is
/// taken back when a rival shows soon after start-up has ended as if alone.
const STARTUP_KEPT: f64 = 0.7;
const STARTUP_TAKEN_BACK: f64 = 0.5;

#[derive(Debug, Clone)]
enum Phase {
    Startup(Startup),
    Cruise(Cruise),
    Beside(Beside),
}

#[derive(Debug, Clone)]
pub(super) struct Pilot {
    model: Model,
    phase: Phase,
    /// Since when none was seen of a rival, and what is to be in flight if it is back soon.
    went: Option<(Duration, f64)>,
    surge_pause: u32,
    window: u64,
    round: Round,
    /// Of the present batch of acknowledgements: when the newest packet was sent, and how many bytes arrived.
    newest_sent: Option<Duration>,
    batch_bytes: u64,
    /// Whether the window was used up within the round.
    used: bool,
    /// What start-up may have in flight in this round.
    window_max: u64,
    /// Start-up has ended with the round before: what this one loses is what start-up had sent too much.
    overshot: bool,
    /// The rate of the round before.
    rate_before: f64,
    delivery: Delivery,
}

impl Pilot {
    pub(super) fn new(now: Duration, mtu: u64) -> Pilot {
        Pilot {
            model: Model::new(mtu),
            phase: Phase::Startup(Startup::new(0.0)),
            went: None,
            surge_pause: SURGE_PAUSE_ROUNDS,
            window: INITIAL_PACKETS.saturating_mul(mtu),
            round: Round::new(now),
            newest_sent: None,
            batch_bytes: 0,
            used: false,
            window_max: u64::MAX,
            overshot: false,
            rate_before: 0.0,
            delivery: Delivery::default(),
        }
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Bytes a second that arrive while there is enough to send.
    pub(super) fn rate(&self) -> Option<f64> {
        self.delivery.rate()
    }

    /// Whether start-up still finds more.
    pub(super) fn is_growing(&self) -> bool {
        matches!(&self.phase, Phase::Startup(startup) if startup.has_grown() && self.model.rate() > 0.0)
    }

    pub(super) fn set_mtu(&mut self, mtu: u64) {
        self.model.mtu = mtu;
        self.window = self.model.window(self.window as f64);
    }

    /// A packet has arrived.
    pub(super) fn acked(&mut self, sent: Duration, bytes: u64) {
        self.newest_sent = Some(self.newest_sent.map_or(sent, |newest| newest.max(sent)));
        self.batch_bytes = self.batch_bytes.saturating_add(bytes);
        self.round.acked(bytes);
    }

    /// Packets were lost. `persistent` is quinn's word for all packets of several round-trip times.
    pub(super) fn lost(&mut self, now: Duration, bytes: u64, persistent: bool) {
        self.round.lost(bytes);
        if persistent {
            // Nothing that was known of the path holds.
            *self = Pilot::new(now, self.model.mtu);
            self.window = self.model.window(0.0);
        }
    }

    /// A router has marked packets instead of dropping them.
    pub(super) fn marked(&mut self) {
        self.round.marked();
    }

    /// A batch of acknowledgements has ended.
    pub(super) fn batch(&mut self, now: Duration, in_flight: u64, app_limited: bool) {
        let batch_bytes = std::mem::take(&mut self.batch_bytes);
        self.delivery.batch(now, batch_bytes, app_limited);
        let Some(newest_sent) = self.newest_sent.take() else { return };
        let was_in_flight = in_flight.saturating_add(batch_bytes);
        self.used |= was_in_flight.saturating_add(self.model.batch_bytes() as u64) >= self.window;
        let rtt = now.saturating_sub(newest_sent).as_secs_f64();
        self.model.saw_rtt(now, rtt);
        if let Phase::Startup(startup) = &mut self.phase {
            if startup.grows() && (!app_limited || was_in_flight > self.window / 2) {
                self.window = self.window.saturating_add(batch_bytes).min(self.window_max);
            }
            startup.saw_rtt(&self.model, rtt);
        }
        if let Some(shown) = self.round.batch(now, newest_sent, app_limited, self.model.mtu) {
            self.judge(now, &shown);
        }
    }

    /// Judges a round, and sets the window for the next one.
    fn judge(&mut self, now: Duration, shown: &Shown) {
        let overshot = std::mem::take(&mut self.overshot);
        let shown = &Shown { loss: if overshot { 0.0 } else { shown.loss }, ..*shown };
        let before = std::mem::replace(&mut self.rate_before, shown.rate);
        let known = self.model.rate();
        let used = std::mem::take(&mut self.used);
        let lossy = self.model.saw_round(now, shown);
        let model = &mut self.model;
        let back = self.went.filter(|&(at, _)| now < at + PAUSE).map(|(_, window)| window);
        let next = match &mut self.phase {
            Phase::Startup(startup) => startup.judge(model, shown, lossy).map(|end| match end {
                End::Alone => {
                    self.overshot = true;
                    self.went = Some((now, self.window as f64 * STARTUP_TAKEN_BACK));
                    self.surge_pause = match startup.in_vain() {
                        true => self.surge_pause.saturating_mul(2).min(SURGE_PAUSE_ROUNDS_MAX),
                        false => SURGE_PAUSE_ROUNDS,
                    };
                    Phase::Cruise(Cruise::new(self.surge_pause))
                }
                End::Rival => {
                    let held = self.window as f64 * STARTUP_KEPT;
                    Phase::Beside(Beside::new(model, Rival::Flat, shown, Some(held)))
                }
            }),
            Phase::Cruise(cruise) => match cruise.judge(model, shown, (known, before), used, back.is_some()) {
                Turn::Stay => None,
                Turn::Surge => Some(Phase::Startup(Startup::new(shown.rate))),
                Turn::Rival(why) => Some(Phase::Beside(Beside::new(model, why, shown, back))),
            },
            Phase::Beside(beside) => match beside.judge(model, shown, lossy) {
                Stand::There => None,
                stand => {
                    self.went = (stand == Stand::Gone).then(|| (now, beside.held()));
                    Some(Phase::Cruise(Cruise::new(0)))
                }
            },
        };
        if let Some(next) = next {
            self.phase = next;
        }
        let initial = INITIAL_PACKETS.saturating_mul(self.model.mtu);
        self.window = match &self.phase {
            Phase::Startup(startup) => {
                let most = match shown.app_limited && !startup.has_grown() {
                    true => self.model.rate() * self.model.rtt_min() * STARTUP_IDLE_BDPS_MAX,
                    false => self.model.rate() * shown.rtt * STARTUP_BDPS_MAX,
                };
                self.window.min(self.model.window(most)).max(initial)
            }
            Phase::Cruise(cruise) => cruise.window(&self.model),
            Phase::Beside(beside) => beside.window(&self.model),
        };
        if self.is_growing() {
            // What was seen so far is less than the path's rate.
            self.delivery = Delivery::default();
        }
        // A round is longer than the round-trip time of a short path: it is the round that doubles.
        self.window_max = self.window.saturating_mul(2);
    }
}
