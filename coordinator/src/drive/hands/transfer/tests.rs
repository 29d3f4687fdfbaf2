//! Transfers with agents that answer as they were told, when they were told to. Time is virtual.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use baton_proto::control::TransferFacts;
use baton_proto::data::{Extent, Manifest, PackingFacts, SnapshotId};
use baton_proto::digest::FileDigest;
use baton_proto::rdb::RdbHead;
use baton_proto::{InstanceName, Lineage};

use super::*;

const HOUR: u64 = 3_600_000;

/// Answers by the kind of what was asked, each after so many milliseconds.
#[derive(Default)]
struct Fake {
    joins: Answers<Followed>,
    begins: Answers<Option<Outcome>>,
    offers: Answers<Outcome>,
    pulls: Answers<Outcome>,
    spools: Answers<Outcome>,
    asked: Mutex<Vec<&'static str>>,
}

type Answers<T> = Mutex<VecDeque<(u64, Result<T, Fault>)>>;

impl Fake {
    async fn answer<T>(&self, what: &'static str, answers: &Answers<T>) -> Result<T, Fault> {
        self.asked.lock().unwrap().push(what);
        let next = answers.lock().unwrap().pop_front();
        let (after, answer) = next.unwrap_or_else(|| panic!("{what} was asked once more than was scripted"));
        tokio::time::sleep(Duration::from_millis(after)).await;
        answer
    }
}

impl Crew for Fake {
    async fn order(&self, name: &str, _: &InstanceRef, action: Action, _: Shown<'_>) -> Result<Outcome, Fault> {
        match action {
            Action::Offer { .. } => self.answer("offer", &self.offers).await,
            Action::Pull { .. } => self.answer("pull", &self.pulls).await,
            Action::Spool { .. } => self.answer("spool", &self.spools).await,
            _ => panic!("{name} was ordered"),
        }
    }

    async fn order_until_ready(
        &self,
        name: &str,
        _: &InstanceRef,
        action: Action,
        _: Shown<'_>,
    ) -> Result<Option<Outcome>, Fault> {
        assert_eq!(name, "snapshot-default");
        assert!(matches!(action, Action::Snapshot { .. }), "{action:?}");
        self.answer("begin", &self.begins).await
    }

    async fn join(&self, name: &str, _: &InstanceRef, until: Until, _: Shown<'_>) -> Result<Followed, Fault> {
        assert_eq!(name, "snapshot-default");
        self.answer(if until == Until::Ready { "look" } else { "join" }, &self.joins).await
    }

    fn address(&self, host: &HostName) -> Result<HostPort, Fault> {
        Ok(HostPort::new(host.as_str(), 7400))
    }
}

fn answers<T>(all: impl IntoIterator<Item = (u64, Result<T, Fault>)>) -> Answers<T> {
    Mutex::new(all.into_iter().collect())
}

fn instance(host: &str) -> InstanceRef {
    InstanceRef { host: HostName::new(host).unwrap(), instance: InstanceName::new("default").unwrap() }
}

fn facts_of(id: &str) -> SnapshotFacts {
    SnapshotFacts {
        id: SnapshotId(id.into()),
        bytes: 525,
        head: RdbHead {
            format: "REDIS0010".parse().unwrap(),
            written_by: None,
            lineage: None,
            created_unix: None,
            used_memory_bytes: None,
        },
        keyspace: BTreeMap::new(),
        lineage: Lineage { id: "b".repeat(40).parse().unwrap(), offset: 900 },
        method: SaveMethod::Save,
        seconds: 6.4,
    }
}

fn saved(id: &str) -> Outcome {
    Outcome::Snapshot(facts_of(id))
}

fn offered(id: &str) -> Outcome {
    let manifest = Manifest { snapshot: SnapshotId(id.into()), format: "REDIS0010".parse().unwrap(), window: None };
    Outcome::Offered { manifest, extent: Extent { bytes: 100, whole: false } }
}

fn pulled() -> Outcome {
    Outcome::Pulled(TransferFacts {
        bytes_raw: 525,
        bytes_wire: 257,
        digest: FileDigest([7; 32]),
        seconds: 7.0,
        waited_seconds: 0.0,
        chunks_resumed: 0,
        reconnects: 0,
        packing: PackingFacts { mean_level: None, stored: 0, plain: 0, chunks: 1, limited: false, why: String::new() },
    })
}

fn fault(kind: FaultKind, says: &str) -> Fault {
    Fault::new(kind, says)
}

