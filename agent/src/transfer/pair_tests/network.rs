//! The path between the hosts: delay, one bottleneck, connections that are cut, and times when nothing gets through.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::Plan;
use crate::transfer::dice::Dice;

/// One connection of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Conn {
    pub(super) session: u64,
    pub(super) lane: u8,
}

/// How long a connection may hear nothing.
const IDLE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Network {
    pub(super) rate: f64,
    delay: Duration,
    jitter: Duration,
    free_at: Duration,
    cut: BTreeSet<Conn>,
    out_until: Duration,
}

impl Network {
    pub(super) fn new(plan: &Plan) -> Network {
        let (delay, jitter) = (plan.delay, plan.jitter);
        Network {
            rate: plan.wire,
            delay,
            jitter,
            free_at: Duration::ZERO,
            cut: BTreeSet::new(),
            out_until: Duration::ZERO,
        }
    }

    pub(super) fn window(&self) -> u64 {
        (self.rate * self.delay.as_secs_f64() * 2.0) as u64
    }

    pub(super) fn is_cut(&self, conn: Conn) -> bool {
        self.cut.contains(&conn)
    }

    pub(super) fn cut(&mut self, conn: Conn) -> bool {
        self.cut.insert(conn)
    }

    /// Nothing gets through for a time. Yields whether connections die of it.
    pub(super) fn go_out(&mut self, now: Duration, time: Duration) -> bool {
        self.out_until = self.out_until.max(now + time);
        self.out_until - now > IDLE
    }

    /// When a short message is there. What is sent during an outage is sent again after it.
    pub(super) fn message(&self, now: Duration, dice: &mut Dice) -> Duration {
        now.max(self.out_until) + self.delay + dice.time(self.jitter)
    }

    /// When a chunk is there.
    pub(super) fn chunk(&mut self, now: Duration, bytes: u32, dice: &mut Dice) -> Duration {
        let begin = self.free_at.max(now).max(self.out_until);
        self.free_at = begin + Duration::from_secs_f64(f64::from(bytes) / self.rate);
        self.free_at + self.delay + dice.time(self.jitter)
    }

    /// How long it takes a side to notice that a connection is gone.
    pub(super) fn notices(&self, dice: &mut Dice) -> Duration {
        if dice.once_in(2) { IDLE } else { self.delay + dice.time(Duration::from_millis(500)) }
    }
}
