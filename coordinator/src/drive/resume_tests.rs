//! Runs whose coordinator is lost after any event, and that are taken up to go on or to be undone.

use std::sync::Mutex;

use super::tests::{Memory, Never, Nobody, Puppet, did, promote, replace, switchover};
use super::*;
use crate::plan::{Goal, Plan};
use crate::run::Aim;

/// What a look finds of a step in doubt.
#[derive(Clone, Copy)]
enum World {
    HasDone,
    HasNot,
}

fn taken_up(run: &Run, to: Aim, world: World) -> Event {
    let served = run.doubtful().map(|_| matches!(world, World::HasDone));
    Event::TakenUp { epoch: 2, by: "op".into(), to, served, absent: Vec::new(), without: Vec::new() }
}

/// All that a run wrote that failed at this step, or nowhere.
async fn journal(plan: &Plan, fail_at: Option<(&'static str, FaultKind)>) -> Vec<Event> {
    let puppet = Puppet { fail_at, ..Puppet::default() };
    let begun = Event::Begun { plan: Box::new(plan.clone()), by: "op".into() };
    let mut log = Memory { events: vec![begun], ..Memory::default() };
    drive(&mut Run::new(plan.clone()), &puppet, &mut log, &Nobody, &mut Never).await.unwrap();
    log.events
}

async fn go_on(mut run: Run, to: Aim, world: World) -> (Run, End, Vec<String>) {
    let event = taken_up(&run, to, world);
    run.apply(event).unwrap();
    let puppet = Puppet::default();
    let mut log = Memory::default();
    let end = drive(&mut run, &puppet, &mut log, &Nobody, &mut Never).await.unwrap();
    (run, end, did(&puppet))
}

fn names(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.name().to_owned()).collect()
}

/// Every beginning of a journal of a run that is not over.
fn prefixes(events: &[Event]) -> impl Iterator<Item = Run> {
    (1..=events.len()).map(|end| Run::replay(events.iter().take(end).cloned()).unwrap()).filter(|run| !run.is_over())
}

#[tokio::test]
async fn from_every_beginning_a_resumed_run_does_the_rest_and_ends_as_it_would_have() {
    for plan in [replace(), promote(), switchover()] {
        let all = names(&plan);
        for run in prefixes(&journal(&plan, None).await) {
            let Next::Do(next) = run.next() else { continue };
            for world in [World::HasDone, World::HasNot] {
                let (resumed, end, did) = go_on(run.clone(), Aim::Resume, world).await;
                assert_eq!((end, did), (End::Done, all[next..].to_vec()));
                assert!(resumed.is_over());
            }
        }
    }
}

/// The undos of the first so many steps, in reverse.
fn undos(plan: &Plan, left: usize) -> Vec<String> {
    let undone = plan.steps.iter().take(left).rev().filter(|step| step.has_undo());
    undone.map(|step| format!("undo {}", step.name())).collect()
}

#[tokio::test]
async fn a_run_that_was_resumed_and_cut_off_before_it_did_anything_is_aborted_with_what_was_begun_before() {
    let events = journal(&replace(), None).await;
    for run in prefixes(&events).filter(|run| run.is_begun() && run.doubtful().is_none() && !run.is_served()) {
        let Next::Do(at) = run.next() else { continue };
        let mut resumed = run.clone();
        resumed.apply(taken_up(&run, Aim::Resume, World::HasNot)).unwrap();
        let (_, end, did) = go_on(resumed, Aim::Abort, World::HasNot).await;
        assert_eq!((end, did), (End::RolledBack, undos(&run.plan, at + 1)));
    }
}

#[tokio::test]
async fn a_promotion_of_which_nobody_knows_is_no_rollback_and_is_looked_at_when_the_run_is_taken_up() {
    let events = journal(&promote(), Some(("promote", FaultKind::Peer))).await;
    let run = Run::replay(events).unwrap();
    assert_eq!((run.next(), run.is_over()), (Next::End(End::Failed), false));
    assert!(run.doubtful().is_some());
    let (_, end, did) = go_on(run.clone(), Aim::Resume, World::HasDone).await;
    assert_eq!((end, did[0].as_str()), (End::Done, "promote"));
    let (_, end, did) = go_on(run, Aim::Abort, World::HasNot).await;
    assert_eq!((end, did), (End::RolledBack, Vec::new()));
}

#[tokio::test]
async fn what_was_seen_to_serve_is_not_taken_back_because_it_is_refused_afterwards() {
    let events = journal(&replace(), Some(("attach", FaultKind::Server))).await;
    let mut run = Run::replay(events).unwrap();
    let event = taken_up(&run, Aim::Resume, World::HasDone);
    run.apply(event).unwrap();
    let puppet = Puppet { fail_at: Some(("attach", FaultKind::Refused)), ..Puppet::default() };
    let end = drive(&mut run, &puppet, &mut Memory::default(), &Nobody, &mut Never).await.unwrap();
    assert_eq!((end, did(&puppet), run.is_over()), (End::Failed, vec!["attach".to_owned()], false));
}

