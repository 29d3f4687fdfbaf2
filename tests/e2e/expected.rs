//! What a plan says of the time that it takes: assumed the first time, measured the second, and then near what happens.
//! Stages are made slow by what can be switched on and off: a save by a pause at each key, a line by a relay.

use baton_tests::coord::{Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::relay::Relay;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{A, B, C, World};
use serde_json::Value;

use crate::scene::{Lost, on_every_server};

on_every_server! {
    a_slow_save_is_foretold_by_the_run_before
    a_source_whose_disk_was_seen_to_be_slow_streams_by_itself
}

/// Enough for a sight to be kept.
const DATA_BYTES: u64 = 8 << 20;
/// Microseconds at each key of a save.
const SAVE_DELAY: u32 = 150;
/// By how much a forecast that was measured may be wrong, where nobody else wants the cores...
const WRONG_MAX: f64 = 2.0;
/// ...which is so in one of so many runs: others may have been busy in the run that was measured, or be in the one foretold.
const TRIES: usize = 5;
const COPY: [&str; 6] = ["copy", B, C, "--start", "--yes", "--json"];

/// A world in which B follows A, C runs empty, and B's saves can be made slow.
fn world(server: &str) -> World {
    let world = World::in_sync(&ServerProgram::named(server));
    Dataset::mixed(7, DATA_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world.c().start_server();
    world
}

fn slow_down(world: &World, microseconds: u32) {
    world.b().client().call(&["CONFIG", "SET", "rdb-key-save-delay", &microseconds.to_string()]);
}

/// Copies B to C, with more options, and empties C again.
#[track_caller]
fn copied(world: &World, more: &[&str]) -> Said {
    let said = world.coord(&[&COPY[..], more].concat()).ends_with(code::DONE);
    let mut c = world.c().client();
    c.call(&["FLUSHALL"]);
    if world.c().program.is_7_or_later() {
        c.call(&["FUNCTION", "FLUSH"]);
    }
    said
}

/// What was expected of a run: its seconds, those that it took, and on what stages rest.
fn expected(said: &Said) -> (f64, f64, Value) {
    let expected = said.result()["expected"].clone();
    let seconds = |name: &str| expected[name].as_f64().unwrap_or_else(|| panic!("no {name}\n{said}"));
    (seconds("seconds"), seconds("taken"), expected.clone())
}

/// Repeats a run until what was expected of one is near to what it took.
#[track_caller]
fn assert_near_in_one(copied: impl Fn() -> Said) {
    let mut seen = Vec::new();
    let is_near = |(seconds, taken): (f64, f64)| (seconds / taken).max(taken / seconds) <= WRONG_MAX;
    while !seen.last().copied().is_some_and(is_near) {
        assert!(seen.len() < TRIES, "expected, taken: {seen:?}");
        let (seconds, taken, _) = expected(&copied());
        seen.push((seconds, taken));
    }
}

fn a_slow_save_is_foretold_by_the_run_before(server: &str) {
    let world = world(server);
    slow_down(&world, SAVE_DELAY);
    let first = copied(&world, &[]);
    let (seconds, taken, stages) = expected(&first);
    assert!(taken > seconds * WRONG_MAX, "the save is slower than anybody assumes\n{first}");
    for stage in ["save", "transfer", "load"] {
        assert_eq!(stages[stage]["basis"], "assumed", "{first}");
    }
    // As it was asked for: by itself it would stream now.
    let second = copied(&world, &["--snapshot", "save"]);
    let (_, _, stages) = expected(&second);
    for stage in ["save", "transfer", "load"] {
        assert_eq!(stages[stage]["basis"], "measured", "{stage}: {second}");
    }
    assert_near_in_one(|| copied(&world, &["--snapshot", "save"]));
    world.coord(&["show", &second.run()]).says(&["expected", "until machine-c had loaded", "taken"]);
    let plan = world.coord(&["copy", B, C, "--start", "--dry-run", "--snapshot", "save"]).ends_with(code::DONE);
    let line = plan.stdout.lines().find(|line| line.contains("expected-time")).unwrap_or_else(|| panic!("{plan}"));
    assert_eq!(line.matches("(measured ").count(), 3, "{line}");
    assert!(!line.contains("assumed"), "{line}");
}

fn a_source_whose_disk_was_seen_to_be_slow_streams_by_itself(server: &str) {
    let world = world(server);
    slow_down(&world, SAVE_DELAY);
    let first = copied(&world, &[]);
    assert!(!first.stderr.contains("stream"), "nothing is known of the disk yet\n{first}");
    // Where others want the cores, the way to C may be seen to be as slow as the disk of B.
    let slow = "streams from memory, since its disk takes";
    let is_seen = || world.coord(&["copy", B, C, "--start", "--dry-run"]).ends_with(code::DONE).stdout.contains(slow);
    let tries =
        (0..TRIES).find(|_| is_seen() || (!copied(&world, &["--snapshot", "save"]).stderr.contains(slow) && is_seen()));
    assert!(tries.is_some(), "the disk is never seen to be slow");
    // A stream goes the same way through the server, but not to the disk.
    slow_down(&world, 0);
    let lost = Lost::after(world);
    let plan = lost.world.coord(&["failover", A, "--to", C, "--dry-run"]).ends_with(code::DONE);
    plan.says(&[slow, "measured", "no file of it stays there"]);
    lost.world.coord(&["failover", A, "--to", C, "--yes", "--json"]).ends_with(code::DONE).says(&[slow]);
    lost.assert_replaced();
}

#[test]
fn a_slow_line_is_foretold_by_the_run_before_and_a_limit_by_itself() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let relay = Relay::to(world.b().agent_address());
    world.b().reach_agent_via(relay.address);
    world.write_coord_toml();
    world.start();
    Dataset::random(11, DATA_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world.c().start_server();
    relay.limit(2 << 20);
    let first = copied(&world, &[]);
    let (seconds, taken, _) = expected(&first);
    assert!(taken > seconds * WRONG_MAX, "the line is slower than anybody assumes\n{first}");
    let second = copied(&world, &[]);
    assert_eq!(expected(&second).2["transfer"]["basis"], "measured", "{second}");
    assert_near_in_one(|| copied(&world, &[]));
    let plan = world.coord(&["copy", B, C, "--start", "--dry-run", "--max-rate", "1kB/s"]).ends_with(code::DONE);
    plan.says(&["(the limit)"]);
    // What was limited tells nothing of the line: the next plan goes by what was seen before.
    let transfers = || {
        let seen = std::fs::read(world.c().dir.join("state/speeds-default.json")).unwrap();
        let seen: Vec<Value> = serde_json::from_slice(&seen).unwrap();
        seen.into_iter().filter(|sight| sight["stage"].to_string().contains("transfer")).collect::<Vec<_>>()
    };
    let before = transfers();
    assert!(!before.is_empty(), "{before:?}");
    copied(&world, &["--max-rate", "1MB/s"]);
    assert_eq!(transfers(), before);
}

#[test]
fn a_file_of_speeds_that_is_torn_is_begun_anew_and_stops_nobody() {
    let world = world(REDIS_7_0);
    copied(&world, &[]);
    let file = world.c().dir.join("state/speeds-default.json");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (_, _, stages) = expected(&copied(&world, &[]));
    assert_eq!((&stages["load"]["basis"], &stages["transfer"]["basis"]), (&"assumed".into(), &"assumed".into()));
    assert_eq!(stages["save"]["basis"], "measured", "that of the source is whole");
    let (_, _, stages) = expected(&copied(&world, &[]));
    assert_eq!(stages["load"]["basis"], "measured");
}
