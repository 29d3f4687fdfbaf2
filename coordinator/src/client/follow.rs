//! Following a task of an agent: to its end, or only until what it does suffices to go on. The task is the agent's; to
//! stop following does not stop it.
//!
//! Left out: connections and what stands behind a question (see [`crate::client`]).

use std::future::Future;
use std::time::Duration;

use baton_proto::control::{Outcome, Progress, Reply, Request, TaskState, TaskStatus};
use baton_proto::{Fault, FaultKind};
use tokio::time::Instant;

/// How long an agent may be gone, in the middle of a task, before the step fails: enough for its restart.
pub(super) const AGENT_GONE_MAX: Duration = Duration::from_secs(60);
/// The same for one that was gone for so long already in this run: a run that is undone is not to wait for it at each step.
pub(super) const STILL_GONE_MAX: Duration = Duration::from_secs(5);
/// Pause between two attempts to find an agent again.
const REDIAL_PAUSE: Duration = Duration::from_millis(200);

/// Until when a task is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until the next step can begin, though the task still runs.
    Ready,
    End,
}

/// Where following a task has ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// It still runs, and the next step can begin.
    Ready,
    Done(Outcome),
    /// The agent does not know it: it was never begun, or the agent was restarted since.
    Unknown,
}

/// Asks one agent.
pub(super) trait Ask {
    fn ask(&self, request: &Request) -> impl Future<Output = Result<Reply, Fault>> + Send;

    /// How long it may be gone.
    fn patience(&self) -> Duration;

    /// Notes whether it answers.
    fn note(&self, answers: bool);
}

