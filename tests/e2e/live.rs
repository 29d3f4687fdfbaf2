//! `coord failover` where C's server is fed while the snapshot arrives: what is chosen without being asked, what the result
//! tells, and what is left when it breaks. `feed` has the orders to agents one by one.

use baton_tests::conf::Conf;
use baton_tests::coord::{Running, Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::relay::Relay;
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, World};

use crate::scene::{Lost, MIXED_BYTES, counts, files, lagging_sibling, on_every_server, resyncs};

on_every_server! {
    an_empty_c_is_fed_and_b_joins_it_partially
    a_stopped_c_is_started_empty_and_fed
    a_c_with_its_append_only_file_on_keeps_it_on
    a_c_that_is_fed_follows_a_promoted_b_that_is_written_to
    a_stream_is_fed_as_it_comes_and_is_no_file_on_b
}

const FAILOVER: [&str; 6] = ["failover", A, "--to", C, "--yes", "--json"];
/// Bytes that no compression makes smaller: several chunks.
const DATA_BYTES: u64 = 20 << 20;
/// Slow enough for a test to do something in the middle of it.
const SLOW: u64 = 4 << 20;

/// A is lost, B is frozen, C is configured as told.
fn lost(server: &str, configure: impl FnOnce(&mut Conf)) -> Lost {
    let world = World::of_three(&ServerProgram::named(server));
    world.c().configure(configure);
    Lost::with(world, Dataset::mixed(7, MIXED_BYTES))
}

#[track_caller]
fn failover(lost: &Lost, more: &[&str]) -> Said {
    let said = lost.world.coord(&[&FAILOVER[..], more].concat()).ends_with(code::DONE);
    let result = said.result();
    assert_eq!((&result["outcome"], &result["landing"]), (&"done".into(), &"live".into()), "{said}");
    said
}

fn an_empty_c_is_fed_and_b_joins_it_partially(server: &str) {
    let lost = lost(server, |_| {});
    lost.world.c().start_server();
    let pids = lost.world.c().server_pids();
    let said = failover(&lost, &[]);
    let result = said.result();
    // By file it would be a full one on 6.2.
    assert_eq!(resyncs(lost.world.c()), counts(0, 1), "{said}");
    assert_eq!(result["resync"], "partial", "{said}");
    assert_eq!((&result["primary"], &result["replicas"]), (&C.into(), &[B].as_slice().into()), "{said}");
    assert_eq!(result["keys"], lost.before.total(), "{said}");
    for part in ["snapshot", "transfer", "load", "attach", "total"] {
        assert!(result["seconds"][part].is_number(), "no seconds of {part}: {said}");
    }
    assert_eq!(lost.world.c().server_pids(), pids, "C was not restarted");
    lost.assert_replaced();
    // It is there after a restart as well: the verified file is its dump.
    lost.world.c().kill_server();
    lost.world.c().start_server();
    assert_eq!(lost.world.c().content(), lost.before);
}

fn a_stopped_c_is_started_empty_and_fed(server: &str) {
    let lost = lost(server, |_| {});
    let said = failover(&lost, &[]);
    assert_eq!(resyncs(lost.world.c()), counts(0, 1), "{said}");
    lost.assert_replaced();
}

fn a_c_with_its_append_only_file_on_keeps_it_on(server: &str) {
    for runs in [true, false] {
        let lost = lost(server, |conf| {
            conf.set("appendonly", "yes").set("save", "\"\"");
        });
        if runs {
            lost.world.c().start_server();
        }
        let said = failover(&lost, &[]);
        assert_eq!(resyncs(lost.world.c()), counts(0, 1), "{said}");
        lost.assert_replaced();
        assert_eq!(lost.world.c().client().call(&["CONFIG", "GET", "appendonly"]).text(), "appendonly yes");
        // While a sync is under way the server keeps what comes in memory.
        lost.world.c().await_info("aof_buffer_length", "0");
        lost.world.c().kill_server();
        lost.world.c().start_server();
        assert_eq!(lost.world.c().content(), lost.before, "what the append-only file holds");
    }
}

