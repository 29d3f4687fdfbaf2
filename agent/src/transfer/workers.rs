//! Threads that hash, pack and unpack chunks: a fixed number at a time, each with its own tools, and of lower priority than
//! what answers on the network or serves clients.
//!
//! They run where a core is idle. On a host that has none idle that would be never; so a worker that has waited for a core
//! too long is left to its job, and another of a better class takes its place, and work is done in that class for a while.
//! No lock is taken on their threads to find or to end a job: for one that a worker held while it waits for a core, the
//! network would wait as well.

mod hand;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baton_proto::{Fault, FaultKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span, info, warn};

use hand::{Class, Hand, Job};

/// Most jobs that are under way or wait. More are never offered at a time: a transfer asks for a dozen chunks.
const QUEUE_MAX: usize = 256;
/// How long a worker may wait for a core during one job, which takes some hundredths of a second of it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked at while it works.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long work is done in the better class then, before idle cores are tried again.
const LOW_FOR: Duration = Duration::from_secs(60);

/// Workers with tools of one kind. They end when it is dropped, each after its job.
pub(super) struct Workers<T>(Arc<Crew<T>>);

struct Crew<T> {
    name: String,
    began: Instant,
    patience: Duration,
    room: Arc<Semaphore>,
    /// One permit for each piece that may be worked on.
    free: Semaphore,
    stand: Mutex<Stand<T>>,
}

struct Stand<T> {
    /// Workers without a job, the last one that had one at the end: its tools are the warmest.
    idle: Vec<Hand<T>>,
    need: Need,
}

/// Which class work needs.
#[derive(Debug, Default)]
struct Need {
    /// Workers that wait for a core and were left to their job.
    left: usize,
    low_until: Duration,
}

impl Need {
    fn class(&self, now: Duration) -> Class {
        if self.left > 0 || now < self.low_until { Class::Low } else { Class::Idle }
    }

    /// A worker has waited for a core too long.
    fn leave(&mut self, now: Duration) {
        self.left += 1;
        self.low_until = now + LOW_FOR;
    }

    /// One that was left has done its job.
    fn came_home(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

impl<T: Default + Send + 'static> Workers<T> {
    pub(super) fn start(name: &str, count: usize) -> std::io::Result<Self> {
        Self::with_patience(name, count, PATIENCE)
    }

    fn with_patience(name: &str, count: usize, patience: Duration) -> std::io::Result<Self> {
        let count = count.max(1);
        let idle = (0..count).map(|_| Hand::start(name, Class::Idle)).collect::<std::io::Result<_>>()?;
        Ok(Self(Arc::new(Crew {
            name: name.to_owned(),
            began: Instant::now(),
            patience,
            room: Arc::new(Semaphore::new(QUEUE_MAX)),
            free: Semaphore::new(count),
            stand: Mutex::new(Stand { idle, need: Need::default() }),
        })))
    }

    /// Has a piece of work done, and waits for it. Once begun it is done to its end, also when nobody waits any more.
    pub(super) async fn work<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, Fault> {
        let (done, wait) = oneshot::channel();
        let span = Span::current();
        let job = Box::new(move |tools: &mut T| {
            // Nobody waits any more: the result is dropped.
            let _ = done.send(span.in_scope(|| work(tools)));
        });
        let room = Arc::clone(&self.0.room)
            .try_acquire_owned()
            .map_err(|error| Fault::new(FaultKind::Internal, "no worker takes work").because(error))?;
        tokio::spawn(Arc::clone(&self.0).see_to(job, room).in_current_span());
        wait.await
            .unwrap_or_else(|error| Err(Fault::new(FaultKind::Internal, "work on a chunk broke off").because(error)))
    }
}

impl<T: Default + 'static> Crew<T> {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn stand(&self) -> MutexGuard<'_, Stand<T>> {
        // What it guards is whole between any two statements, so a panic elsewhere does not spoil it.
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker of the class that is needed now.
    fn hand(&self) -> std::io::Result<Hand<T>> {
        let (class, found) = {
            let mut stand = self.stand();
            let class = stand.need.class(self.now());
            // Those of the other class end here; they have no job.
            stand.idle.retain(|hand| hand.class == class);
            (class, stand.idle.pop())
        };
        found.map_or_else(|| Hand::start(&self.name, class), Ok)
    }

