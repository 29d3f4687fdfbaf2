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
/// By how much a forecast that was measured may be wrong.
const WRONG_MAX: f64 = 2.0;
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

#[track_caller]
fn assert_near(said: &Said) {
    let (seconds, taken, _) = expected(said);
    let wrong = (seconds / taken).max(taken / seconds);
    println!("{seconds:.2} s were expected, {taken:.2} s taken");
    assert!(wrong <= WRONG_MAX, "{seconds} s were expected, {taken} s taken\n{said}");
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
    assert_near(&second);
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
    // A stream goes the same way through the server, but not to the disk.
    slow_down(&world, 0);
    let lost = Lost::after(world);
    let plan = lost.world.coord(&["failover", A, "--to", C, "--dry-run"]).ends_with(code::DONE);
    plan.says(&["streams from memory, since its disk takes", "measured", "no file of it stays there"]);
    let said = lost.world.coord(&["failover", A, "--to", C, "--yes", "--json"]).ends_with(code::DONE);
    let (_, before, _) = expected(&first);
    let (_, taken, _) = expected(&said);
    assert!(taken < before / WRONG_MAX, "{taken} s, and {before} s by the file\n{said}");
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
    assert_near(&second);
    relay.limit(0);
    let limited = copied(&world, &["--max-rate", "1MB/s"]);
    assert_eq!(expected(&limited).2["transfer"]["basis"], "limit", "{limited}");
    assert_near(&limited);
    // What was limited tells nothing of the line: the next plan goes by what was seen before.
    let (_, _, stages) = expected(&copied(&world, &[]));
    let rate = |stage: &Value| stage["bytes_per_second"].as_f64().unwrap();
    assert!(rate(&stages["transfer"]) > 1.5e6, "{stages}");
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
