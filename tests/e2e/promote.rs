//! `coord failover --mode promote`: B takes A's place at once, C becomes its replica.

use baton_tests::hold::Hold;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{A, B, C, World};

use crate::scene::{Lost, counts, on_every_server, resyncs};

on_every_server! {
    b_takes_over_and_c_joins_it_partially
}

fn b_takes_over_and_c_joins_it_partially(server: &str) {
    let lost = Lost::on(server);
    // B may have served a full resync to nobody: it never had a replica.
    assert_eq!(resyncs(lost.world.b()), counts(0, 0));
    let said = lost.failover_done(&["--mode", "promote"]);
    let result = said.result();
    assert_eq!(resyncs(lost.world.b()), counts(0, 1), "{said}");
    assert_eq!(result["resync"], "partial", "{said}");
    assert_eq!((&result["primary"], &result["replicas"]), (&B.into(), &[C].as_slice().into()), "{said}");
    lost.assert_promoted();
}

#[test]
fn service_is_back_before_the_snapshot_is_taken_and_that_is_told() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let said = lost.failover_done(&["--mode", "promote"]);
    let done = said.events().into_iter().filter(|event| event["event"] == "step" && event["state"] == "done");
    let steps: Vec<_> = done.map(|event| event["step"].as_str().unwrap_or_default().to_owned()).collect();
    let place =
        |step: &str| steps.iter().position(|other| other == step).unwrap_or_else(|| panic!("no {step}: {said}"));
    assert!(place("promote") < place("snapshot"), "{said}");
    lost.assert_promoted();
}

#[test]
fn a_source_that_is_restarted_right_after_it_was_promoted_is_a_primary() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    world.b().configure(|conf| {
        conf.set("appendonly", "yes").set("appendfsync", "always");
    });
    let lost = Lost::with_little_in(world);
    let hold = Hold::set(lost.world.dir(), "snapshot-before");
    let running = lost.world.start_coord(&["failover", A, "--to", C, "--mode", "promote", "--yes", "--json"]);
    hold.wait();
    lost.world.b().kill_server();
    lost.world.b().start_server();
    assert_eq!(lost.world.b().info("role"), "master");
    assert_eq!(lost.world.b().content(), lost.before);
    drop(hold);
    running.wait();
    assert_eq!(lost.world.b().info("role"), "master");
}

#[test]
fn writes_on_the_promoted_source_while_c_is_built_reach_c() {
    let mut lost = Lost::on(REDIS_7_0);
    let relay = baton_tests::relay::Relay::to(lost.world.b().agent_address());
    relay.limit(1_000_000);
    lost.world.b().reach_agent_via(relay.address);
    lost.world.write_coord_toml();
    let running = lost.world.start_coord(&[
        "failover",
        "machine-a",
        "--to",
        "machine-c",
        "--mode",
        "promote",
        "--yes",
        "--json",
        "--snapshot",
        "bgsave",
        "--landing",
        "file",
    ]);
    lost.world.b().await_info("role", "master");
    let mut writes = 0;
    baton_tests::wait::wait_for("a part of the snapshot has crossed", || {
        lost.world.b().client().call(&["SET", &format!("meanwhile:{writes}"), "x"]);
        writes += 1;
        if relay.brought() > 1 << 20 { Ok(()) } else { Err(format!("{} bytes", relay.brought())) }
    });
    relay.limit(0);
    running.wait().ends_with(0);
    let mut client = lost.world.c().client();
    for index in 0..writes {
        assert_eq!(client.call(&["GET", &format!("meanwhile:{index}")]).text(), "x");
    }
    lost.before = lost.world.b().content();
    assert_eq!(resyncs(lost.world.b()), counts(0, 1));
    lost.assert_promoted();
}
