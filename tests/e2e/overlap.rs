//! A snapshot that is sent while its server still writes it, as `coord` has it done: what it shows, what it tells
//! afterwards, and what it does when the save fails or its agent goes away.

use baton_tests::coord::{Running, Said, code};
use baton_tests::host::Host;
use baton_tests::process::kill_and_wait;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, World};
use serde_json::Value;

use crate::scene::{assert_no_leftovers, blake3_of, files, on_every_server};

on_every_server! {
    a_snapshot_is_sent_while_it_is_written
}

/// Keys of the server, each of which takes a millisecond to save.
const KEYS: u32 = 3000;
/// Bytes of each value: several chunks in all.
const VALUE_BYTES: u32 = 8000;

/// B's server saves slowly, and C waits.
fn slow(server: &str) -> World {
    let mut world = World::new();
    for name in [B, C] {
        world.add(name, &ServerProgram::named(server));
    }
    world.b().configure(|conf| {
        conf.set("rdb-key-save-delay", 1000);
    });
    world.b().start_server();
    let count = [KEYS, VALUE_BYTES].map(|number| number.to_string());
    world.b().client().call(&["DEBUG", "POPULATE", &count[0], "key", &count[1]]);
    world.hosts().iter().for_each(Host::start_agent);
    world
}

/// Starts a copy of B, and waits until a part of the snapshot is on C and the save still runs.
fn start_and_await_the_middle(world: &World, method: &str) -> Running {
    let running = world.start_coord(&["copy", B, C, "--snapshot", method, "--yes", "--json"]);
    wait_for("a part of the snapshot has come while it is written", || {
        let events = running.events();
        let progress = |on: &str| {
            let of = |event: &&Value| event["step"] == "transfer" && event["on"] == on;
            events.iter().rfind(of).filter(|event| event["bytes_done"].as_u64().is_some_and(|bytes| bytes > 0))
        };
        let is_saving = progress(B).is_some_and(|event| event["doing"] != "saved");
        if is_saving && progress(C).is_some() { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    running
}

#[track_caller]
fn assert_copied(world: &World, said: &Said) {
    let hash = blake3_of(&world.c().dump_path());
    assert_eq!(said.result()["blake3"], hash.as_str(), "{said}");
    assert_eq!(hash, blake3_of(&world.b().dump_path()), "B's own dump is the snapshot");
    assert_no_leftovers(world);
}

fn a_snapshot_is_sent_while_it_is_written(server: &str) {
    let world = slow(server);
    let said = start_and_await_the_middle(&world, "bgsave").wait().ends_with(code::DONE);
    let seconds = &said.result()["seconds"];
    let number = |name: &str| seconds[name].as_f64().unwrap_or_else(|| panic!("no seconds of {name}\n{said}"));
    let apart = number("snapshot") + number("transfer");
    assert!(number("total") < 0.8 * apart, "save and transfer overlap\n{said}");
    let done: Vec<_> = said.events().into_iter().filter(|event| event["state"] == "done").collect();
    let steps: Vec<_> = done.iter().filter_map(|event| event["step"].as_str()).collect();
    assert_eq!(steps, ["snapshot", "transfer", "install", "release"], "{said}");
    assert_copied(&world, &said);
}

#[test]
fn a_save_that_fails_while_it_is_sent_is_the_error_and_leaves_nothing() {
    let world = slow(REDIS_7_0);
    let running = start_and_await_the_middle(&world, "bgsave");
    let server = world.b().info("process_id");
    let child = world.b().server_pids().into_iter().rfind(|pid| pid.to_string() != server);
    kill_and_wait(child.expect("a child saves"));
    let said = running.wait().ends_with(code::ROLLED_BACK).says(&["error: transfer", "BGSAVE failed", "hint:"]);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    assert_no_leftovers(&world);
    assert!(!files(&world.c().data_dir()).iter().any(|name| name.ends_with(".rdb")), "nothing is placed");
}

#[test]
fn a_restart_of_the_sources_agent_while_the_snapshot_is_written_takes_a_new_one() {
    let world = slow(REDIS_7_0);
    let running = start_and_await_the_middle(&world, "bgsave");
    world.b().restart_agent();
    let said = running.wait().ends_with(code::DONE);
    assert_copied(&world, &said);
}

#[test]
fn a_restart_of_the_targets_agent_while_the_snapshot_is_written_goes_on_where_it_was() {
    let world = slow(REDIS_7_0);
    let running = start_and_await_the_middle(&world, "save");
    world.c().restart_agent();
    let said = running.wait().ends_with(code::DONE);
    assert_copied(&world, &said);
}
