//! The agent's long work: one task for each action of each run, which goes on when its orderer is gone.
//!
//! ```text
//!   Begin ──> Running ──> Done     Begin again: answered with the outcome; by a later turn: started anew
//!                  └────> Failed   Begin again: started anew
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_proto::claim::Turn;
use baton_proto::control::{Outcome, Progress, TaskId, TaskState, TaskStatus, WATCH_MS};
use baton_proto::{Fault, FaultKind};
use tokio::sync::watch;

/// Most tasks remembered. A run has about twenty on one agent; the oldest finished ones are forgotten first.
const TASKS_MAX: usize = 2000;

/// Where an action says how far it is.
#[derive(Clone)]
pub struct ProgressSink(watch::Sender<TaskState>);

impl ProgressSink {
    /// Replaces what was reported before.
    pub fn report(&self, progress: Progress) {
        self.0.send_modify(|state| {
            if matches!(state.status, TaskStatus::Running(_)) {
                state.seq += 1;
                state.status = TaskStatus::Running(progress);
            }
        });
    }

    /// A sink to which nobody listens.
    pub fn detached() -> Self {
        Self(watch::Sender::new(running()))
    }
}

fn running() -> TaskState {
    TaskState { seq: 1, status: TaskStatus::Running(Progress::default()) }
}

struct Task {
    /// The turn that had it begun.
    turn: Turn,
    state: watch::Receiver<TaskState>,
    /// Order of arrival, to forget the oldest.
    number: u64,
}

#[derive(Default)]
struct Table {
    tasks: HashMap<TaskId, Task>,
    started: u64,
}

/// The table of tasks.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Mutex<Table>>);

impl Tasks {
    /// Starts a task, or joins it: a task that runs or is done is not started again. What was done in an earlier turn may
    /// not hold any more; each action finds done what still is.
    pub async fn begin<F>(
        &self,
        id: TaskId,
        turn: Turn,
        work: impl FnOnce(ProgressSink) -> F,
    ) -> Result<TaskState, Fault>
    where
        F: Future<Output = Result<Outcome, Fault>> + Send + 'static,
    {
        let receiver = self.join_or_start(id, turn, work)?;
        Ok(news(receiver, 1).await)
    }

    /// Waits a moment for news of a task.
    pub async fn watch(&self, id: &TaskId, seen: u64) -> Result<TaskState, Fault> {
        let receiver = self.table().tasks.get(id).map(|task| task.state.clone());
        let receiver = receiver.ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("this agent knows no task {id}"))
                .because("the agent was restarted since the task began")
                .hint("give the order again: what is done already is found done")
        })?;
        Ok(news(receiver, seen).await)
    }

    fn join_or_start<F>(
        &self,
        id: TaskId,
        turn: Turn,
        work: impl FnOnce(ProgressSink) -> F,
    ) -> Result<watch::Receiver<TaskState>, Fault>
    where
        F: Future<Output = Result<Outcome, Fault>> + Send + 'static,
    {
        let mut table = self.table();
        if let Some(task) = table.tasks.get(&id) {
            let joined = match task.state.borrow().status {
                TaskStatus::Running(_) => true,
                TaskStatus::Done(_) => task.turn == turn,
                TaskStatus::Failed(_) => false,
            };
            if joined {
                return Ok(task.state.clone());
            }
        }
        table.make_room()?;
        let (sender, receiver) = watch::channel(running());
        let work = tokio::spawn(work(ProgressSink(sender.clone())));
        tokio::spawn(async move {
            let outcome = work.await.unwrap_or_else(|error| {
                Err(Fault::new(FaultKind::Internal, "the task broke off")
                    .because(error)
                    .hint("this is a defect of baton-agent; its log has the details"))
            });
            sender.send_modify(|state| {
                state.seq += 1;
                state.status = outcome.map_or_else(TaskStatus::Failed, TaskStatus::Done);
            });
        });
        table.started += 1;
        let number = table.started;
        table.tasks.insert(id, Task { turn, state: receiver.clone(), number });
        Ok(receiver)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        // The table is whole between any two statements that hold it, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn make_room(&mut self) -> Result<(), Fault> {
        if self.tasks.len() < TASKS_MAX {
            return Ok(());
        }
        let finished = |task: &Task| !matches!(task.state.borrow().status, TaskStatus::Running(_));
        let oldest =
            self.tasks.iter().filter(|(_, t)| finished(t)).min_by_key(|(_, t)| t.number).map(|(id, _)| id.clone());
        match oldest {
            Some(id) => {
                self.tasks.remove(&id);
                Ok(())
            }
            None => Err(Fault::new(FaultKind::Refused, format!("{TASKS_MAX} tasks are running on this agent"))),
        }
    }
}

