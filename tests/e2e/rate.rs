//! How fast a snapshot is sent: set beforehand, changed meanwhile, and told afterwards.

use baton_tests::coord::{Running, Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, C, World};

use crate::scene::{LITTLE_BYTES, assert_no_leftovers, blake3_of};

/// Bytes that no compression makes smaller: several chunks.
const DATA_BYTES: u64 = 12 << 20;
/// A limit under which they take some seconds.
const LIMIT: u64 = 4_000_000;
/// What a limit lets pass beyond itself: a start with a full bucket, and the clock's grain.
const TOLERANCE: f64 = 0.8;

/// A and B are in sync, and hold data that does not shrink.
fn incompressible() -> World {
    with(Dataset::random(21, DATA_BYTES))
}

fn with(dataset: Dataset) -> World {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    dataset.load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world
}

/// A copy of A to C that is limited, and the name of its run.
fn start_limited(world: &World, limit: &str) -> (Running, String) {
    let running = world.start_coord(&["copy", A, C, "--max-rate", limit, "--yes", "--json"]);
    // Chunks are under way side by side: when the first of them is whole may be late.
    let sends = |event: &serde_json::Value| {
        event["state"] == "progress" && event["on"] == C && event["doing"] == "transferring"
    };
    let run = wait_for("the snapshot is being sent", || {
        let events = running.events();
        let planned = events.iter().find(|event| event["event"] == "plan");
        let run = planned.and_then(|event| event["run"].as_str()).map(ToOwned::to_owned);
        run.filter(|_| events.iter().any(sends)).ok_or_else(|| running.so_far().to_string())
    });
    (running, run)
}

/// Seconds that a transfer took by its own account, and those that a limit alone would have it take.
#[track_caller]
fn seconds(said: &Said, limit: u64) -> (f64, f64) {
    let result = said.result();
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("a number is missing\n{said}"));
    (number(&result["seconds"]["transfer"]), number(&result["bytes_wire"]) / limit as f64)
}

#[test]
fn a_limited_transfer_takes_as_long_as_its_limit_says() {
    let world = incompressible();
    let said = world.coord(&["copy", A, C, "--max-rate", "4MB/s", "--yes", "--json"]).ends_with(code::DONE);
    let (took, least) = seconds(&said, LIMIT);
    assert!(took >= TOLERANCE * least, "{took} s, where {least} s are the least\n{said}");
    assert_eq!(said.result()["blake3"], blake3_of(&world.c().dump_path()).as_str(), "{said}");
    assert_no_leftovers(&world);
}

#[test]
fn a_limit_that_is_lifted_meanwhile_lets_the_transfer_finish() {
    let world = incompressible();
    let (running, run) = start_limited(&world, "500kB/s");
    let said = world.coord(&["rate", &run, "unlimited"]).ends_with(code::DONE);
    said.says(&[&run, A, "500.0 kB/s", "unlimited"]);
    let said = running.wait().ends_with(code::DONE);
    let (took, under_the_limit) = seconds(&said, 500_000);
    assert!(took < TOLERANCE * under_the_limit, "{took} s, where the limit takes {under_the_limit} s\n{said}");
    assert_eq!(said.result()["blake3"], blake3_of(&world.c().dump_path()).as_str(), "{said}");
}

#[test]
fn each_change_of_the_rate_tells_the_one_before() {
    let world = incompressible();
    let (running, run) = start_limited(&world, "500kB/s");
    let mut before = 500_000;
    for (rate, bytes) in [("4Mbit/s", 500_000), ("1.5MB/s", 1_500_000), ("1MiB/s", 1 << 20)] {
        let said = world.coord(&["rate", &run, rate, "--json"]).ends_with(code::DONE);
        let events = said.events();
        let event = events.iter().find(|event| event["event"] == "rate").expect("the change is told");
        assert_eq!((event["run"].as_str(), event["source"].as_str()), (Some(run.as_str()), Some(A)), "{said}");
        assert_eq!((&event["was"], &event["max_rate"]), (&serde_json::json!([before]), &bytes.into()), "{said}");
        before = bytes;
    }
    world.coord(&["rate", &run, "unlimited"]).ends_with(code::DONE);
    running.wait().ends_with(code::DONE);
}

#[test]
fn a_run_that_sends_nothing_or_that_nobody_knows_has_no_rate() {
    let world = with(Dataset::mixed(3, LITTLE_BYTES));
    let done = world.coord(&["copy", A, C, "--yes", "--json"]).ends_with(code::DONE);
    let run = done.run();
    let said = world.coord(&["rate", &run, "50MB/s"]).ends_with(code::PREFLIGHT);
    said.says(&["error:", "nothing of run", &run, A, "done", "hint:"]);
    world.coord(&["rate", "cp-none", "50MB/s"]).ends_with(code::USAGE).says(&["error:", "cp-none", "coord runs"]);
}

#[test]
fn what_is_no_rate_is_refused_before_anything_is_looked_at() {
    let world = World::new();
    let refused = [
        ("0MB/s", "never end"),
        ("999B/s", "too slow"),
        ("50", "50MB/s"),
        ("fast", "no number"),
        ("5Mb/s", "MB/s or Mbit/s"),
    ];
    for (rate, says) in refused {
        world.coord(&["copy", A, C, "--max-rate", rate]).ends_with(code::USAGE).says(&[rate, says]);
        world.coord(&["failover", A, "--to", C, "--max-rate", rate]).ends_with(code::USAGE).says(&[rate, says]);
        world.coord(&["rate", "cp-none", rate]).ends_with(code::USAGE).says(&[rate, says]);
    }
    world.coord(&["copy", A, C, "--cpu", "0"]).ends_with(code::USAGE).says(&["--cpu"]);
}

#[test]
fn what_was_chosen_for_packing_is_told_and_why_to_who_wants_more() {
    let world = with(Dataset::json(4, 2 << 20));
    let said = world.coord(&["copy", A, C, "--cpu", "1", "--yes", "-v"]).ends_with(code::DONE);
    said.says(&["packed by 1 core", "ratio", "zstd level", "packing", "chunks stored as they are"]);
    std::fs::remove_file(world.c().dump_path()).unwrap();
    let said = world.coord(&["copy", A, C, "--yes", "--json"]).ends_with(code::DONE);
    let result = said.result();
    assert!(result["ratio"].as_f64().is_some_and(|ratio| ratio > 1.5), "{said}");
    assert!(result["mean_level"].is_number() && result["stored_chunks"].is_u64(), "{said}");
    assert!(result["packing"].as_str().is_some_and(|why| !why.is_empty()), "{said}");
}
