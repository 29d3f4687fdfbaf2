//! The best value of a sliding window of time.

use std::collections::VecDeque;
use std::time::Duration;

/// In how many parts a window is told apart. It bounds what is kept, whatever the rate of samples.
const PARTS: u32 = 64;

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Best {
    Largest,
    Smallest,
}

/// Keeps the best of the values of the last `span`. Those kept are ordered: each is worse than the one before it.
#[derive(Debug, Clone)]
pub(super) struct Window {
    best: Best,
    values: VecDeque<(Duration, f64)>,
}

impl Window {
    pub(super) fn new(best: Best) -> Window {
        Window { best, values: VecDeque::new() }
    }

    pub(super) fn push(&mut self, now: Duration, span: Duration, value: f64) {
        while self.values.back().is_some_and(|&(_, kept)| self.no_worse(value, kept)) {
            self.values.pop_back();
        }
        // A worse value matters once the better ones are too old; one such value for each part is enough.
        let crowded = self.values.back().is_some_and(|&(at, _)| now.saturating_sub(at) < span / PARTS);
        if !crowded {
            self.values.push_back((now, value));
        }
        while self.values.len() > 1 && self.values.front().is_some_and(|&(at, _)| now.saturating_sub(at) > span) {
            self.values.pop_front();
        }
    }

    /// The best value, once there was any.
    pub(super) fn best(&self) -> Option<f64> {
        self.values.front().map(|&(_, value)| value)
    }

    /// Makes all that is kept smaller or larger.
    pub(super) fn scale(&mut self, factor: f64) {
        self.values.iter_mut().for_each(|(_, value)| *value *= factor);
    }

    fn no_worse(&self, value: f64, than: f64) -> bool {
        match self.best {
            Best::Largest => value >= than,
            Best::Smallest => value <= than,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_best_value_is_kept_until_it_is_too_old() {
        let mut largest = Window::new(Best::Largest);
        assert_eq!(largest.best(), None);
        for (ms, value, best) in
            [(0, 5.0, 5.0), (100, 3.0, 5.0), (900, 4.0, 5.0), (1001, 1.0, 4.0), (1950, 0.5, 1.0), (1951, 9.0, 9.0)]
        {
            largest.push(at(ms), SPAN, value);
            assert_eq!(largest.best(), Some(best), "at {ms} ms");
        }
        let mut smallest = Window::new(Best::Smallest);
        smallest.push(at(0), SPAN, 5.0);
        smallest.push(at(1), SPAN, 7.0);
        assert_eq!(smallest.best(), Some(5.0));
    }

    #[test]
    fn a_value_alone_is_kept_however_old() {
        let mut largest = Window::new(Best::Largest);
        largest.push(at(0), SPAN, 5.0);
        assert_eq!(largest.best(), Some(5.0));
        largest.push(at(50_000), SPAN, 2.0);
        assert_eq!(largest.best(), Some(2.0));
    }

    #[test]
    fn what_is_kept_is_bounded_for_values_that_only_get_worse() {
        let mut smallest = Window::new(Best::Smallest);
        (0..100_000_u32)
            .for_each(|step| smallest.push(Duration::from_micros(u64::from(step) * 50), SPAN, f64::from(step)));
        assert!(smallest.values.len() <= PARTS as usize + 2, "{}", smallest.values.len());
    }
}
