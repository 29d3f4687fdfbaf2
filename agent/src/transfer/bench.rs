//! A work bench: a few places for work that blocks or keeps a core busy, each with tools that are kept from piece to
//! piece. It bounds how much of such work goes on at a time, and with it the memory of the tools' buffers.

use std::sync::{Arc, Mutex, PoisonError};

use baton_proto::{Fault, FaultKind};
use tokio::sync::Semaphore;

pub(super) struct Bench<T> {
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<T>>>,
}

impl<T: Default + Send + 'static> Bench<T> {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), idle: Arc::default() }
    }

    /// Waits for a place and does a piece of work there, off the async threads. Once begun it is done to its end, also
    /// when nobody waits for it any more.
    pub(super) async fn work<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, Fault> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| Fault::new(FaultKind::Internal, "a work bench was closed").because(error))?;
        let idle = Arc::clone(&self.idle);
        blocking(move || {
            // The list is whole between any two statements, so a panic elsewhere does not spoil it.
            let tools = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut tools = tools.unwrap_or_default();
            let done = work(&mut tools);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(tools);
            drop(place);
            done
        })
        .await
    }
}

/// Does work that blocks off the async threads, and tells of its panic as our defect.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Fault> + Send + 'static,
) -> Result<R, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Fault::new(FaultKind::Internal, "work on a snapshot broke off").because(error)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_pieces_than_places_are_worked_on_and_tools_are_kept() {
        let bench = Arc::new(Bench::<Vec<u8>>::new(2));
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pieces = (0..40).map(|_| {
            let (bench, busy, most) = (Arc::clone(&bench), Arc::clone(&busy), Arc::clone(&most));
            tokio::spawn(async move {
                let work = move |tools: &mut Vec<u8>| {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tools.push(1);
                    std::thread::yield_now();
                    busy.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                bench.work(work).await
            })
        });
        for piece in pieces.collect::<Vec<_>>() {
            piece.await.unwrap().unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
        let idle = bench.idle.lock().unwrap();
        assert!(idle.len() <= 2);
        assert_eq!(idle.iter().map(Vec::len).sum::<usize>(), 40);
    }

    #[tokio::test]
    async fn a_panic_is_our_defect_and_frees_its_place() {
        let bench = Bench::<Vec<u8>>::new(1);
        let broken = bench.work(|_| -> Result<(), Fault> { panic!("on purpose") }).await;
        assert_eq!(broken.unwrap_err().kind, FaultKind::Internal);
        assert_eq!(bench.work(|_| Ok(5)).await, Ok(5));
    }
}
