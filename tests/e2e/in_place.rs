//! `coord failover A` without another server: a survivor takes over where it is, and nothing is moved.

use baton_tests::coord::{Running, code};
use baton_tests::hold::Hold;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{A, B, C, D, World};

use crate::resume::{assert_nobody_holds, take_up};
use crate::scene::{Lost, assert_serves, counts, lagging_sibling, on_every_server, resyncs};

on_every_server! {
    the_freshest_survivor_takes_over_and_the_other_joins_it_partially
}

fn the_freshest_survivor_takes_over_and_the_other_joins_it_partially(server: &str) {
    let lost = lagging_sibling(server);
    let said = lost.world.coord(&["failover", A, "--yes", "--json"]).ends_with(code::DONE);
    let result = said.result();
    assert_eq!((&result["primary"], &result["replicas"]), (&B.into(), &[D].as_slice().into()), "{said}");
    assert_eq!((&result["resync"], &result["outcome"]), (&"partial".into(), &"done".into()), "{said}");
    assert!(result["seconds"]["service"].is_number() && result["bytes_wire"].is_null(), "{said}");
    assert_eq!(resyncs(lost.world.b()), counts(0, 1));
    assert_serves(&lost.world, B, &[D], &lost.before);
    assert_nobody_holds(&lost.world);
}

#[test]
fn one_that_holds_less_than_another_does_not_take_over() {
    let lost = lagging_sibling(REDIS_7_0);
    let said = lost.world.coord(&["failover", A, "--to", D, "--yes"]).ends_with(code::REFUSED);
    said.says(&["source-freshest", "--to machine-b"]);
    lost.assert_b_is_untouched();
    // A mode is about a server to which data is moved.
    let said = lost.world.coord(&["failover", A, "--to", B, "--mode", "promote", "--yes"]).ends_with(code::PREFLIGHT);
    said.says(&["machine-b is a member of the group", "leave --mode and --source out"]);
    lost.world.coord(&["failover", A, "--mode", "promote", "--yes"]).ends_with(code::USAGE).says(&["--to"]);
    lost.assert_b_is_untouched();
}

#[test]
fn the_last_of_a_group_takes_over_gets_a_replica_and_its_old_primary_back() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let said = lost.world.coord(&["failover", A, "--to", B, "--yes"]).ends_with(code::DONE);
    said.says(&["primary-followed", "coord clone machine-b TARGET", "machine-b is primary, nobody follows it"]);
    assert_serves(&lost.world, B, &[], &lost.before);
    lost.world.coord(&["clone", B, C, "--yes"]).ends_with(code::DONE).says(&["partial resync"]);
    lost.assert_promoted();
    // The one that was replaced comes back as a primary, is held off writes, and joins.
    let a = lost.world.a();
    a.start_agent();
    a.start_server();
    a.await_info("role", "slave");
    lost.world.coord(&["rejoin", A, "--yes"]).ends_with(code::DONE);
    a.await_in_sync_with(lost.world.b());
}

/// Two survivors of a lost primary, of which none follows the other yet.
fn held_before_the_other_follows(lost: &Lost) -> (Hold, Running) {
    let hold = Hold::set(lost.world.dir(), "siblings-before");
    let running = lost.world.start_coord(&["failover", A, "--yes", "--json"]);
    hold.wait();
    (hold, running)
}

#[test]
fn a_run_that_dies_when_the_survivor_leads_is_taken_up() {
    let lost = lagging_sibling(REDIS_7_0);
    let (hold, running) = held_before_the_other_follows(&lost);
    let run = running.run();
    running.kill();
    drop(hold);
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    assert_serves(&lost.world, B, &[D], &lost.before);
    assert_nobody_holds(&lost.world);
}

#[test]
fn an_abort_takes_nothing_from_the_survivor_that_leads_and_names_whom_it_leaves() {
    let lost = lagging_sibling(REDIS_7_0);
    let (hold, running) = held_before_the_other_follows(&lost);
    let run = running.run();
    running.kill();
    drop(hold);
    let said = take_up(&lost.world, "abort", &run).ends_with(code::DEGRADED);
    said.says(&["machine-d was left fenced", "coord rejoin machine-d"]);
    assert_eq!((lost.world.b().info("role"), lost.world.b().content()), ("master".into(), lost.before.clone()));
    assert_nobody_holds(&lost.world);
    let said = lost.world.coord(&["rejoin", D, "--yes", "--json"]).ends_with(code::DONE);
    let aside = said.result()["aside"]["file"].as_str().expect("what D held is kept").to_owned();
    assert!(std::path::Path::new(&aside).exists(), "{aside}");
    lost.world.host(D).await_in_sync_with(lost.world.b());
}

#[test]
fn before_it_leads_an_abort_leaves_all_fenced_and_whole() {
    let lost = Lost::after(World::in_sync(&ServerProgram::named(REDIS_7_0)));
    let hold = Hold::set(lost.world.dir(), "promote-before");
    let running = lost.world.start_coord(&["failover", A, "--yes", "--json"]);
    hold.wait();
    let run = running.run();
    running.kill();
    drop(hold);
    take_up(&lost.world, "abort", &run).ends_with(code::DONE).says(&["rolled-back"]);
    lost.assert_b_is_untouched();
    assert_nobody_holds(&lost.world);
}
