//! Every state and every event: what follows, or that the event does not fit. To change the machine is to change this table.
//!
//! The plan has five steps: `fence` (nothing to undo), `snapshot` (undone), `attach` (makes the new primary; halts the run),
//! `canary` (missing, if it fails), `release` (also done where a run is given up).

use baton_proto::control::SaveMethod;
use baton_proto::{HostName, HostPort, InstanceName, InstanceRef, RunId};

use super::*;
use crate::plan::step::Upstream;
use crate::plan::{Goal, Mode};
use crate::run::event::Aim;

fn instance(host: &str) -> InstanceRef {
    InstanceRef { host: HostName::new(host).unwrap(), instance: InstanceName::new("default").unwrap() }
}

fn plan() -> Plan {
    let (b, c) = (instance("b"), instance("c"));
    Plan {
        run: RunId::new("fo-table").unwrap(),
        goal: Goal::Failover(Mode::Replace),
        failed: Some("a".into()),
        source: b.clone(),
        target: c.clone(),
        siblings: Vec::new(),
        above: None,
        checks: Vec::new(),
        forecasts: Vec::new(),
        expected: None,
        steps: vec![
            Step::Fence { replicas: Vec::new() },
            Step::Snapshot { source: b.clone(), method: SaveMethod::Save },
            Step::Attach { replica: b.clone(), to: Upstream { instance: c.clone(), address: HostPort::new("c", 1) } },
            Step::Canary { primary: c.clone(), replica: b.clone() },
            Step::Release { source: b, target: c, keep_old: false },
        ],
    }
}

/// An event by its short name; `index` is that of the step at which the run stands.
fn event(name: &str, index: usize) -> Event {
    let step = || plan().steps.get(index).map_or_else(String::new, |step| step.name().to_owned());
    let fault = |kind| Fault::new(kind, "as told");
    let taken_up =
        |to, served| Event::TakenUp { epoch: 2, by: "op".into(), to, served, absent: Vec::new(), without: Vec::new() };
    match name {
        "start" => Event::StepStarted { index, step: step() },
        "done" => Event::StepDone { index, step: step(), seconds: 1.0, learnt: Vec::new() },
        "fail" => Event::StepFailed { index, step: step(), fault: fault(FaultKind::Server) },
        "refuse" => Event::StepFailed { index, step: step(), fault: fault(FaultKind::Refused) },
        "other" => Event::StepDone { index: index + 1, step: step(), seconds: 1.0, learnt: Vec::new() },
        "undo" => Event::UndoStarted { index, step: step() },
        "undone" => Event::Undone { index, step: step(), learnt: Vec::new() },
        "unfail" => Event::UndoFailed { index, step: step(), fault: fault(FaultKind::Host) },
        "resume" => taken_up(Aim::Resume, None),
        "abort" => taken_up(Aim::Abort, None),
        "abort+" => taken_up(Aim::Abort, Some(true)),
        "abort-" => taken_up(Aim::Abort, Some(false)),
        "stop" => Event::Interrupted,
        "end" => Event::Ended { end: End::Failed },
        "end!" => Event::Ended { end: End::Interrupted },
        other => panic!("no event {other}"),
    }
}

/// A state in a few letters: `do 1` is to begin step 1, `in 1` has begun it, `un<2` undoes what is below 2.
fn shown(run: &Run) -> String {
    let stand = |stand| match stand {
        Stand::Forward { index, begun: false } => format!("do {index}"),
        Stand::Forward { index, begun: true } => format!("in {index}"),
        Stand::Undoing { left } => format!("un<{left}"),
    };
    match run.phase {
        Phase::At(at) => stand(at),
        Phase::Stopped { at, end: End::Failed } => format!("{} failed", stand(at)),
        Phase::Stopped { at, .. } => format!("{} stopped", stand(at)),
        Phase::Ended(end) => format!("{end:?}").to_lowercase(),
    }
}

/// How each state is come to: events with the step at which they happen.
const STATES: &[(&str, &[(&str, usize)])] = &[
    ("do 1", &[("start", 0), ("done", 0)]),
    ("in 1", &[("start", 0), ("done", 0), ("start", 1)]),
    ("in 2", &[("start", 0), ("done", 0), ("start", 1), ("done", 1), ("start", 2)]),
    ("in 3", &[("start", 0), ("done", 0), ("start", 1), ("done", 1), ("start", 2), ("done", 2), ("start", 3)]),
    ("un<2", &[("start", 0), ("done", 0), ("start", 1), ("fail", 1)]),
    ("in 1 stopped", &[("start", 0), ("done", 0), ("start", 1), ("stop", 1)]),
    ("in 2 failed", &[("start", 0), ("done", 0), ("start", 1), ("done", 1), ("start", 2), ("fail", 2)]),
    ("un<2 failed", &[("start", 0), ("done", 0), ("start", 1), ("fail", 1), ("unfail", 1), ("end", 0)]),
];

/// The step at which a state's events happen.
fn at(state: &str) -> usize {
    match state {
        "in 2" | "in 2 failed" => 2,
        "in 3" => 3,
        _ => 1,
    }
}

