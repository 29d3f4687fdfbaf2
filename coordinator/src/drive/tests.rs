//! Runs with hands that do as they are told, fail where they are told, and write down what was asked of them.

use std::sync::Mutex;

use baton_proto::control::{Landing, Outcome, SaveMethod};
use baton_proto::data::Budget;
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::report::SyncCounters;
use baton_proto::{FaultKind, HostName, HostPort, InstanceName, Lineage, RunId};
use proptest::prelude::*;

use super::*;
use crate::plan::step::Upstream;
use crate::plan::{Goal, Mode, Plan};

fn instance(host: &str) -> InstanceRef {
    InstanceRef { host: HostName::new(host).unwrap(), instance: InstanceName::new("default").unwrap() }
}

fn upstream(host: &str) -> Upstream {
    Upstream { instance: instance(host), address: HostPort::new(host, 6379) }
}

fn plan(goal: Goal, steps: Vec<Step>) -> Plan {
    Plan {
        run: RunId::new("fo-test").unwrap(),
        goal,
        failed: Some("a".into()),
        source: instance("b"),
        target: instance("c"),
        siblings: Vec::new(),
        above: None,
        checks: Vec::new(),
        forecasts: Vec::new(),
        expected: None,
        steps,
    }
}

fn landing() -> Vec<Step> {
    vec![
        Step::Snapshot { source: instance("b"), method: SaveMethod::Save },
        Step::Transfer {
            source: instance("b"),
            target: instance("c"),
            method: SaveMethod::Save,
            budget: Budget::default(),
            landing: Landing::File { loads: true },
        },
        Step::Stop { target: instance("c"), save: false, appendonly: false },
        Step::Install { target: instance("c") },
    ]
}

pub(super) fn replace() -> Plan {
    let mut steps = vec![Step::Fence { replicas: Vec::new() }];
    steps.extend(landing());
    steps.extend([
        Step::Start { target: instance("c"), follow: None },
        Step::Gate { source: instance("b"), target: upstream("c") },
        Step::Attach { replica: instance("b"), to: upstream("c") },
        Step::Persist { instances: vec![instance("c"), instance("b")] },
        Step::Canary { primary: instance("c"), replica: instance("b") },
        Step::Release { source: instance("b"), target: instance("c"), keep_old: false },
    ]);
    plan(Goal::Failover(Mode::Replace), steps)
}

pub(super) fn promote() -> Plan {
    let mut steps = vec![Step::Promote { on: instance("b") }];
    steps.extend(landing());
    steps.push(Step::Start { target: instance("c"), follow: Some(upstream("b")) });
    steps.push(Step::Attach { replica: instance("c"), to: upstream("b") });
    plan(Goal::Failover(Mode::Promote), steps)
}

/// Hands that fail at one step, or in one undo.
#[derive(Default)]
pub(super) struct Puppet {
    pub(super) fail_at: Option<(&'static str, FaultKind)>,
    pub(super) fail_undo: Option<&'static str>,
    pub(super) short: bool,
    /// Each step takes a moment.
    pub(super) slow: bool,
    pub(super) did: Mutex<Vec<String>>,
}

impl Hands for Puppet {
    async fn perform(
        &self,
        step: &Step,
        _: &Ledger,
        _: &(dyn Fn(&InstanceRef, &Progress) + Sync),
    ) -> Result<Vec<Learnt>, Fault> {
        self.did.lock().unwrap().push(step.name().into());
        if self.slow {
            tokio::task::yield_now().await;
        }
        match self.fail_at {
            Some((name, kind)) if name == step.name() => Err(Fault::new(kind, "as told")),
            _ if self.short && step.name() == "persist" => Ok(vec![Learnt::Shortfall("not written".into())]),
            _ => Ok(vec![Learnt::Counters { on: instance("c"), counters: SyncCounters::default() }]),
        }
    }

    async fn undo(&self, step: &Step) -> Result<Vec<Learnt>, Fault> {
        self.did.lock().unwrap().push(format!("undo {}", step.name()));
        if self.fail_undo == Some(step.name()) {
            return Err(Fault::new(FaultKind::Host, "as told"));
        }
        Ok(vec![Learnt::Outcome {
            on: instance("c"),
            outcome: Outcome::Restored { put_back: Vec::new(), set_aside: Vec::new() },
        }])
    }
}

/// A journal in memory that can run full.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) events: Vec<Event>,
    pub(super) room: Option<usize>,
    /// The hosts that had to know of each event; none where all had to.
    pub(super) acts_on: Vec<Option<String>>,
    /// While so many events are kept, a host says that another coordinator has the run.
    pub(super) taken_at: Option<usize>,
}

