//! Work that blocks, on a thread that may wait: a disk that is being saved to takes its time. What it logs names the run all
//! the same.

use std::io;

use baton_proto::{Fault, FaultKind};
use tracing::Span;

/// Does it. The error is a defect of ours: the work has panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(io::Error::other)
}

/// Does what tells its own faults. Such a defect is one of them.
pub(crate) async fn try_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = blocking(work).await;
    done.unwrap_or_else(|error| Err(Fault::new(FaultKind::Internal, "work on files broke off").because(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_not_passed_on() {
        assert_eq!(blocking(|| 7).await.unwrap(), 7);
        assert!(blocking::<()>(|| panic!("a defect")).await.is_err());
        let refused = Fault::new(FaultKind::Refused, "no");
        let told = refused.clone();
        assert_eq!(try_blocking(move || Err::<(), _>(told)).await, Err(refused));
        let broken = try_blocking(|| -> Result<(), Fault> { panic!("a defect") }).await.unwrap_err();
        assert_eq!(broken.kind, FaultKind::Internal);
    }
}
