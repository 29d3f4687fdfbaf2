//! `coord clone`: a replica of a server that serves, built from a snapshot and what was written since.

use baton_tests::conf::Conf;
use baton_tests::coord::{Running, Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::host::Host;
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::steady::{self, Steady};
use baton_tests::wait::{wait_for, wait_until};
use baton_tests::world::{A, B, C, World};

use crate::scene::{assert_no_leftovers, configured_primary, counts, on_every_server, resyncs};

on_every_server! {
    a_lone_primary_that_is_written_to_is_cloned_live
    a_lone_primary_that_is_written_to_is_cloned_by_file
}

pub(crate) const CLONE: [&str; 5] = ["clone", A, C, "--yes", "--json"];
/// No compression makes it smaller, so that a rate makes it last.
const DATA_BYTES: u64 = 6 << 20;
/// Slow enough for more to be written than the backlog held at first.
const RATE: &str = "2MB/s";
/// Bytes a second that are written.
const WRITES: u64 = 800_000;
/// The size of A's backlog that is configured, which Valkey has larger by default.
const BACKLOG_BYTES: i64 = 1 << 20;

/// A alone, with its data and no replica ever, and C, which waits with nothing but its agent.
pub(crate) fn lone(server: &str, configure: impl Fn(&mut Conf)) -> World {
    let mut world = World::new();
    for name in [A, C] {
        world.add(name, &ServerProgram::named(server));
        world.host(name).configure(&configure);
    }
    world.a().configure(|conf| {
        conf.set("repl-backlog-size", BACKLOG_BYTES).set("repl-backlog-ttl", "1234");
    });
    world.start();
    Dataset::random(5, DATA_BYTES).load(&mut world.a().client());
    world
}

pub(crate) fn offset(host: &Host) -> u64 {
    host.info("master_repl_offset").parse().unwrap()
}

pub(crate) fn await_step(running: &Running, step: &str) {
    let begun = |event: &serde_json::Value| event["event"] == "step" && event["step"] == step;
    wait_until(&format!("step {step} has begun"), || running.events().iter().any(begun));
}

#[track_caller]
fn assert_settings_are_back(source: &Host) {
    let mut client = source.client();
    let is = ["repl-backlog-size", "repl-backlog-ttl", "repl-diskless-sync-delay"].map(|name| client.config(name));
    assert_eq!(is, [BACKLOG_BYTES.to_string(), "1234".to_owned(), "0".to_owned()]);
}

/// Asserts that C follows A for good, holds what A holds, and that nothing is left of the run.
#[track_caller]
pub(crate) fn assert_cloned(world: &World) {
    world.c().await_in_sync_with(world.a());
    assert_eq!(world.c().content(), world.a().content());
    assert_eq!(configured_primary(world.c()), Some(format!("{} {}", world.a().ip, baton_tests::host::SERVER_PORT)));
    assert_settings_are_back(world.a());
    assert_no_leftovers(world);
}

/// Clones A under writes, slowly, and asserts that the backlog which A had would not have done.
fn cloned_under_writes(server: &str, landing: &str) -> (World, Said) {
    let world = lone(server, |_| {});
    let writer = Steady::start(world.a(), WRITES);
    wait_until("some is written", || world.a().client().call(&["EXISTS", &steady::key(50)]).int() == 1);
    let running = world.start_coord(&[&CLONE[..], &["--landing", landing, "--max-rate", RATE]].concat());
    await_step(&running, "transfer");
    let begun = offset(world.a());
    await_step(&running, "attach");
    let written = offset(world.a()) - begun;
    let said = running.wait().ends_with(code::DONE);
    let acknowledged = writer.acknowledged();
    assert!(written > BACKLOG_BYTES as u64, "{written} bytes were written meanwhile, too little to tell: {said}");
    let result = said.result();
    assert_eq!((&result["outcome"], &result["resync"]), (&"done".into(), &"partial".into()), "{said}");
    assert_eq!((&result["landing"], &result["primary"]), (&landing.into(), &A.into()), "{said}");
    assert_eq!(result["replicas"], serde_json::json!([C]), "{said}");
    // The one full resync that is counted is the question by which the backlog came to be: nothing was sent for it.
    assert_eq!(resyncs(world.a()), counts(1, 1), "{said}");
    world.c().await_in_sync_with(world.a());
    assert_eq!(steady::missing_on(world.c(), &acknowledged), [""; 0], "what A has acknowledged");
    (world, said)
}

fn a_lone_primary_that_is_written_to_is_cloned_live(server: &str) {
    let (world, _) = cloned_under_writes(server, "live");
    assert_cloned(&world);
}

fn a_lone_primary_that_is_written_to_is_cloned_by_file(server: &str) {
    let (world, _) = cloned_under_writes(server, "file");
    assert_cloned(&world);
}

#[test]
fn a_primary_with_a_password_is_cloned_and_is_not_forked_but_for_its_snapshot() {
    for server in [REDIS_6_2, REDIS_7_0, VALKEY_9_1] {
        let world = lone(server, |conf| {
            conf.set("requirepass", "open").set("masterauth", "open").set("save", "\"\"");
        });
        let said = world.coord(&CLONE).ends_with(code::DONE);
        assert_eq!(said.result()["resync"], "partial", "{said}");
        assert_eq!(world.a().info("total_forks"), "1", "{said}");
        assert_cloned(&world);
    }
}

#[test]
fn a_replica_is_cloned_and_followed_itself() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    Dataset::mixed(5, DATA_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    let said = world.coord(&["clone", B, C, "--yes", "--json"]).ends_with(code::DONE);
    let result = said.result();
    assert_eq!((&result["resync"], &result["primary"]), (&"partial".into(), &A.into()), "{said}");
    assert_eq!(resyncs(world.b()), counts(0, 1), "{said}");
    world.c().await_in_sync_with(world.b());
    assert_eq!(world.c().content(), world.a().content());
    assert_no_leftovers(&world);
}

#[test]
fn a_dry_run_tells_rate_time_and_size_and_changes_nothing() {
    let world = lone(REDIS_7_0, |_| {});
    let writer = Steady::start(world.a(), WRITES);
    let said = world.coord(&["clone", A, C, "--dry-run", "--max-rate", RATE]).ends_with(code::DONE);
    writer.acknowledged();
    said.says(&["source-backlog", "are written", "pass until it follows", "without a fork", "partial (", "to resend"]);
    assert_eq!(world.a().info("repl_backlog_active"), "0");
    assert_eq!(resyncs(world.a()), counts(0, 0));
    assert_settings_are_back(world.a());
    assert!(world.c().server_pids().is_empty());
}

#[test]
fn writes_that_no_backlog_could_hold_are_refused_beforehand() {
    let world = lone(REDIS_7_0, |_| {});
    let used: u64 = world.a().info("used_memory").parse().unwrap();
    world.a().client().call(&["CONFIG", "SET", "maxmemory", &(used + (8 << 20)).to_string()]);
    let writer = Steady::start(world.a(), WRITES);
    let said = world.coord(&[&CLONE[..], &["--max-rate", "200kB/s"]].concat());
    writer.acknowledged();
    said.ends_with(code::PREFLIGHT).says(&["source-backlog", "cannot hold more", "repl-backlog-size"]);
    assert_eq!(world.a().info("repl_backlog_active"), "0");
}

#[test]
fn writes_that_outgrow_what_was_foretold_are_told_as_degraded() {
    let world = lone(REDIS_7_0, |_| {});
    let running = world.start_coord(&[&CLONE[..], &["--max-rate", RATE]].concat());
    await_step(&running, "transfer");
    let value = "x".repeat(1 << 20);
    (0..4).for_each(|number| drop(world.a().client().call(&["SET", &format!("burst:{number}"), &value])));
    let said = running.wait().ends_with(code::DEGRADED);
    let result = said.result();
    assert_eq!((&result["outcome"], &result["resync"]), (&"degraded".into(), &"full".into()), "{said}");
    said.says(&["where a partial resync was foretold"]);
    world.c().await_in_sync_with(world.a());
    assert_eq!(world.c().content(), world.a().content());
    assert_settings_are_back(world.a());
}

/// A clone of A in the middle of its transfer.
fn in_the_middle(world: &World) -> Running {
    let running = world.start_coord(&[&CLONE[..], &["--max-rate", "1MB/s"]].concat());
    let half = |event: &serde_json::Value| {
        event["step"] == "transfer" && event["bytes_done"].as_u64().is_some_and(|bytes| bytes > 0)
    };
    wait_for("a part of the snapshot has crossed", || {
        if running.events().iter().any(half) { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    running
}

#[test]
fn the_agents_of_both_ends_may_be_restarted_half_way() {
    for name in [A, C] {
        let world = lone(REDIS_7_0, |_| {});
        let writer = Steady::start(world.a(), WRITES);
        let running = in_the_middle(&world);
        world.host(name).restart_agent();
        let said = running.wait().ends_with(code::DONE);
        writer.acknowledged();
        assert_eq!(said.result()["resync"], "partial", "the agent of {name} was restarted: {said}");
        assert_cloned(&world);
    }
}

#[test]
fn a_server_that_dies_half_way_has_the_run_rolled_back_and_the_source_as_it_was() {
    let world = lone(REDIS_6_2, |_| {});
    let running = in_the_middle(&world);
    world.c().kill_server();
    let said = running.wait().ends_with(code::ROLLED_BACK);
    said.says(&["error: transfer", "run `coord clone machine-a machine-c`"]);
    assert_settings_are_back(world.a());
    assert_no_leftovers(&world);
}
