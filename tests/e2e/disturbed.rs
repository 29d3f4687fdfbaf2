//! Runs that are disturbed without anybody dying: processes that are frozen, links that are cut, disks that are full, clocks
//! that jump. A moment of it is borne; what does not end is told, and the run is resumed or aborted afterwards.

use std::thread::sleep;
use std::time::Duration;

use baton_tests::coord::{Running, Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::drill::disk::Disk;
use baton_tests::hold::Hold;
use baton_tests::host::quoted;
use baton_tests::process::signal;
use baton_tests::relay::{Passing, Relay};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::PATIENCE;
use baton_tests::world::{B, C, World};
use rustix::process::Signal;

use crate::resume::{assert_nobody_holds, take_up};
use crate::runs::in_the_middle;
use crate::scene::{FAILOVER, LITTLE_BYTES, Lost, files};

/// A moment: longer than an answer may be late, shorter than anybody gives up.
const MOMENT: Duration = Duration::from_secs(2);

/// A world whose agents of B and C stand behind relays, after A was lost.
fn behind_relays(bytes: u64) -> (Lost, [Relay; 2]) {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let relays = [world.b(), world.c()].map(|host| {
        let relay = Relay::beside(host.agent_address());
        host.reach_agent_via(relay.address);
        relay
    });
    world.write_coord_toml();
    (Lost::with(world, Dataset::random(3, bytes)), relays)
}

fn start(lost: &Lost) -> Running {
    lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat())
}

#[track_caller]
fn assert_done(lost: &Lost, said: Said) {
    assert_eq!(said.clone().ends_with(code::DONE).result()["resync"], "partial", "{said}");
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

#[test]
fn whoever_is_frozen_for_a_moment_goes_on_as_if_nothing_was() {
    for step in ["snapshot", "transfer", "attach"] {
        let lost = Lost::with_little_on(REDIS_7_0);
        let hold = Hold::set(lost.world.dir(), &format!("{step}-before"));
        let running = start(&lost);
        hold.wait();
        let (b, c) = (lost.world.b(), lost.world.c());
        let frozen: Vec<u32> =
            [b, c].into_iter().flat_map(|host| host.server_pids().into_iter().chain([host.agent_pid()])).collect();
        frozen.iter().for_each(|pid| signal(*pid, Signal::STOP));
        drop(hold);
        sleep(MOMENT);
        frozen.iter().for_each(|pid| signal(*pid, Signal::CONT));
        assert_done(&lost, running.wait());
    }
}

#[test]
fn a_coordinator_that_is_frozen_while_the_snapshot_is_sent_finds_it_sent() {
    let (lost, relay, running) = in_the_middle();
    running.signal(Signal::STOP);
    relay.limit(0);
    sleep(MOMENT * 2);
    running.signal(Signal::CONT);
    assert_done(&lost, running.wait());
}

#[test]
fn a_link_that_is_cut_for_a_moment_either_way_or_both_is_borne_at_every_step() {
    let steps = ["fence", "depose", "snapshot", "transfer", "install", "load", "gate", "attach", "persist", "release"];
    let cuts = [Passing::Nothing, Passing::OnlyTo, Passing::OnlyFrom];
    for (number, step) in steps.iter().enumerate() {
        let (lost, relays) = behind_relays(LITTLE_BYTES);
        let hold = Hold::set(lost.world.dir(), &format!("{step}-before"));
        let running = start(&lost);
        hold.wait();
        let relay = &relays[number % relays.len()];
        relay.pass(cuts[number % cuts.len()]);
        drop(hold);
        sleep(MOMENT / 2);
        relay.pass(Passing::Everything);
        assert_done(&lost, running.wait());
    }
}

/// Cuts a host off for good in the middle of the transfer. The run gives up with a word of who does not answer; healed, it
/// goes on, or is undone.
fn a_host_that_is_cut_off_for_good_is_named(cut: usize, name: &str, verb: &str) {
    let (lost, relays) = behind_relays(12 << 20);
    relays[0].limit(2 << 20);
    let hold = Hold::set(lost.world.dir(), "transfer-before");
    let running = start(&lost);
    hold.wait();
    let run = running.run();
    relays[cut].pass(Passing::Nothing);
    drop(hold);
    // Both the run and each of its undos give the agent the time of a restart.
    let said = running.wait_within(PATIENCE * 2);
    assert!([code::STOPPED, code::ROLLED_BACK].contains(&said.code), "{said}");
    let said = said.says(&[name, "hint:"]);
    assert_eq!(lost.world.b().content(), lost.before);
    relays.iter().for_each(|relay| {
        relay.pass(Passing::Everything);
        relay.limit(0);
    });
    let ended = take_up(&lost.world, verb, &run);
    match (said.code, verb) {
        // It was rolling back, and goes on with that.
        (code::STOPPED, _) => assert_eq!(ended.result()["outcome"], "rolled-back", "{said}{ended}"),
        _ => drop(ended.ends_with(code::DONE)),
    }
    lost.assert_b_is_untouched();
    assert_nobody_holds(&lost.world);
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn a_source_that_is_cut_off_for_good_is_named_and_the_run_is_brought_to_an_end() {
    a_host_that_is_cut_off_for_good_is_named(0, B, "resume");
}

#[test]
fn a_target_that_is_cut_off_for_good_is_named_and_the_run_is_brought_to_an_end() {
    a_host_that_is_cut_off_for_good_is_named(1, C, "abort");
}

/// What a host says whose disk is full: B's server of its save, C's agent before it takes a byte.
fn said_of(host: &str) -> &'static str {
    if host == B { "No space left on device" } else { "no room for the snapshot" }
}

#[test]
fn a_disk_that_is_full_on_either_side_fails_the_run_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        // The others of this file say what does not need a disk of its own.
        eprintln!("not root: no disk can be made here");
        return;
    }
    for host in [B, C] {
        let world = World::of_three(&ServerProgram::named(REDIS_7_0));
        let disk = Disk::under(&world.host(host).data_dir(), 0).expect("a disk can be mounted");
        world.host(host).configure_agent(|toml| {
            toml.top.set("disk_reserve", quoted("1MiB"));
        });
        let lost = Lost::with(world, Dataset::random(5, 4 << 20));
        // The plan sees room, and then there is none.
        let hold = Hold::set(lost.world.dir(), "snapshot-before");
        let running = start(&lost);
        hold.wait();
        disk.fill();
        drop(hold);
        let said = running.wait().ends_with(code::ROLLED_BACK).says(&[said_of(host), "hint:", host]);
        assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
        disk.empty();
        lost.assert_b_is_untouched();
        assert_nobody_holds(&lost.world);
        lost.failover_done(&[]);
        lost.assert_replaced();
        drop(lost);
        drop(disk);
    }
}

