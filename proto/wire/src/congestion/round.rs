//! One round: the time in which a packet goes there and its acknowledgement comes back. What a path shows is judged
//! once a round.

use std::time::Duration;

/// Shortest round. On a path of less the jitter of hosts would be measured, not the path.
const ROUND_MIN: Duration = Duration::from_millis(5);

/// What a round has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    /// Bytes a second that arrived.
    pub(super) rate: f64,
    /// Smallest round-trip time, seconds.
    pub(super) rtt: f64,
    /// Part of the packets that was lost; 0 where the losses are too few to tell.
    pub(super) loss: f64,
    /// A router has marked packets instead of dropping them.
    pub(super) marked: bool,
    /// There was not always something to send: the rate may be less than what the path carries.
    pub(super) app_limited: bool,
}

/// Fewer lost packets than this in a round tell nothing about its loss rate.
const LOST_PACKETS_MIN: u64 = 4;

#[derive(Debug, Clone)]
pub(super) struct Round {
    start: Duration,
    acked_bytes: u64,
    lost_bytes: u64,
    rtt: Option<Duration>,
    marked: bool,
    app_limited: bool,
}

impl Round {
    pub(super) fn new(start: Duration) -> Round {
        Round { start, acked_bytes: 0, lost_bytes: 0, rtt: None, marked: false, app_limited: false }
    }

    pub(super) fn acked(&mut self, bytes: u64) {
        self.acked_bytes = self.acked_bytes.saturating_add(bytes);
    }

    pub(super) fn lost(&mut self, bytes: u64) {
        self.lost_bytes = self.lost_bytes.saturating_add(bytes);
    }

    pub(super) fn marked(&mut self) {
        self.marked = true;
    }

    /// Takes the end of a batch of acknowledgements, whose newest packet was sent at `newest_sent`. Returns what the
    /// round has shown if it ends here; the next one has begun then.
    pub(super) fn batch(&mut self, now: Duration, newest_sent: Duration, app_limited: bool, mtu: u64) -> Option<Shown> {
        let rtt = now.saturating_sub(newest_sent);
        let rtt_min = self.rtt.map_or(rtt, |least| least.min(rtt));
        self.rtt = Some(rtt_min);
        self.app_limited |= app_limited;
        let elapsed = now.saturating_sub(self.start);
        if newest_sent < self.start || elapsed < ROUND_MIN {
            return None;
        }
        let sent = self.acked_bytes.saturating_add(self.lost_bytes).max(1);
        let telling = self.lost_bytes >= LOST_PACKETS_MIN.saturating_mul(mtu);
        let shown = Shown {
            rate: self.acked_bytes as f64 / elapsed.as_secs_f64(),
            rtt: rtt_min.as_secs_f64(),
            loss: if telling { self.lost_bytes as f64 / sent as f64 } else { 0.0 },
            marked: self.marked,
            app_limited: self.app_limited,
        };
        *self = Round::new(now);
        Some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_round_ends_with_the_first_packet_that_was_sent_in_it() {
        let mut round = Round::new(at(100));
        round.acked(3_000);
        assert_eq!(round.batch(at(110), at(60), false, MTU), None);
        round.acked(2_000);
        let shown = round.batch(at(150), at(101), false, MTU).expect("ended");
        assert_eq!((shown.rate, shown.rtt, shown.loss), (100_000.0, 0.049, 0.0));
        assert_eq!(round.batch(at(151), at(102), false, MTU), None, "the next has begun");
    }

    #[test]
    fn loss_counts_from_four_packets_on() {
        for (lost, loss) in [(3 * MTU, 0.0), (4 * MTU, 0.04)] {
            let mut round = Round::new(at(0));
            round.acked(100 * MTU - lost);
            round.lost(lost);
            let shown = round.batch(at(40), at(1), false, MTU).expect("ended");
            assert!((shown.loss - loss).abs() < 1e-9, "{shown:?}");
        }
    }

    #[test]
    fn one_moment_without_data_makes_the_round_one_of_the_application() {
        let mut round = Round::new(at(0));
        assert_eq!(round.batch(at(1), at(0), true, MTU), None);
        assert!(round.batch(at(40), at(2), false, MTU).expect("ended").app_limited);
    }
}