impl Log for Memory {
    async fn append(&mut self, event: &Event, acts_on: Option<&[HostName]>) -> Result<(), JournalError> {
        if self.room == Some(self.events.len()) {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(JournalError::File { doing: "append to journal", path: "memory".into(), error });
        }
        self.events.push(event.clone());
        self.acts_on.push(acts_on.map(|hosts| hosts.iter().map(HostName::as_str).collect()));
        Ok(())
    }

    async fn spread(&mut self) -> Fault {
        if self.taken_at == Some(self.events.len()) {
            return Fault::new(FaultKind::Held, "another has it");
        }
        std::future::pending().await
    }
}

pub(super) struct Nobody;

impl Watcher for Nobody {
    fn on_event(&self, _: &Run, _: &Event) {}
    fn on_progress(&self, _: &Step, _: &InstanceRef, _: &Progress) {}
    fn on_stopping(&self, _: &Step) {}
}

/// An operator who lets the run be.
pub(super) struct Never;

impl Interrupts for Never {
    async fn next(&mut self) {
        std::future::pending().await
    }
}

/// An operator who wants it to stop, and says so again and again.
struct Always;

impl Interrupts for Always {
    async fn next(&mut self) {}
}

async fn driven(plan: Plan, puppet: &Puppet) -> (Run, End, Vec<Event>) {
    let (run, end, log) = logged(plan, puppet).await;
    (run, end, log.events)
}

async fn logged(plan: Plan, puppet: &Puppet) -> (Run, End, Memory) {
    let begun = Event::Begun { plan: Box::new(plan.clone()), by: "op".into() };
    let mut log = Memory { events: vec![begun], acts_on: vec![None], ..Memory::default() };
    let mut run = Run::new(plan);
    let end = drive(&mut run, puppet, &mut log, &Nobody, &mut Never).await.unwrap();
    (run, end, log)
}

pub(super) fn did(puppet: &Puppet) -> Vec<String> {
    puppet.did.lock().unwrap().clone()
}

#[tokio::test]
async fn the_steps_are_done_in_their_order_and_the_gate_stands_before_the_attach() {
    let puppet = Puppet::default();
    let (_, end, _) = driven(replace(), &puppet).await;
    assert_eq!(end, End::Done);
    let order =
        ["fence", "snapshot", "transfer", "stop", "install", "load", "gate", "attach", "persist", "canary", "release"];
    assert_eq!(did(&puppet), order);
}

#[tokio::test]
async fn a_step_waits_until_the_hosts_that_it_acts_on_know_of_it_and_an_undo_until_all_do() {
    let acts_on = async |puppet: &Puppet| {
        let (_, _, log) = logged(replace(), puppet).await;
        let starts = log.events.into_iter().zip(log.acts_on).filter_map(|(event, hosts)| match event {
            Event::StepStarted { step, .. } => Some(format!("{step} {}", hosts?)),
            Event::UndoStarted { step, .. } => Some(format!("undo {step} {}", hosts.unwrap_or("all".into()))),
            _ => None,
        });
        starts.collect::<Vec<_>>()
    };
    let all = ["fence ", "snapshot b", "transfer bc", "stop c", "install c", "load c", "gate ", "attach b"];
    let done = acts_on(&Puppet::default()).await;
    assert_eq!(done[..all.len()], all);
    let undone = acts_on(&Puppet { fail_at: Some(("load", FaultKind::Server)), ..Puppet::default() }).await;
    assert_eq!(undone[6..8], ["undo load all", "undo install all"]);
}

#[tokio::test]
async fn a_coordinator_that_was_taken_over_stops_in_the_middle_of_a_step() {
    // A step has one event when it starts, and one when it ends.
    for taken_at in [1, 3, 5] {
        let mut log = Memory { taken_at: Some(taken_at), ..Memory::default() };
        let puppet = Puppet { slow: true, ..Puppet::default() };
        let error = drive(&mut Run::new(replace()), &puppet, &mut log, &Nobody, &mut Never).await.unwrap_err();
        assert!(matches!(error, DriveError::Held(_)), "{error}");
        assert_eq!(log.events.len(), taken_at, "nothing more is written");
    }
}

#[tokio::test]
async fn a_failure_before_the_attach_is_undone_in_reverse_and_the_fence_stays() {
    let puppet = Puppet { fail_at: Some(("load", FaultKind::Server)), ..Puppet::default() };
    let (run, end, _) = driven(replace(), &puppet).await;
    assert_eq!(end, End::RolledBack);
    assert_eq!(run.failure.unwrap().fault.kind, FaultKind::Server);
    let undone = ["undo load", "undo install", "undo stop", "undo transfer", "undo snapshot"];
    assert_eq!(did(&puppet).split_off(6), undone);
}