/// Follows a task, for which `watch` asks once it was seen. `first` begins it or, if it is a `Watch`, only looks for it: then
/// a task that failed is not begun anew. The task's own failure is the error.
pub(super) async fn follow(
    agent: &impl Ask,
    watch: impl Fn(u64) -> Request,
    first: &Request,
    until: Until,
    mut progress: impl FnMut(&Progress),
) -> Result<Followed, Fault> {
    let mut seen = None;
    let mut gone_since: Option<Instant> = None;
    loop {
        let request = match seen {
            Some(seen) => &watch(seen),
            None => first,
        };
        match agent.ask(request).await {
            Ok(Reply::Task(TaskState { seq, status })) => {
                gone_since = None;
                agent.note(true);
                seen = Some(seq);
                match status {
                    TaskStatus::Running(state) => {
                        progress(&state);
                        if state.ready && until == Until::Ready {
                            return Ok(Followed::Ready);
                        }
                    }
                    TaskStatus::Done(outcome) => return Ok(Followed::Done(outcome)),
                    TaskStatus::Failed(fault) => return Err(fault),
                }
            }
            Ok(other) => {
                let what = name(&other);
                return Err(Fault::new(FaultKind::Internal, format!("the agent answered an order with {what}")));
            }
            Err(fault) if fault.kind == FaultKind::NotFound && matches!(request, Request::Watch { .. }) => {
                return Ok(Followed::Unknown);
            }
            Err(fault) if fault.kind == FaultKind::Peer => {
                let since = *gone_since.get_or_insert_with(Instant::now);
                if since.elapsed() > agent.patience() {
                    agent.note(false);
                    return Err(fault.because(format!("gone for {}s", since.elapsed().as_secs())));
                }
                tokio::time::sleep(REDIAL_PAUSE).await;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// What a reply is, in words.
pub(super) fn name(reply: &Reply) -> &'static str {
    match reply {
        Reply::Observed(_) => "a report",
        Reply::Reached(_) => "a trial",
        Reply::Knocked { .. } => "an opened door",
        Reply::Rehearsing => "a rehearsal",
        Reply::Claimed => "a claim",
        Reply::Recorded { .. } | Reply::Recalled { .. } => "a journal",
        Reply::Runs(_) => "runs",
        Reply::SigningRequest { .. } => "a signing request",
        Reply::Renewed(_) => "a certificate",
        Reply::Task(_) => "a task",
        Reply::Limited { .. } => "a limit",
        Reply::Opened { .. } | Reply::Extent(_) => "a manifest",
        Reply::Sealing { .. } | Reply::Sealed { .. } => "a seal",
        Reply::Told { .. } | Reply::Replaced(_) => "a note",
        Reply::PeersKept => "peers",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use baton_proto::RunId;
    use baton_proto::control::TaskId;

    use super::*;

    /// An agent that gives the answers it was told to, and notes whether it was ordered or only asked.
    struct Scripted {
        answers: Mutex<VecDeque<Result<Reply, Fault>>>,
        asked: Mutex<Vec<&'static str>>,
    }

    impl Ask for Scripted {
        async fn ask(&self, request: &Request) -> Result<Reply, Fault> {
            let asked = if matches!(request, Request::Watch { .. }) { "watch" } else { "begin" };
            self.asked.lock().unwrap().push(asked);
            self.answers.lock().unwrap().pop_front().expect("no more is asked than was scripted")
        }

        fn patience(&self) -> Duration {
            AGENT_GONE_MAX
        }

        fn note(&self, _: bool) {}
    }

    fn running(seq: u64, ready: bool) -> Result<Reply, Fault> {
        let progress = Progress { doing: "saving".into(), ready, ..Progress::default() };
        Ok(Reply::Task(TaskState { seq, status: TaskStatus::Running(progress) }))
    }

    fn done(seq: u64) -> Result<Reply, Fault> {
        Ok(Reply::Task(TaskState { seq, status: TaskStatus::Done(Outcome::CanarySeen) }))
    }

    fn fault(kind: FaultKind) -> Fault {
        Fault::new(kind, "as told")
    }

    async fn followed(
        begins: bool,
        until: Until,
        answers: impl IntoIterator<Item = Result<Reply, Fault>>,
    ) -> (Result<Followed, Fault>, Vec<&'static str>) {
        let task = TaskId { run: RunId::new("fo-1").unwrap(), name: "snapshot".into() };
        // What begins the task is not looked into here: anything but a `Watch` stands for it.
        let watch = |seen| Request::Watch { task: task.clone(), seen, turn: None };
        let first = if begins { Request::Observe } else { watch(0) };
        let agent = Scripted { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() };
        let followed = follow(&agent, watch, &first, until, |_| {}).await;
        (followed, agent.asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_task_is_left_when_it_is_ready_and_followed_to_its_end_when_that_is_wanted() {
        let script = || [running(1, false), running(2, true), running(3, true), done(4)];
        let (left, asked) = followed(true, Until::Ready, script()).await;
        assert_eq!((left, asked.len()), (Ok(Followed::Ready), 2));
        let (ended, asked) = followed(true, Until::End, script()).await;
        assert_eq!((ended, asked), (Ok(Followed::Done(Outcome::CanarySeen)), vec!["begin", "watch", "watch", "watch"]));
    }

    #[tokio::test]
    async fn a_task_that_is_done_without_ever_being_ready_is_done() {
        let (ended, _) = followed(true, Until::Ready, [running(1, false), done(2)]).await;
        assert_eq!(ended, Ok(Followed::Done(Outcome::CanarySeen)));
    }

    #[tokio::test]
    async fn joining_finds_a_failure_and_does_not_begin_the_task_anew() {
        let failed = Ok(Reply::Task(TaskState { seq: 9, status: TaskStatus::Failed(fault(FaultKind::NotFound)) }));
        let (ended, asked) = followed(false, Until::End, [failed]).await;
        assert_eq!((ended, asked), (Err(fault(FaultKind::NotFound)), vec!["watch"]));
    }

    #[tokio::test]
    async fn a_task_that_its_agent_has_forgotten_is_told_from_one_that_cannot_be_begun() {
        let forgotten = || Err(fault(FaultKind::NotFound));
        assert_eq!(followed(false, Until::End, [forgotten()]).await.0, Ok(Followed::Unknown));
        assert_eq!(followed(true, Until::End, [running(1, true), forgotten()]).await.0, Ok(Followed::Unknown));
        assert_eq!(followed(true, Until::End, [forgotten()]).await.0, Err(fault(FaultKind::NotFound)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_may_be_gone_for_a_while_but_not_for_ever() {
        let gone = || Err(fault(FaultKind::Peer));
        let script = [running(1, false), gone(), gone(), done(2)];
        assert_eq!(followed(true, Until::End, script).await.0, Ok(Followed::Done(Outcome::CanarySeen)));
        let (lost, _) = followed(true, Until::End, (0..1000).map(|_| gone())).await;
        assert!(lost.unwrap_err().causes.iter().any(|cause| cause.starts_with("gone for")));
    }
}
