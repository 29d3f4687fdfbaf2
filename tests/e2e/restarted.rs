//! What a target comes up as whose server dies before the run has ended, and is started again by hand: what the run has made
//! it, or, if the run was aborted, what it was. It has its configuration file alone to go by.
//!
//! ```text
//!                                   it is to be a replica          it is to be the primary
//!   landed live                     a replica                      a primary, with its data
//!   landed by file                  a replica, with its data       a primary, with its data
//!   the same, appendonly yes:
//!     not on yet                    empty; the run goes on         empty; the gate is closed
//!     on                            a replica, with its data, but  a primary, with its data
//!                                    not where that stands
//! ```

use std::fs;

use baton_tests::coord::{Running, Said, code};
use baton_tests::hold::Hold;
use baton_tests::host::{Host, SERVER_PORT};
use baton_tests::servers::ServerProgram;
use baton_tests::world::{A, B, C, World};

use crate::clone::{CLONE, assert_cloned, lone};
use crate::resume::take_up;
use crate::scene::{Lost, assert_no_leftovers, configured_primary, files, on_every_server, resyncs};

on_every_server! {
    a_clone_that_is_killed_before_its_role_is_made_last_comes_up_as_a_replica
    so_does_the_target_of_a_promoted_source
    a_clone_that_would_come_up_empty_is_made_a_replica_all_the_same
    a_clone_that_is_aborted_by_then_is_what_it_was
    a_clone_that_is_dead_when_it_is_aborted_is_told_of_until_its_file_is_as_it_was
    a_target_that_is_to_be_the_primary_comes_up_as_one_with_its_data
    one_that_would_come_up_empty_has_nobody_follow_it
}

/// The ways to land, and where `coord` is held once the target has.
const LANDED: [(&str, &str); 2] = [("live", "transfer-after"), ("file", "load-after")];
const JOINED: &str = "attach-after";
/// A dump without a key, as the target may have one from before.
const OLD_DUMP: &[u8] = b"REDIS0009\xff\0\0\0\0\0\0\0\0";

/// Has a run come to a point.
fn held(world: &World, point: &str, args: &[&str], landing: &str) -> (Hold, Running) {
    let hold = Hold::set(world.dir(), point);
    let running = world.start_coord(&[args, &["--yes", "--json", "--landing", landing]].concat());
    hold.wait();
    (hold, running)
}

/// A clone of A that has come to a point. Only what is to land live runs before.
fn cloning(server: &str, (landing, point): (&str, &str)) -> (World, Hold, Running) {
    let world = lone(server, |_| {});
    if landing == "live" {
        world.c().start_server();
    }
    let (hold, running) = held(&world, point, &CLONE[..3], landing);
    (world, hold, running)
}

/// A failover that has come to a point; with C's append-only file on or off.
fn failing_over(server: &str, appendonly: &str, (landing, point): (&str, &str), mode: &str) -> (Lost, Hold, Running) {
    let world = World::of_three(&ServerProgram::named(server));
    world.c().configure(|conf| {
        conf.set("appendonly", appendonly);
    });
    let lost = Lost::with_little_in(world);
    if landing == "live" {
        lost.world.c().start_server();
    }
    let (hold, running) = held(&lost.world, point, &["failover", A, "--to", C, "--mode", mode], landing);
    (lost, hold, running)
}

fn start_anew(host: &Host) {
    host.kill_server();
    host.start_server();
}

fn keys(host: &Host) -> i64 {
    host.client().call(&["DBSIZE"]).int()
}

/// Kills a server, starts it by hand, and asserts that it follows another.
#[track_caller]
fn assert_comes_up_behind(target: &Host, primary: &Host) {
    start_anew(target);
    let info = target.client().info();
    let is = ["role", "master_host", "master_port"].map(|field| info.get(field).cloned().unwrap_or_default());
    assert_eq!(is, ["slave".to_owned(), primary.ip.to_string(), SERVER_PORT.to_string()]);
}

fn a_clone_that_is_killed_before_its_role_is_made_last_comes_up_as_a_replica(server: &str) {
    for (landing, landed) in LANDED {
        for point in [landed, JOINED] {
            let (world, hold, running) = cloning(server, (landing, point));
            let before = resyncs(world.a());
            assert_comes_up_behind(world.c(), world.a());
            drop(hold);
            let said = running.wait();
            // Killed before it has joined, it may take everything anew, which was not foretold.
            assert!([code::DONE, code::DEGRADED].contains(&said.code), "{landing}, {point}: {said}");
            assert_cloned(&world);
            if landing == "file" {
                assert_eq!(resyncs(world.a()).0, before.0, "its dump told where it stands: {said}");
            }
        }
    }
}

fn so_does_the_target_of_a_promoted_source(server: &str) {
    let by_file = [("load-after", "no"), (JOINED, "no"), ("aof-after", "yes"), (JOINED, "yes")];
    let by_file = by_file.map(|(point, appendonly)| ("file", point, appendonly));
    for (landing, point, appendonly) in [("live", JOINED, "yes")].into_iter().chain(by_file) {
        let (lost, hold, running) = failing_over(server, appendonly, (landing, point), "promote");
        assert_comes_up_behind(lost.world.c(), lost.world.b());
        assert!(keys(lost.world.c()) > 0, "{landing}, {point}");
        drop(hold);
        let said = running.wait();
        assert_eq!(said.result()["primary"], B, "{said}");
        match (point, appendonly) {
            ("aof-after", _) => assert_took_everything_anew(&said, lost.world.c(), lost.world.b()),
            _ => {
                assert_eq!(said.code, code::DONE, "{landing}, {point}: {said}");
                lost.assert_promoted();
            }
        }
    }
}