fn a_c_that_is_fed_follows_a_promoted_b_that_is_written_to(server: &str) {
    let mut lost = lost(server, |_| {});
    lost.world.c().start_server();
    let relay = Relay::to(lost.world.b().agent_address());
    relay.limit(1_000_000);
    lost.world.b().reach_agent_via(relay.address);
    lost.world.write_coord_toml();
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--mode", "promote"]].concat());
    lost.world.b().await_info("role", "master");
    let mut writes = 0;
    wait_for("a part of the snapshot has crossed", || {
        lost.world.b().client().call(&["SET", &format!("meanwhile:{writes}"), "x"]);
        writes += 1;
        if relay.brought() > 1 << 20 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    relay.limit(0);
    let said = running.wait().ends_with(code::DONE);
    assert_eq!(said.result()["landing"], "live", "{said}");
    assert_eq!(resyncs(lost.world.b()), counts(0, 1), "{said}");
    lost.before = lost.world.b().content();
    lost.assert_promoted();
}

fn a_stream_is_fed_as_it_comes_and_is_no_file_on_b(server: &str) {
    let lost = lost(server, |_| {});
    lost.world.c().start_server();
    // What its own full resync from A has left.
    let dump = || std::fs::read(lost.world.b().dump_path()).ok();
    let (before, names) = (dump(), files(&lost.world.b().data_dir()));
    let said = failover(&lost, &["--snapshot", "stream"]);
    assert_eq!(resyncs(lost.world.c()), counts(0, 1), "{said}");
    assert_eq!((dump(), files(&lost.world.b().data_dir())), (before, names), "B wrote nothing");
    lost.assert_replaced();
}

#[test]
fn passwords_and_borrowed_settings_are_as_before() {
    for server in [REDIS_6_2, VALKEY_9_1] {
        let world = World::of_three(&ServerProgram::named(server));
        for host in world.hosts() {
            host.configure(|conf| {
                conf.set("requirepass", "open").set("masterauth", "open").set("repl-timeout", "61");
            });
        }
        let lost = Lost::with(world, Dataset::mixed(7, MIXED_BYTES));
        lost.world.c().start_server();
        failover(&lost, &[]);
        for (name, value) in [("masterauth", "open"), ("repl-timeout", "61"), ("repl-diskless-load", "disabled")] {
            let set = lost.world.c().client().call(&["CONFIG", "GET", name]).text();
            assert_eq!(set, format!("{name} {value}"), "{server}");
        }
        lost.assert_replaced();
    }
}

#[test]
fn a_sibling_that_lags_takes_everything_anew_as_foretold() {
    let lost = lagging_sibling(REDIS_6_2);
    let said = failover(&lost, &[]);
    let result = said.result();
    assert_eq!(result["resyncs"], serde_json::json!({ B: "partial", baton_tests::world::D: "full" }), "{said}");
    let plan = said.events().into_iter().find(|event| event["event"] == "plan").unwrap();
    let foretold: Vec<_> = plan["forecasts"].as_array().unwrap().iter().map(|f| f["resync"].clone()).collect();
    assert_eq!(foretold, ["partial", "full"], "{said}");
}

/// A is lost, C runs empty, and what B's agent sends goes through a slow relay, half of it so far.
fn in_the_middle() -> (Lost, Relay, Running) {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let relay = Relay::to(world.b().agent_address());
    world.b().reach_agent_via(relay.address);
    world.write_coord_toml();
    let lost = Lost::with(world, Dataset::random(11, DATA_BYTES));
    lost.world.c().start_server();
    relay.limit(SLOW);
    let running = lost.world.start_coord(&FAILOVER);
    wait_for("a part of the snapshot has crossed", || {
        if relay.brought() > DATA_BYTES / 2 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    (lost, relay, running)
}

#[test]
fn a_restart_of_the_agent_that_feeds_goes_on_with_what_is_there() {
    let (lost, relay, running) = in_the_middle();
    lost.world.c().restart_agent();
    relay.limit(0);
    let said = running.wait().ends_with(code::DONE);
    assert_eq!(said.result()["landing"], "live", "{said}");
    assert!(relay.brought() < DATA_BYTES * 17 / 10, "{} bytes crossed for {DATA_BYTES}", relay.brought());
    assert_eq!(resyncs(lost.world.c()), counts(0, 1), "{said}");
    lost.assert_replaced();
}

#[test]
fn a_server_that_dies_while_it_is_fed_leaves_b_untouched() {
    let (lost, relay, running) = in_the_middle();
    lost.world.c().kill_server();
    relay.limit(0);
    let said = running.wait().says(&["error: transfer", "hint:"]);
    assert_ne!(said.result()["outcome"], "done", "{said}");
    lost.assert_b_is_untouched();
}

#[test]
fn the_plan_says_how_it_lands_and_why_and_what_both_would_take() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let plan = ["failover", A, "--to", C, "--dry-run"];
    let said = lost.world.coord(&plan).ends_with(code::DONE);
    said.says(&["target-landing", "live", "by file", "start machine-c empty", "loaded while it arrives"]);
    // What lies there would be loaded by a server that is started.
    std::fs::write(lost.world.c().dump_path(), "something").unwrap();
    let said = lost.world.coord(&plan).ends_with(code::DONE);
    said.says(&["target-landing", "by file", "would not come up empty"]);
    let said = lost.world.coord(&[&plan[..], &["--landing", "live"]].concat());
    said.ends_with(code::PREFLIGHT).says(&["target-landing", "--landing file"]);
}

#[test]
fn a_server_that_is_fed_is_shown_as_the_target_of_its_run_and_not_as_a_group() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    // A server that loads what comes slowly may say nothing to its agent for a while.
    let said = wait_for("the target is shown", || {
        let said = lost.world.coord(&["status", "--json"]).ends_with(code::DONE);
        if said.events().iter().any(|line| line["event"] == "target") { Ok(said) } else { Err(said.to_string()) }
    });
    let of = |event: &str| said.events().into_iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    let targets = of("target");
    assert_eq!(targets.len(), 1, "{said}");
    assert_eq!((&targets[0]["instance"], &targets[0]["run"]), (&C.into(), &run.as_str().into()), "{said}");
    let groups: Vec<_> = of("group").into_iter().map(|group| group["group"].clone()).collect();
    assert_eq!(groups, [A], "{said}");
    relay.limit(0);
    running.wait().ends_with(code::DONE);
    let after = lost.world.coord(&["status", "--json"]);
    assert!(after.events().iter().all(|line| line["event"] != "target"), "{after}");
    lost.assert_replaced();
}