#[tokio::test]
async fn a_closed_gate_is_a_refusal_and_nothing_is_attached() {
    let puppet = Puppet { fail_at: Some(("gate", FaultKind::Refused)), ..Puppet::default() };
    let (_, end, _) = driven(replace(), &puppet).await;
    assert_eq!(end, End::Refused);
    assert!(!did(&puppet).contains(&"attach".to_owned()));
}

#[tokio::test]
async fn a_failed_attach_stops_the_run_where_it_is() {
    let puppet = Puppet { fail_at: Some(("attach", FaultKind::Server)), ..Puppet::default() };
    let (_, end, _) = driven(replace(), &puppet).await;
    assert_eq!(end, End::Failed);
    assert_eq!(did(&puppet).last().map(String::as_str), Some("attach"));
}

#[tokio::test]
async fn a_refused_attach_has_attached_nothing_and_is_undone() {
    let puppet = Puppet { fail_at: Some(("attach", FaultKind::Refused)), ..Puppet::default() };
    let (_, end, _) = driven(replace(), &puppet).await;
    assert_eq!(end, End::Refused);
    assert!(did(&puppet).contains(&"undo load".to_owned()));
}

#[tokio::test]
async fn what_fails_after_the_attach_is_missing_but_does_not_stop_the_rest() {
    for puppet in [
        Puppet { fail_at: Some(("persist", FaultKind::Server)), ..Puppet::default() },
        Puppet { short: true, ..Puppet::default() },
    ] {
        let (run, end, _) = driven(replace(), &puppet).await;
        assert_eq!(end, End::Degraded);
        assert_eq!(run.ledger.shortfalls().count(), 1);
        assert_eq!(did(&puppet).last().map(String::as_str), Some("release"));
    }
}

#[tokio::test]
async fn once_a_primary_serves_a_failure_to_build_its_replica_is_degraded_not_rolled_back() {
    let puppet = Puppet { fail_at: Some(("transfer", FaultKind::Peer)), ..Puppet::default() };
    let (_, end, _) = driven(promote(), &puppet).await;
    assert_eq!(end, End::Degraded);
    assert_eq!(did(&puppet), ["promote", "snapshot", "transfer", "undo transfer", "undo snapshot"]);
}

#[tokio::test]
async fn a_failed_undo_is_noted_and_the_rest_is_undone() {
    let fail_at = Some(("gate", FaultKind::Refused));
    let puppet = Puppet { fail_at, fail_undo: Some("install"), ..Puppet::default() };
    let (run, end, _) = driven(replace(), &puppet).await;
    assert_eq!(end, End::Failed);
    assert_eq!(run.undo_failures.len(), 1);
    assert_eq!(did(&puppet).last().map(String::as_str), Some("undo snapshot"));
}

fn deposing(goal: Goal, rest: Vec<Step>) -> Plan {
    let deposition = Deposition {
        run: RunId::new("fo-test").unwrap(),
        host: HostName::new("a").unwrap(),
        instance: None,
        agent: HostPort::new("a", 7400),
        address: HostPort::new("a", 6379),
        fork: Lineage { id: "a".repeat(40).parse().unwrap(), offset: 1000 },
        successor: instance("b"),
        successor_address: HostPort::new("b", 6379),
        standing: Standing::Deposed,
        since_unix: 0,
        seal: None,
    };
    let depose = Step::Depose { keepers: vec![instance("b")], own: None, deposition: Box::new(deposition) };
    plan(goal, [depose].into_iter().chain(rest).collect())
}

#[tokio::test]
async fn who_was_deposed_stays_so_once_another_may_serve_and_leads_again_if_none_can() {
    for (plan, fails, kind, reinstated) in [
        (promote(), "promote", FaultKind::Peer, false),
        (promote(), "promote", FaultKind::Refused, true),
        (promote(), "transfer", FaultKind::Peer, false),
        (replace(), "transfer", FaultKind::Peer, true),
        (replace(), "attach", FaultKind::Refused, true),
        (replace(), "attach", FaultKind::Server, false),
    ] {
        let puppet = Puppet { fail_at: Some((fails, kind)), ..Puppet::default() };
        driven(deposing(plan.goal, plan.steps), &puppet).await;
        assert_eq!(did(&puppet).contains(&"undo depose".to_owned()), reinstated, "{fails} {kind:?}");
    }
}

