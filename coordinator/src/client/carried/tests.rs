use std::collections::VecDeque;

use baton_proto::InstanceName;
use baton_proto::claim::Turn;
use baton_proto::control::{Action, Progress, TaskId, TaskState, TaskStatus};

use super::*;

const TEXT: &str = "one\ntwo\n";

/// An agent that gives the answers it was told to, and notes what it was asked: `+` is a journal's end with an order, `.` an
/// order, `=` a whole journal.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<Reply, Fault>>>,
    asked: Mutex<String>,
    /// Its disk never keeps what an order brings.
    hangs: bool,
}

impl Scripted {
    fn note(&self, what: char) {
        self.asked.lock().unwrap().push(what);
    }

    fn next(&self) -> Result<Reply, Fault> {
        self.answers.lock().unwrap().pop_front().expect("no more is asked than was scripted")
    }
}

impl Post for Scripted {
    async fn ask(&self, request: &Request) -> Result<Reply, Fault> {
        match request {
            Request::RecordAndBegin { at, text, .. } => {
                assert_eq!((*at, text.as_str()), (4, "two\n"));
                self.note('+');
                if self.hangs {
                    std::future::pending::<()>().await;
                }
            }
            Request::Begin(_) => self.note('.'),
            other => panic!("{other:?}"),
        }
        self.next()
    }

    async fn record(&self, text: &str) -> Result<u64, Fault> {
        assert_eq!(text, TEXT);
        self.note('=');
        match self.next()? {
            Reply::Recorded { bytes } => Ok(bytes),
            other => panic!("{other:?}"),
        }
    }
}

fn run() -> RunId {
    RunId::new("fo-1").unwrap()
}

fn host() -> HostName {
    HostName::new("machine-c").unwrap()
}

fn begun() -> Result<Reply, Fault> {
    Ok(Reply::Task(TaskState { seq: 1, status: TaskStatus::Running(Progress::default()) }))
}

fn recorded(bytes: u64) -> Result<Reply, Fault> {
    Ok(Reply::Recorded { bytes })
}

fn refused(kind: FaultKind) -> Result<Reply, Fault> {
    Err(Fault::new(kind, "as told"))
}

fn lent() -> Carried {
    let carried = Carried::default();
    carried.renew(&run(), TEXT.len());
    assert!(carried.lend(&run(), &host(), 4, &TEXT.into()));
    carried
}

/// Gives an order. Yields what came of it, what was asked, and whether the host keeps the journal.
async fn ordered(
    carried: &Carried,
    answers: impl IntoIterator<Item = Result<Reply, Fault>>,
) -> (Result<Reply, FaultKind>, String) {
    let post = Scripted { answers: Mutex::new(answers.into_iter().collect()), ..Scripted::default() };
    let told = given(carried, &post).await;
    assert!(post.answers.lock().unwrap().is_empty());
    (told, post.asked.into_inner().unwrap())
}

async fn given(carried: &Carried, post: &Scripted) -> Result<Reply, FaultKind> {
    let task = TaskId { run: run(), name: "load".into() };
    let turn = Turn { epoch: 1, holder: 7 };
    let order = Order { task, turn, instance: InstanceName::new("default").unwrap(), action: Action::Promote };
    begin(carried, post, &host(), &order).await.map_err(|fault| fault.kind)
}

#[tokio::test]
async fn the_first_order_brings_what_was_lent_and_no_other_does() {
    let carried = lent();
    assert_eq!(ordered(&carried, [begun()]).await, (begun().map_err(|_| FaultKind::Peer), "+".into()));
    assert_eq!(ordered(&carried, [begun()]).await.1, ".");
    assert!(carried.is_kept(&run()));
    assert!(carried.recall(&run(), &host()));
    carried.renew(&run(), TEXT.len() + 1);
    assert!(!carried.recall(&run(), &host()), "the journal has gone on");
}

