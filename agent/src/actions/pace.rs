//! Waiting for a fact: often at first, seldom later, and not for ever.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait. An empty server starts, saves and links within tens of milliseconds.
const SHORTEST: Duration = Duration::from_millis(5);
/// The longest wait, so that the end of long work is seen soon enough.
const LONGEST: Duration = Duration::from_millis(100);

/// The first wait where the moment of the fact is told to people: clients wait for it as well.
const CLOSEST: Duration = Duration::from_millis(1);

/// The pace at which a fact is asked for until a deadline.
pub(super) struct Pace {
    next: Duration,
    /// By how many parts of itself each wait is longer than the last.
    growth: u32,
    deadline: Instant,
}

impl Pace {
    pub(super) fn within(limit: Duration) -> Self {
        Self { next: SHORTEST, growth: 4, deadline: Instant::now() + limit }
    }

    /// The same, so close that a fact is seen later than it came about by a twentieth of the time that it took.
    pub(super) fn closely_within(limit: Duration) -> Self {
        Self { next: CLOSEST, growth: 20, deadline: Instant::now() + limit }
    }

    /// Waits until it is time to ask again. Tells whether there is still time.
    pub(super) async fn wait(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.deadline {
            return false;
        }
        tokio::time::sleep_until((now + self.next).min(self.deadline)).await;
        self.next = (self.next + self.next / self.growth).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fact_is_asked_for_once_more_at_the_deadline_and_then_no_more() {
        let mut pace = Pace::within(Duration::from_millis(12));
        let mut asked = 0;
        while pace.wait().await {
            asked += 1;
        }
        assert!((1..=3).contains(&asked), "asked {asked} times in 12 ms");
        assert!(!Pace::within(Duration::ZERO).wait().await);
    }
}
