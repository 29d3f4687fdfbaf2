//! A second replica whose agent does not answer while the run is on: it is named, and joined once its agent is back.

use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::servers::ServerProgram;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, D, World};

use crate::scene::{FAILOVER, LITTLE_BYTES, on_every_server};

on_every_server! {
    a_replica_whose_agent_is_silent_is_named_and_joined_later
    what_an_aborted_promotion_leaves_behind_is_named_and_joined_later
}

/// A, followed by B and D, all of it seen by `coord status`, unless `status` is false.
fn with_d(server: &str, status: bool) -> World {
    let program = ServerProgram::named(server);
    let mut world = World::of_three(&program);
    world.add(D, &program);
    world.replicate(D, A);
    world.start();
    Dataset::mixed(7, LITTLE_BYTES).load(&mut world.a().client());
    for name in [B, D] {
        world.host(name).await_in_sync_with(world.a());
    }
    if status {
        world.coord(&["status"]).ends_with(code::DONE);
    }
    world
}

fn a_replica_whose_agent_is_silent_is_named_and_joined_later(server: &str) {
    let world = with_d(server, true);
    let before = world.b().content();
    world.host(D).kill_agent();
    world.lose_a();

    let said = world.coord(&[&FAILOVER[..], &["--dry-run"]].concat()).ends_with(code::DONE);
    said.says(&["siblings", "the agent of machine-d does not answer", "coord rejoin machine-d"]);
    let said = world.coord(&[&FAILOVER[..], &["--yes", "--json"]].concat()).ends_with(code::DEGRADED);
    let missing = said.result()["missing"].to_string();
    assert!(missing.contains("machine-d was left behind") && missing.contains("coord rejoin machine-d"), "{said}");
    assert_eq!(said.result()["missing"].as_array().map(Vec::len), Some(1), "nothing else: {said}");
    crate::scene::assert_serves(&world, C, &[B], &before);
    let d = world.host(D);
    assert_eq!(d.info("master_host"), world.a().ip.to_string(), "D was not touched");

    // Its agent is back: everybody who looks sees it, with the command.
    d.start_agent();
    wait_for("status tells of D", || {
        let said = world.coord(&["status"]);
        let told =
            said.stdout.contains("machine-d was left behind") && said.stdout.contains("coord rejoin machine-d\n");
        if told { Ok(()) } else { Err(said.to_string()) }
    });
    world.c().client().call(&["SET", "meanwhile", "on C alone"]);
    let said = world.coord(&["rejoin", D, "--yes", "--json"]).ends_with(code::DONE);
    let aside = said.result()["aside"]["file"].as_str().expect("what D held is kept").to_owned();
    assert!(std::path::Path::new(&aside).exists(), "{aside}");
    d.await_in_sync_with(world.c());
    assert_eq!(d.content(), world.c().content());
    let said = world.coord(&["status"]);
    assert!(!said.stdout.contains("left behind") && !said.stdout.contains("rejoin machine-d"), "{said}");
    // A is as deposed as before: it is fenced when it returns.
    world.a().start_server();
    world.a().start_agent();
    world.a().await_info("role", "slave");
}

#[test]
fn a_host_that_nobody_knows_is_warned_of_and_looked_at_once_more() {
    let world = with_d(baton_tests::servers::REDIS_7_0, false);
    // Nobody has asked this machine's coord anything before.
    world.host(D).kill_agent();
    world.lose_a();
    let running = world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    wait_for("the run is on", || {
        let begun = running.events().iter().any(|event| event["event"] == "step");
        if begun { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    world.host(D).start_agent();
    let said = running.wait().ends_with(code::DEGRADED);
    assert!(said.result()["missing"].to_string().contains("machine-d was left behind"), "{said}");
}

#[test]
fn a_host_that_held_nothing_of_the_group_is_named_and_changes_nothing() {
    let mut world = World::of_three(&ServerProgram::named(baton_tests::servers::REDIS_7_0));
    world.start();
    let program = world.c().program.clone();
    world.add(D, &program);
    world.host(D).start_agent();
    world.coord(&["status"]).ends_with(code::DONE);
    world.host(D).kill_agent();
    world.lose_a();
    let said = world.coord(&[&FAILOVER[..], &["--yes"]].concat()).ends_with(code::DONE);
    said.says(&["machine-d does not answer; it held nothing of this group"]);
}

#[test]
fn a_switchover_names_a_replica_whose_agent_is_silent_and_moves_it_when_repeated() {
    let world = with_d(baton_tests::servers::REDIS_7_0, false);
    world.host(D).kill_agent();
    let switchover = ["switchover", A, "--to", B, "--yes", "--json"];
    let said = world.coord(&switchover).ends_with(code::DEGRADED);
    let missing = said.result()["missing"].to_string();
    assert!(missing.contains("machine-d") && missing.contains("coord switchover machine-a --to machine-b"), "{said}");
    world.host(D).start_agent();
    world.coord(&switchover).ends_with(code::DONE);
    let d = world.host(D);
    d.await_info("master_host", &world.b().ip.to_string());
    d.await_in_sync_with(world.b());
}

fn what_an_aborted_promotion_leaves_behind_is_named_and_joined_later(server: &str) {
    let world = with_d(server, true);
    let before = world.b().content();
    world.lose_a();
    let hold = Hold::set(world.dir(), "promote-after");
    let running =
        world.start_coord(&[&FAILOVER[..], &["--mode", "promote", "--source", B, "--yes", "--json"]].concat());
    hold.wait();
    let run = running.run();
    running.kill();
    drop(hold);
    let said = world.coord(&["abort", &run, "--yes", "--json"]).ends_with(code::DEGRADED);
    let missing = said.result()["missing"].to_string();
    for told in ["machine-d was left fenced", "coord rejoin machine-d", "coord clone machine-b machine-c"] {
        assert!(missing.contains(told), "`{told}` is not in {said}");
    }
    world.coord(&["rejoin", D, "--yes", "--json"]).ends_with(code::DONE);
    world.host(D).await_in_sync_with(world.b());
    world.coord(&["clone", B, C, "--yes", "--json"]).ends_with(code::DONE);
    for name in [B, C, D] {
        assert_eq!(world.host(name).content(), before, "{name}");
    }
}
