//! What a target is that has landed live and is killed before the run has ended: the replica that it was made, or, if the
//! run was aborted, the empty primary that it was.

use baton_tests::coord::code;
use baton_tests::hold::Hold;
use baton_tests::host::{Host, SERVER_PORT};
use baton_tests::servers::ServerProgram;
use baton_tests::world::{A, B, C, World};

use crate::clone::{CLONE, assert_cloned, lone};
use crate::resume::take_up;
use crate::scene::{Lost, assert_no_leftovers, configured_primary, files, on_every_server};

on_every_server! {
    a_clone_that_is_killed_before_its_role_is_made_last_comes_up_as_a_replica
    so_does_the_target_of_a_promoted_source
    a_clone_that_is_aborted_by_then_is_the_empty_primary_that_it_was
}

/// The points at which it is killed: when it has landed, and when it has joined.
const POINTS: [&str; 2] = ["transfer-after", "attach-after"];

/// Kills a server, starts it by hand, and asserts that it follows another.
#[track_caller]
fn assert_comes_up_behind(target: &Host, primary: &Host) {
    target.kill_server();
    target.start_server();
    let info = target.client().info();
    let is = ["role", "master_host", "master_port"].map(|field| info.get(field).cloned().unwrap_or_default());
    assert_eq!(is, ["slave".to_owned(), primary.ip.to_string(), SERVER_PORT.to_string()]);
}

fn a_clone_that_is_killed_before_its_role_is_made_last_comes_up_as_a_replica(server: &str) {
    for point in POINTS {
        let world = lone(server, |_| {});
        world.c().start_server();
        let hold = Hold::set(world.dir(), point);
        let running = world.start_coord(&CLONE);
        hold.wait();
        assert_comes_up_behind(world.c(), world.a());
        drop(hold);
        let said = running.wait();
        // Killed before it has joined, it may take everything anew, which was not foretold.
        assert!([code::DONE, code::DEGRADED].contains(&said.code), "{said}");
        assert_cloned(&world);
    }
}

fn so_does_the_target_of_a_promoted_source(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    world.c().configure(|conf| {
        conf.set("appendonly", "yes");
    });
    let lost = Lost::with_little_in(world);
    lost.world.c().start_server();
    let hold = Hold::set(lost.world.dir(), "attach-after");
    let promote = ["failover", A, "--to", C, "--mode", "promote", "--yes", "--json"];
    let running = lost.world.start_coord(&promote);
    hold.wait();
    assert_comes_up_behind(lost.world.c(), lost.world.b());
    drop(hold);
    let said = running.wait().ends_with(code::DONE);
    assert_eq!(said.result()["primary"], B, "{said}");
    lost.assert_promoted();
}

fn a_clone_that_is_aborted_by_then_is_the_empty_primary_that_it_was(server: &str) {
    for point in POINTS {
        let world = lone(server, |_| {});
        world.c().start_server();
        let hold = Hold::set(world.dir(), point);
        let running = world.start_coord(&CLONE);
        hold.wait();
        assert!(configured_primary(world.c()).is_some(), "its role is written already");
        let run = running.run();
        running.kill();
        drop(hold);
        // One that had joined is named as missing.
        let aborted = take_up(&world, "abort", &run);
        assert_eq!(aborted.code, if point == POINTS[0] { code::DONE } else { code::DEGRADED }, "{aborted}");
        assert_eq!((world.c().info("role"), configured_primary(world.c())), ("master".to_owned(), None));
        assert_eq!(world.c().client().call(&["DBSIZE"]).int(), 0);
        assert_eq!(files(&world.c().data_dir()), Vec::<String>::new());
        assert_no_leftovers(&world);
        world.c().kill_server();
        world.c().start_server();
        assert_eq!(world.c().info("role"), "master");
    }
}
