//! One worker: a thread that does a job at a time, in one class of scheduling for all its life. (A thread that is not root's
//! may lower itself, and never rise again; so another one is started for another class.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;
use tracing::warn;

pub(super) type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Longest line of `schedstat`: three numbers.
const STAT_BYTES_MAX: usize = 80;

/// When a worker gets a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// What is idle of a core, and at once no more when somebody else wants it: a low priority alone lets a thread finish
    /// its slice of milliseconds first, for which a server's client and an acknowledgement would wait.
    Idle,
    /// A small share also of a core that is never idle.
    Low,
}

/// The handle of a worker. It ends when this is dropped, after its job.
pub(super) struct Hand<T> {
    pub(super) class: Class,
    jobs: SyncSender<(Job<T>, oneshot::Sender<()>)>,
    /// The kernel's account of its waiting, which it opens for whoever watches it.
    stat: Arc<OnceLock<File>>,
}

impl<T: Default + 'static> Hand<T> {
    pub(super) fn start(name: &str, class: Class) -> std::io::Result<Hand<T>> {
        let (jobs, queue) = sync_channel(1);
        let stat = Arc::new(OnceLock::new());
        let own = Arc::clone(&stat);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Ok(file) = File::open("/proc/thread-self/schedstat") {
                let _ = own.set(file);
            }
            lower(class);
            run(&queue);
        })?;
        Ok(Hand { class, jobs, stat })
    }

    /// Gives it a job. What is returned ends with the job, also with one that panics.
    pub(super) fn begin(&self, job: Job<T>) -> oneshot::Receiver<()> {
        let (over, ended) = oneshot::channel();
        // A hand whose thread has ended drops the job, which is told to whom waits.
        let _ = self.jobs.try_send((job, over));
        ended
    }

    /// How long it has waited for a core in its life, as far as the kernel tells.
    pub(super) fn waited(&self) -> Duration {
        let read = |file: &File| {
            let mut text = [0; STAT_BYTES_MAX];
            let bytes = file.read_at(&mut text, 0).ok()?;
            waited_in(std::str::from_utf8(text.get(..bytes)?).ok()?)
        };
        self.stat.get().and_then(read).unwrap_or_default()
    }
}

/// Reads `schedstat` of a thread: nanoseconds on a core, nanoseconds of waiting for one, turns.
fn waited_in(stat: &str) -> Option<Duration> {
    stat.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

fn lower(class: Class) {
    let policy = match class {
        Class::Idle => NormalThreadSchedulePolicy::Idle,
        Class::Low => NormalThreadSchedulePolicy::Batch,
    };
    let policy = ThreadSchedulePolicy::Normal(policy);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        warn!(?class, "a worker keeps its priority: {error:?}");
    }
}

fn run<T: Default>(queue: &Receiver<(Job<T>, oneshot::Sender<()>)>) {
    let mut tools = T::default();
    while let Ok((job, over)) = queue.recv() {
        // A panic is told to whom waits, by the channel that it drops; the tools may be in no state to go on.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut tools))).is_err() {
            tools = T::default();
        }
        drop(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_read_and_nothing_else_is_taken_for_it() {
        assert_eq!(waited_in("85995759 3772050299 34\n"), Some(Duration::from_nanos(3_772_050_299)));
        for text in ["", "1", "1 x 2", "1 -2 3"] {
            assert_eq!(waited_in(text), None, "{text}");
        }
    }

    #[test]
    fn each_class_is_what_the_kernel_gives_to_its_thread() {
        for (class, policy, nice) in [(Class::Idle, 5, None), (Class::Low, 3, Some(19))] {
            let hand = Hand::<Vec<u8>>::start("test", class).unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            let _ended = hand.begin(Box::new(move |_| {
                let _ = tell.send(std::fs::read_to_string("/proc/thread-self/stat").unwrap());
            }));
            let stat = told.recv_timeout(Duration::from_secs(60)).unwrap();
            // Counted behind the name, as in proc(5): 19 is the nice value, 41 the policy.
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            let field = |number: usize| fields.split(' ').nth(number - 3).unwrap().parse::<i32>().unwrap();
            assert_eq!(field(41), policy, "{class:?}: {stat}");
            assert!(nice.is_none_or(|nice| field(19) == nice), "{class:?}: {stat}");
        }
    }
}
