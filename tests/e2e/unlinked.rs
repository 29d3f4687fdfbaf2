//! Cuts of the link between the servers themselves, while a replica that was told to follow waits for it. Agents and `coord`
//! see each other all the while. A moment of it is borne. What does not end is waited for, and whoever stops waiting is told
//! what is missing: a run whose replica was never linked is not done.

use std::thread::sleep;
use std::time::Duration;

use baton_tests::coord::{Running, code};
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::Host;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::tcp_relay::TcpRelay;
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, D, World};

use crate::resume::{assert_nobody_holds, take_up};
use crate::scene::{FAILOVER, LITTLE_BYTES, Lost, assert_no_leftovers};

/// A moment: the server has tried the link, and not given it up.
const MOMENT: Duration = Duration::from_secs(3);

/// A world in which A was lost, with a relay before the server of C; D follows A beside B, if there is one.
fn behind_a_relay(with_sibling: bool) -> (Lost, TcpRelay) {
    let mut world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let relay = TcpRelay::before(world.c());
    if with_sibling {
        let program = world.c().program.clone();
        world.add(D, &program);
        world.replicate(D, baton_tests::world::A);
    }
    (Lost::with(world, Dataset::mixed(7, LITTLE_BYTES)), relay)
}

/// Starts a failover, and cuts the link right before a replica is told to follow C.
fn cut_before_it_follows(lost: &Lost, relay: &TcpRelay, replica: &str) -> Running {
    let host = lost.world.host(replica);
    let hold = Hold::set(&host.dir, "follow-before");
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    hold.wait();
    relay.cut();
    drop(hold);
    wait_for("the replica was told to follow", || {
        let seen = host.try_client()?.try_info()?.remove("master_host").unwrap_or_default();
        if seen == lost.world.c().ip.to_string() { Ok(()) } else { Err(seen) }
    });
    running
}

/// Asserts that a run waits for a replica that was told to follow and is not linked.
#[track_caller]
fn assert_waits(running: &mut Running, replica: &Host) {
    sleep(MOMENT);
    assert!(running.ended().is_none(), "{}", running.so_far());
    assert_eq!(replica.info("master_link_status"), "down");
}

/// Leaves a run that waits, as a person does who wants it at once: the first Ctrl-C would let the step end.
fn left(mut running: Running) -> String {
    let run = running.run();
    wait_for("it has ended", || {
        running.interrupt();
        sleep(MOMENT / 10);
        running.ended().map(drop).ok_or_else(|| running.so_far().to_string())
    });
    let said = running.wait().ends_with(code::INTERRUPTED);
    said.says(&[&format!("coord resume {run}"), &format!("coord abort {run}")]);
    run
}

#[track_caller]
fn assert_all_follow(lost: &Lost, replicas: &[&str]) {
    for name in replicas {
        let replica = lost.world.host(name);
        replica.await_in_sync_with(lost.world.c());
        assert_eq!(replica.content(), lost.before, "what {name} holds");
    }
    assert_eq!(lost.world.c().content(), lost.before);
}

#[test]
fn a_link_between_the_servers_that_is_cut_for_a_moment_is_waited_for() {
    let (lost, relay) = behind_a_relay(false);
    let mut running = cut_before_it_follows(&lost, &relay, B);
    assert_waits(&mut running, lost.world.b());
    wait_for("it is told why nothing comes", || {
        let said = running.so_far();
        if said.stdout.contains("waiting for the link: ") { Ok(()) } else { Err(said.to_string()) }
    });
    relay.heal();
    let said = running.wait().ends_with(code::DONE);
    assert_eq!((&said.result()["outcome"], &said.result()["resync"]), (&"done".into(), &"partial".into()), "{said}");
    assert!(relay.begun() > 0, "the servers speak by way of the relay");
    assert_all_follow(&lost, &[B]);
    assert_no_leftovers(&lost.world);
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_link_between_the_servers_that_is_cut_for_good_is_missing_at_the_end_of_an_aborted_run() {
    let (lost, relay) = behind_a_relay(false);
    let mut running = cut_before_it_follows(&lost, &relay, B);
    assert_waits(&mut running, lost.world.b());
    let run = left(running);
    let said = take_up(&lost.world, "abort", &run).ends_with(code::DEGRADED);
    let missing = said.result()["missing"].to_string();
    assert!(missing.contains("attach: not done"), "{said}");
    assert_eq!((lost.world.b().content(), lost.world.c().content()), (lost.before.clone(), lost.before.clone()));
    assert_eq!(lost.world.b().info("role"), "slave");
    assert_nobody_holds(&lost.world);
    // B was told whom to follow, and does as soon as it can.
    relay.heal();
    assert_all_follow(&lost, &[B]);
}

#[test]
fn a_run_that_is_resumed_while_the_servers_link_is_cut_waits_again_and_is_done_once_it_is_healed() {
    let (lost, relay) = behind_a_relay(false);
    let mut running = cut_before_it_follows(&lost, &relay, B);
    assert_waits(&mut running, lost.world.b());
    let run = left(running);
    let mut resuming = lost.world.start_coord(&["resume", &run, "--yes", "--json"]);
    assert_waits(&mut resuming, lost.world.b());
    relay.heal();
    let said = resuming.wait().ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "done", "{said}");
    assert_all_follow(&lost, &[B]);
    assert_no_leftovers(&lost.world);
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_way_to_the_target_that_is_cut_before_anything_follows_it_undoes_the_run() {
    let (lost, relay) = behind_a_relay(false);
    let hold = Hold::set(lost.world.dir(), "attach-before");
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    hold.wait();
    relay.cut();
    drop(hold);
    let said = running.wait().ends_with(code::REFUSED).says(&["attach", "says nothing within", "hint:", C]);
    assert_eq!(said.result()["outcome"], "refused", "{said}");
    relay.heal();
    lost.assert_b_is_untouched();
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_sibling_whose_link_is_cut_for_a_moment_is_waited_for() {
    let (lost, relay) = behind_a_relay(true);
    let sibling = sibling(&lost);
    let mut running = cut_before_it_follows(&lost, &relay, sibling);
    assert_waits(&mut running, lost.world.host(sibling));
    relay.heal();
    let said = running.wait().ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "done", "{said}");
    assert_all_follow(&lost, &[B, D]);
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_sibling_whose_link_is_cut_for_good_is_missing_at_the_end_of_an_aborted_run() {
    let (lost, relay) = behind_a_relay(true);
    let sibling = sibling(&lost);
    let mut running = cut_before_it_follows(&lost, &relay, sibling);
    assert_waits(&mut running, lost.world.host(sibling));
    let run = left(running);
    let said = take_up(&lost.world, "abort", &run).ends_with(code::DEGRADED);
    let missing = said.result()["missing"].to_string();
    assert!(missing.contains("siblings: not done"), "{said}");
    relay.heal();
    assert_all_follow(&lost, &[B, D]);
    assert_nobody_holds(&lost.world);
}

/// Which of B and D is not the source: both hold the same.
fn sibling(lost: &Lost) -> &'static str {
    let plan = lost.world.coord(&[&FAILOVER[..], &["--dry-run"]].concat()).ends_with(code::DONE);
    let both = [B, D].map(|name| (name, plan.stdout.contains(&format!("{name} is not the source"))));
    both.into_iter().find(|(_, is_sibling)| *is_sibling).map_or(D, |(name, _)| name)
}
