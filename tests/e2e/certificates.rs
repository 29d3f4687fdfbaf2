//! Certificates while everything runs: renewed, revoked, ended, and more than one operator.

use std::fs;

use baton_proto::control::{Reply, Request};
use baton_proto::{Fault, HostName, HostPort};
use baton_tests::coord::code;
use baton_tests::host::{Host, quoted};
use baton_tests::process::tail;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, D, World};
use baton_wire::{Credentials, Dialer, Link};
use tokio::runtime::Runtime;

use crate::scene::{FAILOVER, Lost};

fn dial(world: &World, file: &str, host: &str) -> (Runtime, Result<Link, Fault>) {
    dial_host(world, file, world.host(host))
}

/// Dials a host's own agent, showing the identity in a file of the world.
pub(crate) fn dial_host(world: &World, file: &str, host: &Host) -> (Runtime, Result<Link, Fault>) {
    let runtime = Runtime::new().unwrap();
    let agent = host.agent_address();
    let address = HostPort::new(agent.ip().to_string(), agent.port());
    let link = runtime.block_on(async {
        let dialer = Dialer::new(&Credentials::load(&world.dir().join(file)).unwrap(), "a test").unwrap();
        dialer.dial(&address, &HostName::new(&host.name).unwrap()).await.map_err(Fault::from)
    });
    (runtime, link)
}

fn world() -> World {
    World::in_sync(&ServerProgram::named(REDIS_7_0))
}

#[test]
fn an_operator_who_is_revoked_is_cut_off_at_once_and_stays_so_after_a_restart() {
    let world = world();
    world.coord(&["pki", "operator", "bob", "--dir", "pki", "--out", "bob.pem"]).ends_with(code::DONE);
    world.coord(&["pki", "list", "--dir", "pki"]).says(&["operator bob", "agent of machine-b", "days"]);
    let (runtime, link) = dial(&world, "bob.pem", B);
    let link = link.unwrap();
    assert!(matches!(runtime.block_on(link.ask(&Request::Observe)), Ok(Reply::Observed(_))));
    let said = world.coord(&["pki", "revoke", "--operator", "bob", "--dir", "pki"]).ends_with(code::DONE);
    said.says(&["revoked     1 certificate of the operator bob", "told        machine-b (list 1)"]);
    let fault = runtime.block_on(link.ask(&Request::Observe)).unwrap_err();
    assert!(format!("{fault:?}").contains("revoked"), "{fault:?}");
    assert!(dial(&world, "bob.pem", B).1.is_err(), "nor does a new connection get in");
    world.b().restart_agent();
    assert!(dial(&world, "bob.pem", B).1.is_err(), "nor after a restart");
    world.coord(&["status"]).ends_with(code::DONE);
}

#[test]
fn a_host_that_is_revoked_gets_no_snapshot_and_is_believed_by_nobody() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.coord(&["pki", "revoke", C, "--dir", "pki"]);
    // Its own agent knows as well; the others let it in no more, and `coord` does not believe it.
    let (_, link) = dial(&lost.world, "machine-c/machine-c.pem", B);
    assert!(link.map(drop).unwrap_err().to_string().contains("it refused our certificate: revoked"));
    lost.assert_b_is_untouched();
    let said = lost.world.coord(&["status", "--json"]);
    said.says(&["revoked"]);
    // A new identity, and it is one of them again.
    lost.world.c().kill_agent();
    fs::remove_file(lost.world.c().dir.join("machine-c.pem")).unwrap();
    lost.world.issue(C, "machine-c/machine-c.pem");
    lost.world.c().start_agent();
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn every_agent_is_given_a_new_certificate_while_it_runs_and_the_old_ones_are_of_no_more_use() {
    let world = world();
    let pid = world.b().agent_pid();
    fs::copy(world.b().dir.join("machine-b.pem"), world.dir().join("stolen.pem")).unwrap();
    let said = world.coord(&["pki", "rotate", "--dir", "pki", "--revoke"]).ends_with(code::DONE);
    said.says(&["renewed     machine-a", "renewed     machine-b", "renewed     machine-c", "told        machine-a"]);
    assert_eq!(world.b().agent_pid(), pid);
    world.coord(&["status"]).ends_with(code::DONE);
    assert!(dial(&world, "stolen.pem", A).1.is_err(), "what was stolen opens nothing");
    world.hosts().iter().for_each(|host| host.restart_agent());
    let said = world.coord(&["status", "--json"]).ends_with(code::DONE);
    assert_eq!(said.events().iter().filter(|event| event["answers"] == true).count(), 3, "{said}");
    world.coord(&["switchover", A, "--to", B, "--yes"]).ends_with(code::DONE);
}

#[test]
fn an_agent_that_was_away_is_told_of_later_and_the_status_says_so() {
    let world = world();
    world.coord(&["pki", "operator", "bob", "--dir", "pki", "--out", "bob.pem"]).ends_with(code::DONE);
    world.c().kill_agent();
    let said = world.coord(&["pki", "revoke", "--operator", "bob", "--dir", "pki"]).ends_with(code::DEGRADED);
    said.says(&["machine-c", "coord pki push"]);
    world.c().start_agent();
    world.coord(&["status"]).says(&["machine-c does not know all that was revoked", "coord pki push"]);
    world.coord(&["pki", "push", "--dir", "pki"]).ends_with(code::DONE).says(&["told        machine-c (list 1)"]);
    let said = world.coord(&["status"]);
    assert!(!said.stdout.contains("revoked"), "{said}");
}

