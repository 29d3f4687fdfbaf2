//! A limit on how fast bytes leave, which can be changed at any time. Pure: `now` is handed in.

use std::time::Duration;

/// Most that leaves in one go after a pause: enough that timers' coarseness does not cost rate, little enough that a slow
/// link's queue does not notice.
const BURST: Duration = Duration::from_millis(5);
/// The least burst: below it, small packets would be sent.
const BURST_BYTES_MIN: f64 = 65_536.0;

/// A bucket that fills at the rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Throttle {
    rate: Option<u64>,
    /// Bytes that may leave; negative after more has left.
    room: f64,
    filled_at: Duration,
}

impl Throttle {
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, room: 1.0, filled_at: Duration::ZERO }
    }

    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Changes the limit, and yields the old one.
    pub fn set_rate(&mut self, now: Duration, rate: Option<u64>) -> Option<u64> {
        self.fill(now);
        // What a lower limit still owes, a higher one does not.
        self.room = self.room.max(0.0);
        std::mem::replace(&mut self.rate, rate)
    }

    /// Takes bytes out, or tells how long to wait before asking again. The limit may have changed by then.
    pub fn take(&mut self, now: Duration, bytes: usize) -> Result<(), Duration> {
        self.fill(now);
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else { return Ok(()) };
        if self.room > 0.0 {
            self.room -= bytes as f64;
            return Ok(());
        }
        let wait = Duration::try_from_secs_f64((1.0 - self.room) / rate as f64).unwrap_or(Duration::MAX);
        // At a high rate it rounds to nothing, and who waits for nothing asks again at once.
        Err(wait.max(Duration::from_nanos(1)))
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        if let Some(rate) = self.rate {
            let rate = rate as f64;
            let most = (rate * BURST.as_secs_f64()).max(BURST_BYTES_MIN);
            self.room = (self.room + rate * passed).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 65_536;

    /// Sends pieces one after the other, and yields when the last one leaves.
    fn send(throttle: &mut Throttle, mut now: Duration, pieces: usize) -> Duration {
        for _ in 0..pieces {
            while let Err(wait) = throttle.take(now, PIECE) {
                now += wait;
            }
        }
        now
    }

    #[test]
    fn what_leaves_keeps_to_the_rate() {
        for rate in [10_000, 1_000_000, 50_000_000, 10_000_000_000] {
            let took = send(&mut Throttle::new(Some(rate)), Duration::ZERO, 1000);
            let measured = 1000.0 * PIECE as f64 / took.as_secs_f64();
            assert!((0.99..1.01).contains(&(measured / rate as f64)), "{rate}: {measured}");
        }
    }

    #[test]
    fn no_limit_never_waits_and_a_pause_earns_little() {
        assert_eq!(send(&mut Throttle::new(None), Duration::ZERO, 1000), Duration::ZERO);
        let mut throttle = Throttle::new(Some(1_000_000));
        let later = Duration::from_secs(3600);
        assert!(send(&mut throttle, later, 3) > later);
    }

    #[test]
    fn a_changed_limit_counts_at_once() {
        let mut throttle = Throttle::new(Some(1000));
        let now = Duration::from_secs(1);
        assert_eq!(throttle.take(now, 1_000_000), Ok(()));
        assert!(throttle.take(now, 1).unwrap_err() > Duration::from_secs(900));
        assert_eq!(throttle.set_rate(now, Some(1_000_000)), Some(1000));
        assert!(throttle.take(now, 1).unwrap_err() < Duration::from_millis(1));
        assert_eq!(throttle.set_rate(now, None), Some(1_000_000));
        assert_eq!(throttle.take(now, 1_000_000_000), Ok(()));
    }

    #[test]
    fn several_that_send_at_once_share_the_rate() {
        let mut throttle = Throttle::new(Some(1_000_000));
        let (mut now, mut sent) = (Duration::ZERO, [0; 4]);
        for turn in 0..400 {
            match throttle.take(now, PIECE) {
                Ok(()) => sent[turn % 4] += PIECE,
                Err(wait) => now += wait,
            }
        }
        let rate = sent.iter().sum::<usize>() as f64 / now.as_secs_f64();
        assert!((0.97..1.03).contains(&(rate / 1e6)), "{rate}");
    }
}
