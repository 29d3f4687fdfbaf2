//! Threads that hash, pack and unpack chunks: a fixed number, each with its own tools, and of lower priority than what
//! answers on the network or serves clients.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_proto::{Fault, FaultKind};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;
use tracing::warn;

/// Most jobs that wait. More are never offered at a time: a transfer asks for a dozen chunks.
const QUEUE_MAX: usize = 256;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Workers with tools of one kind. They end when it is dropped, each after its job.
pub(super) struct Workers<T> {
    jobs: SyncSender<Job<T>>,
}

impl<T: Default + 'static> Workers<T> {
    pub(super) fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Has a piece of work done, and waits for it. Once begun it is done to its end, also when nobody waits any more.
    pub(super) async fn work<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, Fault> {
        let (done, wait) = oneshot::channel();
        let job = Box::new(move |tools: &mut T| {
            // Nobody waits any more: the result is dropped.
            let _ = done.send(work(tools));
        });
        self.jobs
            .try_send(job)
            .map_err(|error| Fault::new(FaultKind::Internal, "no worker takes work").because(error))?;
        wait.await
            .unwrap_or_else(|error| Err(Fault::new(FaultKind::Internal, "work on a chunk broke off").because(error)))
    }
}

fn run<T: Default>(queue: &Mutex<Receiver<Job<T>>>) {
    // What is idle of a core, and at once no more when somebody else wants it: a low priority alone lets a thread finish
    // its slice of milliseconds first, for which a server's client and an acknowledgement would wait.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        warn!("a worker keeps its priority: {error:?}");
    }
    let mut tools = T::default();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A panic is told to whom waits, by the channel that it drops; the tools may be in no state to go on.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut tools))).is_err() {
            tools = T::default();
        }
    }
}

/// How long the calling thread has had a core.
pub(super) fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
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
    async fn no_more_pieces_than_workers_are_worked_on_and_tools_are_kept() {
        let workers = Arc::new(Workers::<Vec<u8>>::start("test", 2).unwrap());
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
        let workers = Workers::<Vec<u8>>::start("test", 1).unwrap();
        let broken = workers.work(|_| -> Result<(), Fault> { panic!("on purpose") }).await;
        assert_eq!(broken.unwrap_err().kind, FaultKind::Internal);
        assert_eq!(workers.work(|_| Ok(5)).await, Ok(5));
    }
}