#[test]
fn clocks_that_jump_by_an_hour_while_a_run_is_at_work_change_nothing() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    [world.b(), world.c()].iter().for_each(|host| host.clock().jump(0));
    let lost = Lost::with(world, Dataset::random(3, LITTLE_BYTES));
    let jumps = [(B, 3600, "depose"), (C, -3600, "transfer"), (B, -3600, "load"), (C, 3600, "attach")];
    let holds: Vec<_> = jumps.iter().map(|(.., step)| Hold::set(lost.world.dir(), &format!("{step}-before"))).collect();
    let running = start(&lost);
    for ((host, seconds, _), hold) in jumps.iter().zip(holds) {
        hold.wait();
        lost.world.host(host).clock().jump(*seconds);
    }
    let said = running.wait();
    let told: i64 = lost.world.b().client().call(&["TIME"]).list()[0].text().parse().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    assert!((told - now + 3600).abs() < 60, "B's server goes by B's clock: {told} at {now}");
    assert_done(&lost, said);
    // The next plan tells of it; and what was noted by wrong clocks keeps no run from being made.
    assert!(files(&lost.world.b().dir.join("state")).iter().any(|name| name.starts_with("deposition-")));
    let said = lost.world.coord(&["switchover", C, "--to", B, "--dry-run"]).ends_with(code::DONE);
    said.says(&["warn    path-clock", "the clock of machine-b is -7"]);
    [B, C].iter().for_each(|host| lost.world.host(host).clock().jump(0));
    lost.world.coord(&["switchover", C, "--to", B, "--yes"]).ends_with(code::DONE);
}
