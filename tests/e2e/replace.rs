//! `coord failover`, mode replace: C takes A's place, B follows C.

use baton_tests::dataset::Dataset;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, D, World};

use crate::scene::{Lost, assert_serves, blake3_of, counts, files, lagging_sibling, on_every_server, resyncs};

on_every_server! {
    c_takes_over_and_b_joins_it_without_losing_a_key
    keys_that_expire_meanwhile_are_gone_on_both_sides_and_the_others_stay
    an_empty_data_set_is_replaced
}

fn c_takes_over_and_b_joins_it_without_losing_a_key(server: &str) {
    let lost = Lost::on(server);
    let said = lost.failover_done(&[]);
    // From Redis 7.0 on a primary remembers the lineage of what it loaded, so the data crosses the network once.
    let partial = lost.world.c().program.is_7_or_later();
    let result = said.result();
    assert_eq!(resyncs(lost.world.c()), if partial { counts(0, 1) } else { counts(1, 0) }, "{said}");
    assert_eq!(result["resync"], if partial { "partial" } else { "full" }, "{said}");
    assert_eq!((&result["primary"], &result["replicas"]), (&C.into(), &[B].as_slice().into()), "{said}");
    assert_eq!(result["keys"], lost.before.total(), "{said}");
    assert!(result["bytes_raw"].as_u64() > result["bytes_wire"].as_u64(), "it was compressed: {said}");
    for part in ["snapshot", "transfer", "load", "attach", "total"] {
        assert!(result["seconds"][part].is_number(), "no seconds of {part}: {said}");
    }
    if partial {
        // A full resync makes 6.2 write the dump anew.
        let dump = lost.world.c().dump_path();
        assert_eq!(result["blake3"], blake3_of(&dump).as_str(), "{said}");
        assert_eq!(result["bytes_raw"], dump.metadata().unwrap().len(), "{said}");
    }
    lost.assert_replaced();
}

fn keys_that_expire_meanwhile_are_gone_on_both_sides_and_the_others_stay(server: &str) {
    let lost = with_expiring_keys(server, "replace");
    lost.assert_replaced();
    assert!(lost.world.c().client().call(&["PTTL", "lasting"]).int() > 3_000_000);
}

#[test]
fn keys_that_expire_on_a_promoted_source_are_gone_on_its_replica_as_well() {
    with_expiring_keys(REDIS_7_0, "promote").assert_promoted();
}

fn with_expiring_keys(server: &str, mode: &str) -> Lost {
    let world = World::in_sync(&ServerProgram::named(server));
    Dataset::mixed(3, 300 << 10).load(&mut world.a().client());
    let mut client = world.a().client();
    client.call(&["SET", "lasting", "yes", "PX", "3600000"]);
    world.b().await_in_sync_with(world.a());
    let lasting = world.b().content();
    // They run out before the snapshot, during it, while C loads, and after B has joined.
    for index in 0..80 {
        client.call(&["SET", &format!("short:{index}"), "x", "PX", &(50 + index * 60).to_string()]);
    }
    world.b().await_in_sync_with(world.a());
    world.lose_a();
    let lost = Lost { world, before: lasting };
    lost.failover_done(&["--mode", mode]);
    for host in [C, B] {
        wait_for(&format!("the short-lived keys are gone on {host}"), || {
            let keys = baton_tests::content::keys(&mut lost.world.host(host).try_client()?);
            let left = keys.values().sum::<u64>() - lost.before.total();
            if left == 0 { Ok(()) } else { Err(format!("{left} keys are left")) }
        });
    }
    lost
}

fn an_empty_data_set_is_replaced(server: &str) {
    let lost = Lost::after(World::in_sync(&ServerProgram::named(server)));
    assert_eq!(lost.before.total(), 0);
    let said = lost.failover_done(&[]);
    assert_eq!(said.result()["keys"], 0, "{said}");
    lost.assert_replaced();
}