/// Carries a snapshot over; the errors are shown as they are said.
async fn carried(fake: &Fake, known: Option<&SnapshotFacts>) -> Result<Vec<Outcome>, String> {
    carried_by(SaveMethod::Save, fake, known).await
}

async fn carried_by(method: SaveMethod, fake: &Fake, known: Option<&SnapshotFacts>) -> Result<Vec<Outcome>, String> {
    carried_to(&Landing::File { loads: true }, method, fake, known).await
}

async fn carried_to(
    landing: &Landing,
    method: SaveMethod,
    fake: &Fake,
    known: Option<&SnapshotFacts>,
) -> Result<Vec<Outcome>, String> {
    let (run, source, target) = (RunId::new("fo-1").unwrap(), instance("b"), instance("c"));
    let budget = Budget::default();
    let transfer = Transfer { crew: fake, run: &run, source: &source, target: &target, method, budget, landing };
    let learnt = transfer.carry(known, &|_, _| {}).await.map_err(|fault| fault.message)?;
    let outcome = |learnt| match learnt {
        Learnt::Outcome { on, outcome } => {
            assert_eq!(on, if matches!(outcome, Outcome::Pulled(_)) { instance("c") } else { instance("b") });
            outcome
        }
        other => panic!("{other:?} was learnt"),
    };
    Ok(learnt.into_iter().map(outcome).collect())
}