#[tokio::test(start_paused = true)]
async fn what_is_recalled_is_not_brought_and_the_order_waits_until_it_was_told() {
    let carried = lent();
    assert!(!carried.recall(&run(), &host()));
    let began = Instant::now();
    let told = async {
        sleep(PATIENCE / 2).await;
        carried.kept(&run(), TEXT.len());
    };
    let (ordered, ()) = tokio::join!(ordered(&carried, [begun()]), told);
    assert_eq!(ordered.1, ".");
    assert!(began.elapsed() >= PATIENCE / 2);
}

#[tokio::test]
async fn an_agent_that_keeps_another_journal_or_cannot_be_asked_so_gets_all_of_it_before_the_order() {
    for answer in [recorded(0), refused(FaultKind::Unsupported), refused(FaultKind::Host)] {
        let carried = lent();
        let (told, asked) = ordered(&carried, [answer.clone(), recorded(8), begun()]).await;
        assert_eq!((told, asked.as_str()), (begun().map_err(|_| FaultKind::Peer), "+=."));
        assert!(carried.recall(&run(), &host()));
        let again = carried.lend(&run(), &host(), 4, &TEXT.into());
        assert_eq!(again, answer != refused(FaultKind::Unsupported), "one that is too old is not asked so again");
    }
}

#[tokio::test]
async fn it_stays_due_where_the_answer_was_lost_or_another_has_the_run() {
    for kind in [FaultKind::Peer, FaultKind::Held] {
        let carried = lent();
        assert_eq!(ordered(&carried, [refused(kind)]).await, (Err(kind), "+".into()));
        assert_eq!(ordered(&carried, [begun()]).await.1, "+");
        let carried = lent();
        assert_eq!(ordered(&carried, [recorded(0), refused(kind)]).await, (Err(kind), "+=".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_keep_it_is_given_the_order_only_where_another_keeps_it() {
    let unkept = || [recorded(0), refused(FaultKind::Host)];
    let carried = lent();
    assert_eq!(ordered(&carried, unkept()).await, (Err(FaultKind::Host), "+=".into()));
    assert!(!carried.recall(&run(), &host()));
    assert_eq!(ordered(&carried, []).await, (Err(FaultKind::Host), String::new()), "nor any later one");
    let carried = lent();
    carried.kept(&run(), TEXT.len() - 1);
    assert_eq!(ordered(&carried, unkept()).await.1, "+=", "another lacks the end");
    let carried = lent();
    let (told, ()) = tokio::join!(ordered(&carried, unkept().into_iter().chain([begun()])), async {
        sleep(PATIENCE / 2).await;
        carried.kept(&run(), TEXT.len());
    });
    assert_eq!(told, (begun().map_err(|_| FaultKind::Peer), "+=.".into()));
}

#[tokio::test]
async fn only_a_few_lines_that_follow_on_something_are_lent() {
    let carried = Carried::default();
    let long: Arc<str> = "x".repeat(CARRIED_BYTES_MAX + 2).into();
    for (at, lends) in [(0, false), (1, false), (2, true), (long.len(), true), (long.len() + 1, false)] {
        assert_eq!(carried.lend(&run(), &host(), at, &long), lends, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_long_to_keep_it_is_given_the_order_by_itself_once_another_keeps_it() {
    let carried = lent();
    let post = Scripted { answers: Mutex::new([begun()].into()), hangs: true, ..Scripted::default() };
    let began = Instant::now();
    let told = async {
        sleep(PATIENCE * 2).await;
        assert_eq!(*post.asked.lock().unwrap(), "+", "nobody else keeps it yet");
        carried.kept(&run(), TEXT.len());
    };
    let (given, ()) = tokio::join!(given(&carried, &post), told);
    assert!(given.is_ok() && began.elapsed() < PATIENCE * 2 + LOOK_EVERY * 2);
    assert_eq!(*post.asked.lock().unwrap(), "+.");
}
