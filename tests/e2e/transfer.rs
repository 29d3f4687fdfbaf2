//! The transfer under attack: cut connections, restarted agents, damaged files, wrong tickets, a source that lies.

use std::fs;
use std::os::unix::fs::FileExt as _;

use baton_tests::coord::{Running, code};
use baton_tests::dataset::Dataset;
use baton_tests::relay::{Passing, Relay};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, World};

use crate::scene::{FAILOVER, Lost, assert_no_leftovers, on_every_server};

on_every_server! {
    a_connection_that_is_cut_goes_on_where_it_was
}

/// Bytes that no compression makes smaller: several chunks.
const DATA_BYTES: u64 = 20 << 20;
/// Slow enough for a test to do something in the middle of it.
const SLOW: u64 = 4 << 20;

/// A is lost, and what B's agent sends goes through a slow relay.
fn behind_a_relay(server: &str) -> (Lost, Relay) {
    let world = World::of_three(&ServerProgram::named(server));
    let relay = Relay::to(world.b().agent_address());
    world.b().reach_agent_via(relay.address);
    world.write_coord_toml();
    let lost = Lost::with(world, Dataset::random(11, DATA_BYTES));
    relay.limit(SLOW);
    (lost, relay)
}

/// Starts the failover, and waits until a good part of the snapshot has crossed.
fn start_and_await_the_middle(lost: &Lost, relay: &Relay) -> Running {
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    wait_for("a part of the snapshot has crossed", || {
        if relay.brought() > DATA_BYTES / 2 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    running
}

/// Asserts that the run ends well, and that what had crossed before did not cross again.
#[track_caller]
fn assert_goes_on(lost: &Lost, relay: &Relay, running: Running) {
    relay.limit(0);
    let said = running.wait().ends_with(code::DONE);
    let wire = said.result()["bytes_wire"].as_u64().unwrap_or_default();
    assert!(wire >= DATA_BYTES, "{said}");
    // A chunk that was on its way is sent twice; what was there is not. Twice the data would be all of it again.
    assert!(relay.brought() < DATA_BYTES * 17 / 10, "{} bytes crossed for {DATA_BYTES}\n{said}", relay.brought());
    lost.assert_replaced();
}

fn a_connection_that_is_cut_goes_on_where_it_was(server: &str) {
    let (lost, relay) = behind_a_relay(server);
    let running = start_and_await_the_middle(&lost, &relay);
    relay.pass(Passing::ExceptBulk);
    wait_for("C's agent tries to connect again", || {
        if relay.begun_while_cut() > 0 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    relay.pass(Passing::Everything);
    assert_goes_on(&lost, &relay, running);
}

#[test]
fn a_network_that_is_cut_for_everybody_goes_on_where_it_was() {
    let (lost, relay) = behind_a_relay(REDIS_7_0);
    let running = start_and_await_the_middle(&lost, &relay);
    relay.pass(Passing::Nothing);
    wait_for("somebody tries to connect again", || {
        if relay.begun_while_cut() > 0 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    relay.pass(Passing::Everything);
    assert_goes_on(&lost, &relay, running);
}

#[test]
fn a_restart_of_the_targets_agent_goes_on_where_it_was() {
    let (lost, relay) = behind_a_relay(REDIS_7_0);
    let running = start_and_await_the_middle(&lost, &relay);
    lost.world.c().restart_agent();
    assert_goes_on(&lost, &relay, running);
}

#[test]
fn a_restart_of_the_sources_agent_goes_on_where_it_was() {
    // Its tickets were in its memory: the coordinator makes a new one for the same snapshot.
    let (lost, relay) = behind_a_relay(REDIS_7_0);
    let running = start_and_await_the_middle(&lost, &relay);
    lost.world.b().restart_agent();
    assert_goes_on(&lost, &relay, running);
}

#[test]
fn a_server_outlives_the_restart_of_the_agent_that_started_it() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.failover_done(&[]);
    let pids = lost.world.c().server_pids();
    lost.world.c().restart_agent();
    assert_eq!(lost.world.c().server_pids(), pids);
    lost.assert_replaced();
    lost.world.coord(&["status"]).ends_with(code::DONE).says(&["ok", C, B]);
}

/// `coord copy` of a dump that was damaged on B's disk.
fn copy_of_a_damaged_dump(damage: impl FnOnce(&fs::File, u64)) {
    let lost = Lost::with(World::of_three(&ServerProgram::named(REDIS_7_0)), Dataset::random(1, 6 << 20));
    lost.world.b().client().call(&["SAVE"]);
    let path = lost.world.b().dump_path();
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    damage(&file, file.metadata().unwrap().len());
    let damaged = crate::scene::blake3_of(&path);
    let said = lost.world.coord(&["copy", B, C, "--snapshot", "existing", "--yes"]);
    said.ends_with(code::VERIFICATION).says(&["error:", B, "hint:"]);
    assert!(!lost.world.c().dump_path().exists(), "nothing is placed");
    assert_no_leftovers(&lost.world);
    assert_eq!(crate::scene::blake3_of(&path), damaged, "B's own file is left to a person");
    assert_eq!(lost.world.b().content(), lost.before);
}

#[test]
fn a_flipped_bit_in_the_snapshot_is_caught_and_nothing_is_placed() {
    copy_of_a_damaged_dump(|file, length| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, length / 2).unwrap();
        file.write_all_at(&[byte[0] ^ 4], length / 2).unwrap();
    });
}

#[test]
fn a_truncated_snapshot_is_caught_and_nothing_is_placed() {
    copy_of_a_damaged_dump(|file, length| file.set_len(length - 100).unwrap());
}
