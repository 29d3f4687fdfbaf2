//! Who has no business here: every request of the protocol and every action, asked by everybody who must not. The tables are
//! in `trespass/requests.rs`; who asks, and how, in `trespass/strangers.rs`. Nobody gets an answer but the one that refuses,
//! and nothing changes.

pub(crate) mod requests;
pub(crate) mod strangers;

use std::collections::BTreeMap;
use std::path::Path;

use baton_proto::control::{Action, Outcome, Reply, Request, SaveMethod, TaskStatus};
use baton_proto::data::{Budget, FRAME_HEAD_BYTES, FrameHead, Packing};
use baton_proto::deposed::Deposition;
use baton_proto::{Fault, FaultKind, codec};
use baton_tests::footprint::Footprint;
use baton_tests::host::Host;
use baton_tests::servers::REDIS_7_0;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, C};
use quinn::Connection;
use tokio::runtime::Runtime;

use self::requests::{Caller, actions, caller, deposition, host, lacking, order, requests, run, ticket};
use self::strangers::{Stranger, alert, ask, burst, endpoint, exchange, greet, strangers};
use crate::scene::{Lost, TURN};

/// What the run's journal says, of which B keeps a copy.
const JOURNAL: &str = "written by its owner\n";

/// A is lost. A run has B, has its snapshot offered to C, and B keeps its journal.
struct Scene {
    lost: Lost,
    runtime: Runtime,
    strangers: Vec<Stranger>,
    before: Everything,
}

/// All that a trespasser could change.
#[derive(Debug, PartialEq)]
struct Everything {
    footprint: Footprint,
    /// By host and name.
    state: BTreeMap<String, Vec<u8>>,
    agents: [u32; 2],
}

impl Everything {
    fn of(lost: &Lost) -> Everything {
        let mut state = BTreeMap::new();
        for host in lost.world.hosts() {
            collect(&host.dir.join("state"), &mut state);
            for file in [host.agent_toml_path(), host.dir.join(format!("{}.pem", host.name))] {
                state.insert(file.display().to_string(), std::fs::read(&file).unwrap());
            }
        }
        let agents = [lost.world.b(), lost.world.c()].map(Host::agent_pid);
        Everything { footprint: Footprint::of(&lost.world), state, agents }
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata().unwrap().is_dir() {
            true => collect(&entry.path(), files),
            false => drop(files.insert(entry.path().display().to_string(), std::fs::read(entry.path()).unwrap())),
        }
    }
}

impl Scene {
    fn new() -> Scene {
        let lost = Lost::with_little_on(REDIS_7_0);
        let strangers = strangers(&lost.world);
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let owner = greeted(&lost, OPERATOR).await;
            let claim = Request::Claim { instance: requests::default(), run: run(), turn: TURN };
            assert_eq!(ask(&owner, &claim).await, Ok(Reply::Claimed));
            let text = JOURNAL.to_owned();
            let record = Request::Record { run: run(), turn: TURN, at: 0, text, last: true };
            assert_eq!(ask(&owner, &record).await, Ok(Reply::Recorded { bytes: JOURNAL.len() as u64 }));
            done(&owner, "snapshot", Action::Snapshot { method: SaveMethod::Bgsave }).await;
            done(&owner, "offer", Action::Offer { ticket: ticket(), to: host(C), budget: Budget::default() }).await;
        });
        // So long after its start it believes no note of another history.
        wait_for("B has run for a while", || match lost.world.b().info("uptime_in_seconds").parse::<u64>() {
            Ok(seconds) if seconds > 10 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let before = Everything::of(&lost);
        Scene { lost, runtime, strangers, before }
    }

    /// Asserts that nothing is other than it was, and that B's agent, the same process, answers its operator.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(Everything::of(&self.lost), self.before);
        self.runtime.block_on(async {
            let owner = greeted(&self.lost, OPERATOR).await;
            let Ok(Reply::Observed(report)) = ask(&owner, &Request::Observe).await else { panic!("no report") };
            let claim = report.instances[0].claim.as_ref().unwrap();
            assert_eq!((&claim.run, claim.turn), (&run(), TURN));
            let recalled = Reply::Recalled { text: JOURNAL.into(), bytes: JOURNAL.len() as u64 };
            assert_eq!(ask(&owner, &Request::Recall { run: run(), at: 0 }).await, Ok(recalled));
        });
    }
}

