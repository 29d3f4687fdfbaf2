//! How far a snapshot has been written, told by who follows its save to who sends it. Left out: following a save, which
//! the actions do, and reading what has grown.

use baton_proto::data::Extent;
use baton_proto::{Fault, FaultKind};
use tokio::sync::watch;

/// The writer's end. Dropped without an end, the save was given up.
pub struct Grower(Option<watch::Sender<Result<Extent, Fault>>>);

impl Grower {
    /// Tells how many bytes there are. They only grow.
    pub fn grew(&self, bytes: u64) {
        if let Some(sender) = &self.0 {
            sender.send_if_modified(|state| match state {
                Ok(extent) if extent.bytes < bytes => {
                    extent.bytes = bytes;
                    true
                }
                _ => false,
            });
        }
    }

    /// Tells that the snapshot is whole.
    pub fn finish(mut self, bytes: u64) {
        self.end(Ok(Extent { bytes, whole: true }));
    }

    /// Tells that it will never be.
    pub fn fail(mut self, fault: Fault) {
        self.end(Err(fault));
    }

    fn end(&mut self, end: Result<Extent, Fault>) {
        if let Some(sender) = self.0.take() {
            drop(sender.send_replace(end));
        }
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        self.end(Err(Fault::new(FaultKind::NotFound, "the snapshot that was being written was given up")
            .hint("take the snapshot again")));
    }
}

/// The reader's end.
#[derive(Clone)]
pub struct Growth(watch::Receiver<Result<Extent, Fault>>);

impl Growth {
    pub fn now(&self) -> Result<Extent, Fault> {
        self.0.borrow().clone()
    }

    /// Waits until there are more bytes than were seen, or no more will come.
    pub async fn beyond(&mut self, seen: u64) -> Result<Extent, Fault> {
        let news =
            |state: &Result<Extent, Fault>| !matches!(state, Ok(extent) if !extent.whole && extent.bytes <= seen);
        // An error tells that the writer is gone; it says how it ended before it goes.
        let told = self.0.wait_for(news).await.map(|state| state.clone());
        told.unwrap_or_else(|_| self.now())
    }
}

/// Both ends.
pub(super) fn growth() -> (Grower, Growth) {
    let (sender, receiver) = watch::channel(Ok(Extent { bytes: 0, whole: false }));
    (Grower(Some(sender)), Growth(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_learns_of_more_bytes_and_of_the_end() {
        let (grower, mut reader) = growth();
        grower.grew(5);
        assert_eq!(reader.beyond(0).await, Ok(Extent { bytes: 5, whole: false }));
        grower.grew(3);
        assert_eq!(reader.now().unwrap().bytes, 5, "bytes only grow");
        let mut other = reader.clone();
        let waiting = tokio::spawn(async move { other.beyond(5).await });
        grower.finish(5);
        assert_eq!(waiting.await.unwrap(), Ok(Extent { bytes: 5, whole: true }));
        assert_eq!(reader.beyond(5).await, Ok(Extent { bytes: 5, whole: true }));
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_has_given_up() {
        let (grower, mut reader) = growth();
        grower.grew(5);
        drop(grower);
        assert_eq!(reader.beyond(0).await.unwrap_err().kind, FaultKind::NotFound);
        let (grower, mut reader) = growth();
        grower.fail(Fault::new(FaultKind::Verification, "no"));
        assert_eq!(reader.beyond(9).await.unwrap_err().message, "no");
    }
}