#[test]
fn a_dry_run_shows_checks_steps_and_forecast_and_changes_nothing() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let before = baton_tests::footprint::Footprint::of(&lost.world);
    let said = lost.world.coord(&["failover", A, "--to", C, "--dry-run"]).ends_with(0);
    said.says(&["ok", "fence", "snapshot", "transfer", "gate", "partial", B, C]);
    assert_eq!(baton_tests::footprint::Footprint::of(&lost.world), before);
    // The trial of the way to C is over as well: its port is free.
    lost.world.c().start_server();
}

#[test]
fn the_events_tell_every_step_in_its_order() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let said = lost.failover_done(&[]);
    let steps = said.events().into_iter().filter(|event| event["event"] == "step" && event["state"] == "done");
    let steps: Vec<_> = steps.map(|event| event["step"].as_str().unwrap_or_default().to_owned()).collect();
    let order = [
        "fence", "depose", "snapshot", "transfer", "install", "load", "gate", "attach", "persist", "canary", "release",
    ];
    assert_eq!(steps, order, "{said}");
    assert_eq!(said.stdout.lines().count(), said.events().len(), "every line of stdout is an event: {said}");
}

#[test]
fn what_runs_empty_on_c_is_replaced_without_a_question() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    world.c().start_server();
    Dataset::mixed(4, 100 << 10).load(&mut world.a().client());
    let lost = Lost::after(world);
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn data_on_c_is_replaced_only_when_told_so_and_its_dump_is_kept() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    world.c().start_server();
    world.c().client().call(&["SET", "precious", "of C"]);
    Dataset::mixed(4, 100 << 10).load(&mut world.a().client());
    let lost = Lost::after(world);
    lost.failover_done(&["--replace-target-data"]);
    lost.assert_replaced();
    assert_kept(&lost);
}

#[test]
fn a_dump_of_a_stopped_c_is_kept_however_small_it_is() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    world.c().start_server();
    world.c().client().call(&["SET", "precious", "of C"]);
    world.c().client().call(&["SAVE"]);
    world.c().kill_server();
    let lost = Lost::after(world);
    lost.failover_done(&[]);
    lost.assert_replaced();
    assert_kept(&lost);
}

/// Asserts that what C held is kept beside its dump.
#[track_caller]
fn assert_kept(lost: &Lost) {
    let files = files(&lost.world.c().data_dir());
    let kept = files.iter().find(|name| name.starts_with("dump.rdb.before-")).unwrap_or_else(|| panic!("{files:?}"));
    let bytes = std::fs::read(lost.world.c().data_dir().join(kept)).unwrap();
    assert!(bytes.windows(8).any(|window| window == b"precious"), "what C held is in {kept}");
}

#[test]
fn a_restart_of_everything_afterwards_finds_the_same_roles_and_data() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.failover_done(&[]);
    for host in [C, B] {
        let mut client = lost.world.host(host).client();
        client.call(&["SAVE"]);
        lost.world.host(host).kill_server();
    }
    lost.world.c().start_server();
    lost.world.b().start_server();
    lost.assert_replaced();
}

#[test]
fn the_freshest_of_two_siblings_is_the_source_and_the_other_gets_everything() {
    two_siblings("replace", C, [B, D]);
}

#[test]
fn a_promoted_source_takes_its_lagging_sibling_back_partially() {
    two_siblings("promote", B, [C, D]);
}

fn two_siblings(mode: &str, primary: &str, replicas: [&str; 2]) {
    let lost = lagging_sibling(REDIS_7_0);
    let plan = lost.world.coord(&["failover", A, "--to", C, "--mode", mode, "--dry-run"]).ends_with(0);
    plan.says(&["machine-d is not the source", "behind machine-b"]);
    lost.failover_done(&["--mode", mode]);
    // On a C that loaded the snapshot, the backlog begins there: D, which stands before it, gets everything anew.
    let expected = if mode == "replace" { counts(1, 1) } else { counts(0, 2) };
    assert_eq!(resyncs(lost.world.host(primary)), expected, "full and partial resyncs on {primary}");
    assert_serves(&lost.world, primary, &replicas, &lost.before);
}
