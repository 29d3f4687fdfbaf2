//! A handover that is stuck: the primary has told its replica to take over, which does not answer. The primary is read-only
//! and nobody leads, and only who knows that the replica has not heard of it may end that.

use std::fs;

use baton_tests::coord::{Running, Said, code};
use baton_tests::hold::Hold;
use baton_tests::host::{Host, SERVER_PORT};
use baton_tests::process::signal;
use baton_tests::wait::{wait_for, wait_until};
use baton_tests::world::{A, B, World};
use baton_tests::writer::Writers;
use rustix::process::Signal;

use super::{SWITCHOVER, assert_read_only, pair};
use crate::resume::{assert_nobody_holds, take_up};
use crate::scene::{assert_serves, configured_primary, on_every_server};

on_every_server! {
    a_replica_that_does_not_answer_in_time_stops_the_run_which_is_resumed_once_it_does
    a_replica_that_does_not_answer_in_time_and_is_lost_has_the_run_aborted
    a_replica_that_is_lost_meanwhile_has_the_primary_lead_again
    an_agent_that_is_killed_meanwhile_waits_for_the_end_of_it_as_the_next_one_does
}

/// A switchover whose replica is frozen in the moment in which it is told.
struct Stuck {
    world: World,
    coord: Running,
}

impl Stuck {
    /// The moment is a few milliseconds long, so the test tells the primary in the place of its agent, which finds it so.
    fn of(world: World, timeout: &str) -> Self {
        let hold = Hold::set(&world.a().dir, "hand-over-before");
        let coord = world.start_coord(&[&SWITCHOVER[..], &["--yes", "--timeout", timeout]].concat());
        hold.wait();
        freeze(world.b());
        let (ip, port) = (world.b().ip.to_string(), SERVER_PORT.to_string());
        world.a().client().call(&["FAILOVER", "TO", &ip, &port, "FORCE", "TIMEOUT", "100"]);
        world.a().await_info("master_failover_state", "failover-in-progress");
        Self { world, coord }
    }

    /// The run has stopped, and so has nobody's word that it is over: A takes no writes, and B does not lead.
    fn stopped(world: World) -> (World, String) {
        let stuck = Self::of(world, "1s");
        let said = stuck.coord.wait().ends_with(code::STOPPED).says(&["state:", "hint:", "FAILOVER ABORT"]);
        assert_eq!(said.result()["outcome"], "failed", "{said}");
        assert_eq!(stuck.world.a().info("master_failover_state"), "failover-in-progress", "{said}");
        assert_read_only(stuck.world.a());
        (stuck.world, said.run())
    }
}

fn freeze(host: &Host) {
    host.server_pids().into_iter().for_each(|pid| signal(pid, Signal::STOP));
}

fn wake(host: &Host) {
    host.server_pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
}

/// Asserts that A leads as before, and that its clients write again.
#[track_caller]
fn assert_a_leads(world: &World, said: &Said) {
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    assert_eq!((world.a().info("role"), configured_primary(world.a())), ("master".to_owned(), None), "{said}");
    assert_eq!(world.a().info("master_failover_state"), "no-failover");
    assert_nobody_holds(world);
    let writers = Writers::start(2, &[world.a()]);
    wait_until("the clients write again", || writers.acknowledged() > 200);
    let written = writers.stop();
    assert_eq!(written.missing_on(world.a()), Vec::<&String>::new());
    world.b().start_server();
    world.b().await_in_sync_with(world.a());
    assert_eq!(written.missing_on(world.b()), Vec::<&String>::new());
}

fn a_replica_that_does_not_answer_in_time_stops_the_run_which_is_resumed_once_it_does(server: &str) {
    let (world, run) = Stuck::stopped(pair(server));
    wake(world.b());
    world.b().await_info("role", "master");
    let said = take_up(&world, "resume", &run).ends_with(code::DONE);
    assert_eq!((&said.result()["primary"], &said.result()["replicas"]), (&B.into(), &serde_json::json!([A])), "{said}");
    assert_serves(&world, B, &[A], &world.b().content());
    assert_read_only(world.a());
}

fn a_replica_that_does_not_answer_in_time_and_is_lost_has_the_run_aborted(server: &str) {
    let (world, run) = Stuck::stopped(pair(server));
    world.b().kill_server();
    let said = take_up(&world, "abort", &run).ends_with(code::DONE);
    assert_a_leads(&world, &said);
}

fn a_replica_that_is_lost_meanwhile_has_the_primary_lead_again(server: &str) {
    let Stuck { world, coord } = Stuck::of(pair(server), "60s");
    world.b().kill_server();
    let said = coord.wait().ends_with(code::ROLLED_BACK).says(&["cannot take over"]);
    assert_a_leads(&world, &said);
}

fn an_agent_that_is_killed_meanwhile_waits_for_the_end_of_it_as_the_next_one_does(server: &str) {
    let Stuck { world, coord } = Stuck::of(pair(server), "60s");
    let begun = || fs::read_to_string(world.a().agent_log()).unwrap_or_default().matches("begin: hand over to").count();
    let before = begun();
    world.a().kill_agent();
    world.a().start_agent();
    wait_for("the next agent has the order as well", || {
        if begun() > before { Ok(()) } else { Err(coord.so_far().to_string()) }
    });
    assert_eq!(world.a().info("master_failover_state"), "failover-in-progress");
    wake(world.b());
    let said = coord.wait().ends_with(code::DONE);
    assert_eq!(said.result()["primary"], B, "{said}");
    assert_serves(&world, B, &[A], &world.b().content());
    assert_read_only(world.a());
}
