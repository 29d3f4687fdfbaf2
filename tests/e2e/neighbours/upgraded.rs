//! Upgrades in the middle of a run: the old program is ended as its unit does it, the new one goes on with what is there.

use baton_tests::coord::{Running, code, start_program};
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::Host;
use baton_tests::process::is_running;
use baton_tests::programs::{self, Program};
use baton_tests::relay::Relay;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::{wait_for, wait_until};
use baton_tests::world::{A, B, C, World};

use crate::resume::{assert_nobody_holds, take_up};
use crate::scene::{FAILOVER, Lost};

/// Bytes that no compression makes smaller: several chunks.
const DATA_BYTES: u64 = 20 << 20;
/// Slow enough for a test to do something in the middle of it.
const SLOW: u64 = 4 << 20;

/// Another build's `coord` and agent.
fn others(world: &World) -> [Program; 2] {
    programs::other_build(world.dir()).map(Program::from)
}

/// A world whose agents are all of the other build.
fn of_others() -> World {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let [_, agent] = others(&world);
    world.hosts().iter().for_each(|host| host.use_agent(agent.clone()));
    world
}

/// Whether the agent that runs is of this build.
fn is_upgraded(host: &Host) -> bool {
    let exe = std::fs::read_link(format!("/proc/{}/exe", host.agent_pid()));
    exe.is_ok_and(|exe| exe == programs::agent())
}

#[track_caller]
fn upgrade(host: &Host) {
    assert!(!is_upgraded(host));
    host.upgrade_agent(programs::agent());
    assert!(is_upgraded(host));
}

/// A is lost, and half of B's snapshot has crossed.
fn in_the_middle(landing: &str) -> (Lost, Relay, Running) {
    let world = of_others();
    let relay = Relay::to(world.b().agent_address());
    world.b().reach_agent_via(relay.address);
    world.write_coord_toml();
    let lost = Lost::with(world, Dataset::random(11, DATA_BYTES));
    relay.limit(SLOW);
    let running = lost.world.start_coord(&[&FAILOVER[..4], &["--landing", landing, "--yes", "--json"]].concat());
    wait_for("a part of the snapshot has crossed", || {
        if relay.brought() > DATA_BYTES / 2 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    (lost, relay, running)
}

/// Upgrades the agents of these hosts while the snapshot crosses.
fn upgraded_in_a_transfer(hosts: &[&str], landing: &str) {
    let (lost, relay, running) = in_the_middle(landing);
    hosts.iter().for_each(|host| upgrade(lost.world.host(host)));
    relay.limit(0);
    let said = running.wait().ends_with(code::DONE);
    assert_eq!(said.result()["landing"], landing, "{said}");
    // A chunk that was on its way is sent twice; what was there is not. Twice the data would be all of it again.
    assert!(relay.brought() < DATA_BYTES * 17 / 10, "{} bytes crossed for {DATA_BYTES}\n{said}", relay.brought());
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

#[test]
fn the_targets_agent_is_upgraded_in_the_middle_of_a_transfer() {
    upgraded_in_a_transfer(&[C], "file");
    upgraded_in_a_transfer(&[C], "live");
}

#[test]
fn the_sources_agent_is_upgraded_in_the_middle_of_a_transfer() {
    upgraded_in_a_transfer(&[B], "file");
    upgraded_in_a_transfer(&[B], "live");
}

#[test]
fn both_agents_are_upgraded_in_the_middle_of_a_transfer() {
    upgraded_in_a_transfer(&[B, C], "file");
}

#[test]
fn the_targets_agent_is_upgraded_while_the_server_that_it_started_loads() {
    let world = of_others();
    world.c().configure(|conf| {
        // Some seconds for a few thousand keys.
        conf.set("key-load-delay", "2000").set("loading-process-events-interval-bytes", "1024");
    });
    let lost = Lost::with_little_in(world);
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    let c = lost.world.c();
    wait_for("C loads", || {
        let loading = c.try_client().and_then(|mut client| client.try_info())?.remove("loading").unwrap_or_default();
        if loading == "1" { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    let pids = c.server_pids();
    upgrade(c);
    let info = c.try_client().and_then(|mut client| client.try_info()).unwrap();
    assert_eq!(info["loading"], "1", "it had loaded before the new agent listened");
    running.wait().ends_with(code::DONE);
    assert_eq!(c.server_pids(), pids, "it is still the server that the old agent has started");
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_run_that_the_other_coord_began_is_taken_up_by_this_one_and_everybody_is_upgraded_meanwhile() {
    for (point, verb) in [("transfer-after", "resume"), ("gate-before", "resume"), ("load-after", "abort")] {
        let world = of_others();
        let [coord, _] = others(&world);
        let lost = Lost::with_little_in(world);
        let hold = Hold::set(lost.world.dir(), point);
        let args = [&FAILOVER[..], &["--yes", "--json"]].concat();
        let running = start_program(&coord, lost.world.dir(), &args);
        hold.wait();
        let (run, pid) = (running.run(), running.pid());
        running.kill();
        wait_until("the other coord is gone", || !is_running(pid));
        drop(hold);
        [B, C].iter().for_each(|host| upgrade(lost.world.host(host)));
        let said = take_up(&lost.world, verb, &run);
        if verb == "abort" {
            lost.assert_b_is_untouched();
        } else {
            assert_eq!(said.result()["outcome"], "done", "{said}");
            lost.assert_replaced();
        }
        assert_nobody_holds(&lost.world);
    }
}

#[test]
fn what_the_other_build_did_is_shown_by_this_one_and_its_notes_are_kept() {
    let world = of_others();
    let [coord, _] = others(&world);
    let lost = Lost::with_little_in(world);
    let args = [&FAILOVER[..], &["--yes", "--json"]].concat();
    let run = start_program(&coord, lost.world.dir(), &args).wait().ends_with(code::DONE).run();
    [B, C].iter().for_each(|host| upgrade(lost.world.host(host)));
    lost.world.coord(&["show", &run]).ends_with(code::DONE).says(&[&run, "transfer", "done"]);
    // A comes back as it was lost: the upgraded agents still know that it was replaced, and its own hears of it.
    let a = lost.world.a();
    a.start_server();
    a.start_agent();
    a.await_info("role", "slave");
    lost.world.coord(&["rejoin", A, "--yes"]).ends_with(code::DONE);
    a.await_in_sync_with(lost.world.c());
}