#[tokio::test]
async fn with_somebody_away_nobody_is_reinstated_and_what_is_given_up_does_not_hold_the_run() {
    let run = Run::replay(journal(&replace(), None).await.into_iter().take(8)).unwrap();
    let mut away = run.clone();
    let absent = vec![run.plan.target.clone()];
    let without = vec![run.plan.target.host.clone()];
    let up = Event::TakenUp { epoch: 2, by: "op".into(), to: Aim::Abort, served: None, absent, without };
    away.apply(up).unwrap();
    let puppet = Puppet { fail_undo: Some("install"), ..Puppet::default() };
    let end = drive(&mut away, &puppet, &mut Memory::default(), &Nobody, &mut Never).await.unwrap();
    assert_eq!((end, away.is_over()), (End::RolledBack, true));
    assert!(!did(&puppet).contains(&"undo depose".to_owned()));
}

#[tokio::test]
async fn from_every_beginning_an_aborted_run_undoes_what_was_begun_unless_the_target_serves() {
    for plan in [replace(), promote(), switchover()] {
        for run in prefixes(&journal(&plan, None).await) {
            for world in [World::HasDone, World::HasNot] {
                let doubtful = run.doubtful().is_some();
                let served = run.is_served() || (doubtful && matches!(world, World::HasDone));
                let (Next::Do(at), moves) = (run.next(), plan.goal.moves_the_group()) else { continue };
                let (ended, end, did) = go_on(run.clone(), Aim::Abort, world).await;
                assert!(ended.is_over());
                if served && moves {
                    assert_eq!(end, if did.len() == plan.steps.len() - at { End::Done } else { End::Degraded });
                    assert!(did.iter().all(|step| ["persist", "release"].contains(&step.as_str())), "{did:?}");
                    assert!(plan.goal == (Goal::Switchover { timeout_ms: 10_000 }) || did.contains(&"release".into()));
                } else {
                    assert_eq!(end, if served { End::Degraded } else { End::RolledBack });
                    assert_eq!(did, undos(&plan, at + usize::from(run.is_begun())));
                }
            }
        }
    }
}

#[tokio::test]
async fn an_undo_that_was_cut_off_goes_on_whatever_the_run_is_taken_up_for() {
    let fail_at = Some(("gate", FaultKind::Verification));
    for run in prefixes(&journal(&replace(), fail_at).await) {
        let Next::Undo(next) = run.next() else { continue };
        for to in [Aim::Resume, Aim::Abort] {
            let (_, end, did) = go_on(run.clone(), to, World::HasNot).await;
            assert_eq!(end, End::RolledBack);
            assert_eq!(did.first().map(String::as_str), Some(format!("undo {}", names(&replace())[next]).as_str()));
            assert_eq!(did.last().map(String::as_str), Some("undo snapshot"));
        }
    }
}

#[tokio::test]
async fn an_undo_that_failed_is_tried_again_from_there() {
    let puppet =
        Puppet { fail_at: Some(("gate", FaultKind::Refused)), fail_undo: Some("install"), ..Puppet::default() };
    let mut run = Run::new(replace());
    let mut log = Memory::default();
    let end = drive(&mut run, &puppet, &mut log, &Nobody, &mut Never).await.unwrap();
    assert_eq!((end, run.is_over()), (End::Failed, false));
    let (run, end, did) = go_on(run, Aim::Abort, World::HasNot).await;
    assert_eq!((end, run.undo_failures.len()), (End::RolledBack, 0));
    assert_eq!(did, ["undo install", "undo stop", "undo transfer", "undo snapshot"]);
}

#[tokio::test]
async fn a_step_that_halted_the_run_is_done_again_or_all_is_undone_as_a_look_finds() {
    let events = journal(&replace(), Some(("attach", FaultKind::Server))).await;
    let run = Run::replay(events).unwrap();
    assert!(run.doubtful().is_some() && !run.is_over());
    let (_, end, did) = go_on(run.clone(), Aim::Resume, World::HasNot).await;
    assert_eq!((end, did[0].as_str()), (End::Done, "attach"));
    let (_, end, did) = go_on(run.clone(), Aim::Abort, World::HasNot).await;
    assert_eq!((end, did[0].as_str()), (End::RolledBack, "undo load"));
    let (run, end, did) = go_on(run, Aim::Abort, World::HasDone).await;
    assert_eq!((end, did), (End::Degraded, vec!["persist".to_owned(), "release".to_owned()]));
    assert_eq!(run.ledger.shortfalls().count(), 2, "attach and canary are missing");
}

/// Hands whose orders are refused: another has taken the run up.
struct Superseded(Mutex<u32>);

