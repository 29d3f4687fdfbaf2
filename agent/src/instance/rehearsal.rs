//! The place that an instance keeps for a rehearsal of its start, so that a real start can end it. Several may have asked for
//! it: it lasts until each of them has what it wanted, or the longest time is up.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A rehearsal that runs, or has ended by itself.
pub(crate) struct Rehearsal {
    tasks: Vec<JoinHandle<()>>,
    until: watch::Sender<Instant>,
    askers: usize,
}

impl Rehearsal {
    /// The tasks end at `until`, which may be put off.
    pub(crate) fn new(tasks: Vec<JoinHandle<()>>, until: watch::Sender<Instant>) -> Self {
        Self { tasks, until, askers: 1 }
    }

    /// One more has asked for it. Tells whether it still runs.
    pub(crate) fn join(&mut self, until: Instant) -> bool {
        if *self.until.borrow() <= Instant::now() {
            return false;
        }
        self.until.send_modify(|end| *end = until.max(*end));
        self.askers += 1;
        true
    }

    /// One has what it wanted. Tells whether nobody else waits.
    pub(crate) fn leave(&mut self) -> bool {
        self.askers = self.askers.saturating_sub(1);
        self.askers == 0
    }

    /// Frees the ports.
    pub(crate) async fn end(self) {
        for task in self.tasks {
            task.abort();
            // Only when the task is gone is its socket closed. That it was aborted is no news.
            let _ = task.await;
        }
    }
}
