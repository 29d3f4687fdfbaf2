//! A comes back after it was replaced: it takes no writes, and what it took alone is kept.

use baton_tests::coord::code;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, C};
use baton_tests::writer::Writers;

use crate::scene::{Lost, on_every_server};

on_every_server! {
    an_a_that_returns_with_clients_is_fenced_and_joined_with_all_that_it_took_saved_aside
}

fn an_a_that_returns_with_clients_is_fenced_and_joined_with_all_that_it_took_saved_aside(server: &str) {
    let lost = Lost::with_little_on(server);
    lost.failover_done(&[]);
    let (world, a) = (&lost.world, lost.world.a());
    // Its server is back first, and takes writes that nobody else gets.
    a.start_server();
    let writers = Writers::start(2, &[a]);
    wait_for("A takes writes alone", || match writers.acknowledged() {
        0..100 => Err(writers.acknowledged().to_string()),
        _ => Ok(()),
    });
    a.start_agent();
    a.await_info("role", "slave");
    let at_fence = writers.acknowledged();
    let written = writers.stop();
    assert!(written.keys.len() as u64 <= at_fence + 2, "what was under way for each client, and no more");
    assert!(written.missing_on(a).is_empty(), "A holds what it acknowledged");

    let said = world.coord(&["rejoin", A, "--yes", "--json"]).ends_with(code::DONE);
    let file = said.result()["aside"]["file"].as_str().expect("the file is named").to_owned();
    assert!(said.result()["aside"]["keys"].as_u64() >= Some(written.keys.len() as u64), "{said}");
    a.await_in_sync_with(world.c());
    assert_eq!(a.content(), world.c().content());
    // What A took alone is in the file: A's own server loads it.
    a.kill_server();
    a.configure(|conf| {
        conf.set("dbfilename", "scratch.rdb").set("replicaof", "no one").set("appendonly", "no");
    });
    a.kill_agent();
    std::fs::copy(&file, a.data_dir().join("scratch.rdb")).unwrap();
    a.start_server();
    assert!(written.missing_on(a).is_empty(), "every acknowledged write is in {file}");
    assert_eq!(world.host(C).info("role"), "master");
}
