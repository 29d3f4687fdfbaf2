use std::collections::BTreeMap;

use baton_proto::control::{HandoverFacts, Landing, Outcome, SnapshotFacts};
use baton_proto::data::{Budget, SnapshotId};
use baton_proto::digest::FileDigest;
use baton_proto::rdb::RdbHead;
use baton_proto::{FaultKind, RunId};

use super::*;
use crate::plan::{Plan, Step};
use crate::run::{Event, Learnt};
use crate::topology::fixture::{lineage, named};

fn plan() -> Plan {
    let (method, budget) = (SaveMethod::Bgsave, Budget::default());
    Plan {
        run: RunId::new("cp-test").unwrap(),
        goal: Goal::Copy { start: false },
        failed: None,
        source: named("b"),
        target: named("c"),
        siblings: Vec::new(),
        above: None,
        checks: Vec::new(),
        forecasts: Vec::new(),
        expected: None,
        steps: vec![
            Step::Snapshot { source: named("b"), method },
            Step::Transfer {
                source: named("b"),
                target: named("c"),
                method,
                budget,
                landing: Landing::File { loads: false },
            },
        ],
    }
}

fn snapshot() -> Learnt {
    let head = RdbHead {
        format: "REDIS0010".parse().unwrap(),
        written_by: None,
        lineage: None,
        created_unix: None,
        used_memory_bytes: None,
    };
    let outcome = Outcome::Snapshot(SnapshotFacts {
        id: SnapshotId("1".into()),
        bytes: 525_000_000,
        head,
        keyspace: BTreeMap::new(),
        lineage: lineage('b', 900),
        method: SaveMethod::Bgsave,
        seconds: 6.4,
    });
    Learnt::Outcome { on: named("b"), outcome }
}

fn pulled(packing: PackingFacts) -> Learnt {
    let outcome = Outcome::Pulled(TransferFacts {
        bytes_raw: 525_000_000,
        bytes_wire: 250_000_000,
        digest: FileDigest([7; 32]),
        seconds: 7.0,
        waited_seconds: 0.0,
        chunks_resumed: 0,
        reconnects: 0,
        packing,
    });
    Learnt::Outcome { on: named("c"), outcome }
}

fn packed() -> PackingFacts {
    PackingFacts {
        mean_level: Some(1.26),
        stored: 12,
        plain: 0,
        chunks: 126,
        limited: false,
        why: "the wire is the narrowest".into(),
    }
}

/// A copy whose snapshot's step took a tenth of a second, and whose transfer took seven.
fn copied(packing: PackingFacts) -> Run {
    let done = |index, step: &str, seconds, learnt| Event::StepDone { index, step: step.into(), seconds, learnt };
    Run::replay([
        Event::Begun { plan: Box::new(plan()), by: "op".into() },
        done(0, "snapshot", 0.1, Vec::new()),
        done(1, "transfer", 7.2, vec![snapshot(), pulled(packing)]),
        Event::Ended { end: End::Done },
    ])
    .unwrap()
}

fn text(run: &Run, verbose: bool) -> String {
    let mut out = Vec::new();
    write(run, End::Done, verbose, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn save_and_transfer_tell_their_own_seconds_though_they_overlap_and_the_total_is_the_clocks() {
    let event = event(&copied(packed()), End::Done);
    assert_eq!(event["seconds"]["snapshot"], 6.4);
    assert_eq!(event["seconds"]["transfer"], 7.0);
    assert!((event["seconds"]["total"].as_f64().unwrap() - 7.3).abs() < 1e-9, "{event}");
}

#[test]
fn a_run_that_did_not_come_to_its_snapshot_tells_no_seconds_of_it() {
    let mut run = Run::new(plan());
    run.apply(Event::StepDone { index: 0, step: "snapshot".into(), seconds: 0.1, learnt: Vec::new() }).unwrap();
    let fault = baton_proto::Fault::new(FaultKind::Server, "the disk is full");
    run.apply(Event::StepFailed { index: 1, step: "transfer".into(), fault }).unwrap();
    assert_eq!(seconds(&run).keys().collect::<Vec<_>>(), [&"total"]);
}

#[test]
fn ratio_and_level_are_always_told_and_why_to_who_wants_more() {
    let run = copied(packed());
    let event = event(&run, End::Done);
    assert_eq!((event["ratio"].as_f64(), event["mean_level"].as_f64()), (Some(2.1), Some(1.26)));
    assert_eq!(event["stored_chunks"], 12);
    assert_eq!(event["packing"], "the wire is the narrowest");
    let brief = text(&run, false);
    assert!(brief.contains("(ratio 2.10, zstd level 1.3 at the mean)") && !brief.contains("narrowest"), "{brief}");
    let more = text(&run, true);
    assert!(
        more.contains("packing   zstd level 1.3 at the mean, 12 of 126 chunks stored as they are: the wire"),
        "{more}"
    );
}

#[test]
fn for_how_long_writes_were_blocked_is_told_where_it_is_known() {
    let handed_over = |blocked_seconds, found| {
        let facts = HandoverFacts { lineage: lineage('b', 900), found, blocked_seconds };
        let outcome = Learnt::Outcome { on: named("b"), outcome: Outcome::HandedOver(facts) };
        let plan = Plan { goal: Goal::Switchover { timeout_ms: 10_000 }, steps: Vec::new(), ..plan() };
        let mut run = Run::new(plan);
        run.ledger.extend([outcome]);
        run
    };
    let run = handed_over(Some(0.012_34), false);
    assert_eq!(event(&run, End::Done)["blocked_ms"], 12.3);
    assert!(text(&run, false).contains("writes    were blocked for 12 ms"));
    let run = handed_over(None, true);
    assert_eq!(event(&run, End::Done)["blocked_ms"], Value::Null);
    assert_eq!(event(&run, End::Done)["replicas"], serde_json::json!(["b"]));
    assert!(text(&run, false).contains("c is primary, b follows it already"));
}

#[test]
fn what_was_not_packed_at_all_has_no_level() {
    let run = copied(PackingFacts {
        mean_level: None,
        stored: 126,
        plain: 0,
        chunks: 126,
        limited: false,
        why: "it does not shrink".into(),
    });
    assert_eq!(event(&run, End::Done)["mean_level"], Value::Null);
    let said = text(&run, true);
    assert!(said.contains("(ratio 2.10, stored as it is)"), "{said}");
    assert!(said.contains("126 of 126 chunks stored as they are: it does not shrink"), "{said}");
}