fn asked(fake: &Fake) -> Vec<&'static str> {
    fake.asked.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_grows_is_pulled_beside_its_save_and_both_are_learnt() {
    for (save, pull) in [(50, 100), (100, 50)] {
        let fake = Fake {
            joins: answers([(0, Ok(Followed::Ready)), (save, Ok(Followed::Done(saved("1"))))]),
            offers: answers([(0, Ok(offered("1")))]),
            pulls: answers([(pull, Ok(pulled()))]),
            ..Fake::default()
        };
        assert_eq!(carried(&fake, None).await, Ok(vec![saved("1"), offered("1"), pulled()]));
        assert_eq!(asked(&fake), ["look", "offer", "join", "pull"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_known_is_neither_joined_nor_learnt_again() {
    let fake =
        Fake { offers: answers([(0, Ok(offered("1")))]), pulls: answers([(9, Ok(pulled()))]), ..Fake::default() };
    assert_eq!(carried(&fake, Some(&facts_of("1"))).await, Ok(vec![offered("1"), pulled()]));
}

#[tokio::test(start_paused = true)]
async fn a_save_that_ended_between_the_steps_is_learnt_once() {
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Done(saved("1"))))]),
        offers: answers([(0, Ok(offered("1")))]),
        pulls: answers([(9, Ok(pulled()))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Ok(vec![saved("1"), offered("1"), pulled()]));
    assert_eq!(asked(&fake), ["look", "offer", "pull"]);
}

#[tokio::test(start_paused = true)]
async fn a_save_that_fails_fails_the_step_at_once_and_with_its_own_fault() {
    let begun = tokio::time::Instant::now();
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Ready)), (50, Err(fault(FaultKind::Server, "the disk is full")))]),
        offers: answers([(0, Ok(offered("1")))]),
        pulls: answers([(HOUR, Ok(pulled()))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Err("the disk is full".into()));
    assert!(begun.elapsed() < VERDICT_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_save_whose_failure_is_told_after_that_of_its_pull_is_the_cause_all_the_same() {
    let full = || Err(fault(FaultKind::Server, "the disk is full"));
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Ready)), (HOUR, full()), (300, full())]),
        offers: answers([(0, Ok(offered("1")))]),
        pulls: answers([(50, Err(fault(FaultKind::Peer, "transfer from b: it was given up")))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Err("the disk is full".into()));
    // A failed save has nothing to offer.
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Ready)), (300, full())]),
        offers: answers([(0, Err(fault(FaultKind::Host, "the pin is gone")))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Err("the disk is full".into()));
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_by_itself_does_not_wait_for_the_save() {
    let begun = tokio::time::Instant::now();
    let never = || (HOUR, Ok(Followed::Done(saved("1"))));
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Ready)), never(), never()]),
        offers: answers([(0, Ok(offered("1")))]),
        pulls: answers([(50, Err(fault(FaultKind::Host, "the target's disk is full")))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Err("the target's disk is full".into()));
    assert!(begun.elapsed() < 2 * VERDICT_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_given_up_by_its_agents_restart_is_taken_anew_and_pulled_afresh() {
    let unknown_ticket = || fault(FaultKind::NotFound, "no such ticket");
    let damaged = || fault(FaultKind::Verification, "another file has taken its place");
    // Who notices first: the save's follower, the pull by its ticket, the pull by the file, the offer.
    let noticed: [(Vec<_>, u64, _, _); 4] = [
        (vec![(50, Ok(Followed::Unknown))], HOUR, Err(unknown_ticket()), Ok(offered("1"))),
        (vec![(HOUR, Ok(Followed::Unknown)), (9, Ok(Followed::Unknown))], 50, Err(unknown_ticket()), Ok(offered("1"))),
        (vec![(HOUR, Ok(Followed::Unknown)), (9, Ok(Followed::Unknown))], 50, Err(damaged()), Ok(offered("1"))),
        (vec![(9, Ok(Followed::Unknown))], 0, Ok(pulled()), Err(unknown_ticket())),
    ];
    for (told, after, pull, offer) in noticed {
        let first = offer.is_ok().then_some((after, pull));
        let anew = [(0, Ok(Followed::Unknown)), (50, Ok(Followed::Done(saved("2"))))];
        let fake = Fake {
            joins: answers([(0, Ok(Followed::Ready))].into_iter().chain(told).chain(anew)),
            begins: answers([(20, Ok(None))]),
            offers: answers([(0, offer), (0, Ok(offered("2")))]),
            pulls: answers(first.into_iter().chain([(60, Ok(pulled()))])),
            ..Fake::default()
        };
        assert_eq!(carried(&fake, None).await, Ok(vec![saved("2"), offered("2"), pulled()]));
        assert_eq!(
            asked(&fake).into_iter().rev().take(5).collect::<Vec<_>>(),
            ["pull", "join", "offer", "begin", "look"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_is_gone_waits_for_the_save_to_say_why() {
    let gone = || fault(FaultKind::NotFound, "no snapshot is pinned");
    let fake = Fake {
        joins: answers([
            (0, Ok(Followed::Ready)),
            (HOUR, Ok(Followed::Unknown)),
            (900, Err(fault(FaultKind::Server, "BGSAVE failed"))),
        ]),
        offers: answers([(0, Ok(offered("1")))]),
        pulls: answers([(50, Err(gone()))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await.unwrap_err(), "BGSAVE failed");
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_the_save_had_ended_takes_no_new_snapshot() {
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Ready)), (50, Ok(Followed::Done(saved("1"))))]),
        offers: answers([(0, Ok(offered("1"))), (0, Ok(offered("1")))]),
        pulls: answers([(100, Err(fault(FaultKind::NotFound, "no such ticket"))), (9, Ok(pulled()))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Ok(vec![saved("1"), offered("1"), pulled()]));
    assert_eq!(asked(&fake), ["look", "offer", "join", "pull", "offer", "pull"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_is_the_snapshot_that_was_pulled() {
    // The old one was pulled whole; then the agent was restarted, and somebody had the snapshot taken anew.
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Ready)), (100, Ok(Followed::Done(saved("2"))))]),
        offers: answers([(0, Ok(offered("1"))), (0, Ok(offered("2")))]),
        pulls: answers([(50, Ok(pulled())), (60, Ok(pulled()))]),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, None).await, Ok(vec![saved("2"), offered("2"), pulled()]));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_forgets_for_ever_is_not_asked_for_ever() {
    let forgotten = || (0, Err(fault(FaultKind::NotFound, "no such ticket")));
    let fake = Fake {
        offers: answers((0..OFFERS_MAX).map(|_| (0, Ok(offered("1"))))),
        pulls: answers((0..OFFERS_MAX).map(|_| forgotten())),
        ..Fake::default()
    };
    assert_eq!(carried(&fake, Some(&facts_of("1"))).await, Err("no such ticket".into()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_the_target_needs_what_has_gone_is_ordered_anew_and_a_save_is_not() {
    let gone = || fault(FaultKind::NotFound, "chunk 3 of the stream is no longer kept");
    let fake = || Fake {
        // Ready; it has failed; looked for again it is found failed, and the new one ends beside its pull.
        joins: answers([
            (0, Ok(Followed::Ready)),
            (HOUR, Err(gone())),
            (0, Err(gone())),
            (0, Err(gone())),
            (80, Ok(Followed::Done(saved("2")))),
        ]),
        begins: answers([(0, Ok(None))]),
        offers: answers([(0, Ok(offered("1"))), (0, Ok(offered("2")))]),
        pulls: answers([(5, Err(gone())), (50, Ok(pulled()))]),
        ..Fake::default()
    };
    let streamed = fake();
    assert_eq!(carried_by(SaveMethod::Stream, &streamed, None).await, Ok(vec![saved("2"), offered("2"), pulled()]));
    assert_eq!(asked(&streamed), ["look", "offer", "join", "pull", "join", "look", "begin", "offer", "join", "pull"]);
    let saves = fake();
    assert_eq!(carried(&saves, None).await, Err("chunk 3 of the stream is no longer kept".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_seen_to_end_and_is_forgotten_is_ordered_anew() {
    let forgotten = || fault(FaultKind::NotFound, "no snapshot is pinned");
    let fake = Fake {
        joins: answers([(0, Ok(Followed::Unknown)), (80, Ok(Followed::Done(saved("2"))))]),
        begins: answers([(0, Ok(None))]),
        offers: answers([(0, Err(forgotten())), (0, Ok(offered("2")))]),
        pulls: answers([(50, Ok(pulled()))]),
        ..Fake::default()
    };
    let known = facts_of("1");
    let carried = carried_by(SaveMethod::Stream, &fake, Some(&known)).await;
    assert_eq!(carried, Ok(vec![saved("2"), offered("2"), pulled()]));
    assert_eq!(asked(&fake), ["offer", "look", "begin", "offer", "join", "pull"]);
}

/// Carries a snapshot over whose source spools what is written since.
async fn carried_with_spool(fake: &Fake, known: Option<&SnapshotFacts>) -> Result<Vec<Outcome>, String> {
    let follow = HostPort::new("b", 6379);
    let landing = Landing::Spooled { follow, near_bytes: 1000, timeout_seconds: 60 };
    carried_to(&landing, SaveMethod::Bgsave, fake, known).await
}

fn spooling(offset: u64) -> (u64, Result<Outcome, Fault>) {
    (0, Ok(Outcome::Spooling { since: Lineage { offset, ..facts_of("1").lineage } }))
}

fn taken_at(id: &str, offset: u64) -> Outcome {
    let facts = facts_of(id);
    Outcome::Snapshot(SnapshotFacts { lineage: Lineage { offset, ..facts.lineage.clone() }, ..facts })
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_was_begun_before_the_snapshot_is_all_that_is_wanted() {
    for since in [0, 899, 900] {
        let fake = Fake {
            spools: answers([spooling(since)]),
            offers: answers([(0, Ok(offered("1")))]),
            pulls: answers([(9, Ok(pulled()))]),
            ..Fake::default()
        };
        assert_eq!(carried_with_spool(&fake, Some(&facts_of("1"))).await, Ok(vec![offered("1"), pulled()]));
        assert_eq!(asked(&fake), ["spool", "offer", "pull"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_whose_spool_was_lost_with_its_agent_is_taken_anew() {
    let lost = || (50, Err(fault(FaultKind::NotFound, "nothing is spooled here")));
    let fake = Fake {
        // The snapshot has ended, and the pin stands, but what was written since is gone.
        spools: answers([spooling(800), spooling(950)]),
        joins: answers([(0, Ok(Followed::Unknown)), (50, Ok(Followed::Done(taken_at("2", 960))))]),
        begins: answers([(20, Ok(None))]),
        offers: answers([(0, Ok(offered("1"))), (0, Ok(offered("2")))]),
        pulls: answers([lost(), (60, Ok(pulled()))]),
        ..Fake::default()
    };
    let carried = carried_with_spool(&fake, Some(&facts_of("1"))).await;
    assert_eq!(carried, Ok(vec![taken_at("2", 960), offered("2"), pulled()]));
    assert_eq!(asked(&fake), ["spool", "offer", "pull", "spool", "look", "begin", "offer", "join", "pull"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lives_and_has_given_its_spool_up_fails_the_step() {
    let fake = Fake {
        spools: answers([spooling(901)]),
        joins: answers([(0, Ok(Followed::Done(saved("1"))))]),
        ..Fake::default()
    };
    let told = carried_with_spool(&fake, Some(&facts_of("1"))).await.unwrap_err();
    assert!(told.contains("older than what is spooled"), "{told}");
    let refused = Fake { spools: answers([(0, Err(fault(FaultKind::Refused, "no backlog")))]), ..Fake::default() };
    assert_eq!(carried_with_spool(&refused, None).await, Err("no backlog".into()));
}
