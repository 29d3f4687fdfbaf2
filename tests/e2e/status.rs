//! `coord status`, `coord runs` and `coord show`: what is told, for people and for programs.

use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{A, B, C, World};

use crate::scene::{LITTLE_BYTES, Lost, on_every_server};

on_every_server! {
    the_table_tells_roles_keys_and_versions_and_that_all_is_well
}

fn the_table_tells_roles_keys_and_versions_and_that_all_is_well(server: &str) {
    let world = World::in_sync(&ServerProgram::named(server));
    let keys: u64 = Dataset::mixed(1, LITTLE_BYTES).load(&mut world.a().client()).values().sum();
    world.b().await_in_sync_with(world.a());
    let said = world.coord(&["status"]).ends_with(code::DONE);
    let version = world.a().program.version;
    let number = format!("{}.{}.{}", version.major, version.minor, version.patch);
    let shown = said.stdout.replace([',', ' '], "");
    let said = said.says(&[A, B, C, "primary", "replica", "stopped", "ok", &number]);
    assert!(shown.contains(&keys.to_string()), "{keys} keys are not told\n{said}");
    assert_eq!(said.stderr, "");
    assert!(!said.stdout.contains('\u{1b}'), "no colours without a terminal");
}

/// The code of the only group's verdict.
#[track_caller]
fn verdict(world: &World) -> String {
    let said = world.coord(&["status", "--json"]);
    let groups: Vec<_> = said.events().into_iter().filter(|event| event["event"] == "group").collect();
    assert_eq!(groups.len(), 1, "{said}");
    groups[0]["reason"].as_str().unwrap_or_else(|| panic!("no reason: {said}")).to_owned()
}

#[test]
fn the_verdict_follows_what_happens_to_the_group() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    Dataset::mixed(1, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    assert_eq!(verdict(&world), "ok");
    world.a().kill_agent();
    assert_eq!(verdict(&world), "primary_unreachable");
    world.a().lose();
    world.b().await_info("master_link_status", "down");
    assert_eq!(verdict(&world), "primary_dead");
    world.coord(&["status"]).says(&["primary dead"]);
    let lost = Lost { before: world.b().content(), world };
    lost.failover_done(&[]);
    assert_eq!(verdict(&lost.world), "ok");
    lost.world.b().kill_server();
    assert_eq!(verdict(&lost.world), "replica");
    lost.world.c().kill_server();
    assert_eq!(verdict(&lost.world), "lost");
}

#[test]
fn a_host_or_a_group_can_be_asked_for_alone() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    let said = world.coord(&["status", B]).ends_with(code::DONE).says(&[B]);
    assert!(!said.stdout.contains(C), "{said}");
    world.coord(&["status", "machine-z"]).ends_with(code::USAGE).says(&["machine-z"]);
}

#[test]
fn a_finished_run_can_be_read_from_its_journal() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let said = lost.failover_done(&[]);
    let run = said.run();
    lost.world.coord(&["runs"]).ends_with(code::DONE).says(&[&run, "done", B, C]);
    lost.world.coord(&["show", &run]).ends_with(code::DONE).says(&[&run, "fence", "gate", "attach", "partial"]);
    let events = lost.world.coord(&["show", &run, "--json"]).ends_with(code::DONE);
    assert_eq!(events.result()["blake3"], said.result()["blake3"], "{events}");
    lost.world.coord(&["show", "fo-none"]).ends_with(code::USAGE).says(&["fo-none"]);
}

#[test]
fn a_refused_failover_leaves_no_run_behind_that_looks_unfinished() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.c().kill_agent();
    lost.failover(&[]).ends_with(code::PREFLIGHT);
    let said = lost.world.coord(&["runs"]).ends_with(code::DONE);
    assert!(!said.stdout.contains("running") && !said.stdout.contains("interrupted"), "{said}");
}
