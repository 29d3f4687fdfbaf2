//! Servers that speak TLS alone, with whom shows a certificate: on Redis 7.0, the only one of the three that is built with
//! TLS.

use std::process::{Command, Stdio};

use baton_tests::conf::directives;
use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::servers::{BUILT_WITH_TLS, BUILT_WITHOUT_TLS, ServerProgram};
use baton_tests::tls::{Authority, EXPIRED_DAYS, VALID_DAYS};
use baton_tests::world::{A, B, C, World};

use crate::refusals::assert_refused;
use crate::scene::{Lost, assert_serves};

/// A, B and C by TLS, each with a certificate of one authority.
fn three_by_tls(authority: &Authority) -> World {
    let [server] = BUILT_WITH_TLS;
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        authority.equip(host, VALID_DAYS);
        host.speak_tls();
    }
    world
}

#[test]
fn a_primary_is_replaced_by_tls_and_nobody_speaks_plain() {
    let lost = Lost::with_little_in(three_by_tls(&Authority::new("group")));
    lost.world.coord(&["status"]).ends_with(code::DONE).says(&[B, "127."]);
    // The way is left to the plan: the target cannot be fed.
    let said = lost.world.coord(&["failover", A, "--to", C, "--yes", "--json"]).ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "done", "{said}");
    assert!(said.stdout.contains("replicates over TLS only"), "why it lands by file is told: {said}");
    lost.assert_replaced();
    let kept = directives(&lost.world.c().conf_path());
    assert!(kept.contains(&("port".to_owned(), "0".to_owned())), "{kept:?}");
}

#[test]
fn an_append_only_target_is_replaced_by_tls() {
    let world = three_by_tls(&Authority::new("group"));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("appendonly", "yes").set("requirepass", "secret").set("masterauth", "secret");
        });
    }
    let lost = Lost::with_little_in(world);
    lost.failover_done(&["--snapshot", "bgsave"]);
    lost.assert_replaced();
    assert_eq!(lost.world.c().client().config("appendonly"), "yes");
}

#[test]
fn a_replica_is_promoted_by_tls() {
    let lost = Lost::with_little_in(three_by_tls(&Authority::new("group")));
    lost.failover_done(&["--mode", "promote"]);
    lost.assert_promoted();
}

#[test]
fn a_primary_hands_over_by_tls() {
    let world = three_by_tls(&Authority::new("group"));
    world.start();
    Dataset::mixed(7, 200 << 10).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    let before = world.b().content();
    world.coord(&["switchover", A, "--to", B, "--yes"]).ends_with(code::DONE);
    assert_serves(&world, B, &[A], &before);
}

#[test]
fn a_server_that_serves_is_cloned_by_tls() {
    for snapshot in ["bgsave", "stream"] {
        let world = three_by_tls(&Authority::new("group"));
        world.start();
        Dataset::mixed(7, 200 << 10).load(&mut world.a().client());
        world.b().await_in_sync_with(world.a());
        let before = world.a().content();
        world.coord(&["clone", A, C, "--yes", "--snapshot", snapshot]).ends_with(code::DONE);
        assert_serves(&world, A, &[B, C], &before);
    }
}

#[test]
fn a_target_with_a_certificate_of_another_authority_is_refused() {
    let (ours, others) = (Authority::new("group"), Authority::new("somebody else"));
    let world = three_by_tls(&ours);
    others.equip(world.c(), VALID_DAYS);
    let lost = Lost::with_little_in(world);
    let words = ["TLS from machine-b", "CN=machine-c", "another CA (CN=somebody else)", "tls-ca-cert-file"];
    assert_refused(&lost.world, &[], code::PREFLIGHT, &words);
    lost.assert_b_is_untouched();
}

#[test]
fn a_target_whose_certificate_has_expired_is_refused() {
    let ours = Authority::new("group");
    let world = three_by_tls(&ours);
    ours.equip(world.c(), EXPIRED_DAYS);
    let lost = Lost::with_little_in(world);
    assert_refused(&lost.world, &[], code::PREFLIGHT, &["TLS from machine-b", "CN=machine-c", "has expired on"]);
    lost.assert_b_is_untouched();
}

#[test]
fn a_plain_target_of_a_group_by_tls_is_refused() {
    let world = three_by_tls(&Authority::new("group"));
    world.c().configure(|conf| {
        conf.set("port", 6379).remove("tls-port").set("tls-replication", "no");
    });
    let lost = Lost::with_little_in(world);
    let words = ["TLS from machine-b", "it speaks no TLS there", "tls-replication"];
    assert_refused(&lost.world, &[], code::PREFLIGHT, &words);
    lost.assert_b_is_untouched();
}

#[test]
fn a_feed_and_an_adoption_are_refused_by_tls_with_what_helps() {
    let lost = Lost::with_little_in(three_by_tls(&Authority::new("group")));
    assert_refused(&lost.world, &["--snapshot", "stream"], code::PREFLIGHT, &["over TLS only", "--snapshot save"]);
    let live = ["failover", A, "--to", C, "--landing", "live", "--dry-run"];
    lost.world.coord(&live).ends_with(code::PREFLIGHT).says(&["over TLS only", "--landing file"]);
}

/// Where one of them learns TLS, it belongs into the stories above.
#[test]
fn the_other_servers_are_built_without_tls() {
    for server in BUILT_WITHOUT_TLS {
        let program = ServerProgram::named(server);
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(&program.path);
        command.args(["--port", "0", "--tls-port", "6379", "--bind", "127.0.0.1"]).current_dir(dir.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).to_string() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && (said.contains("tls-port") || said.contains("TLS support")), "{said}");
    }
}
