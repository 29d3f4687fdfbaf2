//! `coord copy`: the snapshot alone.

use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::servers::{REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::world::{A, B, C, World};

use crate::scene::{MIXED_BYTES, assert_no_leftovers, blake3_of, on_every_server};

on_every_server! {
    a_copy_of_a_live_primary_changes_no_role_and_is_bit_for_bit_the_snapshot
}

fn loaded(server: &str) -> World {
    let world = World::in_sync(&ServerProgram::named(server));
    Dataset::mixed(9, MIXED_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world
}

fn a_copy_of_a_live_primary_changes_no_role_and_is_bit_for_bit_the_snapshot(server: &str) {
    let world = loaded(server);
    let before = world.a().content();
    let said = world.coord(&["copy", A, C, "--yes", "--json"]).ends_with(code::DONE);
    let hash = blake3_of(&world.c().dump_path());
    assert_eq!(said.result()["blake3"], hash.as_str(), "{said}");
    assert_eq!(hash, blake3_of(&world.a().dump_path()), "A's own dump is the snapshot");
    assert!(world.c().server_pids().is_empty(), "C was not to be started");
    assert_eq!((world.a().info("role"), world.b().info("role")), ("master".to_owned(), "slave".to_owned()));
    assert_eq!(world.a().content(), before);
    assert_no_leftovers(&world);
    world.c().start_server();
    assert_eq!(world.c().content(), before);
}

#[test]
fn each_way_to_take_the_snapshot_brings_the_same_data() {
    let world = loaded(REDIS_7_0);
    let before = world.b().content();
    for method in ["save", "bgsave", "existing", "auto"] {
        let said = world.coord(&["copy", B, C, "--snapshot", method, "--yes", "--json"]).ends_with(code::DONE);
        assert_eq!(said.result()["blake3"], blake3_of(&world.c().dump_path()).as_str(), "{said}");
        world.c().start_server();
        assert_eq!(world.c().content(), before, "by {method}");
        world.c().kill_server();
        for name in crate::scene::files(&world.c().data_dir()) {
            std::fs::remove_file(world.c().data_dir().join(name)).unwrap();
        }
    }
}

#[test]
fn an_existing_dump_is_taken_as_it_is_even_where_the_server_is_stopped() {
    let world = loaded(REDIS_7_0);
    world.b().client().call(&["SAVE"]);
    let before = world.b().content();
    let hash = blake3_of(&world.b().dump_path());
    world.b().kill_server();
    world
        .coord(&["copy", B, C, "--snapshot", "existing", "--start", "--landing", "file", "--yes"])
        .ends_with(code::DONE);
    assert_eq!(world.c().content(), before);
    assert_eq!(blake3_of(&world.b().dump_path()), hash);
}

#[test]
fn an_existing_dump_that_the_target_cannot_read_is_refused_before_a_byte_is_sent() {
    let mut world = World::new();
    for (name, server) in [(B, VALKEY_9_1), (C, REDIS_7_0)] {
        world.add(name, &ServerProgram::named(server));
    }
    world.hosts().iter().for_each(|host| host.start_agent());
    world.b().start_server();
    Dataset::mixed(1, 1 << 20).load(&mut world.b().client());
    world.b().client().call(&["SAVE"]);
    world.b().kill_server();
    let hash = blake3_of(&world.b().dump_path());
    let said = world.coord(&["copy", B, C, "--snapshot", "existing", "--yes"]);
    assert_ne!(said.code, code::DONE, "{said}");
    said.says(&["VALKEY080", C, "hint:"]);
    assert!(!world.c().dump_path().exists());
    assert_eq!(blake3_of(&world.b().dump_path()), hash);
    assert_no_leftovers(&world);
}

#[test]
fn a_copy_with_start_serves_the_data_as_a_primary_of_its_own() {
    let world = loaded(REDIS_7_0);
    let before = world.a().content();
    world.coord(&["copy", A, C, "--start", "--landing", "file", "--yes"]).ends_with(code::DONE);
    assert_eq!(world.c().content(), before);
    assert_eq!(world.c().info("role"), "master");
    assert_eq!(world.c().info("connected_slaves"), "0");
    assert_eq!(world.a().info("connected_slaves"), "1");
}

#[test]
fn a_later_save_on_the_source_does_not_disturb_a_copy() {
    let world = loaded(REDIS_7_0);
    Dataset::random(10, 8 << 20).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    let relay = baton_tests::relay::Relay::to(world.a().agent_address());
    relay.limit(4 << 20);
    world.a().reach_agent_via(relay.address);
    world.write_coord_toml();
    let before = world.a().content();
    let running = world.start_coord(&["copy", A, C, "--yes", "--json"]);
    baton_tests::wait::wait_for("a part of the snapshot has crossed", || {
        if relay.brought() > 2 << 20 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    world.a().client().call(&["SET", "written", "since"]);
    world.a().client().call(&["SAVE"]);
    relay.limit(0);
    running.wait().ends_with(code::DONE);
    world.c().start_server();
    assert_eq!(world.c().content(), before, "the snapshot is of the time when it was taken");
}
