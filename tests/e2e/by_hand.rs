//! What docs/runbooks.md has a person do by hand, in the order that it tells.

use std::fs;

use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::SERVER_PORT;
use baton_tests::servers::ServerProgram;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, D, World};

use crate::monitoring::{metric, world_on};
use crate::resume::take_up;
use crate::scene::{FAILOVER, LITTLE_BYTES, Lost, configured_primary, on_every_server};

on_every_server! {
    a_fenced_b_is_given_back_to_an_a_that_has_all_its_data
    the_only_copy_on_a_deposed_a_serves_again
}

/// The world with A lost, which has saved all that B has.
fn lost_and_saved(world: World) -> Lost {
    Dataset::mixed(7, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world.a().client().call(&["SAVE"]);
    Lost::after(world)
}

/// "I want out".
fn a_fenced_b_is_given_back_to_an_a_that_has_all_its_data(server: &str) {
    let world = world_on(server);
    world.start();
    let lost = lost_and_saved(world);
    let (world, a, b) = (&lost.world, lost.world.a(), lost.world.b());
    let hold = Hold::set(world.dir(), "snapshot-before");
    let running = world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    hold.wait();
    let run = running.run();
    running.kill();
    drop(hold);
    assert_eq!(take_up(world, "abort", &run).ends_with(code::DONE).result()["outcome"], "rolled-back");
    a.start_server();
    a.start_agent();
    assert_eq!(a.info("role"), "master");
    assert_eq!(metric(b, "baton_instance_fenced").as_deref(), Some("1"));

    b.client().call(&["REPLICAOF", &a.ip.to_string(), &SERVER_PORT.to_string()]);
    b.client().call(&["CONFIG", "REWRITE"]);
    b.await_in_sync_with(a);
    assert_eq!(b.content(), lost.before);
    wait_for("no alert tells of a fence any more", || match metric(b, "baton_instance_fenced").as_deref() {
        Some("0") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.coord(&["status"]).ends_with(code::DONE).says(&["verdict: ok"]);
    // A restart does not fence it anew.
    b.kill_server();
    b.start_server();
    b.await_in_sync_with(a);
    assert_eq!(b.content(), lost.before);
}

/// "The old primary has the only copy".
fn the_only_copy_on_a_deposed_a_serves_again(server: &str) {
    let mut world = World::of_three(&ServerProgram::named(server));
    world.start();
    let program = world.c().program.clone();
    world.add(D, &program);
    world.host(D).start_agent();
    let lost = lost_and_saved(world);
    let run = lost.failover_done(&[]).run();
    let (world, a, b, d) = (&lost.world, lost.world.a(), lost.world.b(), lost.world.host(D));
    a.start_server();
    a.start_agent();
    a.await_info("role", "slave");
    // C is gone with its host. Of B the data alone: its agent has the note still.
    world.c().lose();
    b.kill_server();
    fs::remove_dir_all(b.data_dir()).unwrap();
    fs::create_dir(b.data_dir()).unwrap();
    // No command brings it back, and what is done by hand beside its agent does not last.
    let said = world.coord(&["rejoin", A, "--yes"]).ends_with(code::PREFLIGHT);
    said.says(&["machine-c", "does not answer", "The old primary has the only copy"]);
    world.coord(&["clone", A, D, "--yes"]).ends_with(code::REFUSED).says(&["deposed"]);
    a.client().call(&["REPLICAOF", "NO", "ONE"]);
    a.await_info("role", "slave");

    let note = format!("deposition-{run}.json");
    for host in [a, b] {
        host.kill_agent();
        fs::rename(host.dir.join("state").join(&note), host.dir.join(&note)).unwrap();
    }
    fs::remove_file(a.dir.join("state/fence-default.json")).unwrap();
    a.client().call(&["REPLICAOF", "NO", "ONE"]);
    a.client().call(&["CONFIG", "REWRITE"]);
    [a, b].iter().for_each(|host| host.start_agent());
    world.coord(&["clone", A, D, "--yes"]).ends_with(code::DONE);
    d.await_in_sync_with(a);
    assert_eq!((a.info("role").as_str(), configured_primary(a)), ("master", None));
    assert_eq!((a.content(), d.content()), (lost.before.clone(), lost.before.clone()));
    let said = world.coord(&["status", A]).ends_with(code::DONE);
    assert!(!said.stdout.contains("deposed"), "{said}");
    // Nor does its agent hold it off after a restart of both.
    a.kill_agent();
    a.client().call(&["SAVE"]);
    a.kill_server();
    a.start_server();
    a.start_agent();
    d.await_in_sync_with(a);
    assert_eq!(a.info("role"), "master");
}