impl Hands for Superseded {
    async fn perform(
        &self,
        _: &Step,
        _: &Ledger,
        _: &(dyn Fn(&InstanceRef, &Progress) + Sync),
    ) -> Result<Vec<Learnt>, Fault> {
        *self.0.lock().unwrap() += 1;
        Err(Fault::new(FaultKind::Held, "taken up by another coordinator"))
    }

    async fn undo(&self, _: &Step) -> Result<Vec<Learnt>, Fault> {
        panic!("what is another's is not undone")
    }
}

#[tokio::test]
async fn a_coordinator_whose_run_was_taken_up_undoes_nothing_and_writes_nothing_more() {
    let mut log = Memory::default();
    let hands = Superseded(Mutex::new(0));
    let stopped = drive(&mut Run::new(replace()), &hands, &mut log, &Nobody, &mut Never).await;
    assert!(matches!(stopped, Err(DriveError::Held(_))), "{stopped:?}");
    assert_eq!(*hands.0.lock().unwrap(), 1);
    assert_eq!(log.events.len(), 1, "only the step's start: {:?}", log.events);
}

/// An operator who interrupts so many times, as soon as something is done.
struct Times(u32);

impl Interrupts for Times {
    async fn next(&mut self) {
        match self.0.checked_sub(1) {
            Some(rest) => self.0 = rest,
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn an_interrupt_lets_a_short_step_end_and_leaves_a_long_one() {
    // The first step is a fence, which is not left.
    let (mut run, mut log, puppet) =
        (Run::new(replace()), Memory::default(), Puppet { slow: true, ..Puppet::default() });
    let end = drive(&mut run, &puppet, &mut log, &Nobody, &mut Times(1)).await.unwrap();
    assert_eq!((end, did(&puppet)), (End::Interrupted, vec!["fence".to_owned()]));
    assert!(log.events.iter().any(|event| matches!(event, Event::StepDone { step, .. } if step == "fence")));
    assert!(!run.is_over(), "it can be resumed");
    // Resumed, the next one is a snapshot, which its agent goes on with.
    let event = taken_up(&run, Aim::Resume, World::HasNot);
    run.apply(event).unwrap();
    let mut log = Memory::default();
    let end = drive(&mut run, &puppet, &mut log, &Nobody, &mut Times(1)).await.unwrap();
    assert_eq!(end, End::Interrupted);
    let ended = [Event::Interrupted, Event::Ended { end }];
    assert_eq!(log.events.split_off(1), ended);
}

#[tokio::test]
async fn a_handover_that_came_to_its_end_after_its_undo_had_failed_is_gone_on_from() {
    let plan = switchover();
    let puppet =
        Puppet { fail_at: Some(("hand-over", FaultKind::Server)), fail_undo: Some("hand-over"), ..Puppet::default() };
    let begun = Event::Begun { plan: Box::new(plan.clone()), by: "op".into() };
    let mut log = Memory { events: vec![begun], ..Memory::default() };
    let mut run = Run::new(plan.clone());
    assert_eq!(drive(&mut run, &puppet, &mut log, &Nobody, &mut Never).await.unwrap(), End::Failed);
    for run in [run, Run::replay(log.events).unwrap()] {
        assert_eq!(run.doubtful().map(Step::name), Some("hand-over"));
        let (_, end, did) = go_on(run.clone(), Aim::Resume, World::HasDone).await;
        assert_eq!((end, did), (End::Done, names(&plan)));
        let (_, end, did) = go_on(run.clone(), Aim::Abort, World::HasDone).await;
        assert_eq!((end, did), (End::Degraded, vec!["persist".to_owned()]), "it is made last, and not taken back");
        for aim in [Aim::Resume, Aim::Abort] {
            let (_, end, did) = go_on(run.clone(), aim, World::HasNot).await;
            assert_eq!((end, did), (End::RolledBack, vec!["undo hand-over".to_owned()]));
        }
    }
}

#[tokio::test]
async fn what_was_to_be_attached_and_was_silent_is_looked_at_once_more_with_its_undo() {
    let mut run = Run::replay(journal(&promote(), Some(("attach", FaultKind::Server))).await).unwrap();
    let Event::TakenUp { epoch, by, to, absent, without, .. } = taken_up(&run, Aim::Abort, World::HasNot) else {
        panic!()
    };
    run.apply(Event::TakenUp { epoch, by, to, served: None, absent, without }).unwrap();
    let puppet = Puppet { fail_undo: Some("transfer"), ..Puppet::default() };
    let end = drive(&mut run, &puppet, &mut Memory::default(), &Nobody, &mut Never).await.unwrap();
    assert_eq!((end, run.doubtful().map(Step::name)), (End::Failed, Some("attach")));
    for world in [World::HasDone, World::HasNot] {
        let (run, end, did) = go_on(run.clone(), Aim::Abort, world).await;
        assert_eq!((end, did[0].as_str(), run.is_over()), (End::Degraded, "undo transfer", true));
    }
}
