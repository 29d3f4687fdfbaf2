//! Journals as earlier builds wrote them, in `journals/`: a run that an older `coord` began is taken up by a newer one, so each
//! line is read, and nothing of it is lost. New ones are kept by
//! `BATON_JOURNALS=DIR tests/run NAME`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use baton_coord::journal::{Record, parse};
use baton_coord::plan::Step;
use baton_coord::run::{Event, Run};
use serde_json::Value;

/// Lists an enum's variants, and tells which one a value is.
macro_rules! variants {
    ($all:ident $name:ident: $type:ident { $($variant:ident)* }) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];
        fn $name(value: &$type) -> &'static str {
            match value { $($type::$variant { .. } => stringify!($variant),)* }
        }
    };
}
variants!(EVENTS event: Event {
    Begun StepStarted StepDone StepFailed UndoStarted Undone UndoFailed TakenUp Interrupted Ended
});
variants!(STEPS step: Step {
    Fence Depose SaveAside Promote HandOver Backlog Spool Snapshot Transfer Stop Install Start Boot Gate Attach
    AttachSiblings EnableAof Persist Canary LeftBehind Release
});

/// Whether all that stands in `less` stands in `more`: an object may have more.
fn holds(more: &Value, less: &Value) -> bool {
    match (more, less) {
        (Value::Object(more), Value::Object(less)) => {
            less.iter().all(|(name, value)| more.get(name).is_some_and(|more| holds(more, value)))
        }
        (Value::Array(more), Value::Array(less)) => {
            more.len() == less.len() && more.iter().zip(less).all(|(more, less)| holds(more, less))
        }
        _ => more == less,
    }
}

fn journals() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

fn records(name: &str, text: &str) -> Vec<Record> {
    parse(text.as_bytes()).unwrap_or_else(|(line, error)| panic!("{name}, line {line}: {error}"))
}

#[test]
fn what_earlier_builds_wrote_is_read_and_nothing_of_it_is_lost() {
    for (name, text) in journals() {
        let records = records(&name, &text);
        assert_eq!(records.len(), text.lines().count(), "{name}");
        for (record, line) in records.iter().zip(text.lines()) {
            let (again, before) = (serde_json::to_value(record).unwrap(), serde_json::from_str(line).unwrap());
            assert!(holds(&again, &before), "{name}\n{line}\nis now\n{again}");
        }
    }
}

#[test]
fn a_run_is_taken_up_wherever_its_journal_breaks_off() {
    for (name, text) in journals() {
        let events: Vec<Event> = records(&name, &text).into_iter().map(|record| record.event).collect();
        for count in 1..=events.len() {
            let run = Run::replay(events[..count].iter().cloned());
            assert!(run.is_ok(), "{name}, of {count} lines: {:?}", run.err());
        }
    }
}

#[test]
fn every_kind_of_event_and_of_step_is_in_one_of_them() {
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    for (name, text) in journals() {
        for record in records(&name, &text) {
            seen.0.insert(event(&record.event));
            if let Event::Begun { plan, .. } = &record.event {
                seen.1.extend(plan.steps.iter().map(step));
            }
        }
    }
    let missing = |all: &[&'static str], seen: &BTreeSet<&str>| -> Vec<&str> {
        all.iter().filter(|name| !seen.contains(**name)).copied().collect()
    };
    assert_eq!(missing(EVENTS, &seen.0), Vec::<&str>::new());
    assert_eq!(missing(STEPS, &seen.1), Vec::<&str>::new());
}