const OPERATOR: &str = "pki/operator.pem";
const AGENT_A: &str = "machine-a/machine-a.pem";
const AGENT_B: &str = "machine-b/machine-b.pem";
const AGENT_C: &str = "machine-c/machine-c.pem";

/// A connection to B's agent with an identity of this world.
async fn greeted(lost: &Lost, identity: &str) -> Connection {
    let shown = std::fs::read(lost.world.dir().join(identity)).unwrap();
    greet(&endpoint(&Some(shown)), lost.world.b().agent_address()).await.unwrap()
}

/// Orders an action and waits until it is done.
async fn done(owner: &Connection, name: &str, action: Action) -> Outcome {
    let Request::Begin(order) = order(action) else { unreachable!("an order is begun") };
    let task = requests::task(name);
    let begin = Request::Begin(baton_proto::control::Order { task: task.clone(), ..order });
    let mut reply = ask(owner, &begin).await.unwrap();
    loop {
        let Reply::Task(state) = reply else { panic!("{reply:?}") };
        match state.status {
            TaskStatus::Running(_) => {}
            TaskStatus::Done(outcome) => return outcome,
            TaskStatus::Failed(fault) => panic!("{fault}"),
        }
        reply = ask(owner, &Request::Watch { task: task.clone(), seen: state.seq, turn: None }).await.unwrap();
    }
}

/// Every request, and every action in an order.
fn everything_to_ask() -> Vec<Request> {
    requests().into_iter().chain(actions().into_iter().map(order)).collect()
}

#[test]
fn who_shows_no_good_certificate_is_answered_nothing_whatever_it_asks() {
    let scene = Scene::new();
    let b = scene.lost.world.b().agent_address();
    scene.runtime.block_on(async {
        for stranger in &scene.strangers {
            let endpoint = endpoint(&stranger.shown);
            for request in everything_to_ask() {
                let error = match burst(&endpoint, b, &request).await {
                    Ok(answer) => panic!("{} got an answer to {request:?}: {answer:?}", stranger.name),
                    Err(error) => error,
                };
                assert_eq!(alert(&error), stranger.alert, "{} asks {request:?}: {error}", stranger.name);
            }
        }
    });
    let log = std::fs::read_to_string(scene.lost.world.b().agent_log()).unwrap();
    for stranger in &scene.strangers {
        let refused = |line: &&str| line.contains("connection refused") && line.contains(stranger.logged);
        let count = log.lines().filter(refused).count();
        assert!(count >= everything_to_ask().len(), "{} is logged {count} times", stranger.name);
    }
    scene.assert_untouched();
}

#[test]
fn who_is_let_in_is_refused_what_is_anothers_to_ask() {
    let scene = Scene::new();
    scene.runtime.block_on(async {
        for (identity, own) in
            [(OPERATOR, Caller::Operator), (AGENT_A, Caller::Agent), (AGENT_B, Caller::Agent), (AGENT_C, Caller::Agent)]
        {
            let connection = greeted(&scene.lost, identity).await;
            for request in everything_to_ask().iter().filter(|request| caller(request) != own) {
                let fault = refused(&connection, request).await;
                assert_eq!(fault.kind, FaultKind::NotAllowed, "{identity} asks {request:?}: {fault}");
                let names_the_right_one = match (own, request) {
                    (Caller::Agent, _) => fault.message.contains("takes orders from operators only"),
                    (Caller::Operator, Request::Tell { .. } | Request::Replaced) => {
                        fault.message.contains("agents tell")
                    }
                    (Caller::Operator, _) => fault.message.contains("the agent that holds the ticket"),
                };
                assert!(names_the_right_one, "{identity} asks {request:?}: {fault}");
            }
        }
    });
    scene.assert_untouched();
}