pub(super) fn switchover() -> Plan {
    let steps = vec![
        Step::HandOver {
            from: instance("b"),
            to: upstream("c"),
            seen_as: HostPort::new("c", 6379),
            timeout_ms: 10_000,
        },
        Step::AttachSiblings { replicas: vec![instance("d")], to: upstream("c") },
        Step::Persist { instances: vec![instance("c"), instance("b")] },
    ];
    plan(Goal::Switchover { timeout_ms: 10_000 }, steps)
}

#[tokio::test]
async fn a_handover_that_fails_is_rolled_back_only_if_the_primary_is_seen_to_be_the_primary() {
    let fail_at = Some(("hand-over", FaultKind::Server));
    let puppet = Puppet { fail_at, ..Puppet::default() };
    assert_eq!(driven(switchover(), &puppet).await.1, End::RolledBack);
    assert_eq!(did(&puppet), ["hand-over", "undo hand-over"]);
    let puppet = Puppet { fail_at, fail_undo: Some("hand-over"), ..Puppet::default() };
    assert_eq!(driven(switchover(), &puppet).await.1, End::Failed);
    let puppet = Puppet { fail_at: Some(("siblings", FaultKind::Server)), ..Puppet::default() };
    assert_eq!(driven(switchover(), &puppet).await.1, End::Degraded);
}

#[tokio::test]
async fn an_interrupt_stops_before_the_next_step() {
    let mut run = Run::new(replace());
    let mut log = Memory::default();
    let end = drive(&mut run, &Stuck, &mut log, &Nobody, &mut Always).await.unwrap();
    assert_eq!(end, End::Interrupted);
    let ended = [Event::Interrupted, Event::Ended { end }];
    assert_eq!(log.events.split_off(1), ended);
}

/// Hands that never finish.
struct Stuck;

impl Hands for Stuck {
    async fn perform(
        &self,
        _: &Step,
        _: &Ledger,
        _: &(dyn Fn(&InstanceRef, &Progress) + Sync),
    ) -> Result<Vec<Learnt>, Fault> {
        std::future::pending().await
    }

    async fn undo(&self, _: &Step) -> Result<Vec<Learnt>, Fault> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_step_whose_start_cannot_be_written_down_is_not_done() {
    for room in 0..20 {
        let puppet = Puppet::default();
        let mut log = Memory { room: Some(room), ..Memory::default() };
        let mut run = Run::new(replace());
        drive(&mut run, &puppet, &mut log, &Nobody, &mut Never).await.unwrap_err();
        let begun = log.events.iter().filter(|event| matches!(event, Event::StepStarted { .. })).count();
        assert_eq!(did(&puppet).len(), begun, "room for {room} events");
    }
}

/// Replays every prefix of a run's journal.
fn replays_to_the_same(run: &Run, events: &[Event]) -> Result<(), TestCaseError> {
    let whole = Run::replay(events.iter().cloned());
    prop_assert_eq!(whole.as_ref(), Ok(run));
    for end in 1..events.len() {
        let part = Run::replay(events.iter().take(end).cloned());
        prop_assert!(part.is_ok(), "prefix of {} events: {:?}", end, part);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_journal_replays_to_the_run_that_wrote_it(
        is_replace in any::<bool>(),
        fail in proptest::option::of(0usize..10),
        kind in prop_oneof![Just(FaultKind::Refused), Just(FaultKind::Peer), Just(FaultKind::Verification)],
        fail_undo in proptest::option::of(prop_oneof![Just("install"), Just("transfer")]),
    ) {
        let plan = if is_replace { replace() } else { promote() };
        let fail_at = fail.and_then(|index| plan.steps.get(index)).map(|step| (step.name(), kind));
        let puppet = Puppet { fail_at, fail_undo, ..Puppet::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (run, end, events) = runtime.block_on(driven(plan, &puppet));
        prop_assert_eq!(run.next(), Next::End(end));
        replays_to_the_same(&run, &events)?;
        let as_json: Vec<Event> = events
            .iter()
            .map(|event| serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap())
            .collect();
        prop_assert_eq!(as_json, events);
    }
}

#[test]
fn events_that_do_not_fit_are_errors_that_name_both() {
    let mut run = Run::new(replace());
    let undone = Event::Undone { index: 0, step: "fence".into(), learnt: Vec::new() };
    let error = run.apply(undone).unwrap_err().to_string();
    assert!(error.contains("undone") && error.contains("forward"), "{error}");
    let late = Event::StepDone { index: 4, step: "install".into(), seconds: 0.0, learnt: Vec::new() };
    assert!(run.apply(late).is_err());
    assert_eq!(run, Run::new(replace()), "an event that does not fit changes nothing");
    assert!(Run::replay([Event::Interrupted]).is_err());
}