/// Returns at once what the caller has not seen, else waits for a change.
async fn news(mut receiver: watch::Receiver<TaskState>, seen: u64) -> TaskState {
    let fresh = receiver.wait_for(|state| state.seq > seen);
    let _ = tokio::time::timeout(Duration::from_millis(WATCH_MS), fresh).await;
    receiver.borrow().clone()
}

#[cfg(test)]
mod tests {
    use baton_proto::RunId;

    use super::*;

    fn id(name: &str) -> TaskId {
        TaskId { run: RunId::new("fo-test").unwrap(), name: name.into() }
    }

    const TURN: Turn = Turn { epoch: 1, holder: 7 };

    fn stopped() -> Outcome {
        Outcome::Stopped { was_running: true }
    }

    #[tokio::test]
    async fn a_task_that_is_done_is_not_started_again() {
        let tasks = Tasks::default();
        let first = tasks.begin(id("stop"), TURN, |_| async { Ok(stopped()) }).await.unwrap();
        assert_eq!(first.status, TaskStatus::Done(stopped()));
        let again =
            tasks.begin(id("stop"), TURN, |_| async { Err(Fault::new(FaultKind::Internal, "ran twice")) }).await;
        assert_eq!(again.unwrap(), first);
    }

    #[tokio::test]
    async fn a_later_turn_has_done_again_what_an_earlier_one_had_done_but_joins_what_runs() {
        let later = Turn { epoch: 2, holder: 8 };
        let tasks = Tasks::default();
        tasks.begin(id("stop"), TURN, |_| async { Ok(stopped()) }).await.unwrap();
        let again = tasks.begin(id("stop"), later, |_| async { Ok(Outcome::CanarySeen) }).await.unwrap();
        assert_eq!(again.status, TaskStatus::Done(Outcome::CanarySeen));
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let slow = tasks.begin(id("slow"), TURN, |_| async {
            let _ = released.await;
            Ok(stopped())
        });
        slow.await.unwrap();
        let joined = tasks.begin(id("slow"), later, |_| async { Ok(Outcome::CanarySeen) }).await.unwrap();
        assert!(matches!(joined.status, TaskStatus::Running(_)));
        release.send(()).unwrap();
        let ended = tasks.watch(&id("slow"), joined.seq).await.unwrap();
        assert_eq!(ended.status, TaskStatus::Done(stopped()));
    }

    #[tokio::test]
    async fn a_task_that_failed_is_started_anew() {
        let tasks = Tasks::default();
        let fault = Fault::new(FaultKind::Server, "no");
        let failing = fault.clone();
        let first = tasks.begin(id("stop"), TURN, |_| async { Err(failing) }).await.unwrap();
        assert_eq!(first.status, TaskStatus::Failed(fault));
        let again = tasks.begin(id("stop"), TURN, |_| async { Ok(stopped()) }).await.unwrap();
        assert_eq!(again.status, TaskStatus::Done(stopped()));
    }

    #[tokio::test]
    async fn a_task_goes_on_when_nobody_watches_and_is_found_again() {
        let tasks = Tasks::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let begun = tasks.begin(id("slow"), TURN, |progress| async move {
            progress.report(Progress { doing: "waiting".into(), ..Progress::default() });
            let _ = released.await;
            Ok(stopped())
        });
        let seen = begun.await.unwrap();
        assert!(matches!(&seen.status, TaskStatus::Running(p) if p.doing == "waiting"));
        release.send(()).unwrap();
        let mut state = tasks.watch(&id("slow"), seen.seq).await.unwrap();
        while let TaskStatus::Running(_) = state.status {
            state = tasks.watch(&id("slow"), state.seq).await.unwrap();
        }
        assert_eq!(state.status, TaskStatus::Done(stopped()));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_reported_as_our_defect() {
        let tasks = Tasks::default();
        let state = tasks.begin(id("bad"), TURN, |_| async { panic!("on purpose") }).await.unwrap();
        assert!(matches!(state.status, TaskStatus::Failed(fault) if fault.kind == FaultKind::Internal));
    }
}
