//! The place that an instance keeps for a rehearsal of its start, so that a real start can end it.

use tokio::task::JoinHandle;

/// A rehearsal that runs, or has ended by itself.
pub(crate) struct Rehearsal(Vec<JoinHandle<()>>);

impl Rehearsal {
    pub(crate) fn new(tasks: Vec<JoinHandle<()>>) -> Self {
        Self(tasks)
    }

    /// Frees the ports.
    pub(crate) async fn end(self) {
        for task in self.0 {
            task.abort();
            // Only when the task is gone is its socket closed. That it was aborted is no news.
            let _ = task.await;
        }
    }
}