#[test]
fn a_new_agent_knows_by_its_identity_what_was_revoked_before_that_was_made() {
    let mut world = world();
    world.coord(&["pki", "operator", "bob", "--dir", "pki", "--out", "bob.pem"]).ends_with(code::DONE);
    world.issue(D, "older.pem");
    world.coord(&["pki", "revoke", "--operator", "bob", "--dir", "pki"]).ends_with(code::DONE);
    let program = world.c().program.clone();
    world.add(D, &program);
    let d = world.host(D);
    d.start_agent();
    let assert_shut = || {
        let fault = dial(&world, "bob.pem", D).1.map(drop).unwrap_err();
        assert!(fault.to_string().contains("it refused our certificate: revoked"), "{fault}");
    };
    assert_shut();
    let said = world.coord(&["status"]).says(&[D]);
    assert!(!said.stdout.contains("revoked"), "there is nothing to push\n{said}");
    // An identity of before takes nothing of it away, and one that is not its authority's list adds nothing.
    fs::rename(world.dir().join("older.pem"), d.dir.join("older.pem")).unwrap();
    d.configure_agent(|toml| {
        toml.top.set("identity", quoted("older.pem"));
    });
    d.restart_agent();
    assert_shut();
    world.coord(&["pki", "init", "other"]).ends_with(code::DONE);
    world.coord(&["pki", "issue", C, "--dir", "other", "--out", "other.pem"]).ends_with(code::DONE);
    world.coord(&["pki", "revoke", C, "--dir", "other"]);
    world.coord(&["pki", "issue", B, "--dir", "other", "--out", "foreign.pem"]).ends_with(code::DONE);
    let foreign = fs::read_to_string(world.dir().join("foreign.pem")).unwrap();
    let (_, list) = foreign.split_once("-----BEGIN X509 CRL").unwrap();
    let own = fs::read_to_string(d.dir.join("older.pem")).unwrap();
    fs::write(d.dir.join("older.pem"), format!("{own}-----BEGIN X509 CRL{list}")).unwrap();
    d.kill_agent();
    let mut agent = d.spawn_agent();
    let status = wait_for("the agent ends", || agent.ended().ok_or_else(|| "it runs".to_owned()));
    assert_eq!(status.code(), Some(code::USAGE));
    let log = tail(&d.agent_log(), 5);
    assert!(log.contains("older.pem") && log.contains("another authority"), "{log}");
}

#[test]
fn a_new_operator_knows_by_the_identity_which_host_is_not_to_be_believed() {
    let world = world();
    world.coord(&["pki", "revoke", C, "--dir", "pki"]);
    world.coord(&["pki", "operator", "carol", "--dir", "pki", "--out", "carol.pem"]).ends_with(code::DONE);
    let toml = fs::read_to_string(world.dir().join("coord.toml")).unwrap();
    let toml = format!("state = \"carol\"\n{}", toml.replace("pki/operator.pem", "carol.pem"));
    fs::write(world.dir().join("carol.toml"), toml).unwrap();
    let said = world.coord(&["--config", "carol.toml", "status", "--json"]).ends_with(code::DONE);
    let hosts: Vec<_> = said.events().into_iter().filter(|event| event["event"] == "host").collect();
    let error = |host: &str| hosts.iter().find(|event| event["host"] == host).unwrap()["error"].clone();
    assert!(error(B).is_null() && error(C).as_str().unwrap().contains("refused here: revoked"), "{said}");
}

#[test]
fn what_no_agent_has_heard_of_the_operators_machine_says() {
    let world = world();
    world.coord(&["pki", "operator", "bob", "--dir", "pki", "--out", "bob.pem"]).ends_with(code::DONE);
    world.hosts().iter().for_each(|host| host.kill_agent());
    world.coord(&["pki", "revoke", "--operator", "bob", "--dir", "pki"]).ends_with(code::DEGRADED);
    world.hosts().iter().for_each(|host| host.start_agent());
    let said = world.coord(&["status"]).ends_with(code::DONE);
    for host in [A, B, C] {
        let note = format!("{host} does not know all that was revoked (list 0 of 1): `coord pki push --dir DIR`");
        assert!(said.stdout.contains(&note), "{said}");
    }
}

#[test]
fn orders_and_journals_name_the_operator_who_gave_them() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.coord(&["pki", "operator", "bob", "--dir", "pki", "--out", "bob.pem"]).ends_with(code::DONE);
    let toml = fs::read_to_string(lost.world.dir().join("coord.toml")).unwrap();
    fs::write(lost.world.dir().join("bob.toml"), toml.replace("pki/operator.pem", "bob.pem")).unwrap();
    let args = [&["--config", "bob.toml"], &FAILOVER[..], &["--yes", "--json"]].concat();
    let run = lost.world.coord(&args).ends_with(code::DONE).run();
    lost.world.coord(&["show", &run]).says(&["begun by bob"]);
    let log = fs::read_to_string(lost.world.b().agent_log()).unwrap();
    assert!(log.contains("operator=\"bob\""), "{log}");
}
