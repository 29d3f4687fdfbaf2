//! A comes back after it was replaced: it takes no writes, and what it took alone is kept.

use baton_proto::RunId;
use baton_proto::control::{Reply, Request};
use baton_proto::deposed::{Deposition, Held, Standing};
use baton_tests::coord::code;
use baton_tests::servers::REDIS_7_0;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, C};
use baton_tests::writer::Writers;
use baton_wire::Credentials;

use crate::certificates::dial_host;
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

#[test]
fn whoever_has_an_agents_key_does_not_give_a_replaced_primary_its_role_back() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let run = lost.failover_done(&[]).run();
    let (world, a) = (&lost.world, lost.world.a());
    a.start_server();
    a.start_agent();
    a.await_info("role", "slave");
    let path = a.dir.join(format!("state/deposition-{run}.json"));
    let held: Held = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(held.deposition.stands() && held.deposition.seal.is_some(), "another agent has told it with a seal");
    let over = Deposition { standing: Standing::Reinstated, ..held.deposition.clone() };
    let (runtime, link) = dial_host(world, "machine-c/machine-c.pem", a);
    let link = link.unwrap();
    let tell = |deposition: &Deposition| {
        let request = Request::Tell { deposition: Box::new(deposition.clone()), age_seconds: 0 };
        match runtime.block_on(link.ask(&request)).unwrap() {
            Reply::Told { deposition } => deposition.standing,
            other => panic!("{other:?}"),
        }
    };
    let sealed_by = |file: &str, of: &Deposition| {
        Some(Credentials::load(&world.dir().join(file)).unwrap().seal(&of.words()).unwrap().to_string())
    };
    let of_another_run = Deposition { run: RunId::new("fo-else").unwrap(), ..over.clone() };
    for seal in [
        None,
        Some("rubbish".to_owned()),
        held.deposition.seal.clone(),
        sealed_by("machine-c/machine-c.pem", &over),
        sealed_by("pki/operator.pem", &of_another_run),
    ] {
        assert_eq!(tell(&Deposition { seal: seal.clone(), ..over.clone() }), Standing::Deposed, "{seal:?}");
    }
    assert_eq!(a.info("role"), "slave");
    // The word of an operator counts, whoever brings it.
    let seal = sealed_by("pki/operator.pem", &over);
    assert_eq!(tell(&Deposition { seal, ..over }), Standing::Reinstated);
    a.await_info("role", "master");
    assert_eq!(world.host(C).info("role"), "master");
}