    /// Has a job done when its turn comes.
    async fn see_to(self: Arc<Self>, job: Job<T>, _room: OwnedSemaphorePermit) {
        let Ok(permit) = self.free.acquire().await else { return };
        let hand = match self.hand() {
            Ok(hand) => hand,
            // The job goes with it, which is told to whom waits.
            Err(error) => return warn!(worker = self.name, %error, "a worker cannot be started"),
        };
        let before = hand.waited();
        let mut ended = hand.begin(job);
        while timeout(LOOK_EVERY, &mut ended).await.is_err() {
            let waited = hand.waited().saturating_sub(before);
            if hand.class == Class::Idle && waited >= self.patience {
                info!(worker = self.name, ?waited, "no core is idle: work goes on at a low priority");
                self.stand().need.leave(self.now());
                drop((permit, hand));
                let _ = ended.await;
                self.stand().need.came_home();
                return;
            }
        }
        self.stand().idle.push(hand);
    }
}

/// How long the calling thread has had a core.
pub(super) fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// For tests in which nobody is to be left, however busy the machine is.
    fn patient(count: usize) -> Workers<Vec<u8>> {
        Workers::with_patience("test", count, Duration::MAX).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_pieces_than_workers_are_worked_on_and_tools_are_kept() {
        let workers = Arc::new(patient(2));
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pieces = (0..40).map(|_| {
            let (workers, busy, most) = (Arc::clone(&workers), Arc::clone(&busy), Arc::clone(&most));
            tokio::spawn(async move {
                let work = move |tools: &mut Vec<u8>| {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tools.push(1);
                    std::thread::yield_now();
                    busy.fetch_sub(1, Ordering::SeqCst);
                    Ok(tools.len())
                };
                workers.work(work).await
            })
        });
        let mut longest = 0;
        for piece in pieces.collect::<Vec<_>>() {
            longest = longest.max(piece.await.unwrap().unwrap());
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert!(longest >= 20, "one of two workers has done half of the pieces: {longest}");
    }

    #[tokio::test]
    async fn a_panic_is_our_defect_and_the_worker_goes_on() {
        let workers = patient(1);
        let broken = workers.work(|_| -> Result<(), Fault> { panic!("on purpose") }).await;
        assert_eq!(broken.unwrap_err().kind, FaultKind::Internal);
        assert_eq!(workers.work(|_| Ok(5)).await, Ok(5));
    }

    /// A worker that is let wait for a core goes no further; so the one here waits for the next job, which can only be done
    /// by another.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_waits_too_long_is_replaced_and_comes_home() {
        let workers = Arc::new(Workers::<Vec<u8>>::with_patience("test", 1, Duration::ZERO).unwrap());
        let (go, wait) = mpsc::channel();
        let stuck = Arc::clone(&workers);
        let stuck = tokio::spawn(async move { stuck.work(move |_| Ok(wait.recv().is_ok())).await });
        let class = || workers.0.stand().need.class(workers.0.now());
        while class() == Class::Idle {
            tokio::task::yield_now().await;
        }
        let second = tokio::time::timeout(Duration::from_secs(60), workers.work(move |_| Ok(go.send(()).is_ok())));
        assert_eq!(second.await.expect("another worker takes it"), Ok(true));
        assert_eq!(stuck.await.unwrap(), Ok(true));
        // A worker rests a moment after its work is known to be done.
        while workers.0.stand().need.left > 0 || workers.0.stand().idle.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.0.stand().idle.iter().map(|hand| hand.class).collect::<Vec<_>>(), [Class::Low]);
    }

    #[test]
    fn idle_cores_are_tried_again_after_a_while_and_not_before_all_are_home() {
        let seconds = Duration::from_secs;
        let mut need = Need::default();
        assert_eq!(need.class(seconds(0)), Class::Idle);
        need.leave(seconds(1));
        need.leave(seconds(2));
        need.came_home();
        assert_eq!(need.class(seconds(2) + LOW_FOR), Class::Low, "one is still at work");
        need.came_home();
        assert_eq!(need.class(seconds(1) + LOW_FOR), Class::Low);
        assert_eq!(need.class(seconds(2) + LOW_FOR), Class::Idle);
    }
}
