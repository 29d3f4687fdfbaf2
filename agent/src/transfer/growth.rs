//! How far a snapshot that is being written has come: told by the action that follows the save, heard by the offer.

use baton_proto::data::Extent;
use baton_proto::{Fault, FaultKind};
use tokio::sync::watch;

/// The end that tells. Dropped before the end of the save, it tells that the save was given up.
#[derive(Debug)]
pub struct Grower(watch::Sender<Result<Extent, Fault>>);

/// The end that hears.
#[derive(Debug, Clone)]
pub struct Growth(watch::Receiver<Result<Extent, Fault>>);

/// Makes both ends, for a snapshot of which nothing is written yet.
pub(super) fn begin() -> (Grower, Growth) {
    let (sender, receiver) = watch::channel(Ok(Extent { bytes: 0, whole: false }));
    (Grower(sender), Growth(receiver))
}

impl Grower {
    /// So many bytes are written. Fewer than before are no news.
    pub fn grew(&self, bytes: u64) {
        self.0.send_if_modified(|state| match state {
            Ok(extent) if !extent.whole && extent.bytes < bytes => {
                extent.bytes = bytes;
                true
            }
            _ => false,
        });
    }

    /// The snapshot is whole.
    pub fn finish(self, bytes: u64) {
        let _ = self.0.send_replace(Ok(Extent { bytes, whole: true }));
    }

    /// The save failed.
    pub fn fail(self, fault: Fault) {
        let _ = self.0.send_replace(Err(fault));
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        self.0.send_if_modified(|state| match state {
            Ok(Extent { whole: false, .. }) => {
                *state = Err(Fault::new(FaultKind::NotFound, "the save was given up"));
                true
            }
            _ => false,
        });
    }
}

impl Growth {
    pub fn now(&self) -> Result<Extent, Fault> {
        self.0.borrow().clone()
    }

    /// Waits until there is more than was seen, or an end.
    pub async fn beyond(&mut self, seen: u64) -> Result<Extent, Fault> {
        let news = |state: &Result<Extent, Fault>| match state {
            Ok(extent) => extent.whole || extent.bytes > seen,
            Err(_) => true,
        };
        // An end that is gone has told its last before: what there is then is the answer.
        let _ = self.0.wait_for(news).await;
        self.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn growth_is_heard_until_the_end() {
        let (grower, mut growth) = begin();
        grower.grew(5);
        grower.grew(3);
        assert_eq!(growth.beyond(4).await, Ok(Extent { bytes: 5, whole: false }));
        let waiting = tokio::spawn(async move { growth.beyond(5).await });
        grower.finish(5);
        assert_eq!(waiting.await.unwrap(), Ok(Extent { bytes: 5, whole: true }));
    }

    #[tokio::test]
    async fn a_save_that_is_given_up_or_fails_is_told() {
        let (grower, mut growth) = begin();
        drop(grower);
        assert_eq!(growth.beyond(0).await.unwrap_err().kind, FaultKind::NotFound);
        let (grower, growth) = begin();
        grower.fail(Fault::new(FaultKind::Server, "disk full"));
        assert_eq!(growth.now().unwrap_err().message, "disk full");
    }
}