/// What follows in each state, in the order of [`STATES`]. A dash is an event that does not fit.
#[rustfmt::skip]
const TABLE: &[(&str, [&str; 8])] = &[
    //           do 1       in 1           in 2           in 3           un<2           in 1 stopped    in 2 failed    un<2 failed
    ("start",  ["in 1",    "in 1",        "in 2",        "in 3",        "-",           "-",            "-",           "-"]),
    ("done",   ["do 2",    "do 2",        "do 3",        "do 4",        "-",           "-",            "-",           "-"]),
    ("fail",   ["un<2",    "un<2",        "in 2 failed", "do 4",        "-",           "-",            "-",           "-"]),
    ("refuse", ["un<2",    "un<2",        "un<3",        "do 4",        "-",           "-",            "-",           "-"]),
    ("other",  ["-",       "-",           "-",           "-",           "-",           "-",            "-",           "-"]),
    ("undo",   ["-",       "-",           "-",           "-",           "un<2",        "-",            "-",           "-"]),
    ("undone", ["-",       "-",           "-",           "-",           "un<1",        "-",            "-",           "-"]),
    ("unfail", ["-",       "-",           "-",           "-",           "un<1",        "-",            "-",           "-"]),
    ("resume", ["do 1",    "in 1",        "in 2",        "in 3",        "un<2",        "in 1",         "in 2",        "un<2"]),
    ("abort",  ["un<1",    "un<2",        "do 4",        "do 4",        "un<2",        "un<2",         "do 4",        "un<2"]),
    ("abort+", ["do 4",    "do 4",        "do 4",        "do 4",        "un<2",        "do 4",         "do 4",        "un<2"]),
    ("abort-", ["un<1",    "un<2",        "un<3",        "do 4",        "un<2",        "un<2",         "un<3",        "un<2"]),
    ("stop",   ["do 1 stopped", "in 1 stopped", "in 2 stopped", "in 3 stopped", "un<2 stopped", "-",   "-",           "-"]),
    ("end",    ["-",       "-",           "-",           "-",           "-",           "-",            "in 2 failed", "un<2 failed"]),
    ("end!",   ["-",       "-",           "-",           "-",           "-",           "in 1 stopped", "-",           "-"]),
];

#[test]
fn every_event_in_every_state_has_one_outcome_and_one_that_does_not_fit_changes_nothing() {
    for (column, (name, path)) in STATES.iter().enumerate() {
        let mut run = Run::new(plan());
        for (event_name, index) in *path {
            run.apply(event(event_name, *index)).unwrap();
        }
        assert_eq!(shown(&run), *name);
        for (event_name, outcomes) in TABLE {
            let mut after = run.clone();
            let applied = after.apply(event(event_name, at(name)));
            let seen = if applied.is_ok() { shown(&after) } else { "-".to_owned() };
            assert_eq!(seen, outcomes[column], "{event_name} in {name}");
            assert!(applied.is_ok() || after == run, "{event_name} in {name} changes something");
        }
    }
}

#[test]
fn a_run_that_is_over_takes_in_nothing_more() {
    let mut run = Run::new(plan());
    for index in 0..5 {
        run.apply(event("start", index)).unwrap();
        run.apply(event("done", index)).unwrap();
    }
    run.apply(Event::Ended { end: End::Done }).unwrap();
    assert!(run.is_over() && run.next() == Next::End(End::Done));
    for (name, _) in TABLE {
        assert!(run.apply(event(name, 4)).is_err(), "{name}");
    }
    assert_eq!(shown(&run), "done");
}

#[test]
fn a_run_that_cannot_clear_away_stays_open_and_does_its_last_steps_again() {
    // Also what could be taken back, were it not done: a replica that was built.
    for goal in [plan().goal, Goal::Failover(Mode::Promote), Goal::Clone] {
        stays_open(Plan { goal, ..plan() });
    }
}

fn stays_open(plan: Plan) {
    let mut run = Run::new(plan);
    for index in 0..3 {
        run.apply(event("start", index)).unwrap();
        run.apply(event("done", index)).unwrap();
    }
    for index in 3..5 {
        run.apply(event("start", index)).unwrap();
        run.apply(event("fail", index)).unwrap();
    }
    assert_eq!((run.next(), run.is_over(), shown(&run)), (Next::End(End::Degraded), false, "do 3 stopped".to_owned()));
    run.apply(Event::Ended { end: End::Degraded }).unwrap();
    assert!(!run.is_over() && run.ledger.shortfalls().count() == 1);

    let mut resumed = run.clone();
    resumed.apply(event("resume", 3)).unwrap();
    assert_eq!((resumed.next(), resumed.ledger.shortfalls().count()), (Next::Do(3), 0));
    for index in 3..5 {
        resumed.apply(event("start", index)).unwrap();
        resumed.apply(event("done", index)).unwrap();
    }
    resumed.apply(Event::Ended { end: End::Done }).unwrap();
    assert!(resumed.is_over());

    // Aborted, it only clears away; what stands in the way of that on a host that is given up is missing.
    run.apply(event("abort", 3)).unwrap();
    assert_eq!(run.next(), Next::Do(4));
    run.apply(event("start", 4)).unwrap();
    run.apply(event("fail", 4)).unwrap();
    run.apply(Event::Ended { end: End::Degraded }).unwrap();
    assert!(!run.is_over());
    let without = vec![HostName::new("c").unwrap()];
    run.apply(Event::TakenUp { epoch: 3, by: "op".into(), to: Aim::Abort, served: None, absent: Vec::new(), without })
        .unwrap();
    run.apply(event("start", 4)).unwrap();
    run.apply(event("fail", 4)).unwrap();
    run.apply(Event::Ended { end: End::Degraded }).unwrap();
    assert!(run.is_over());
}