/// Until its append-only file is on again, its file cannot tell the role without telling that it is off.
fn a_clone_that_would_come_up_empty_is_made_a_replica_all_the_same(server: &str) {
    let world = lone(server, |conf| {
        conf.set("appendonly", "yes");
    });
    let (hold, running) = held(&world, "load-after", &CLONE[..3], "file");
    start_anew(world.c());
    assert_eq!((keys(world.c()), world.c().info("role")), (0, "master".to_owned()));
    drop(hold);
    assert_took_everything_anew(&running.wait(), world.c(), world.a());
}

/// Asserts that a run has told that a target took everything anew, which was not foretold, and that nothing else is missing:
/// it follows for good, with its append-only file on.
#[track_caller]
fn assert_took_everything_anew(said: &Said, target: &Host, primary: &Host) {
    assert_eq!(said.code, code::DEGRADED, "{said}");
    let missing = said.result()["missing"].as_array().cloned().unwrap_or_default();
    // The other is the snapshot, which is kept in such a case.
    let told = missing.iter().any(|missing| missing.to_string().contains("took everything anew"));
    assert!(told && missing.len() == 2, "{said}");
    target.await_in_sync_with(primary);
    assert_eq!(target.content(), primary.content(), "{said}");
    assert_comes_up_behind(target, primary);
    assert_eq!(target.client().config("appendonly"), "yes");
}

fn a_clone_that_is_aborted_by_then_is_what_it_was(server: &str) {
    for (landing, landed) in LANDED {
        for point in [landed, JOINED] {
            let (world, hold, running) = cloning(server, (landing, point));
            assert!(configured_primary(world.c()).is_some(), "its role is written already");
            let run = running.run();
            running.kill();
            drop(hold);
            // One that had joined is named as missing.
            let aborted = take_up(&world, "abort", &run);
            assert_eq!(aborted.code, if point == landed { code::DONE } else { code::DEGRADED }, "{aborted}");
            assert_eq!(files(&world.c().data_dir()), Vec::<String>::new());
            assert_is_empty_primary(world.c(), landing == "live");
            assert_no_leftovers(&world);
        }
    }
}

/// Asserts that a host's server has nothing of a run, and comes up with nothing.
#[track_caller]
fn assert_is_empty_primary(host: &Host, runs: bool) {
    assert_eq!(configured_primary(host), None);
    if runs {
        assert_eq!((keys(host), host.info("role")), (0, "master".to_owned()));
    } else {
        assert!(host.server_pids().is_empty(), "it did not run before");
    }
    start_anew(host);
    assert_eq!((keys(host), host.info("role")), (0, "master".to_owned()));
}

/// Only a server writes its file.
fn a_clone_that_is_dead_when_it_is_aborted_is_told_of_until_its_file_is_as_it_was(server: &str) {
    let world = lone(server, |_| {});
    fs::write(world.c().dump_path(), OLD_DUMP).unwrap();
    let (hold, running) = held(&world, "load-after", &CLONE[..3], "file");
    let run = running.run();
    running.kill();
    drop(hold);
    world.c().kill_server();
    let primary = configured_primary(world.c()).expect("its role is written already");
    let said = take_up(&world, "abort", &run).ends_with(code::STOPPED);
    said.says(&[&format!("`replicaof {primary}`"), "redis.conf"]);
    // Its own dump is not put where a replica would load it, and lose it to a full resync.
    assert_ne!(fs::read(world.c().dump_path()).unwrap(), OLD_DUMP);
    world.c().start_server();
    take_up(&world, "abort", &run).ends_with(code::DONE);
    assert_eq!(fs::read(world.c().dump_path()).unwrap(), OLD_DUMP);
    assert_is_empty_primary(world.c(), false);
    assert_no_leftovers(&world);
}

fn a_target_that_is_to_be_the_primary_comes_up_as_one_with_its_data(server: &str) {
    // Where it is another process than the one that the gate has judged, nothing follows it.
    for (point, code) in [("load-after", code::DONE), ("gate-after", code::REFUSED), (JOINED, code::DONE)] {
        let (lost, hold, running) = failing_over(server, "no", ("file", point), "replace");
        start_anew(lost.world.c());
        assert_eq!(lost.world.c().info("role"), "master", "{point}");
        assert_eq!(lost.world.c().content(), lost.before, "{point}");
        drop(hold);
        let said = running.wait().ends_with(code);
        match code {
            code::DONE => lost.assert_replaced(),
            _ => assert_nothing_happened(&lost, said.result()),
        }
    }
}

fn one_that_would_come_up_empty_has_nobody_follow_it(server: &str) {
    for point in ["load-after", "gate-after"] {
        let (lost, hold, running) = failing_over(server, "yes", ("file", point), "replace");
        start_anew(lost.world.c());
        assert_eq!((keys(lost.world.c()), lost.world.c().info("role")), (0, "master".to_owned()));
        drop(hold);
        let said = running.wait().ends_with(code::REFUSED);
        assert_nothing_happened(&lost, said.result());
    }
}

/// Asserts that B is as it was, and that C is stopped with nothing, as before.
#[track_caller]
fn assert_nothing_happened(lost: &Lost, result: serde_json::Value) {
    assert_eq!(result["outcome"], "refused");
    lost.assert_b_is_untouched();
    assert!(lost.world.c().server_pids().is_empty());
    assert_eq!(configured_primary(lost.world.c()), None);
}
