//! How fast data arrives while there is enough of it to send, for whoever decides how much work a byte is worth. The
//! model's rate is the largest of late, which holds a window open; this one is a mean.

use std::time::Duration;

/// For how long of sending a measurement counts.
const MEMORY_SECONDS: f64 = 0.5;
/// Less sending than this tells nothing.
const SECONDS_MIN: f64 = 0.02;

#[derive(Debug, Clone, Default)]
pub(super) struct Delivery {
    bytes: f64,
    seconds: f64,
    /// The last batch of acknowledgements, if there was enough to send since.
    since: Option<Duration>,
}

impl Delivery {
    /// Takes a batch of acknowledgements.
    pub(super) fn batch(&mut self, now: Duration, bytes: u64, app_limited: bool) {
        if app_limited {
            self.since = None;
        } else if let Some(since) = self.since.replace(now) {
            let seconds = now.saturating_sub(since).as_secs_f64();
            let fades = (-seconds / MEMORY_SECONDS).exp();
            self.bytes = self.bytes * fades + bytes as f64;
            self.seconds = self.seconds * fades + seconds;
        }
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.seconds >= SECONDS_MIN).then(|| self.bytes / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_for_want_of_data_do_not_count() {
        let mut delivery = Delivery::default();
        for millisecond in 0..2000 {
            // A fifth of the time there is something to send, at 100 MB/s.
            let idle = millisecond % 100 >= 20;
            delivery.batch(Duration::from_millis(millisecond), if idle { 0 } else { 100_000 }, idle);
        }
        let rate = delivery.rate().unwrap();
        assert!((0.98e8..1.02e8).contains(&rate), "{rate}");
    }

    #[test]
    fn a_slower_path_is_known_soon() {
        let mut delivery = Delivery::default();
        assert_eq!(delivery.rate(), None);
        for millisecond in 0..2500 {
            let bytes = if millisecond < 1000 { 100_000 } else { 10_000 };
            delivery.batch(Duration::from_millis(millisecond), bytes, false);
        }
        let rate = delivery.rate().unwrap();
        assert!((1.0e7..1.6e7).contains(&rate), "{rate}");
    }
}