#[test]
fn the_right_caller_without_claim_turn_or_ticket_is_refused() {
    let scene = Scene::new();
    scene.runtime.block_on(async {
        let operator = greeted(&scene.lost, OPERATOR).await;
        let target = greeted(&scene.lost, AGENT_C).await;
        for request in requests() {
            let connection = if caller(&request) == Caller::Operator { &operator } else { &target };
            for (request, kind) in lacking(&request) {
                let fault = refused(connection, &request).await;
                assert_eq!(fault.kind, kind, "{request:?}: {fault}");
                // Longer than what the name of a history has by chance.
                let told = ["a5a5a5a5", "165, 165"].iter().any(|secret| format!("{fault:?}").contains(secret));
                assert!(!told, "the secret is told: {fault:?}");
            }
        }
        // What a run gives back is its own turn's alone.
        for (run, turn) in [("fo-other", TURN), ("fo-owner", baton_proto::claim::Turn { holder: 8, ..TURN })] {
            let unclaim = Request::Unclaim { run: baton_proto::RunId::new(run).unwrap(), turn };
            assert_eq!(ask(&operator, &unclaim).await, Ok(Reply::Claimed));
        }
        // The ticket is C's: with the very same one, nobody else gets anything, and C not before it has opened it.
        for request in requests().iter().filter(|request| takes_ticket(request)) {
            for identity in [AGENT_A, AGENT_B] {
                let fault = refused(&greeted(&scene.lost, identity).await, request).await;
                assert_eq!(fault.kind, FaultKind::NotAllowed, "{identity} asks {request:?}: {fault}");
                assert!(fault.message.contains("was not given to the agent of"), "{fault}");
            }
        }
        let unopened = refused(&target, &Request::Chunk { ticket: ticket(), index: 0, held: 0 }).await;
        assert!(unopened.message.contains("has not opened"), "{unopened}");
    });
    scene.assert_untouched();
}

fn takes_ticket(request: &Request) -> bool {
    caller(request) == Caller::Agent && !matches!(request, Request::Tell { .. } | Request::Replaced)
}

/// What a refusal is worth shows only if the same words open the door for who may say them.
#[test]
fn the_same_requests_are_answered_to_the_right_caller() {
    let scene = Scene::new();
    scene.runtime.block_on(async {
        let operator = greeted(&scene.lost, OPERATOR).await;
        let target = greeted(&scene.lost, AGENT_C).await;
        assert!(matches!(
            ask(&target, &Request::Open { ticket: ticket(), session: 1 }).await,
            Ok(Reply::Opened { .. })
        ));
        let chunk = Request::Chunk { ticket: ticket(), index: 0, held: 0 };
        let bytes = exchange(&target, &codec::encode(&chunk).unwrap()).await.unwrap();
        let (head, behind) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>().unwrap();
        let head = FrameHead::decode(head).unwrap();
        assert!(head.packing != Packing::Fault && behind.len() == head.wire_bytes as usize, "{head:?}");
        // What became of servers of a host, that host's agent hears, and no other.
        let deposition = Box::new(Deposition { host: host(A), ..deposition() });
        done(&operator, "depose", Action::Depose { deposition }).await;
        assert_eq!(ask(&target, &Request::Replaced).await, Ok(Reply::Replaced(vec![])));
        let lost = greeted(&scene.lost, AGENT_A).await;
        let Ok(Reply::Replaced(told)) = ask(&lost, &Request::Replaced).await else { panic!("nothing is told") };
        assert_eq!(told.len(), 1, "{told:?}");
        done(&operator, "promote", Action::Promote).await;
        assert_eq!(scene.lost.world.b().info("role"), "master");
        for request in requests().iter().filter(|request| !matches!(request, Request::Chunk { .. })) {
            let connection = if caller(request) == Caller::Operator { &operator } else { &target };
            if let Err(fault) = ask(connection, request).await {
                assert_ne!(fault.kind, FaultKind::NotAllowed, "{request:?}: {fault}");
            }
        }
    });
    assert_eq!(scene.lost.world.b().agent_pid(), scene.before.agents[0]);
}

async fn refused(connection: &Connection, request: &Request) -> Fault {
    match ask(connection, request).await {
        Err(fault) => fault,
        Ok(reply) => panic!("{request:?} was answered: {reply:?}"),
    }
}
