//! Congestion control for the transfer of a snapshot: as fast as the path carries, without a queue of its own.
//!
//! CUBIC takes every loss for congestion and crawls on a long path with a little random loss; BBR as quinn has it floods
//! a path until half of its packets are lost. This one has a model of the path: the rate at which data arrives and the
//! smallest round-trip time. What is in flight is their product and a little headroom.
//!
//! ```text
//!  Startup ── rate stops growing, a queue grows, or loss ──> Cruise ── a queue that is not ours ──> Beside
//!     ^                                                       │  ^                                    │
//!     └──────────── the rate surges: there is more ───────────┘  └──────── the queue has gone ────────┘
//! ```
//!
//! * Loss up to a bound is taken as the path's own and changes nothing; above it the headroom goes, and far above it
//!   the rate is taken for less than it was, as long as that helps: if it does not, that loss is the path's own as well.
//! * quinn's pacer sends 1.25 windows in a smoothed round-trip time, in bursts of 2 ms. There is no other way to set a
//!   rate, so it is the window that holds it: the headroom is small, and acknowledgements are the clock.
//! * Each cycle of rounds begins with one that lets the own queue drain. It shows the path's delay afresh, and whether
//!   others keep a queue there. Beside them a share of what is in flight is held: one that gives way to every queue
//!   gets nothing beside TCP, and one that ignores it leaves nothing to TCP.
//!
//! Left out: pacing and loss detection, which are quinn's.

mod beside;
mod cruise;
mod delivery;
mod model;
mod pilot;
mod round;
mod startup;
#[cfg(test)]
mod tests;
mod window;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use self::model::INITIAL_PACKETS;
use self::pilot::Pilot;

/// Makes the controllers of connections.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ModelBased;

impl ControllerFactory for ModelBased {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let mtu = u64::from(current_mtu);
        Box::new(Steering { start: now, initial_window: INITIAL_PACKETS * mtu, pilot: Pilot::new(Duration::ZERO, mtu) })
    }
}

/// How fast a path is, as far as its connection's controller knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Bytes a second; 0 if it was not measured yet.
    pub rate: f64,
    /// Each round trip still finds more: the rate is less than what will be found.
    pub grows: bool,
}

pub(crate) fn pace(connection: &quinn::Connection) -> Option<Pace> {
    let steering = connection.congestion_state().into_any().downcast::<Steering>().ok()?;
    Some(Pace { rate: steering.pilot.rate().unwrap_or_default(), grows: steering.pilot.is_growing() })
}

/// Gives the controller's core the time as a duration.
#[derive(Debug, Clone)]
struct Steering {
    start: Instant,
    initial_window: u64,
    pilot: Pilot,
}

impl Steering {
    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }
}

impl Controller for Steering {
    fn on_ack(&mut self, _now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.pilot.acked(self.since_start(sent), bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest_packet_num_acked: Option<u64>) {
        self.pilot.batch(self.since_start(now), in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        match lost_bytes {
            0 => self.pilot.marked(),
            lost_bytes => self.pilot.lost(self.since_start(now), lost_bytes, is_persistent_congestion),
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.pilot.set_mtu(u64::from(new_mtu));
    }

    fn window(&self) -> u64 {
        self.pilot.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
