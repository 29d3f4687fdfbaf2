//! Releases that are played: what a newer one adds harms nobody, and what cannot be is said with what to do.

use baton_proto::hello::{PROTOCOL_MAX, PROTOCOL_MIN};
use baton_tests::coord::{Said, code, start_program};
use baton_tests::programs::{self, Program};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{A, B, C, World};

use crate::scene::{FAILOVER, Lost, assert_no_leftovers, assert_serves};

/// The release after this one: it speaks one version more, and tells more everywhere.
fn newer() -> String {
    format!("speaks={PROTOCOL_MAX}-{} version=99.0.0 more", PROTOCOL_MAX + 1)
}

fn agent_playing(world: &World, host: &str, words: &str) {
    world.host(host).use_agent(Program::playing(programs::agent(), words));
}

/// Has a `coord` that plays another release do something.
#[track_caller]
fn coord_playing(world: &World, words: &str, args: &[&str]) -> Said {
    start_program(&Program::playing(programs::coord(), words), world.dir(), args).wait()
}

/// A is lost, and of `coord` and the agents those are one release newer that are named.
fn failed_over(who: &[&str], landing: &str) {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    who.iter().filter(|name| **name != "coord").for_each(|host| agent_playing(&world, host, &newer()));
    let lost = Lost::with_little_in(world);
    let args = [&FAILOVER[..4], &["--landing", landing, "--yes", "--json"]].concat();
    let words = if who.contains(&"coord") { newer() } else { String::new() };
    let said = coord_playing(&lost.world, &words, &args).ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "done", "{who:?}\n{said}");
    lost.assert_replaced();
}

#[test]
fn a_newer_coord_fails_over_among_agents_of_this_release() {
    failed_over(&["coord"], "file");
    failed_over(&["coord"], "live");
}

#[test]
fn newer_agents_obey_a_coord_of_this_release() {
    failed_over(&[A, B, C], "file");
    failed_over(&[A, B, C], "live");
}

#[test]
fn a_source_of_another_release_than_its_target_sends_to_it() {
    failed_over(&[B], "file");
    failed_over(&[B], "live");
}

#[test]
fn a_target_of_another_release_than_its_source_takes_from_it() {
    failed_over(&[C], "file");
    failed_over(&[C], "live");
}

#[test]
fn a_replica_is_cloned_from_a_newer_host_to_one_of_this_release_and_back() {
    for newer_one in [A, C] {
        let world = World::of_three(&ServerProgram::named(REDIS_7_0));
        agent_playing(&world, newer_one, &newer());
        world.start();
        baton_tests::dataset::Dataset::mixed(3, crate::scene::LITTLE_BYTES).load(&mut world.a().client());
        world.b().await_in_sync_with(world.a());
        let before = world.a().content();
        world.coord(&["clone", A, C, "--yes", "--json"]).ends_with(code::DONE);
        world.c().await_in_sync_with(world.a());
        assert_serves(&world, A, &[B, C], &before);
    }
}

#[test]
fn versions_that_differ_are_told_of() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    agent_playing(&world, C, "version=99.0.0");
    world.start();
    let own = format!("baton-agent {} on {A}, {B}", env!("CARGO_PKG_VERSION"));
    let said = world.coord(&["status"]).ends_with(code::DONE);
    said.says(&["versions differ", &own, &format!("baton-agent 99.0.0 on {C}"), "coord install HOST"]);
}

#[test]
fn a_state_that_only_a_newer_agent_knows_spoils_nothing_else_and_nothing_is_done_with_it() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    agent_playing(&world, B, "says=running:hovering");
    agent_playing(&world, C, "says=stopped:hovering");
    let lost = Lost::with_little_in(world);
    let said = lost.world.coord(&["status", "--json"]).ends_with(code::DONE);
    let answers: Vec<_> =
        said.events().iter().filter(|event| event["event"] == "host").map(|h| h["answers"].clone()).collect();
    assert_eq!(answers, [false, true, true], "{said}");
    lost.world.coord(&["status"]).ends_with(code::DONE).says(&["its agent tells of it what is not known here"]);
    let refused = lost.failover(&[]);
    assert!([code::PREFLIGHT, code::REFUSED].contains(&refused.code), "{refused}");
    refused.says(&["not known here"]);
    lost.assert_b_is_untouched();
}

#[test]
fn a_primary_of_which_a_newer_agent_says_what_is_not_known_is_not_held_for_dead() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    agent_playing(&world, A, "says=running:hovering");
    world.start();
    // Nobody is linked to it, and nobody reaches it.
    world.b().client().call(&["REPLICAOF", "127.0.0.1", "1"]);
    let said = world.coord(&["status", "--json"]).ends_with(code::DONE);
    let events = said.events();
    let reasons: Vec<_> =
        events.iter().filter(|event| event["event"] == "group").map(|group| &group["reason"]).collect();
    assert!(reasons.iter().any(|reason| *reason == "primary_strange"), "{said}");
    let refused = world.coord(&["failover", A, "--to", C, "--yes"]);
    assert!([code::PREFLIGHT, code::REFUSED].contains(&refused.code), "{refused}");
    assert_eq!(world.a().info("role"), "master");
}

#[test]
fn who_is_too_far_away_is_named_with_whom_to_upgrade() {
    let (old, new) = (format!("1-{}", PROTOCOL_MIN - 1), format!("{}-{0}", PROTOCOL_MAX + 7));
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    agent_playing(&world, B, &format!("speaks={old} version=0.0.1"));
    agent_playing(&world, C, &format!("speaks={new} version=99.0.0"));
    world.start();
    let said = world.coord(&["status"]).ends_with(code::DONE);
    said.says(&["no common protocol version", "upgrade baton-agent 0.0.1: `coord install", "upgrade coord "]);
    // The other way round it is the agents that refuse.
    let said = coord_playing(&world, &format!("speaks={new} version=99.0.0"), &["status"]).ends_with(code::DONE);
    said.says(&["coord 99.0.0 speaks", "upgrade baton-agent"]);
}

#[test]
fn an_order_that_an_agent_does_not_know_is_refused_in_words_and_all_is_as_before() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let args = [&FAILOVER[..], &["--yes", "--json"]].concat();
    let said = coord_playing(&lost.world, "says=pull:haul version=99.0.0", &args).ends_with(code::ROLLED_BACK);
    said.says(&["of machine-c does not understand a request of coord 99.0.0", "haul", "upgrade baton-agent"]);
    lost.assert_b_is_untouched();
    // What was undone is undone whole: this release does it.
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn an_outcome_that_coord_does_not_know_is_refused_in_words_and_all_is_as_before() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    agent_playing(&world, C, "says=pulled:hauled version=99.0.0");
    let lost = Lost::with_little_in(world);
    let said = lost.failover(&[]).ends_with(code::ROLLED_BACK);
    said.says(&["does not understand an answer of baton-agent 99.0.0 of machine-c", "upgrade coord"]);
    lost.assert_b_is_untouched();
    assert_no_leftovers(&lost.world);
}
