//! The least rights with which an agent moves a group, as docs/servers.md tells them.

use std::fs;

use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::host::quoted;
use baton_tests::servers::{REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::world::{A, B, C, World};
use serde_json::json;

use crate::refusals::assert_refused;
use crate::scene::{LITTLE_BYTES, Lost, assert_serves};

/// What the user may do: the line of the manual, without the command and the name.
fn least_rights() -> String {
    let manual = include_str!("../../docs/servers.md");
    let line = manual.lines().find_map(|line| line.trim().strip_prefix("ACL SETUSER baton "));
    line.expect("docs/servers.md has the line").replace(">PASSWORD", ">agents-own")
}

/// What more it needs for `rejoin --compare`, as the manual tells it; so does whom replicas log in as.
fn rights_to_compare() -> &'static str {
    let manual = include_str!("../../docs/servers.md");
    manual.lines().map(str::trim).find(|line| line.starts_with("%R~*")).expect("docs/servers.md has the line")
}

/// A, B and C, whose agents are a user with these rights.
fn three_with(server: &str, rights: &str) -> World {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("user", format!("baton {rights}"));
        });
        fs::write(host.dir.join("password"), "agents-own\n").unwrap();
        host.configure_agent(|toml| {
            toml.instance.set("user", quoted("baton")).set("password_file", quoted("password"));
        });
    }
    world
}

/// Asserts that nobody was refused anything.
#[track_caller]
fn assert_never_denied(world: &World, hosts: &[&str]) {
    for host in hosts {
        let log = world.host(host).client().call(&["ACL", "LOG"]).list();
        assert!(log.is_empty(), "on {host}: {log:?}");
    }
}

fn the_least_rights_do_for_failovers_and_a_switchover(server: &str) {
    for more in [["--landing", "file"], ["--landing", "live"], ["--snapshot", "bgsave"], ["--snapshot", "stream"]] {
        let lost = Lost::with_little_in(three_with(server, &least_rights()));
        let said = lost.world.coord(&[&["failover", A, "--to", C, "--yes", "--json"], &more[..]].concat());
        let said = said.ends_with(code::DONE);
        assert_eq!(said.result()["outcome"], "done", "{said}");
        assert!(!said.to_string().contains("would refuse"), "the plan warns of nothing: {said}");
        lost.assert_replaced();
        assert_never_denied(&lost.world, &[B, C]);
    }
    let lost = Lost::with_little_in(three_with(server, &least_rights()));
    let said = lost.failover_done(&["--mode", "promote"]);
    assert!(!said.to_string().contains("would refuse"), "the plan warns of nothing: {said}");
    lost.assert_promoted();
    assert_never_denied(&lost.world, &[B, C]);
    let world = three_with(server, &least_rights());
    world.start();
    Dataset::mixed(7, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    let before = world.a().content();
    world.coord(&["switchover", A, "--to", B, "--yes"]).ends_with(code::DONE);
    assert_serves(&world, B, &[A], &before);
    assert_never_denied(&world, &[A, B]);
}

fn a_right_that_is_missing_is_named(server: &str) {
    for (command, more) in
        [("replicaof", &[][..]), ("save", &["--snapshot", "save"]), ("bgsave", &["--snapshot", "bgsave"])]
    {
        let world = three_with(server, &format!("{} -{command}", least_rights()));
        let lost = Lost::with_little_in(world);
        let command = command.to_ascii_uppercase();
        let words = [&format!("would refuse {command} of its agent"), "ACL SETUSER", "baton"];
        assert_refused(&lost.world, more, code::PREFLIGHT, &words.map(|word: &str| word));
    }
    // Without these it goes on, and says so.
    for (right, name) in [("-config|rewrite", "CONFIG"), ("-bgrewriteaof", "BGREWRITEAOF"), ("-set", "SET")] {
        let lost = Lost::with_little_in(three_with(server, &format!("{} {right}", least_rights())));
        let said = lost.world.coord(&["failover", A, "--to", C, "--landing", "file", "--dry-run"]);
        let said = said.ends_with(code::DONE);
        assert!(said.stdout.contains(&format!("would refuse {name}")), "{right}: {said}");
    }
}

fn a_deposed_primary_is_compared_with_the_rights_that_are_told(server: &str) {
    let more = rights_to_compare();
    let world = three_with(server, &format!("{} {more}", least_rights()));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.add("user", format!("replicas on >secret +psync +replconf +ping +info {more}"));
            conf.set("masteruser", "replicas").set("masterauth", "secret");
        });
    }
    world.start();
    let mut on_a = world.a().client();
    Dataset::mixed(7, LITTLE_BYTES).load(&mut on_a);
    on_a.call(&["HSET", "hash", "a", "1"]);
    on_a.call(&["SADD", "set", "1", "2"]);
    on_a.call(&["ZADD", "zset", "1", "a"]);
    on_a.call(&["SET", "large", &"x".repeat(600_000)]);
    on_a.call(&["SAVE"]);
    let lost = Lost::after(world);
    lost.failover_done(&[]);
    let a = lost.world.a();
    a.start_server();
    let mut on_a = a.client();
    on_a.call(&["SET", "alone", "on A"]);
    on_a.call(&["SETRANGE", "large", "599999", "y"]);
    // In another encoding, so that it is compared by its elements.
    let long = "l".repeat(100);
    on_a.call(&["HSET", "hash", "b", &long]);
    on_a.call(&["HDEL", "hash", "b"]);
    on_a.call(&["SADD", "set", &long]);
    on_a.call(&["SREM", "set", &long]);
    on_a.call(&["ZADD", "zset", "1", &long]);
    on_a.call(&["ZREM", "zset", &long]);
    a.start_agent();
    a.await_info("role", "slave");
    let said = lost.world.coord(&["rejoin", A, "--compare", "--yes", "--json"]).ends_with(code::DONE);
    let compared = &said.result()["aside"]["compared"];
    assert_eq!((&compared["made"], &compared["stopped"]), (&json!(true), &json!(null)), "{said}");
    let count = |name: &str| compared["all"][name].as_i64().unwrap();
    assert_eq!(["only_deposed", "only_successor", "unread"].map(count), [1, 0, 0], "{said}");
    // Streams are told apart by their form alone, which loading may change.
    assert_eq!(count("differing") - count("by_form"), 1, "{said}");
    a.await_in_sync_with(lost.world.c());
    assert_never_denied(&lost.world, &[A, B, C]);
}

macro_rules! on_servers_with_dry_runs_of_rights {
    ($($name:ident)*) => {
        mod redis_7_0 { $(#[test] fn $name() { super::$name(super::REDIS_7_0); })* }
        mod valkey_9_1 { $(#[test] fn $name() { super::$name(super::VALKEY_9_1); })* }
    };
}

on_servers_with_dry_runs_of_rights! {
    the_least_rights_do_for_failovers_and_a_switchover
    a_right_that_is_missing_is_named
    a_deposed_primary_is_compared_with_the_rights_that_are_told
}
